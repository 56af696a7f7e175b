"""The edges of numbers, text, lists and parameters: limits, refusals, and the Python forms accepted."""

import math
import struct
from array import array
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import loop_kit as loop
from loop_kit.errors import ArgumentError, GuestTrap
from tests.echoes import Through, passing, refused
from tests.guests import HOST, Guest
from tests.wit_types import (
    BOOL,
    CHAR,
    F32,
    F64,
    INTEGERS,
    S8,
    S64,
    STRING,
    U8,
    U16,
    U32,
    U64,
    Fixed,
    List,
    Option,
    Prim,
    Record,
    Tuple,
    Type,
    Variant,
    params_flat,
)
from tests.wit_values import LIMITS

POINT = Record((("x", U32), ("from-y", Option(STRING))), "point")


@pytest.fixture(scope="module")
def host() -> Iterator[loop.blocking.Host]:
    with loop.blocking.Host(cache=None) as host:
        yield host


@pytest.fixture(scope="module")
def through(host: loop.blocking.Host) -> Through:
    return passing(host)


# ---- numbers


@pytest.mark.parametrize("t", INTEGERS, ids=lambda t: t.wat)
def test_integer_limits(through: Through, t: Prim) -> None:
    low, high = LIMITS[t]
    for v in (low, high, 0, np.int64(1)):
        got = through(t, v)
        assert got == v
        assert type(got) is int
    for v in (low - 1, high + 1, 2**64, -(2**63) - 1, 10**30):
        error = refused(through, t, v)
        assert (error.expected, error.got[:3]) == (t.wat, "int")
    for wrong in (1.0, "1", None, b"1", [1]):
        refused(through, t, wrong)


@pytest.mark.parametrize("t", INTEGERS, ids=lambda t: t.wat)
def test_integer_limits_in_lists(through: Through, t: Prim) -> None:
    low, high = LIMITS[t]
    assert list(through(List(t), [low, high])) == [low, high]
    assert list(through(List(t), (x for x in (high, low)))) == [high, low]
    for wrong in (low - 1, high + 1, 1.5, "1", None):
        error = refused(through, List(t), [0, wrong], "[1]")
        assert error.expected == t.wat


@pytest.mark.parametrize("t", [F32, F64], ids=lambda t: t.wat)
def test_floats(through: Through, t: Prim) -> None:
    for v in (0.0, -0.0, 1.5, math.inf, -math.inf, 2.0**-126, 2.0**-149):
        got = through(t, v)
        assert (got, math.copysign(1, got)) == (v, math.copysign(1, v))
    assert math.isnan(through(t, math.nan))
    assert through(t, 3) == 3.0
    assert through(F64, 5e-324) == 5e-324
    assert through(F32, 0.1) == struct.unpack("f", struct.pack("f", 0.1))[0]
    for wrong in ("1.0", None, 1j, b"1", 10**400):
        refused(through, t, wrong)


def test_nan_has_no_payload_for_the_host(host: loop.blocking.Host) -> None:
    guest = Guest()
    guest.exports("f32", [], F32, "(f32.reinterpret_i32 (i32.const 0xffc12345))")
    guest.exports("f64", [], F64, "(f64.reinterpret_i64 (i64.const 0xfff4000000000001))")
    guest.exports("bits", [F64], U64, "(i64.reinterpret_f64 (local.get 0))")
    guest.exports("bits32", [F32], U32, "(i32.reinterpret_f32 (local.get 0))")
    app = host.load(guest.wasm())
    assert struct.pack("<d", app.call("f64")) == struct.pack("<Q", 0x7FF8_0000_0000_0000)
    assert struct.pack("<d", app.call("f32")) == struct.pack("<Q", 0x7FF8_0000_0000_0000)
    loud = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]
    assert app.call("bits", loud) == 0x7FF8_0000_0000_0000
    assert app.call("bits32", loud) == 0x7FC0_0000


def test_bool_takes_bools_only(through: Through) -> None:
    assert through(BOOL, True) is True
    assert through(BOOL, False) is False
    for wrong in (1, 0, None, "true"):
        refused(through, BOOL, wrong)


def test_any_bit_of_a_guests_bool_is_true(host: loop.blocking.Host) -> None:
    guest = Guest().exports("flat", [U32], BOOL, "(local.get 0)")
    guest.exports(
        "memory", [U32], Tuple((BOOL, U8)), "(i32.store8 (i32.const 64) (local.get 0)) (i32.const 64)"
    )
    app = host.load(guest.wasm())
    assert [app.call("flat", n) for n in (0, 1, 2, 256, 2**32 - 1)] == [False, True, True, True, True]
    assert [app.call("memory", n)[0] for n in (0, 1, 2, 255)] == [False, True, True, True]


