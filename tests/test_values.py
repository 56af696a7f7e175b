"""Values of random types, through generated components, in loop-kit and in another host.

The other host is wasmtime-py, whose dynamic `Val` shares no code with loop-kit's walker but the rules that
both must follow. With `--hypothesis-profile=soak` there are twenty times as many examples.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wasmtime import component as judge

import loop_kit as loop
from tests.guests import API, HEAP, HOST, SCRATCH, Guest
from tests.wit_types import MAX_FLAT, U8, U64, List, Result, Type, params_flat
from tests.wit_values import Unjudged, from_loop, same, same_judged, to_judge, to_loop, types, values


def examples(count: int) -> settings:
    """So many examples, or as many times more as the profile has more than 100."""
    return settings(
        max_examples=count * settings().max_examples // 100,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


@dataclass
class Case:
    """A type, two of its values in their plain form, and the encoding of the guest's strings."""

    type: Type
    first: Any
    second: Any
    encoding: str


@st.composite
def cases(draw: st.DrawFn, fixed: bool = False, encodings: tuple[str, ...] = ("utf8",)) -> Case:
    t = draw(types(fixed))
    return Case(t, draw(values(t)), draw(values(t)), draw(st.sampled_from(encodings)))


def padded(t: Type) -> list[Type]:
    """Parameters of which `t` is the first, and so many more that all are passed by pointer."""
    return [t] + [U64] * max(0, MAX_FLAT + 1 - len(t.flat))


def guest(t: Type, encoding: str = "utf8") -> Guest:
    """A component through which values of `t` go in every way.

    `through(v)` calls the import of that name and returns its answer: parameters are flat up to 16 core
    values, answers of more than one core value lie in memory. `spilled(v, …)` returns `v` by the pointer it
    got it by. `heap(v, …)` returns all that the host wrote into memory, `core(v)` the core values it got.
    """
    made = Guest(encoding=encoding)
    forward = " ".join(f"(local.get {i})" for i in range(len(params_flat([t]))))
    if len(t.flat) > 1:
        allocate = f"(call $realloc (i32.const 0) (i32.const 0) (i32.const {t.align}) (i32.const {t.size}))"
        body = f"(local $at i32) (local.set $at {allocate})"
        body += f"(call $through {forward} (local.get $at)) (local.get $at)"
        made.exports("spilled", padded(t), t, "(local.get 0)")
    else:
        body = f"(call $through {forward})"
    made.imports("through", [t], t).exports("through", [t], t, body)
    pair = (
        f"(i32.store (i32.const {SCRATCH}) (i32.const %s)) (i32.store (i32.const {SCRATCH + 4}) %s) "
        f"(i32.const {SCRATCH})"
    )
    size = f"(i32.sub (global.get $top) (i32.const {HEAP}))"
    made.exports("heap", padded(t), List(U8), pair % (HEAP, size))
    core = params_flat([t])
    stores = [f"({c}.store (i32.const {SCRATCH + 16 + 8 * i}) (local.get {i}))" for i, c in enumerate(core)]
    made.exports(
        "core", [t], List(U8), " ".join(stores) + pair % (SCRATCH + 16, f"(i32.const {8 * len(core)})")
    )
    return made


class Through:
    """The provider: keeps what it got and gives back what it was told to."""

    def __init__(self) -> None:
        self.got: Any = None
        self.answer: Any = None

    def through(self, v: Any) -> Any:
        self.got = v
        return self.answer


def judged(t: Type, wasm: bytes, first: Any, second: Any) -> tuple[Any, Any, bytes, bytes]:
    """What wasmtime-py makes of the same calls: the import's argument, the answer, heap and core values."""
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    linker = judge.Linker(engine)
    got: list[Any] = []
    jt: list[Any] = []

    def through(_: Any, v: Any) -> Any:
        got.append(v)
        return to_judge(t, jt[0], second)

    with linker.root() as root, root.add_instance(HOST) as host:
        host.add_func("through", through)
    component = judge.Component(engine, wasm)

    def call(name: str, *args: Any) -> Any:
        instance = linker.instantiate(store, component)  # a fresh one, as loop-kit's
        api = instance.get_export_index(store, API)
        index = instance.get_export_index(store, name, api)
        assert index is not None
        func = instance.get_func(store, index)
        assert func is not None
        jt[:] = [func.type(store).params[0][1]]
        return func(store, to_judge(t, jt[0], first), *args)

    answer = call("through")
    pads = [0] * (len(padded(t)) - 1)
    return got[0], answer, call("heap", *pads), call("core")


