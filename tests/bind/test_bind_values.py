"""What is passed is what the bindings say: values of random types, against the annotations made for them."""

from __future__ import annotations

import inspect
import types as python_types
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import loop_kit as loop
from loop_kit import bind, types
from tests.guests import API, HOST, echo
from tests.wit_types import U8, U16, Enum, Fixed, Flags, List, Option, Record, Result, Type
from tests.wit_values import from_loop, same, to_loop, values
from tests.wit_values import types as wit_types


@pytest.fixture(scope="module")
def host() -> Iterator[loop.blocking.Host]:
    with loop.blocking.Host(cache=None) as host:
        yield host


class Module:
    """A module of bindings, with the annotations that its classes had before they were made."""

    def __init__(self, text: str) -> None:
        self.fields: dict[type, dict[str, Any]] = {}
        self.names: dict[str, Any] = {}
        record, variant = self._spy(types.record), self._spy(types.variant)
        with mock.patch.object(types, "record", record), mock.patch.object(types, "variant", variant):
            exec(compile(text, "bindings", "exec", dont_inherit=True), self.names)

    def _spy(self, real: Callable[[str], Any]) -> Callable[[str], Any]:
        def spy(name: str) -> Callable[[type], type]:
            def made(cls: type) -> type:
                found: type = real(name)(cls)
                self.fields[found] = inspect.get_annotations(cls)
                for case in vars(cls).values():
                    if isinstance(case, type):
                        self.fields[getattr(found, case.__name__)] = inspect.get_annotations(case)
                return found

            return made

        return spy

    def hint(self, annotation: Any) -> Any:
        return eval(annotation, self.names) if isinstance(annotation, str) else annotation

    def signature(self, cls: str, function: str) -> tuple[Any, Any]:
        """The hints of its one parameter, and of its result."""
        found = inspect.signature(getattr(self.names[cls], function))
        return self.hint(list(found.parameters.values())[1].annotation), self.hint(found.return_annotation)

    def check(self, value: Any, annotation: Any) -> None:
        """Raises AssertionError where the value is not what the annotation says."""
        hint = self.hint(annotation)
        origin, args = get_origin(hint), get_args(hint)
        if hint is Any or hint is None or hint is type(None):
            assert hint is Any or value is None
        elif origin in (Union, python_types.UnionType):
            self._one_of(value, args)
        elif origin is tuple:
            assert type(value) is tuple
            assert len(value) == len(args)
            for each, arg in zip(value, args, strict=True):
                self.check(each, arg)
        elif origin in (list, loop.Numbers):
            assert type(value) is origin
            for each in value:
                self.check(each, args[0])
        elif origin is Sequence:
            assert isinstance(value, (list, loop.Numbers))
            for each in value:
                self.check(each, args[0])
        elif origin in (loop.Some, loop.Ok, loop.Err):
            assert type(value) is origin
            self.check(value.value, args[0])
        elif origin is Literal:
            assert value in args
        else:
            assert isinstance(hint, type), hint
            assert type(value) is hint if hint in (int, float, str, bytes, bool) else isinstance(value, hint)
            for name, field in self.fields.get(hint, {}).items():
                if not str(field).startswith("typing.ClassVar"):
                    self.check(getattr(value, name), field)

    def _one_of(self, value: Any, hints: Sequence[Any]) -> None:
        wrong = []
        for hint in hints:
            try:
                return self.check(value, hint)
            except AssertionError as error:
                wrong.append(str(error))
        raise AssertionError(f"{value!r} is none of {hints}: {wrong}")


class Echo:
    """The provider: keeps what it got and gives it back."""

    answer: Callable[[], Any] | None = None

    def echo(self, v: Any) -> Any:
        self.got = v
        return v if self.answer is None else self.answer()


def widened(module: Module, value: Any, annotation: Any) -> Any:
    """The same value in another form that the annotation of what is taken allows."""
    hint = module.hint(annotation)
    origin, args = get_origin(hint), get_args(hint)
    if hint == types.Bytes:
        return memoryview(value) if len(value) % 2 else list(value)
    if origin in (Union, python_types.UnionType):
        fitting = next(arg for arg in args if fits(module, value, arg))
        return widened(module, value, fitting)
    if origin is tuple:
        return tuple(widened(module, each, arg) for each, arg in zip(value, args, strict=True))
    if origin in (Iterable, Sequence):
        items = [widened(module, each, args[0]) for each in value]
        return (each for each in items) if origin is Iterable else tuple(items)
    if origin in (loop.Some, loop.Ok, loop.Err):
        return origin(widened(module, value.value, args[0]))
    if isinstance(hint, type) and hint in module.fields:
        fields = [n for n, f in module.fields[hint].items() if not str(f).startswith("typing.ClassVar")]
        return hint(*(widened(module, getattr(value, n), module.fields[hint][n]) for n in fields))
    return value


def fits(module: Module, value: Any, hint: Any) -> bool:
    """Whether it is the one of a union that the value is, looked at from outside."""
    origin = get_origin(hint) or hint
    if hint is type(None):
        return value is None
    if hint == types.Bytes:
        return isinstance(value, bytes)
    return isinstance(origin, type) and isinstance(value, origin)


