"""The config of a provider's package: read strictly, as its JSON Schema says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import loop_kit
from loop_kit.errors import PackageError
from loop_kit.oci.model import Platform
from loop_kit.pack.config import SCHEMA, ProviderConfig, Runtime, digest_of_wit, parse

VALIDATOR = jsonschema.Draft202012Validator(
    json.loads((Path(loop_kit.__file__).parent / "schema" / SCHEMA).read_text())
)
WIT = {"kv.wit": "package acme:kv;\n", "deps/core/log.wit": "package loop:core;\n"}
CONFIGS = [
    ProviderConfig(
        "kv", "python", "acme.kv:Store.Inner", 10, version="1.0.0", description="Keeps texts", licenses="MIT",
        exports=("acme:kv/store@0.1.0",), imports=("acme:kv/bell",), wit=WIT, grants={"acme:kv": {"prefix": "a/"}},
        runtime=Runtime("python", ">=3.11"), platform=Platform("arm", "linux", "v7"),
    ),
    ProviderConfig(
        "kv", "node", "node_modules/@loop-kit/provider/dist/cli.js", 0, args=("src/kv.js", "--wit", "wit"),
        created="2026-01-01T00:00:00Z", runtime=Runtime("node", "22"), transports=("stdio", "unix"),
    ),
    ProviderConfig("kv", "native", "bin/kv", 1 << 30, platform=Platform("arm64", "linux"), handshake=None),
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_it_is_read_back(config: ProviderConfig) -> None:
    data = config.to_bytes()
    assert parse(data) == config
    assert parse(data).to_bytes() == data
    VALIDATOR.validate(json.loads(data))
    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()


def sets(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(said: dict[str, Any]) -> None:
        *above, last = key.split(".")
        for part in above:
            said = said[part]
        said[last] = value

    return change


def drops(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda said: said.pop(key)


WRONG = [
    (0, drops("name"), "expected the key 'name'"),
    (0, sets("name", "../kv"), r"\$.name: expected a name"),
    (0, sets("kind", "component"), r"\$.kind: expected"),
    (0, sets("entry", "kv"), r"\$.entry: expected module:Class"),
    (0, sets("entry", "os:system('x')"), r"\$.entry: expected module:Class"),
    (1, sets("entry", "../kv.js"), r"\$.entry: expected a file of the package"),
    (1, sets("entry", "/bin/sh"), r"\$.entry: expected a file of the package"),
    (0, sets("size", 1), "has the key 'size', which this loop-kit does not know"),
    (0, drops("runtime"), "expected the key 'runtime' with the version of python"),
    (0, sets("runtime", {"node": "20"}), r"\$.runtime: expected the version of python alone"),
    (0, sets("runtime", {"python": "new"}), r"\$.runtime.python: expected a version"),
    (2, sets("runtime", {"python": "3.11"}), r"\$.runtime: a native program has none"),
    (0, drops("os"), '"os" and "architecture" go together'),
    (2, lambda said: (said.pop("os"), said.pop("architecture")), "is for an os and an architecture"),
    (0, sets("licenses", "MIT OR"), r"\$.licenses: expected an SPDX expression"),
    (0, sets("exports", ["kv"]), r"\$.exports\[0\]: expected an interface"),
    (0, sets("transports", []), r"\$.transports: expected at least 1"),
    (0, sets("transports", ["pigeon"]), r"\$.transports\[0\]: expected one of"),
    (0, sets("handshake", 0), r"\$.handshake: expected an integer"),
    (0, drops("handshake"), "expected the key 'handshake'"),
    (0, sets("unpacked", -1), r"\$.unpacked: expected an integer"),
    (0, sets("unpacked", True), r"\$.unpacked: expected an integer"),
    (0, sets("created", "yesterday"), r"\$.created: expected a time"),
    (0, sets("grants", {"acme:kv": 1}), r"\$.grants\[\"acme:kv\"\]: expected an object"),
    (0, sets("wit.digest", "sha256:" + "0" * 64), r"\$.wit.digest: expected sha256:.*, that of the files"),
    (0, sets("wit.files", {"../kv.wit": ""}), r"\$.wit.files: expected paths"),
    (0, sets("wit.files", {"kv.txt": ""}), r"\$.wit.files: expected paths"),
    (0, sets("args", "x"), r"\$.args: expected an array"),
]


@pytest.mark.parametrize(("which", "change", "said"), WRONG, ids=[said for _, _, said in WRONG])
def test_what_is_wrong_is_named(which: int, change: Callable[[dict[str, Any]], object], said: str) -> None:
    document = json.loads(CONFIGS[which].to_bytes())
    change(document)
    with pytest.raises(PackageError, match=rf"^the config: .*{said}"):
        parse(json.dumps(document).encode())
    # what the schema cannot know: that a digest is of the files, what SPDX's grammar is
    if "digest" not in said and "SPDX" not in said:
        assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"name": "a", "name": "b"}', b"[" * 100_000])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(PackageError, match="the config: "):
        parse(data)


def test_the_digest_of_wit_is_of_paths_and_texts() -> None:
    assert digest_of_wit({"a.wit": "x", "b.wit": "y"}) == digest_of_wit({"b.wit": "y", "a.wit": "x"})
    assert len({digest_of_wit(files) for files in ({"a.wit": "x"}, {"b.wit": "x"}, {"a.wit": "y"}, {})}) == 4
