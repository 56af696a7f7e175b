"""Values as bytes, over random types: there and back, from anyone, and through the command line."""

import io
import json
import pickle
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loop_kit as loop
from loop_kit import wire
from tests.cli import LOOP
from tests.test_values import examples
from tests.wit_types import (
    U8,
    Enum,
    Fixed,
    Flags,
    List,
    Option,
    Prim,
    Record,
    Result,
    Tuple,
    Type,
    Variant,
)
from tests.wit_values import from_loop, same, to_loop, types, values


def wit(t: Type) -> str:
    """The type as text."""

    def members(pairs: Any) -> str:
        return "{ " + ", ".join(pairs) + " }"

    match t:
        case Prim():
            return t.wat
        case List():
            return f"list<{wit(t.item)}>"
        case Fixed():
            return f"list<{wit(t.item)}, {t.count}>"
        case Tuple():
            return f"tuple<{', '.join(map(wit, t.items))}>"
        case Record():
            return "record " + members(f"%{n}: {wit(c)}" for n, c in t.fields)
        case Option():
            return f"option<{wit(t.some)}>"
        case Result():
            return f"result<{wit(t.ok) if t.ok else '_'}" + (f", {wit(t.err)}>" if t.err else ">")
        case Variant():
            return "variant " + members(f"%{n}({wit(c)})" if c else n for n, c in t.named)
        case Enum():
            return "enum " + members(f"%{n}" for n in t.names)
        case Flags():
            return "flags " + members(t.names)
    raise TypeError(t)


def leb(n: int, signed: bool) -> bytes:
    made = bytearray()
    while True:
        low, n = n & 0x7F, n >> 7
        if n == (-1 if signed and low & 0x40 else 0) and not (signed and n == 0 and low & 0x40):
            return bytes([*made, low])
        made.append(low | 0x80)


def written(t: Type, v: Any) -> bytes:
    """The bytes of a plain value, by a reading of the table of its own; floats are left to the vectors."""
    match t:
        case Prim("u8" | "s8" | "bool"):
            return bytes([int(v) & 0xFF])
        case Prim("char"):
            return str(v).encode()
        case Prim("string"):
            text = str(v).encode()
            return leb(len(text), False) + text
        case Prim():
            return leb(v, t.wat[0] == "s")
        case List():
            return leb(len(v), False) + b"".join(written(t.item, x) for x in v)
        case Fixed():
            return b"".join(written(t.item, x) for x in v)
        case Tuple() | Record():
            return b"".join(written(c, x) for c, x in zip(t.children, v, strict=True))
        case Flags():
            return int(v).to_bytes((len(t.names) + 7) // 8, "little")
        case Option() | Result() | Variant() | Enum():
            case = t.cases[v[0]]
            return leb(v[0], False) + (written(case, v[1]) if case else b"")
    raise TypeError(t)


def floats(t: Type) -> bool:
    return any(isinstance(c, Prim) and c.wat in ("f32", "f64") for c in t.walk())


@st.composite
def cases(draw: st.DrawFn) -> tuple[Type, Any]:
    t = draw(types(fixed=True))
    return t, draw(values(t))


@given(cases())
@examples(200)
def test_what_is_written_reads_back(case: tuple[Type, Any]) -> None:
    t, v = case
    text = wit(t)
    data = wire.encode(text, to_loop(t, v))
    if not floats(t):
        assert data == written(t, v)
    found = wire.decode(text, data)
    assert same(from_loop(t, found), v)
    assert wire.encode(text, found) == data
    if not floats(t):
        assert wire.decode(text, bytearray(data)) == found


@given(types(fixed=True), st.binary(max_size=200))
@examples(200)
def test_any_bytes_are_read_or_refused(t: Type, data: bytes) -> None:
    text = wit(t)
    refused = None
    try:
        found = wire.decode(text, data)
    except wire.WireError as e:
        refused = e
    if refused is not None:
        assert refused.offset in range(len(data) + 1)
        return
    again = wire.encode(text, found)
    assert len(again) <= len(data)
    assert same(from_loop(t, wire.decode(text, again)), from_loop(t, found))


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("list<u64>", b"\xff\xff\xff\xff\x0f" + b"\x01" * 1000),
        ("list<list<u64>>", b"\xe8\x07" + b"\xff\xff\xff\xff\x0f" * 1000),
        ("string", b"\xff\xff\xff\x7f" + b"a" * 1000),
        ("list<f64>", b"\xff\xff\xff\xff\x0f" + b"\0" * 1000),
        ("list<tuple<>>", b"\xff\xff\xff\xff\x0f"),
        ("list<list<tuple<>>>", b"\xe8\x07" + b"\xff\xff\x03" * 1000),
        ("list<stream>", b"\xe8\x07" + b"\x01\xff\xff\x03" * 1000),
    ],
)
def test_nothing_is_allocated_that_bytes_only_claim(text: str, data: bytes) -> None:
    wire.encode("u8", 1)
    tracemalloc.start()
    try:
        with pytest.raises(wire.WireError):
            wire.decode(text, data)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


