"""Guests that hand over malformed values: each ends in a clean trap, within the limits."""

import random
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st
from wasmtime import component as judge

import loop_kit as loop
from loop_kit.errors import CallError, GuestTrap, LimitExceeded
from tests.guests import API, HEAP, HOST, SCRATCH, Guest
from tests.test_values import examples
from tests.wit_types import (
    BOOL,
    CHAR,
    F64,
    STRING,
    U8,
    U16,
    U32,
    U64,
    Enum,
    Fixed,
    Flags,
    List,
    Option,
    Record,
    Result,
    Tuple,
    Type,
    Variant,
    params_flat,
)
from tests.wit_values import from_loop, same_judged, to_judge, types

MEMORY = 2 << 16  # bytes of a guest's memory at the start
ENUM = Enum(("a", "b", "c"), "few")
VARIANT = Variant((("a", None), ("b", U64), ("c", STRING)), "some")


@pytest.fixture(scope="module")
def host() -> Iterator[loop.blocking.Host]:
    with loop.blocking.Host(cache=None) as host:
        yield host


def hostile(t: Type) -> Guest:
    """A guest that hands over whatever it is told to.

    `load(bytes)` returns a `t` that lies where the bytes are; `pass(bytes)` calls the import `take(t)` with
    the core values in them, 8 bytes each; `at(pointer)` returns a `t` at an address.
    """
    guest = Guest(pages=MEMORY >> 16).imports("take", [t])
    core = params_flat([t])
    loads = " ".join(f"({c}.load (i32.add (local.get 0) (i32.const {8 * i})))" for i, c in enumerate(core))
    guest.exports("pass", [List(U8)], None, f"(call $take {loads})")
    if len(t.flat) == 1:
        load = f"({core[0]}.load (local.get 0))"
        return guest.exports("load", [List(U8)], t, load)
    guest.exports("load", [List(U8)], t, "(local.get 0)")
    return guest.exports("at", [U32], t, "(local.get 0)")


def words(*values: int) -> bytes:
    return b"".join(v.to_bytes(4, "little") for v in values)


def trapped(call: Any, *args: Any) -> GuestTrap:
    with pytest.raises(GuestTrap) as caught:
        call(*args)
    assert caught.value.export.startswith(API)
    assert caught.value.reason
    return caught.value


FLAT = [
    (ENUM, [3], "discriminant 3"),
    (ENUM, [2**32 - 1], "discriminant"),
    (Variant((("a", None),), "one"), [1], "discriminant 1"),
    (VARIANT, [3, 0, 0], "discriminant 3"),
    (VARIANT, [2, 2**32 - 1, 2], "out of bounds"),
    (Option(U8), [2, 0], "discriminant 2"),
    (Option(STRING), [1, MEMORY, 1], "out of bounds"),
    (Result(U8), [2, 0], "discriminant 2"),
    (CHAR, [0xD800], "scalar value"),
    (CHAR, [0xDFFF], "scalar value"),
    (CHAR, [0x110000], "scalar value"),
    (CHAR, [2**32 - 1], "scalar value"),
    (STRING, [MEMORY, 1], "out of bounds"),
    (STRING, [MEMORY - 1, 2], "out of bounds"),
    (STRING, [0, 2**32 - 1], "out of bounds"),
    (STRING, [2**32 - 1, 2**32 - 1], "out of bounds"),
    (List(U8), [MEMORY + 1, 0], "out of bounds"),
    (List(U32), [2, 0], "aligned"),
    (List(U64), [HEAP + 4, 1], "aligned"),
    (List(U64), [0, 2**29], "out of bounds"),
    (List(U64), [MEMORY - 8, 2], "out of bounds"),
    (List(STRING), [HEAP, 2**32 - 1], "out of bounds"),
    (List(Tuple((U64, U64))), [HEAP, 2**28], "out of bounds"),
    (Tuple((U8, ENUM)), [0, 9], "discriminant 9"),
    (Record((("a", ENUM), ("b", CHAR)), "pair"), [0, 0xD800], "scalar value"),
]


