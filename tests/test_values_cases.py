"""The edges of records, variants, enums, flags, options and results."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from tests.echoes import Through, passing, refused
from tests.guests import HOST, Guest, echo
from tests.wit_types import (
    F64,
    STRING,
    U8,
    U32,
    U64,
    Enum,
    Flags,
    List,
    Option,
    Record,
    Result,
    Tuple,
    Variant,
)

POINT = Record((("x", U32), ("from-y", Option(STRING))), "point")


@pytest.fixture(scope="module")
def host() -> Iterator[loop.blocking.Host]:
    with loop.blocking.Host(cache=None) as host:
        yield host


@pytest.fixture(scope="module")
def through(host: loop.blocking.Host) -> Through:
    return passing(host)


# ---- records


def test_records_from_any_object(through: Through) -> None:
    @dataclass
    class Mine:
        x: int
        from_y: str | None

    made = through(POINT, {"x": 1, "from-y": "wit name"})
    assert (type(made).__name__, made.x, made.from_y) == ("Point", 1, "wit name")
    for v in (
        {"x": 1, "from_y": "a"},
        Mine(1, "a"),
        SimpleNamespace(x=1, from_y="a", more=2),
        {"x": 1, "from_y": "a", "more": 2},
        type(made)(1, "a"),
    ):
        assert through(POINT, v) == type(made)(1, "a")
    assert repr(made) == "Point(x=1, from_y='wit name')"
    with pytest.raises(AttributeError):
        made.other = 1


def test_what_is_wrong_in_a_record_is_named(through: Through) -> None:
    error = refused(through, POINT, {"x": -1, "from_y": None}, ".x")
    assert (error.expected, error.got) == ("u32", "int -1")
    assert refused(through, POINT, {"x": 1}, ".from-y").expected == "option<string>"
    assert refused(through, POINT, SimpleNamespace(x=1), ".from-y").expected == "option<string>"
    refused(through, POINT, None, ".x")
    nested = List(Tuple((U8, Variant((("at", POINT),), "place"))))
    refused(through, nested, [(1, ("at", {"x": 1, "from_y": 5}))], "[0][1].at.from-y")


def test_the_error_of_a_property_is_its_own(through: Through) -> None:
    class Failing:
        @property
        def x(self) -> int:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        through(POINT, Failing())


@pytest.mark.parametrize(
    "name", ["mro", "self", "init", "class", "match", "slots", "dict", "match-args", "def"]
)
def test_names_that_mean_something_to_python(through: Through, name: str) -> None:
    """Above all `mro`, the one attribute without underscores that every class has."""
    t = Record(((name, U8), ("b", U8)), f"r-{name}")
    attribute = name.replace("-", "_") + "_" * (name in ("class", "def"))
    made = through(t, {name: 1, "b": 2})
    assert (getattr(made, attribute), made.b) == (1, 2)
    assert through(t, made) == made
    flags = Flags((name, "b"), f"f-{name}")
    assert through(flags, 3).value == 3
    assert through(Enum((name, "b"), f"e-{name}"), name).value == 0
    assert through(Variant((("b", U8), (name, U8)), f"v-{name}"), (name, 5)).value == 5


# ---- cases


def test_enums(through: Through) -> None:
    t = Enum(("red", "dark-blue"), "colour")
    got = through(t, "dark-blue")
    assert (got.name, got.value, type(got).__name__) == ("DARK_BLUE", 1, "Colour")
    assert through(t, got) is got
    for wrong in ("green", "DARK_BLUE", 0, None, ("red", None)):
        assert refused(through, t, wrong).expected == "colour"


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 300])
def test_as_many_cases_as_it_takes(through: Through, count: int) -> None:
    names = tuple(f"c{i}" for i in range(count))
    enum = Enum(names, "many")
    assert [through(enum, n).value for n in (names[0], names[-1])] == [0, count - 1]
    pair = through(Tuple((enum, U8)), (names[-1], 7))
    assert (pair[0].value, pair[1]) == (count - 1, 7)
    variant = Variant(tuple((n, U64 if i % 2 else None) for i, n in enumerate(names)), "kinds")
    last = (names[-1], 2**64 - 1) if count % 2 == 0 else names[-1]
    got, (again, first) = through(Tuple((variant, List(variant))), (last, [last, names[0]]))
    assert (got, got.case, first.case) == (again, names[-1], names[0])


def test_variants(through: Through) -> None:
    t = Variant((("none", None), ("some-text", STRING), ("number", F64)), "thing")
    text = through(t, ("some-text", "a"))
    assert (text.case, text.value, type(text).__qualname__) == ("some-text", "a", "Thing.SomeText")
    assert through(t, text) == text
    assert through(t, SimpleNamespace(case="number", value=1.5)).value == 1.5
    assert through(t, "none").case == "none"
    assert through(t, ("none", None)) == through(t, "none")
    assert repr(text) == "Thing.SomeText(value='a')"
    base = type(text).__mro__[1]
    assert isinstance(text, base)
    match text:
        case base.SomeText(value):  # type: ignore[attr-defined]
            assert value == "a"
    for wrong in ("other", ("other", 1), ("number",), ("number", 1, 2), 5, None):
        refused(through, t, wrong)
    assert "payload" in refused(through, t, "number").expected
    refused(through, t, ("number", "text"), ".number")


def test_cases_whose_class_names_meet_are_told_apart(through: Through) -> None:
    t = Variant((("a-b", U8), ("AB", U8)), "meeting")
    first, second = through(t, ("a-b", 1)), through(t, ("AB", 1))
    assert (first.case, second.case) == ("a-b", "AB")
    assert first != second
    assert through(t, second) == second


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 17, 32])
def test_flags(through: Through, count: int) -> None:
    t = Flags(tuple(f"f{i}" for i in range(count)), "set")
    every = 2**count - 1
    for bits in (0, 1, every, 1 << (count - 1)):
        got = through(t, bits)
        assert got.value == bits
        assert through(t, got) == got
        assert through(Tuple((t, U8)), (got, 3))[0].value == bits
    cls = type(through(t, every))
    assert cls.__name__ == "Set"
    assert list(cls.__members__) == [f"F{i}" for i in range(count)]
    refused(through, t, 1 << count)
    for wrong in (-1, None, "f0", {"f0"}, 2**32):
        refused(through, t, wrong)


def test_flags_ignore_unknown_bits_of_the_guest(host: loop.blocking.Host) -> None:
    t = Flags(("a", "b", "c"), "abc")
    guest = Guest().exports("flat", [U32], t, "(local.get 0)")
    guest.exports("memory", [U32], Tuple((t, U8)), "(i32.store8 (i32.const 64) (local.get 0)) (i32.const 64)")
    app = host.load(guest.wasm())
    assert (app.call("flat", 0xFFFF_FFFD).value, app.call("memory", 0xFA)[0].value) == (5, 2)


def test_options(through: Through) -> None:
    assert through(Option(U8), None) is None
    assert through(Option(U8), 3) == 3
    twice = Option(Option(U8))
    values: list[Any] = [None, loop.Some(None), loop.Some(7)]
    for v in values:
        assert through(twice, v) == v
    refused(through, twice, 7)
    thrice = Option(twice)
    for v in [None, *map(loop.Some, values)]:
        assert through(thrice, v) == v
    assert through(Option(List(U8)), b"") == b""
    assert through(Option(Result(U8)), loop.Ok(1)) == loop.Ok(1)
    refused(through, Option(U8), 256)


SHAPES = [Result(), Result(U8), Result(None, STRING), Result(U8, STRING)]


@pytest.mark.parametrize("t", SHAPES, ids=["result", "result<u8>", "result<_,string>", "result<u8,string>"])
def test_results(host: loop.blocking.Host, through: Through, t: Result) -> None:
    """At the top a result is returned or raised; inside other values it is `Ok` or `Err`."""
    good, bad = (7 if t.ok else None), ("why" if t.err else None)
    provider = SimpleNamespace(echo=lambda got: got)
    app = host.load(echo(t).wasm(), {HOST: provider})
    assert app.call("echo", loop.Ok(good)) == good
    with pytest.raises(loop.Err) as caught:
        app.call("echo", loop.Err(bad))
    assert caught.value == loop.Err(bad)

    def raises(_: object) -> None:
        raise loop.Err(bad)

    provider.echo = raises
    app = host.load(echo(t).wasm(), {HOST: provider})
    with pytest.raises(loop.Err) as caught:
        app.call("echo", loop.Ok(good))
    assert caught.value.value == bad
    app = host.load(echo(t).wasm(), {HOST: SimpleNamespace(echo=lambda _: good)})
    assert app.call("echo", loop.Ok(good)) == good
    for v in (loop.Ok(good), loop.Err(bad)):
        assert through(List(t), [v]) == [v]
        assert through(Tuple((t, U8)), (v, 1)) == (v, 1)
    refused(through, Tuple((t, U8)), (5, 1), "[0]")
    if t.ok:
        refused(through, Tuple((t, U8)), (loop.Ok(256), 1), "[0].ok")
    if t.err:
        refused(through, Tuple((t, U8)), (loop.Err(5), 1), "[0].err")