def test_errors_say_what_and_where() -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.decode("record { a: u8, b: list<string> }", b"\x01\x02\x00\x05he")
    e = caught.value
    assert (e.kind, e.offset, e.path, e.expected, e.got) == ("truncated", 3, ".b[1]", "string", None)
    assert isinstance(e, loop.LoopError)
    assert isinstance(e, ValueError)
    with pytest.raises(wire.WireError) as caught:
        wire.encode("record { a: u8, b: list<result<u8, string>> }", {"a": 1, "b": [loop.Ok(1), loop.Err(2)]})
    e = caught.value
    assert (e.kind, e.offset, e.path, e.expected, e.got) == ("mismatch", None, ".b[1].err", "string", "int 2")
    assert pickle.loads(pickle.dumps(e)).path == ".b[1].err"
    with pytest.raises(wire.WireError, match="left after") as caught:
        wire.decode("u8", b"\0\0")
    assert (caught.value.kind, caught.value.offset) == ("trailing-bytes", 1)


@pytest.mark.parametrize(
    ("text", "offset", "says"),
    [
        ("", 0, "expected a type"),
        ("lst<u8>", 0, "there is no type `lst`"),
        ("list<u8", 7, "expected `>`, got the end"),
        ("list<u8>>", 8, "nothing more"),
        ("list<u8, 0>", 9, "the length of the list"),
        ("record {}", 9, "a member at least"),
        ("record { a: u8, A: u8 }", 16, "twice"),
        ("record { a u8 }", 11, "expected `:`, got `u`"),
        ("enum { 1a }", 7, "expected a name"),
        ("flags { é }", 8, "expected a name"),
        ("own<>", 4, "expected a name"),
        ("list<" * 65 + "u8" + ">" * 65, 320, "deeper than 64"),
        ("list<tuple<u64, u64>, 4294967295>", 0, "fits no memory"),
    ],
)
def test_types_that_are_none(text: str, offset: int, says: str) -> None:
    with pytest.raises(wire.WireError, match=says) as caught:
        wire.encode(text, 1)
    assert (caught.value.kind, caught.value.offset) == ("bad-type", offset)


def test_handles_are_their_bytes() -> None:
    text = "tuple<own<file>, list<borrow<file>>>"
    data = wire.encode(text, (wire.Handle(b"ab"), [wire.Handle(b"")]))
    assert data == b"\x02ab\x01\x00"
    assert wire.decode(text, data) == (wire.Handle(b"ab"), [wire.Handle(b"")])
    with pytest.raises(wire.WireError) as caught:
        wire.encode(text, (wire.Handle(b"ab"), [b"x"]))
    assert (caught.value.kind, caught.value.path) == ("mismatch", "[1][0]")
    with pytest.raises(wire.WireError) as caught:
        wire.encode("own<file>", wire.Handle(b"x" * 65))
    assert caught.value.kind == "bad-handle"
    with pytest.raises(wire.WireError) as caught:
        wire.decode("own<file>", b"\x41" + b"x" * 65)
    assert (caught.value.kind, caught.value.offset) == ("limit", 0)