@pytest.mark.parametrize(("t", "core", "reason"), FLAT)
def test_malformed_core_values(host: loop.blocking.Host, t: Type, core: list[int], reason: str) -> None:
    app = host.load(hostile(t).wasm(), {HOST: SimpleNamespace(take=lambda _: pytest.fail("was called"))})
    wire = b"".join(v.to_bytes(8, "little") for v in core)
    assert reason in trapped(app.call, "pass", wire).reason


STORED = [
    (ENUM, b"\3", "discriminant 3"),
    (Tuple((ENUM, U8)), b"\xff\0", "discriminant 255"),
    (Tuple((Enum(tuple(f"c{i}" for i in range(257)), "wide"), U8)), b"\1\1\0\0", "discriminant 257"),
    (VARIANT, b"\3" + bytes(15), "discriminant 3"),
    (VARIANT, b"\2" + bytes(7) + words(MEMORY, 1), "out of bounds"),
    (Option(U8), b"\2\0", "discriminant 2"),
    (Option(Option(U8)), b"\1\2\0\0", "discriminant 2"),
    (Tuple((Result(), U8)), b"\2\0", "discriminant 2"),
    (Tuple((CHAR, U8)), words(0xDC00, 0), "scalar value"),
    (STRING, words(MEMORY, 1), "out of bounds"),
    (STRING, words(1, MEMORY), "out of bounds"),
    (List(U16), words(HEAP + 1, 1), "aligned"),
    (List(U8), words(0, 2**32 - 1), "out of bounds"),
    (List(List(U32)), words(HEAP, 1), "aligned"),
    (Tuple((U8, Fixed(ENUM, 2))), b"\0\0\7", "discriminant 7"),
]


@pytest.mark.parametrize(("t", "wire", "reason"), STORED)
def test_malformed_values_in_memory(host: loop.blocking.Host, t: Type, wire: bytes, reason: str) -> None:
    app = host.load(hostile(t).wasm(), {HOST: SimpleNamespace(take=lambda _: None)})
    if t == List(List(U32)):
        wire += words(HEAP + 2, 1)
        wire = words(HEAP + 8) + wire[4:]
    assert reason in trapped(app.call, "load", wire).reason


@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ab\xe2\x82"])
def test_strings_that_are_not_utf8(host: loop.blocking.Host, bad: bytes) -> None:
    guest = Guest().imports("take", [STRING])
    guest.exports("pass", [List(U8)], None, "(call $take (local.get 0) (local.get 1))")
    app = host.load(guest.wasm(), {HOST: SimpleNamespace(take=lambda _: pytest.fail("was called"))})
    assert "utf-8" in trapped(app.call, "pass", bad).reason


@pytest.mark.parametrize(
    ("encoding", "units", "length"),
    [
        ("utf16", b"\x00\xd8a\x00", 2),
        ("utf16", b"\x00\xdc", 1),
        ("latin1+utf16", b"\x00\xd8", 1 | 1 << 31),
        ("utf16", b"", 2**31),
        ("latin1+utf16", b"", 2**32 - 1),
        ("latin1+utf16", b"", 2**31 - 1),
    ],
)
def test_malformed_strings_of_other_encodings(
    host: loop.blocking.Host, encoding: str, units: bytes, length: int
) -> None:
    guest = Guest(encoding=encoding).imports("take", [STRING])
    guest.exports("pass", [List(U16), U32], None, "(call $take (local.get 0) (local.get 2))")
    app = host.load(guest.wasm(), {HOST: SimpleNamespace(take=lambda _: pytest.fail("was called"))})
    trapped(app.call, "pass", memoryview(units).cast("H").tolist(), length)


@pytest.mark.parametrize("pointer", [1, 4, HEAP + 7, MEMORY - 8, MEMORY, 2**31, 2**32 - 8, 2**32 - 1])
def test_the_pointer_to_a_result(host: loop.blocking.Host, pointer: int) -> None:
    app = host.load(hostile(Tuple((U64, U64))).wasm(), {HOST: SimpleNamespace(take=lambda *_: None)})
    wanted = "aligned" if pointer % 8 else "out of bounds"
    assert wanted in trapped(app.call, "at", pointer).reason
    assert app.call("at", MEMORY - 16) == (0, 0)


