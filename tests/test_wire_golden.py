"""The published bytes of every frame: what each says, by the codec that SDKs have, is its payload."""

import json
from typing import Any

import pytest

from loop_kit import wire
from tests.checkout import ROOT
from tests.test_wire_vectors import from_python, same, to_python
from tests.wire_types import parse

GOLDEN = json.loads((ROOT / "tests" / "data" / "wire-golden.json").read_text())


@pytest.mark.parametrize("frame", GOLDEN["frames"], ids=lambda f: str(f["name"]))
def test_a_frame_is_its_header_and_what_it_says(frame: dict[str, Any]) -> None:
    data = bytes.fromhex(frame["bytes"])
    length, kind, stream = int.from_bytes(data[:3], "little"), data[3], int.from_bytes(data[4:8], "little")
    assert (kind, stream) == (frame["kind"], frame["stream"])
    rest = data[8:]
    assert length == len(rest)
    for item in frame["says"]:
        if "bytes" in item:
            said = bytes.fromhex(item["bytes"])
        else:
            t = parse(item["type"])
            value = to_python(t, item["value"])
            said = wire.encode(item["type"], value)
            assert same(from_python(t, wire.decode(item["type"], said)), value)
        assert rest[: len(said)] == said, item["name"]
        rest = rest[len(said) :]
    assert rest == b""


def test_a_session_begins_with_its_name_and_version() -> None:
    assert bytes.fromhex(GOLDEN["preface"]) == b"LOOP\x01"
    hello = bytes.fromhex(GOLDEN["frames"][0]["bytes"])
    assert hello[3] == 1