def test_small_integers_ignore_high_bits_of_the_guest(host: loop.blocking.Host) -> None:
    guest = Guest().exports("u8", [U32], U8, "(local.get 0)").exports("s8", [U32], S8, "(local.get 0)")
    guest.exports("u16", [U32], U16, "(local.get 0)")
    app = host.load(guest.wasm())
    assert (app.call("u8", 0x1FF), app.call("s8", 0xFF80), app.call("u16", 0xABCDE)) == (255, -128, 0xBCDE)


# ---- text


@pytest.mark.parametrize("encoding", ["utf8", "utf16", "latin1+utf16"])
def test_strings(through: Through, encoding: str) -> None:
    for v in (
        "",
        "\0",
        "a\0b",
        "é",
        "ÿ",
        "ÿĀ",
        "日本",
        "𝄞\U0010ffff",
        "a" * 100_000,
        "é" * 70_000,
        "日" * 70_000,
    ):
        assert through(STRING, v, encoding) == v
        assert through(List(STRING), ["x", v, ""], encoding) == ["x", v, ""]
    refused(through, STRING, "ab\udc80", encoding=encoding)
    error = refused(through, List(STRING), ["", "\ud800"], "[1]", encoding=encoding)
    assert (error.expected, error.got) == ("string", "a str with a lone surrogate")
    for wrong in (b"bytes", 1, None, ["a"]):
        refused(through, STRING, wrong, encoding=encoding)


def test_chars(through: Through) -> None:
    for v in ("a", "\0", "\x7f", "\ud7ff", "\ue000", "\U0010ffff"):
        assert through(CHAR, v) == v
    for wrong in ("", "ab", "\ud800", "\udfff", "e\u0301", 97, b"a", None):
        refused(through, CHAR, wrong)


# ---- lists


def test_bytes_from_any_buffer(through: Through) -> None:
    data = bytes(range(256))
    for v in (
        data,
        bytearray(data),
        memoryview(data),
        array("B", data),
        np.frombuffer(data, np.uint8),
        list(data),
    ):
        got = through(List(U8), v)
        assert got == data
        assert type(got) is bytes
    assert through(List(U8), memoryview(data)[::3]) == data[::3]
    assert through(List(U8), np.frombuffer(data, np.uint8)[::-2]) == data[::-2]
    assert through(List(U8), np.arange(6, dtype=np.uint8).reshape(2, 3).T) == bytes([0, 3, 1, 4, 2, 5])
    assert through(List(U8), np.array([1, 2])) == b"\1\2"
    refused(through, List(U8), np.array([1, -1], np.int8), "[1]")
    for wrong in ("text", {1: 2}, None, 5, np.array(5, np.uint8)):
        refused(through, List(U8), wrong)


@pytest.mark.parametrize("t", [t for t in INTEGERS if t != U8] + [F32, F64], ids=lambda t: t.wat)
def test_numbers_from_any_buffer(through: Through, t: Prim) -> None:
    kind = {"u": "u", "s": "i", "f": "f"}[t.wat[0]] + str(t.size)
    want = [0, 1, 100, 7]
    for dtype in (kind, "<" + kind, ">" + kind, "i8"):
        if np.dtype(dtype).kind == "i" and t in (F32, F64):
            continue
        made = np.array(want, dtype)
        assert through(List(t), made) == want, dtype
        assert through(List(t), made[::2]) == want[::2], dtype
        if dtype != "i8":
            assert through(List(t), made.reshape(2, 2)) == want, dtype
    got = through(List(t), want)
    assert type(got) is loop.Numbers
    assert (got.itemsize, list(got)) == (t.size, want)
    assert np.array_equal(np.frombuffer(got, kind), want)
    assert through(List(t), got) == got
    refused(through, List(t), b"12345678")
    refused(through, List(t), np.array(["a"]), "[0]")


def test_integers_never_come_from_floats(through: Through) -> None:
    refused(through, List(U32), np.array([1.0, 2.0]), "[0]")
    refused(through, List(U64), [1, 2.0], "[1]")


def test_numbers_behave_as_a_list_and_as_an_array(through: Through) -> None:
    got = through(List(S64), [1, -2, 3])
    assert got == [1, -2, 3]
    assert got == (1, -2, 3)
    assert got == array("q", [1, -2, 3])
    assert got != [1, -2]
    assert got != [1, -2, 4]
    assert got != "abc"
    assert [*got] == [1, -2, 3]
    assert got[1:] == [-2, 3]
    assert repr(got) == "Numbers('q', [1, -2, 3])"
    assert memoryview(got).format == "q"
    with pytest.raises(TypeError):
        hash(got)


def test_lists_from_iterables_but_not_from_slips(through: Through) -> None:
    for v in (["a", "b"], ("a", "b"), iter("ab"), {"a": 1, "b": 2}.keys(), (c for c in "ab")):
        assert through(List(STRING), v) == ["a", "b"]
    for wrong in ("ab", b"ab", {"a": 1}, None, 5):
        refused(through, List(STRING), wrong)