@pytest.mark.parametrize("pointer", [1, 4, MEMORY - 8, MEMORY, 2**32 - 8])
def test_the_pointer_to_parameters(host: loop.blocking.Host, pointer: int) -> None:
    kinds = [U64] * 17
    guest = Guest().imports("take", kinds)
    guest.exports("pass", [U32], None, "(call $take (local.get 0))")
    app = host.load(guest.wasm(), {HOST: SimpleNamespace(take=lambda *args: args)})
    trapped(app.call, "pass", pointer)
    assert app.call("pass", HEAP) is None


@pytest.mark.parametrize("pointer", [1, 4, MEMORY - 8, MEMORY, 2**32 - 8])
def test_the_pointer_for_an_answer(host: loop.blocking.Host, pointer: int) -> None:
    guest = Guest().imports("give", [], Tuple((U64, U64)))
    guest.exports("ask", [U32], None, "(call $give (local.get 0))")
    app = host.load(guest.wasm(), {HOST: SimpleNamespace(give=lambda: (1, 2))})
    trapped(app.call, "ask", pointer)
    assert app.call("ask", HEAP) is None


# ---- what the host is asked to write into


REALLOC = '(func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32) %s)'
SPIN = "(loop $l (br $l)) unreachable"
BAD_REALLOC = {
    "out of bounds": (f"(i32.const {MEMORY})", GuestTrap, "beyond end"),
    "far out": ("(i32.const -16)", GuestTrap, "beyond end"),
    "wraps": ("(i32.const -1)", GuestTrap, "aligned|beyond end"),
    "misaligned": (f"(i32.const {HEAP + 1})", GuestTrap, "aligned"),
    "traps": ("unreachable", GuestTrap, "unreachable"),
    "spins": (SPIN, LimitExceeded, "CPU"),
    "recurses": (
        "(call $realloc (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
        CallError,
        "stack",
    ),
}


@pytest.mark.parametrize("name", BAD_REALLOC)
@pytest.mark.parametrize("way", ["argument", "spilled arguments", "answer"])
def test_a_realloc_that_misbehaves(host: loop.blocking.Host, name: str, way: str) -> None:
    body, error, text = BAD_REALLOC[name]
    guest = Guest(realloc=REALLOC % body)
    value = [2**40, 1, 2]
    args: list[Any] = []
    if way == "argument":
        guest.exports("go", [List(U64)], None, "nop")
        args = [value]
    elif way == "spilled arguments":
        guest.exports("go", [U64] * 17, None, "nop")
        args = [1] * 17
    else:
        guest.imports("give", [], List(U64)).exports("go", [], None, f"(call $give (i32.const {SCRATCH}))")
    provider = SimpleNamespace(give=lambda: value)
    limits = loop.Limits(cpu=0.05, deadline=20)
    app = host.load(guest.wasm(), {HOST: provider} if way == "answer" else {}, limits=limits)
    with pytest.raises(error, match=text):
        app.call("go", *args)


def test_blocks_that_overlap_harm_only_the_guest(host: loop.blocking.Host) -> None:
    guest = Guest(realloc=REALLOC % f"(i32.const {HEAP})").imports("take", [List(STRING)])
    guest.exports("go", [List(STRING)], None, "(call $take (local.get 0) (local.get 1))")
    got: list[Any] = []
    app = host.load(guest.wasm(), {HOST: SimpleNamespace(take=got.append)})
    app.call("go", ["a" * 80, "b"])
    # "b" was written over the address of the first string, which now is in zeroed memory
    assert got == [["\0" * 80, "b"]]