def agree(host: loop.blocking.Host, folder: Path, t: Type, value: Any) -> None:
    wasm = folder / "guest.wasm"
    wasm.write_bytes(echo(t).wasm())
    module = Module(bind.python(wasm))
    provider = Echo()
    app = host.load(wasm, {HOST: provider})
    given_, answer = module.signature("HostProvider", "echo")
    taken, back = module.signature("ApiBlocking", "echo")
    if isinstance(t, Result) and value[0]:
        with pytest.raises(loop.Err) as raised:
            app.exports[API].echo(to_loop(t, value))
        assert same(from_loop(t, raised.value), value)
    else:
        module.check(app.exports[API].echo(to_loop(t, value)), back)
    module.check(provider.got, given_)
    # and what is said to be taken is taken, by a component and of a provider
    got, plain = provider.got, from_loop(t, provider.got)
    if isinstance(t, Result) and value[0]:
        return
    returned: Any = Union[tuple(arg for arg in get_args(answer) if get_origin(arg) is not Coroutine)]  # noqa: UP007
    provider.answer = lambda: widened(module, got if not isinstance(t, Result) else got.value, returned)
    answered = app.exports[API].echo(widened(module, got, taken))
    assert same(from_loop(t, provider.got), plain)
    assert same(from_loop(t, loop.Ok(answered) if isinstance(t, Result) else answered), plain)


def examples(count: int) -> settings:
    return settings(
        max_examples=count * settings().max_examples // 100,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
            HealthCheck.function_scoped_fixture,
        ],
    )


@examples(60)
@given(st.data())
def test_random_values_are_what_is_said_of_them(
    host: loop.blocking.Host, tmp_path: Path, data: st.DataObject
) -> None:
    t = data.draw(wit_types(fixed=True))
    agree(host, tmp_path, t, data.draw(values(t)))


def test_classes_of_one_name_and_shape_are_one_class(host: loop.blocking.Host, tmp_path: Path) -> None:
    t = Record(
        (("color", Enum(("red", "blue"), "color")), ("rights", Flags(("a", "b"), "rights"))), "painted"
    )
    wasm = tmp_path / "guest.wasm"
    wasm.write_bytes(echo(t).wasm())
    names = Module(bind.python(wasm)).names
    painted, color, rights = names["Painted"], names["Color"], names["Rights"]
    provider = Echo()
    app = host.load(wasm, {HOST: provider})
    back = app.exports[API].echo(painted(color.BLUE, rights.A | rights.B))
    assert type(back) is painted
    assert back.color is color.BLUE
    assert back.rights & rights.B == rights.B


def test_types_of_one_shape_and_two_names_agree_by_their_members() -> None:
    """As in components, where nothing but its members tells a type from another."""
    one = Module('from loop_kit import types\n@types.record("one")\nclass One:\n    x: int\n').names["One"]
    other = Module('from loop_kit import types\n@types.record("other")\nclass Other:\n    x: int\n').names[
        "Other"
    ]
    assert one is not other
    assert one(1) == other(1)
    assert one(1) != other(2)
    assert isinstance(one(1), other)

    text = "from loop_kit import types\nclass {}(types.Enum):\n    A = 0\n    {} = 1\n"
    red, blue, more = (
        Module(text.format("E", "B")).names["E"],
        *(Module(text.format(name, last)).names[name] for name, last in (("Blue", "B"), ("More", "C"))),
    )
    assert red is not blue
    assert (red.A, red.B) == (blue.A, blue.B)
    assert red.A != blue.B
    assert red.A != more.A
    assert {red.A: 1}[blue.A] == 1
    assert isinstance(red.A, blue)
    assert not isinstance(red.A, more)
    text = text.replace("Enum", "Flags").replace("1", "1 << 1").replace("= 0", "= 1 << 0")
    mine, yours = (Module(text.format(name, "B")).names[name] for name in ("Mine", "Yours"))
    assert mine.A | yours.B == mine.A | mine.B
    assert yours.A in (mine.A | mine.B)


def test_a_case_is_told_by_its_class_whoever_made_it() -> None:
    text = """
from loop_kit import types
@types.variant("{}")
class {}:
    @types.case
    class Some:
        case = "some"
        value: int
    @types.case
    class None_:
        case = "none"
"""
    one = Module(text.format("one", "One")).names["One"]
    other = Module(text.format("other", "Other")).names["Other"]
    assert isinstance(other.Some(1), one.Some)
    assert isinstance(other.Some(1), one)
    assert not isinstance(other.Some(1), one.None_)
    assert one.Some(1) == other.Some(1)
    assert hash(one.Some(1)) == hash(other.Some(1))
    match other.Some(3):
        case one.Some(value):
            assert value == 3


async def test_what_waits_is_awaitable(tmp_path: Path) -> None:
    """A client's function returns what its annotation says: an awaitable."""
    wasm = tmp_path / "guest.wasm"
    wasm.write_bytes(echo(U8).wasm())
    module = Module(bind.python(wasm))
    _, back = module.signature("ApiClient", "echo")
    assert get_origin(back) is Awaitable
    async with loop.Host(cache=None) as host:
        app = await host.load(wasm, {HOST: Echo()})
        waiting = app.exports[API].echo(7)
        assert isinstance(waiting, Awaitable)
        module.check(await waiting, get_args(back)[0])


@pytest.mark.parametrize(
    ("t", "value"),
    [
        (Option(Option(Option(U8))), (1, (1, (0, None)))),
        (Fixed(U16, 3), (1, 2, 3)),
        (List(Fixed(U8, 2)), ((1, 2),)),
    ],
)
def test_edges(host: loop.blocking.Host, tmp_path: Path, t: Type, value: Any) -> None:
    agree(host, tmp_path, t, value)