def test_empty_and_huge_lists(through: Through) -> None:
    for t in (U8, U64, STRING, BOOL, List(U8), Option(U8), Tuple((U8, U64))):
        assert len(through(List(t), [])) == 0
    big = bytes(8 << 20)
    assert through(List(U8), big) == big
    numbers = np.arange(1 << 20, dtype=np.uint32)
    assert np.array_equal(through(List(U32), numbers), numbers)
    words = [f"word {i}" for i in range(100_000)]
    assert through(List(STRING), words) == words
    pairs = [(i & 255, i) for i in range(50_000)]
    assert through(List(Tuple((U8, U64))), pairs) == pairs


def test_a_list_that_shrinks_while_it_is_read(through: Through) -> None:
    items: list[Any] = []

    class Shrinks:
        @property
        def x(self) -> int:
            items.clear()
            return 1

        from_y = None

    items.extend([Shrinks(), Shrinks(), Shrinks()])
    with pytest.raises(IndexError):
        through(List(POINT), items)


@pytest.mark.parametrize("count", [1, 3, 16, 17])
def test_lists_of_fixed_length(through: Through, count: int) -> None:
    want = list(range(count))
    assert through(Fixed(U32, count), want) == want
    assert through(Fixed(STRING, count), list(map(str, want))) == list(map(str, want))
    error = refused(through, Fixed(U32, count), [*want, 9])
    assert error.expected == f"list<u32, {count}>"
    refused(through, Fixed(U32, count), want[:-1])
    refused(through, Fixed(U32, count), [*want[:-1], -1], f"[{count - 1}]")


# ---- flat and spilled


@pytest.mark.parametrize("count", [*range(18), 25, 39, 40])
def test_parameters_up_to_the_flat_limit_and_past_it(host: loop.blocking.Host, count: int) -> None:
    kinds = [(U8, U64, F32, S64, F64, CHAR)[i % 6] for i in range(count)]
    values = [(i, 2**40 + i, i + 0.5, -i, i * 0.25, chr(65 + i))[i % 6] for i in range(count)]
    guest = Guest().imports("take", kinds)
    forward = " ".join(f"(local.get {i})" for i in range(len(params_flat(kinds))))
    guest.exports("give", kinds, None, f"(call $take {forward})")
    got: list[Any] = []
    app = host.load(guest.wasm(), {HOST: SimpleNamespace(take=lambda *args: got.append(args))})
    assert app.call("give", *values) is None
    assert got == [tuple(values)]
    if count:
        with pytest.raises(ArgumentError) as caught:
            app.call("give", *values[:-1], None)
        assert caught.value.parameter == f"p{count - 1}"
    with pytest.raises(ArgumentError, match=f"takes {count} arguments, got {count + 1}") as caught:
        app.call("give", *values, 1)
    assert caught.value.parameter == ""


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 40])
def test_results_of_any_size(through: Through, count: int) -> None:
    t = Tuple((U64,) * count)
    assert through(t, tuple(range(count))) == tuple(range(count))
    refused(through, t, (*range(count - 1), -1), f"[{count - 1}]")


# ---- depth and the rest


def test_deep_nesting(through: Through) -> None:
    t: Type = U64
    wrapped: Any = 5
    for i in range(60):
        t, wrapped = (List(t), [wrapped]) if i % 2 else (Tuple((t,)), (wrapped,))
    assert through(t, wrapped) == wrapped


def test_the_sides_of_a_joined_slot(through: Through) -> None:
    """A flat slot that is f32 in one case, i64 in another and i32 in a third."""
    t = Variant((("a", F32), ("b", S64), ("c", S8), ("d", F64), ("e", Tuple((F32, STRING)))), "joined")
    for v in (("a", -1.5), ("b", -(2**63)), ("c", -128), ("d", -0.1), ("e", (2.5, "x"))):
        got = through(t, v)
        assert (got.case, got.value) == v


def test_a_guest_of_latin1_gets_what_fits(host: loop.blocking.Host) -> None:
    """Pointer and length as the guest sees them: latin-1 has one byte a character, utf-16 a tagged length."""
    guest = Guest(encoding="latin1+utf16").exports("units", [STRING], U32, "(local.get 1)")
    app = host.load(guest.wasm())
    assert [app.call("units", s) for s in ("", "abc", "éÿ", "日本")] == [0, 3, 2, 2 | 1 << 31]
    wide = Guest(encoding="utf16").exports("units", [STRING], U32, "(local.get 1)")
    assert [host.load(wide.wasm()).call("units", s) for s in ("abc", "日", "𝄞")] == [3, 1, 2]


def test_a_trap_of_the_guest_is_no_argument_error(host: loop.blocking.Host) -> None:
    app = host.load(Guest().exports("boom", [U8], None, "unreachable").wasm())
    with pytest.raises(GuestTrap) as caught:
        app.call("boom", 1)
    assert caught.value.code == "UnreachableCodeReached"