def test_memory_that_moves_while_the_host_writes(host: loop.blocking.Host) -> None:
    """Each allocation grows memory: no pointer that was taken before may be used after."""
    grow = (
        "(local $p i32) (local.set $p (i32.mul (memory.grow (i32.add (i32.const 1)"
        "(i32.shr_u (local.get 3) (i32.const 16)))) (i32.const 65536))) (local.get $p)"
    )
    t = List(Tuple((STRING, List(U64))))
    guest = Guest(realloc=REALLOC % grow).imports("take", [t])
    guest.exports("go", [t], None, "(call $take (local.get 0) (local.get 1))")
    got: list[Any] = []
    app = host.load(guest.wasm(), {HOST: SimpleNamespace(take=got.append)})
    value = [(f"{i}" * 50, [i, 2**63]) for i in range(100)]
    app.call("go", value)
    assert got == [value]


# ---- bombs


FILL = """
(func $fill (param $count i32) (param $even i32) (param $odd i32) (local $at i32)
  (local.set $at (i32.const 4096))
  (loop $next (if (local.get $count) (then
    (i32.store (local.get $at) (local.get $even))
    (i32.store offset=4 (local.get $at) (local.get $odd))
    (local.set $at (i32.add (local.get $at) (i32.const 8)))
    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
    (br $next)))))
"""
PAYLOAD = 1 << 20


def bomb(t: Type) -> Guest:
    """`list(count, even, odd)` and `pass(…)` hand over `count` items of memory full of these two words."""
    guest = Guest(pages=360, code=FILL).imports("take", [List(t)])
    words = f"(i32.div_u (i32.add (i32.mul (local.get 0) (i32.const {t.size})) (i32.const 8)) (i32.const 8))"
    fill = f"(call $fill {words} (local.get 1) (local.get 2))"
    pair = f"(i32.store (i32.const {SCRATCH}) (i32.const {HEAP}))"
    pair += f"(i32.store (i32.const {SCRATCH + 4}) (local.get 0))"
    guest.exports("list", [U32, U32, U32], List(t), f"{fill} {pair} (i32.const {SCRATCH})")
    return guest.exports(
        "pass", [U32, U32, U32], None, f"{fill} (call $take (i32.const {HEAP}) (local.get 0))"
    )


@pytest.mark.parametrize("way", ["list", "pass"])
@pytest.mark.parametrize("t", [List(U8), STRING, List(BOOL), List(U64), List(List(U8))])
def test_one_block_handed_over_many_times(host: loop.blocking.Host, t: Type, way: str) -> None:
    """8 bytes an item in the guest, and up to 2 MiB an item on the host."""
    provider = SimpleNamespace(take=lambda _: pytest.fail("was called"))
    app = host.load(bomb(t).wasm(), {HOST: provider}, limits=loop.Limits(payload=PAYLOAD))
    tracemalloc.start()
    try:
        with pytest.raises(CallError, match="too much data"):
            app.call(way, 2048, 0, 1 << 18)
        assert tracemalloc.get_traced_memory()[1] < 2 * PAYLOAD
    finally:
        tracemalloc.stop()
    assert app.call("list", 0, 0, 0) == []


ASTRAL = 0x1F600
AMPLIFIED = [
    (U64, 1 << 17, 0),
    (CHAR, ASTRAL, ASTRAL),
    (Tuple((CHAR,) * 16), ASTRAL, ASTRAL),
    (Tuple((U64,) * 16), 1 << 17, 0),
    (Tuple((F64,) * 16), 1 << 17, 0),
    (Fixed(CHAR, 100), ASTRAL, ASTRAL),
    (Record((("a", CHAR), ("b", U64)), "two"), ASTRAL, ASTRAL),
    (Record(tuple((f"f{i}", CHAR) for i in range(40)), "wide"), ASTRAL, ASTRAL),
    (Option(Option(Option(U8))), 0x01010101, 0x01010101),
    (Variant((("a", U64), ("b", CHAR)), "either"), 0, 0),
    (Result(U64, U64), 0, 0),
    (Flags(("a", "b"), "two"), 0x01010101, 0),
    (STRING, 0, 0),
    (List(U8), 0, 8),
    (List(U64), 0, 0),
    (List(STRING), 0, 0),
]


