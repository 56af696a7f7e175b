"""The published vectors of wRPC's values, which are those of the component model: every one of them."""

import json
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import wire
from loop_kit._types import snake
from tests.checkout import ROOT
from tests.wire_types import NOTHING, Node, parse

DATA = json.loads((ROOT / "tests" / "data" / "wrpc-vectors.json").read_text())


def to_python(t: Node, v: Any) -> Any:
    """A value of the vectors' form as `encode` takes it."""
    match t.kind:
        case "u64" | "s64":
            return int(v)
        case "f32" | "f64":
            return float(v)
        case "list" | "tuple":
            types = t.items * len(v) if t.kind == "list" else t.items
            return [to_python(c, x) for c, x in zip(types, v, strict=True)]
        case "record":
            return {n: to_python(c, v[n]) for n, c in zip(t.names, t.items, strict=True)}
        case "variant":
            case = t.items[t.names.index(v["case"])]
            return v["case"] if case is NOTHING else (v["case"], to_python(case, v["value"]))
        case "option":
            inner = to_python(t.items[0], v["some"]) if v else None
            return loop.Some(inner) if v and t.items[0].kind == "option" else inner
        case "result":
            (key, payload) = next(iter(v.items()))
            made = to_python(t.items[key == "err"], payload)
            return loop.Err(made) if key == "err" else loop.Ok(made)
        case "flags":
            bits = sum(1 << t.names.index(n) for n in v)
            groups = [bits >> i & 0xFFFF_FFFF for i in range(0, len(t.names), 32)]
            return tuple(groups) if len(groups) > 1 else groups[0]
        case "own" | "borrow":
            return wire.Handle(bytes.fromhex(v["handle"]))
        case "stream" | "future":
            return "pending"  # the items follow
    return v


def from_python(t: Node, v: Any) -> Any:
    """What `decode` gave, as `to_python` made it."""
    match t.kind:
        case "list" | "tuple" | "record":
            fields = v if t.kind != "record" else [getattr(v, snake(n)) for n in t.names]
            types = t.items * len(v) if t.kind == "list" else t.items
            made = [from_python(c, x) for c, x in zip(types, fields, strict=True)]
            return dict(zip(t.names, made, strict=True)) if t.kind == "record" else made
        case "variant":
            case = t.items[t.names.index(v.case)]
            return v.case if case is NOTHING else (v.case, from_python(case, v.value))
        case "enum":
            return t.names[v.value]
        case "option":
            inner = v.value if isinstance(v, loop.Some) else v
            some = None if v is None else from_python(t.items[0], inner)
            return loop.Some(some) if isinstance(v, loop.Some) else some
        case "result":
            return type(v)(from_python(t.items[isinstance(v, loop.Err)], v.value))
        case "flags":
            return tuple(g.value for g in v) if isinstance(v, tuple) else v.value
        case "stream" | "future":
            return v.case
    return v


def same(a: Any, b: Any) -> bool:
    return repr(a) == repr(b) or bool(a == b)  # NaN equals nothing, and -0.0 equals 0.0


@pytest.mark.parametrize("vector", DATA["vectors"], ids=lambda v: f"{v['type'][:40]}={v['bytes'][:16]}")
def test_vectors(vector: dict[str, Any]) -> None:
    t, text, data = parse(vector["type"]), vector["type"], bytes.fromhex(vector["bytes"])
    value = to_python(t, vector["value"])
    assert wire.encode(text, value) == data
    assert same(from_python(t, wire.decode(text, data)), value)
    assert wire.encode(text, wire.decode(text, memoryview(data))) == data


@pytest.mark.parametrize("vector", DATA["decode_only"], ids=lambda v: f"{v['type'][:40]}={v['bytes'][:16]}")
def test_decode_only(vector: dict[str, Any]) -> None:
    t = parse(vector["type"])
    found = wire.decode(vector["type"], bytes.fromhex(vector["bytes"]))
    assert same(from_python(t, found), to_python(t, vector["value"]))


@pytest.mark.parametrize("vector", DATA["reject"], ids=lambda v: f"{v['type'][:40]}={v['bytes'][:16]}")
def test_reject(vector: dict[str, Any]) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.decode(vector["type"], bytes.fromhex(vector["bytes"]))
    assert caught.value.kind == vector["error"]
    assert caught.value.offset is not None


def roots(trace: dict[str, Any]) -> list[tuple[list[str], list[Any], bytes]]:
    """Types, values and bytes of the root in each direction."""
    # "func(a: T, b: U) -> V": as the fields of a record, and a type
    head, _, result = trace["signature"].partition(" -> ")
    params = head.removeprefix("func(").removesuffix(")")
    joined = []
    for key in ("client_frames", "server_frames"):
        joined.append(bytes.fromhex("".join(f["data"] for f in trace[key] if f["path"] == [])))
    types = [t.text for t in parse(f"record {{ {params} }}").items] if params else []
    return [
        (types, trace["params"], joined[0]),
        ([result] if result else [], trace["results"], joined[1]),
    ]


@pytest.mark.parametrize("trace", DATA["traces"], ids=lambda t: str(t["name"]))
def test_roots_of_traces(trace: dict[str, Any]) -> None:
    for types, values, data in roots(trace):
        if not types:
            assert data == b""
            continue
        text = f"tuple<{', '.join(types)}>"
        t = parse(text)
        value = to_python(t, values)
        assert wire.encode(text, value) == data
        assert same(from_python(t, wire.decode(text, data)), value)
        assert wire.encode(text, wire.decode(text, data)) == data