@pytest.fixture(scope="module")
def host() -> Any:
    with loop.blocking.Host(cache=None) as host:
        yield host


def check(host: loop.blocking.Host, case: Case) -> tuple[loop.blocking.App, Any, bytes]:
    """Sends values through, both in the forms that need no classes and in those that come back."""
    t = case.type
    wasm = guest(t, case.encoding).wasm()
    provider = Through()
    app = host.load(wasm, {HOST: provider})

    def call(name: str, *args: Any) -> Any:
        """The result, were it inside another value."""
        try:
            got = app.call(name, *args)
        except loop.Err as e:
            return e
        return loop.Ok(got) if isinstance(t, Result) else got

    provider.answer = to_loop(t, case.second)
    answer = call("through", to_loop(t, case.first))
    assert same(from_loop(t, provider.got), case.first)
    assert same(from_loop(t, answer), case.second)
    provider.answer = provider.got
    assert same(from_loop(t, call("through", answer)), case.first)
    assert same(from_loop(t, provider.got), case.second)
    if len(t.flat) > 1:
        pads = [0] * (len(padded(t)) - 1)
        assert same(from_loop(t, call("spilled", answer, *pads)), case.second)
    return app, answer, wasm


@examples(80)
@given(cases())
def test_both_hosts_agree_on_random_types(host: loop.blocking.Host, case: Case) -> None:
    app, _, wasm = check(host, case)
    try:
        got, answer, heap, core = judged(case.type, wasm, case.first, case.second)
    except Unjudged:
        return
    assert app.call("core", to_loop(case.type, case.first)) == core
    pads = [0] * (len(padded(case.type)) - 1)
    assert app.call("heap", to_loop(case.type, case.first), *pads) == heap
    # the judge's own types are gone with its store; its values speak for themselves
    jt = judge_type(case.type, wasm)
    assert same_judged(got, to_judge(case.type, jt, case.first, gives=True))
    assert same_judged(answer, to_judge(case.type, jt, case.second, gives=True))


def judge_type(t: Type, wasm: bytes) -> Any:
    engine = wasmtime.Engine()
    api: Any = judge.Component(engine, wasm).type.exports(engine)[API]
    return api.exports(engine)["through"].result


@examples(60)
@given(cases(fixed=True, encodings=("utf16", "latin1+utf16")))
def test_other_encodings_and_fixed_lists_come_back(host: loop.blocking.Host, case: Case) -> None:
    check(host, case)


@examples(25)
@given(st.data())
def test_many_parameters(host: loop.blocking.Host, data: st.DataObject) -> None:
    """1 to 40 parameters, flat or spilled, arrive in order."""
    kinds = data.draw(st.lists(types(), min_size=1, max_size=40).filter(lambda ts: small(ts)))
    first = [data.draw(values(t)) for t in kinds]
    made = Guest()
    forward = " ".join(f"(local.get {i})" for i in range(len(params_flat(kinds))))
    made.imports("take", kinds).exports("pass", kinds, None, f"(call $take {forward})")
    got: list[Any] = []

    class Taker:
        def take(self, *args: Any) -> None:
            got.extend(args)

    app = host.load(made.wasm(), {HOST: Taker()})
    assert app.call("pass", *map(to_loop, kinds, first)) is None
    assert same(tuple(map(from_loop, kinds, got)), tuple(first))


def small(kinds: list[Type]) -> bool:
    """Enough for a name each: the guests' builder names a type once."""
    return sum(len(t.flat) for t in kinds) < 400