@pytest.mark.parametrize(("t", "even", "odd"), AMPLIFIED)
def test_many_small_values_cost_no_more_than_the_payload_limit(
    host: loop.blocking.Host, t: Type, even: int, odd: int
) -> None:
    """The longest list that is let through takes no more Python memory than the limit and a half."""
    app = host.load(bomb(t).wasm(), {HOST: SimpleNamespace(take=len)}, limits=loop.Limits(payload=PAYLOAD))
    app.call("list", 1, even, odd)
    let_through, refused = 0, (320 << 16) // t.size
    while refused - let_through > max(1, refused // 20):
        count = (let_through + refused) // 2
        tracemalloc.start()
        try:
            result = app.call("list", count, even, odd)
            held = tracemalloc.get_traced_memory()[0]
            let_through = count
            assert len(result) == count
            assert held < 1.5 * PAYLOAD, f"{count} items of {t.size} bytes take {held} bytes"
            del result
        except CallError as e:
            if "too much data" not in str(e):
                raise
            refused = count
        finally:
            tracemalloc.stop()
    assert let_through > 100


# ---- against the other host


def judged(wasm: bytes, t: Type, name: str, wire: bytes) -> tuple[Any, Any] | None:
    """The value that wasmtime-py makes of the bytes, with its type; None if it refuses them."""
    engine = wasmtime.Engine()
    store, linker, got = wasmtime.Store(engine), judge.Linker(engine), []
    with linker.root() as root, root.add_instance(HOST) as host:
        host.add_func("take", lambda _, v: got.append(v))
    component = judge.Component(engine, wasm)
    instance = linker.instantiate(store, component)
    api = instance.get_export_index(store, API)

    def function(name: str) -> Any:
        return instance.get_func(store, instance.get_export_index(store, name, api))  # type: ignore[arg-type]

    jt = function("load").type(store).result
    try:
        answer = function(name)(store, wire)
    except (wasmtime.WasmtimeError, wasmtime.Trap):
        return None
    return (got[0] if name == "pass" else answer), jt


@st.composite
def wires(draw: st.DrawFn) -> tuple[Type, str, bytes]:
    """A type, and bytes for it that are about right: small numbers, addresses, and a few others."""
    t = draw(types())
    t = draw(st.sampled_from([t, Tuple((t, U8))]))
    name = draw(st.sampled_from(["load", "pass"])) if len(t.flat) <= 16 else "load"
    size = 8 * len(params_flat([t])) if name == "pass" else max(t.size, 8)
    seed = random.Random(draw(st.integers(0, 2**32)))
    choices = [
        0,
        0,
        1,
        1,
        2,
        3,
        255,
        HEAP,
        HEAP + 8,
        HEAP + 4,
        HEAP + 1,
        MEMORY - 8,
        MEMORY,
        0xD800,
        2**31,
        2**32 - 1,
    ]
    made = bytearray()
    while len(made) < size + 64:
        width = seed.choice([1, 1, 1, 2, 4, 4, 8]) if name == "load" else 8
        value = seed.choice(choices) & (1 << 8 * width) - 1
        made += value.to_bytes(width, "little")
    return t, name, bytes(made)


@examples(80)
@given(wires())
def test_both_hosts_refuse_the_same_bytes(host: loop.blocking.Host, wire: tuple[Type, str, bytes]) -> None:
    t, name, data = wire
    wasm = hostile(t).wasm()
    got: list[Any] = []
    app = host.load(wasm, {HOST: SimpleNamespace(take=got.append)})
    wanted = judged(wasm, t, name, data)
    try:
        answer: Any = app.call(name, data)
        if isinstance(t, Result) and name == "load":
            answer = loop.Ok(answer)
    except loop.Err as e:
        answer = e
    except GuestTrap:
        assert wanted is None
        return
    assert wanted is not None
    value, jt = wanted
    plain = from_loop(t, got[0] if name == "pass" else answer)
    assert same_judged(to_judge(t, jt, plain, gives=True), value)
