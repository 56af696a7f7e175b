"""Documents of OCI: taken and refused as the collected cases say, with the place named; and names of artifacts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loop_kit.errors import PackageError
from loop_kit.oci import media_types
from loop_kit.oci.blobs import digest_of
from loop_kit.oci.model import (
    EMPTY_CONFIG,
    Descriptor,
    Index,
    Manifest,
    Platform,
    check_layout,
    describe,
    parse,
    parse_descriptor,
)
from loop_kit.oci.reference import LayoutReference, Reference, parse_place
from loop_kit.oci.wasm import WasmConfig, parse_config, wasm_layer
from tests.checkout import ROOT

CASES = json.loads((ROOT / "tests/data/oci/cases.json").read_text())["cases"]
READERS: dict[str, Callable[[bytes], object]] = {
    "content-descriptor": parse_descriptor,
    "image-index-schema": lambda data: parse(data, media_types.INDEX),
    "image-layout-schema": check_layout,
    "image-manifest-schema": lambda data: parse(data, media_types.MANIFEST),
}
DIGEST = digest_of(b"x")
LAYER = {"mediaType": "application/wasm", "digest": DIGEST, "size": 1}
CONFIG = {"mediaType": media_types.WASM_CONFIG, "digest": DIGEST, "size": 1}
GOOD: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": media_types.MANIFEST,
    "config": CONFIG,
    "layers": [LAYER],
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['schema']}: {case['note']}")
def test_collected_documents(case: dict[str, Any]) -> None:
    data = case["text"].encode()
    read = READERS[case["schema"]]
    if not case["valid"]:
        with pytest.raises(PackageError, match=r"\$[.:\[]|is not JSON|twice"):
            read(data)
        return
    found = read(data)
    if isinstance(found, (Manifest, Index)):
        assert parse(found.to_bytes()) == found  # nothing that is known is lost
        assert parse(data) == found  # they say themselves what they are
    taken = case.get("wasm_artifact")
    if taken in (True, "optional"):  # the media types of before are taken too
        assert isinstance(found, Manifest)
        assert wasm_layer(found) is found.layers[0]
    elif taken is not None:
        assert taken == "refuse-or-document"
        assert isinstance(found, Manifest)
        with pytest.raises(PackageError, match="expected one layer"):
            wasm_layer(found)


def test_the_collected_cases_have_every_document_and_both_verdicts() -> None:
    assert {case["schema"] for case in CASES} == set(READERS)
    assert {case["valid"] for case in CASES} == {True, False}
    assert {True, "optional", "refuse-or-document"} <= {case.get("wasm_artifact") for case in CASES}


def test_a_document_comes_back_as_it_was_written() -> None:
    config = Descriptor(media_types.WASM_CONFIG, DIGEST, 1)
    layer = Descriptor(
        "application/wasm", DIGEST, 1, {"title": "ä"}, urls=("https://example.com/x",), data=b"x"
    )
    platform = Platform("arm", "linux", "v7", "5", ("a", "b"))
    manifest = Manifest(config, (layer, layer), config, {"b": "2", "a": "1"}, "application/x")
    data = manifest.to_bytes()
    assert parse(data, media_types.MANIFEST) == manifest
    assert data == parse(data).to_bytes()
    assert b" " not in data
    assert manifest.parts == (config,)  # one blob, named twice
    index = Index((describe(manifest, data, platform=platform),), config, {"a": "1"}, "application/y")
    assert parse(index.to_bytes()) == index
    assert index.manifests[0].digest == digest_of(data)
    assert str(platform) == "linux/arm/v7"
    assert hash(layer) == hash(Descriptor("application/wasm", DIGEST, 1))
    empty = Manifest(EMPTY_CONFIG, (layer,), artifact_type="application/x")
    assert parse(empty.to_bytes()) == empty
    assert (empty.kind, manifest.kind, Manifest(config, (layer,)).kind) == (
        "application/x",
        "application/x",
        media_types.WASM_CONFIG,
    )


def changed(**more: Any) -> bytes:
    return json.dumps({**GOOD, **more}).encode()


SHA512 = "sha512:" + "a" * 127
DEEP = b'{"x":' + b"[" * 40 + b"]" * 40 + b"}"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not JSON"),
        (b"\xff{}", "not UTF-8, at byte 0"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b"{" + b" " * (4 << 20) + b"}", "more than 4194304 bytes"),
        (b'{"schemaVersion":2,"schemaVersion":2}', 'the key "schemaVersion" twice'),
        (DEEP, "more than 32 arrays and objects"),
        (b'{"a":"' + b"[" * 100 + b'"}', "expected the key 'schemaVersion'"),  # brackets in text are none
        (b"[" * 100_000, "more than 32 arrays"),
        (b'{"a":NaN}', "NaN, which is not JSON"),
        (b'{"a":' + b"1" * 5000 + b"}", "is not JSON"),
        (b"[]", r"\$: expected an object, found \[\]"),
        (changed(schemaVersion=2.0), r"\$.schemaVersion: expected an integer from 2 to 2, found 2.0"),
        (changed(schemaVersion=True), r"\$.schemaVersion"),
        (changed(mediaType="text/plain"), r"\$.mediaType: expected that of a manifest or an index"),
        (changed(manifests=[]), r"\$.manifests: a manifest has none"),
        (changed(Layers=[LAYER]), r'the key "Layers" is read as "layers" by some clients only'),
        (changed(layers=[LAYER] * 4097), r"\$.layers: expected at most 4096 items, found 4097"),
        (changed(layers=[LAYER, {**LAYER, "digest": DIGEST.upper()}]), r"\$.layers\[1\].digest: expected a digest"),
        (changed(layers=[{**LAYER, "digest": SHA512}]), r"\$.layers\[0\].digest"),
        (changed(layers=[{**LAYER, "size": 1 << 63}]), r"\$.layers\[0\].size"),
        (changed(layers=[{**LAYER, "size": False}]), r"\$.layers\[0\].size"),
        (changed(layers=[{**LAYER, "urls": ["value"]}]), r"\$.layers\[0\].urls\[0\]: expected a URL"),
        (changed(layers=[{**LAYER, "urls": ["http://a b"]}]), r"\$.layers\[0\].urls\[0\]"),
        (changed(layers=[{**LAYER, "data": "eA"}]), r"\$.layers\[0\].data: expected base64"),
        (changed(layers=[{**LAYER, "data": "é"}]), r"\$.layers\[0\].data: expected base64"),
        (changed(layers=[{**LAYER, "data": "eHg="}]), r"expected the 1 bytes of its size, found 2"),
        (changed(layers=[{**LAYER, "data": "eQ=="}]), r"expected the bytes of sha256:2d71"),
        (changed(annotations={"a.b": 1}), r'\$.annotations\["a.b"\]: expected text, found 1'),
        (changed(annotations={"": "x"}), "each with a name"),
        (changed(annotations=None), r"\$.annotations: expected an object, found null"),
        (changed(annotations={"a": "\ud800"}), "expected text in Unicode"),
        (changed(config={**CONFIG, "mediaType": media_types.EMPTY}), "expected the key 'artifactType'"),
        (changed(artifactType="x"), r"\$.artifactType: expected a media type"),
        (changed(subject={}), r"\$.subject: expected the key 'mediaType', found none"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(data: bytes, said: str) -> None:
    assert isinstance(parse(changed(), media_types.MANIFEST), Manifest)
    with pytest.raises(PackageError, match=said):
        parse(data)


@pytest.mark.parametrize("found", ["manifests", "layers", "config"])
def test_a_document_that_could_be_two_things_is_refused(found: str) -> None:
    both = {**GOOD, "manifests": []}
    for kind in (media_types.MANIFEST, media_types.INDEX):
        with pytest.raises(PackageError, match="could be read as"):
            parse(json.dumps({**both, "mediaType": kind}).encode())
    del both["mediaType"]
    with pytest.raises(PackageError, match="could be read as"):
        parse(json.dumps(both).encode())


def test_a_document_must_be_what_it_was_said_to_be() -> None:
    with pytest.raises(PackageError, match="as it was described"):
        parse(changed(), media_types.INDEX)
    with pytest.raises(PackageError, match="neither a manifest nor an index"):
        parse(changed(), "text/html")
    platform = {**LAYER, "mediaType": media_types.MANIFEST, "platform": {"os": "linux"}}
    with pytest.raises(PackageError, match=r"\$.manifests\[0\].platform: expected the key 'architecture'"):
        parse(json.dumps({"schemaVersion": 2, "manifests": [platform]}).encode())
    with pytest.raises(PackageError, match=r'oci-layout: \$.imageLayoutVersion: expected "1.0.0"'):
        check_layout(b'{"imageLayoutVersion":"2.0.0"}')


def test_the_config_of_a_component() -> None:
    config = WasmConfig("2026-01-01T00:00:00Z", (DIGEST,), exports=("wasi:cli/run@0.2.6",), imports=())
    manifest = Manifest(
        Descriptor(media_types.WASM_CONFIG, DIGEST, 1), (Descriptor("application/wasm", DIGEST, 1),)
    )
    assert parse_config(config.to_bytes(), manifest) == config
    module = WasmConfig("2026-01-01T00:00:00.5+02:00", (DIGEST,), "wasip1", author="Ada")
    assert parse_config(module.to_bytes()) == module
    said = json.loads(config.to_bytes())
    assert said["component"] == {"exports": ["wasi:cli/run@0.2.6"], "imports": [], "target": None}
    for wrong, text in (
        ({"architecture": "amd64"}, r'\$.architecture: expected "wasm"'),
        ({"os": "linux"}, r"\$.os: expected"),
        ({"created": "yesterday"}, r"\$.created: expected a time"),
        ({"layerDigests": ["md5:x"]}, r"\$.layerDigests\[0\]: expected a digest"),
        ({"layerDigests": [digest_of(b"y")]}, "expected the digests of the manifest's layers"),
        ({"component": {"exports": [1]}}, r"\$.component.exports\[0\]: expected text"),
    ):
        with pytest.raises(PackageError, match=text):
            parse_config(json.dumps({**said, **wrong}).encode(), manifest)
    other = Manifest(manifest.config, manifest.layers, artifact_type="application/x")
    with pytest.raises(PackageError, match="it is application/x, no module or component"):
        wasm_layer(other)
    with pytest.raises(PackageError, match=r"\$.layers\[0\].mediaType: expected application/wasm"):
        wasm_layer(Manifest(manifest.config, (Descriptor("text/plain", DIGEST, 1),)))


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("registry.example/acme/site", "registry.example", "acme/site", None, None),
        ("localhost/site:1.0", "localhost", "site", "1.0", None),
        ("127.0.0.1:5000/a/b-c__d.e:x_Y-1", "127.0.0.1:5000", "a/b-c__d.e", "x_Y-1", None),
        (f"[::1]:5000/a@{DIGEST}", "[::1]:5000", "a", None, DIGEST),
        (f"r.example/a:1@{DIGEST}", "r.example", "a", "1", DIGEST),
    ],
)
def test_names_in_registries(
    text: str, registry: str, repository: str, tag: str | None, digest: str | None
) -> None:
    found = parse_place(text)
    assert found == Reference(registry, repository, tag, digest)
    assert str(found) == text
    assert found.at(tag="x").digest is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("site", "does not begin with a registry"),
        ("acme/site:1", "does not begin with a registry"),
        ("", "does not begin with a registry"),
        ("registry.example/Acme/site", "is not a repository"),
        ("registry.example/", "is not a repository"),
        ("registry.example/a//b", "is not a repository"),
        ("registry.example/../b", "is not a repository"),
        ("registry.example/" + "a" * 256, "is not a repository"),
        ("registry.example/a:", "'' is not a tag"),
        ("registry.example/a:-x", "is not a tag"),
        ("registry.example/a@md5:x", "is not a digest"),
        ("registry.example:99999/a", "is not a host"),
        ("ghcr..io/a", "is not a host"),
        ("user@registry.example/a", "is not a digest"),
        ("[zz]:1/a", "is not a host"),
        ("registry.example\n/a", "is not a host"),
        ("oci-layout:", "names no folder"),
        ("oci-layout:x:", "is not a tag"),
        ("oci-layout:x:a b", "is not a tag"),
    ],
)
def test_what_names_nothing(text: str, said: str) -> None:
    with pytest.raises(PackageError, match=said):
        parse_place(text)


def test_a_name_in_capitals_is_mended() -> None:
    with pytest.raises(PackageError) as told:
        Reference.parse("registry.example/Acme/Site")
    assert told.value.hint == "did you mean 'acme/site'?"


def test_names_in_layouts() -> None:
    for text, folder, tag, digest in (
        ("oci-layout:out", "out", None, None),
        ("oci-layout:out:1.0", "out", "1.0", None),
        ("oci-layout:/a:b/out", "/a:b/out", None, None),
        (f"oci-layout:./o@t:1@{DIGEST}", "o@t", "1", DIGEST),
    ):
        assert parse_place(text) == LayoutReference(Path(folder), tag, digest)


def test_registries_of_this_machine() -> None:
    here = ("localhost", "localhost:5000", "127.0.0.1:5000", "127.8.9.1", "[::1]:5000")
    for registry in here:
        assert Reference(registry, "a").loopback, registry
    for registry in ("registry.example", "10.0.0.1:5000", "localhost.example.com", "[fd00::1]:80"):
        assert not Reference(registry, "a").loopback, registry