def test_what_waits_has_a_form_for_when_it_is_there() -> None:
    assert wire.encode("stream<u8>", ("ready", b"ab")) == b"\x01\x02ab"
    first, second = wire.decode("tuple<stream<u8>, stream<string>>", b"\x00\x01\x01\x01a")
    assert (first.case, second.case, second.value) == ("pending", "ready", ["a"])
    assert wire.encode("stream", ("ready", [(), ()])) == b"\x01\x02"
    found = wire.decode("list<future<u8>>", b"\x02\x00\x01\x07")
    assert [f.case for f in found] == ["pending", "ready"]
    assert found[1].value == 7
    assert wire.encode("future<u8>", ("ready", 7)) == b"\x01\x07"
    assert wire.encode("future", "ready") == b"\x01"


def test_an_error_context_is_its_message() -> None:
    for message, data in (("no", "026e6f"), ("", "00"), ("näh", "046ec3a468")):
        assert wire.encode("error-context", message).hex() == data
        assert wire.decode("error-context", bytes.fromhex(data)) == message
    assert wire.encode("result<u8, error-context>", loop.Err("no")).hex() == "01026e6f"
    assert wire.decode("list<error-context>", b"\x02\x01a\x00") == ["a", ""]
    with pytest.raises(wire.WireError) as caught:
        wire.decode("error-context", b"\x02\xff\xff")
    assert caught.value.kind == "invalid-utf8"


def test_any_buffer_is_read() -> None:
    data = wire.encode("list<u8>", b"abc")
    for form in (data, bytearray(data), memoryview(data), memoryview(b"\0" + data)[1:]):
        assert wire.decode("list<u8>", form) == b"abc"
    with pytest.raises(TypeError, match="got str 'ab'"):
        wire.decode("list<u8>", "ab")


# ---- the command line


def command(*args: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
    done = subprocess.run([LOOP, "wire", *args], input=stdin, capture_output=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr.decode()


def test_commands() -> None:
    text = "record { name: string, tags: list<u32> }"
    assert command("encode", text, '{name: "a", tags: [1, 300]}') == (0, b"01610201ac02\n", "")
    code, out, _ = command("encode", text, '{name: "a", tags: [1, 300]}', "--json")
    assert (code, json.loads(out)) == (0, {"bytes": "01610201ac02"})
    assert command("encode", text, '{name: "a", tags: []}', "--binary") == (0, b"\x01a\0", "")
    assert command("decode", text, "01 61 02 01 ac02") == (0, b'{name: "a", tags: [1, 300]}\n', "")
    assert command("decode", text, stdin=b"016100\n") == (0, b'{name: "a", tags: []}\n', "")
    assert command("decode", "string", "--binary", stdin=b"\x02hi") == (0, b'"hi"\n', "")
    code, out, _ = command("decode", "tuple<own<file>, f32>", "01ff0000c07f", "--json")
    assert (code, json.loads(out)) == (0, {"value": [{"bytes": [255]}, "nan"]})


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["encode", "lst<u8>", "[]"], 2, "TYPE: `lst<u8>`, column 1: there is no type `lst`"),
        (["encode", "list<u8>", "[1, x]"], 2, "VALUE is no list<u8>:"),
        (["encode", "own<file>", "1"], 2, "cannot be written as text"),
        (["encode", "u8", "1", "--binary", "--json"], 2, "exclude each other"),
        (["decode", "u8", "0x01"], 2, "HEX is not hexadecimal"),
        (["decode", "u8", "01", "--binary"], 2, "leave HEX out"),
        (["decode", "own<file>", "0102"], 2, "--json prints it"),
        (["decode", "list<string>", "0202686903"], 1, "error: list<string>: [1]: expected string at byte 4"),
    ],
)
def test_commands_say_what_is_wrong(args: list[str], code: int, says: str) -> None:
    got, out, err = command(*args)
    assert (got, out) == (code, b"")
    assert says in err


def test_types_are_completed(tmp_path: Path) -> None:
    from tests.test_cli_basics import complete

    assert complete("loop wire ", tmp_path) == ["decode", "encode"]
    assert complete("loop wire encode s", tmp_path) == ["s8", "s16", "s32", "s64", "string"]
    assert complete("loop wire decode u8 --b", tmp_path) == ["--binary"]


def test_a_megabyte_is_no_trouble() -> None:
    data = io.BytesIO()
    data.write(b"\x80\x80\x40" + bytes(1 << 20))
    found = wire.decode("list<u8>", data.getbuffer())
    assert found == bytes(1 << 20)
    assert wire.encode(f"list<{U8.wat}>", found) == data.getvalue()
