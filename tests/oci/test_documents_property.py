"""Whatever comes as a document is read, or refused by PackageError: nothing else is raised, and nothing takes long."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from loop_kit.errors import PackageError
from loop_kit.oci import media_types
from loop_kit.oci.auth import _challenges
from loop_kit.oci.blobs import digest_of
from loop_kit.oci.model import Index, Manifest, parse, parse_descriptor
from loop_kit.oci.reference import LayoutReference, Reference, parse_place
from loop_kit.oci.wasm import parse_config

DIGEST = digest_of(b"x")
BLOB = {"mediaType": "application/x", "digest": DIGEST, "size": 1, "annotations": {"a": "b"}, "data": "eA=="}
PLATFORM = {"architecture": "arm", "os": "linux", "variant": "v7", "os.features": ["a"], "os.version": "1"}
DOCUMENTS: list[dict[str, Any]] = [
    {
        "schemaVersion": 2,
        "mediaType": media_types.MANIFEST,
        "artifactType": "application/x",
        "config": BLOB,
        "layers": [BLOB, {**BLOB, "urls": ["https://example.com/x"]}],
        "subject": BLOB,
        "annotations": {"a": "b"},
    },
    {"schemaVersion": 2, "mediaType": media_types.INDEX, "manifests": [{**BLOB, "platform": PLATFORM}]},
    {
        "created": "2026-01-01T00:00:00Z",
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [DIGEST],
        "component": {"exports": ["a"], "imports": [], "target": None},
    },
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([DIGEST, "application/x", {}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    made = dict(value) if isinstance(value, dict) else list(value)
    made[path[0]] = put(value[path[0]], path[1:], new)
    return made


def read(data: bytes) -> None:
    """All readers of documents; what they take must come back as it was."""
    for reader in (parse, parse_descriptor, parse_config):
        try:
            found = reader(data)
        except PackageError:
            continue
        if isinstance(found, (Manifest, Index)):
            assert parse(found.to_bytes()) == found


@given(st.data())
def test_one_thing_changed(data: st.DataObject) -> None:
    document = data.draw(st.sampled_from(DOCUMENTS))
    path = data.draw(st.sampled_from(places(document)))
    read(json.dumps(put(document, path, data.draw(VALUES))).encode())


@given(st.data())
def test_one_byte_changed(data: st.DataObject) -> None:
    text = bytearray(json.dumps(data.draw(st.sampled_from(DOCUMENTS))).encode())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(text))


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    read(data)


@given(st.text(max_size=80) | st.from_regex(r"[a-z0-9./:@-]{1,60}", fullmatch=True))
@example("localhost/a:b@" + DIGEST)
@example("oci-layout:a:b@" + DIGEST)
def test_names_are_read_back_as_they_are_written(text: str) -> None:
    for name in (text, f"localhost/{text}", f"oci-layout:{text}"):
        try:
            found = parse_place(name)
        except PackageError:
            continue
        assert str(found) == name or isinstance(found, LayoutReference)
        if isinstance(found, Reference):
            assert parse_place(str(found)) == found
            assert ".." not in found.repository


CHALLENGE = st.from_regex(r'([A-Za-z]+ [a-z]+="[^"]*",? ?){1,4}', fullmatch=True)


@given(st.lists(st.text(max_size=200) | CHALLENGE, max_size=3))
def test_any_challenge(fields: list[str]) -> None:
    for name, said in _challenges(fields).items():
        assert name == name.lower()
        assert all(isinstance(value, str) for value in said.values())
