"""What a component may use, and how many instances serve it."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.errors import (
    ArgumentError,
    CallError,
    DeadlineExceeded,
    GuestTrap,
    LimitExceeded,
    LoopError,
    Overloaded,
    ProviderError,
    ProviderTypeError,
    Reentered,
)
from tests.counters import SPIN, asking, counter
from tests.guests import HOST, Guest
from tests.wit_types import STRING, U8, U32, List


@pytest.fixture(scope="module")
def host() -> Iterator[loop.blocking.Host]:
    with loop.blocking.Host(cache=None) as host:
        yield host


# ---- memory, tables, stack


GROW = """
  (local $n i32)
  (loop $more
    (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1))
      (then (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $more))))
"""


@pytest.mark.parametrize("mebibytes", [1, 5, 64])
def test_memory_stops_growing_at_the_limit(host: loop.blocking.Host, mebibytes: int) -> None:
    guest = Guest(pages=2).exports("grow", [], U32, GROW + "(local.get $n)")
    app = host.load(guest.wasm(), limits=loop.Limits(memory=f"{mebibytes}MiB"))
    assert app.call("grow") == 16 * mebibytes - 2
    assert app.call("grow") == 16 * mebibytes - 2


def test_a_trap_for_want_of_memory_names_the_limit(host: loop.blocking.Host) -> None:
    guest = Guest(pages=2).exports("grow", [], None, GROW + "unreachable")
    guest.exports("take", [List(U8)], None, "nop")
    app = host.load(guest.wasm(), limits=loop.Limits(memory="1MiB"))
    for call in (lambda: app.call("grow"), lambda: app.call("take", bytes(1 << 20))):
        with pytest.raises(LimitExceeded) as caught:
            call()
        assert (caught.value.what, caught.value.limit) == ("memory", 1 << 20)
        assert "1048576 bytes" in str(caught.value)
    assert app.call("take", bytes(1 << 19)) is None


def test_memories_count_together(host: loop.blocking.Host) -> None:
    """The builder's two modules, and 40 pages in a third."""
    more = "(core module $big (memory 40)) (core instance (instantiate $big))"
    guest = Guest(pages=2, early=more).exports("grow", [], U32, GROW + "(local.get $n)")
    app = host.load(guest.wasm(), limits=loop.Limits(memory=64 << 16))
    assert app.call("grow") == 64 - 40 - 2


def test_a_component_that_asks_for_too_much_to_begin_with(host: loop.blocking.Host) -> None:
    app = host.load(Guest(pages=100).exports("f", [], None, "nop").wasm(), limits=loop.Limits(memory="1MiB"))
    with pytest.raises(LimitExceeded) as caught:
        app.call("f")
    assert caught.value.what == "memory"


def test_tables_stop_growing_at_the_limit(host: loop.blocking.Host) -> None:
    grow = "(table.grow $t (ref.null func) (local.get 0))"
    guest = Guest(code="(table $t 10 funcref)").exports("grow", [U32], U32, grow)
    app = host.load(guest.wasm(), limits=loop.Limits(table_elements=1000))
    assert app.call("grow", 990) == 10
    assert app.call("grow", 991) == 2**32 - 1
    assert app.call("grow", 2**32 - 1) == 2**32 - 1
    big = Guest(code="(table $t 2000 funcref)").exports("f", [], None, "nop")
    with pytest.raises(CallError):
        host.load(big.wasm(), limits=loop.Limits(table_elements=1000)).call("f")


def test_recursion_without_end(host: loop.blocking.Host) -> None:
    guest = Guest(code="(func $down (param i32) (call $down (i32.add (local.get 0) (i32.const 1))))")
    guest.exports("down", [], None, "(call $down (i32.const 0))")
    app = host.load(guest.wasm())
    for _ in range(3):
        with pytest.raises((LimitExceeded, GuestTrap), match="stack"):
            app.call("down")


def test_recursion_through_the_host(host: loop.blocking.Host) -> None:
    """Guest → Python → guest → … ends in an error of Python's or ours, not of the machine."""
    app: Any = None
    app = host.load(
        counter().wasm(), asking(ask=lambda: app.call("ask")), limits=loop.Limits(concurrent_calls=10_000)
    )
    with pytest.raises((LoopError, RecursionError)):
        app.call("ask")
    app2 = host.load(counter().wasm(), asking(ask=lambda: 5))
    assert app2.call("ask") == 5


# ---- time


def test_an_endless_loop_ends_at_the_deadline(host: loop.blocking.Host) -> None:
    app = host.load(Guest().exports("spin", [], None, SPIN).wasm(), limits=loop.Limits(deadline=0.05))
    for _ in range(2):
        with pytest.raises(DeadlineExceeded) as caught:
            app.call("spin")
        assert caught.value.seconds == 0.05
        assert isinstance(caught.value, TimeoutError)


def test_an_endless_loop_ends_with_its_cpu_time(host: loop.blocking.Host) -> None:
    limits = loop.Limits(deadline=None, cpu="50ms")
    app = host.load(Guest().exports("spin", [], None, SPIN).wasm(), limits=limits)
    with pytest.raises(LimitExceeded) as caught:
        app.call("spin")
    assert (caught.value.what, caught.value.limit) == ("cpu", 0.05)


def test_fuel_ends_a_call_at_the_same_instruction_each_time(host: loop.blocking.Host) -> None:
    guest = Guest().imports("tick").exports("run", [], None, "(loop $l (call $tick) (br $l))")
    seen: list[int] = []
    for fuel in (1_000, 1_000, 2_000):
        ticks: list[None] = []
        provider = SimpleNamespace(tick=lambda ticks=ticks: ticks.append(None))
        app = host.load(guest.wasm(), {HOST: provider}, limits=loop.Limits(fuel=fuel))
        with pytest.raises((LimitExceeded, GuestTrap), match="fuel"):
            app.call("run")
        once = len(ticks)
        with pytest.raises((LimitExceeded, GuestTrap), match="fuel"):
            app.call("run")
        assert len(ticks) == 2 * once
        seen.append(once)
    assert seen[0] == seen[1]
    assert 1.9 < seen[2] / seen[0] < 2.1


STARTS = "(global $n (mut i32) (i32.const 0)) (func $start %s) (start $start)"


def test_a_start_function_has_fuel(host: loop.blocking.Host) -> None:
    guest = Guest(code=STARTS % "(global.set $n (i32.const 7))").exports("n", [], U32, "(global.get $n)")
    assert host.load(guest.wasm(), limits=loop.Limits(fuel=10_000)).call("n") == 7


def test_limits_are_checked_when_they_are_made() -> None:
    every: list[dict[str, Any]] = [
        {"memory": 0}, {"memory": "64 Mib"}, {"table_elements": 0}, {"concurrent_calls": 0}, {"deadline": 0},
        {"deadline": -1}, {"cpu": "soon"}, {"payload": 0}, {"instances": 0}, {"instances": -1},
        {"instances": "many"}, {"cancel_grace": 0}, {"deadline": float("nan")},
    ]  # fmt: skip
    for wrong in every:
        with pytest.raises(ValueError, match=r"must|expected"):
            loop.Limits(**wrong)


# ---- calls at once, and instances


def test_one_call_too_many(host: loop.blocking.Host) -> None:
    app: Any = None
    depth = 0

    def ask() -> int:
        nonlocal depth
        depth += 1
        return int(app.call("ask"))

    app = host.load(counter().wasm(), asking(ask), limits=loop.Limits(concurrent_calls=3))
    with pytest.raises(Overloaded) as caught:
        app.call("ask")
    assert (depth, caught.value.limit) == (3, 3)
    assert app.call("next") == 1
    with pytest.raises(Overloaded):
        app.call("ask")
    assert depth == 6


def test_a_fresh_instance_for_each_call(host: loop.blocking.Host) -> None:
    app = host.load(counter().wasm(), asking())
    assert [app.call("next") for _ in range(3)] == [1, 1, 1]


def test_a_shared_instance_keeps_its_state(host: loop.blocking.Host) -> None:
    app = host.load(counter().wasm(), asking(), limits=loop.Limits(instances="shared"))
    assert [app.call("next") for _ in range(3)] == [1, 2, 3]


def test_a_pool_is_bounded(host: loop.blocking.Host) -> None:
    app: Any = None
    names = iter(range(1, 1000))
    todo = 0

    def ask() -> int:
        nonlocal todo
        todo -= 1
        return int(app.call("who")) if todo > 0 else 0

    app = host.load(counter().wasm(), asking(ask, lambda: next(names)), limits=loop.Limits(instances=2))
    assert [app.call("next") for _ in range(3)] == [1, 2, 3]
    for depth in (2, 5, 2):
        todo = depth
        app.call("who")
    made = next(names)
    for depth in (2, 1, 2, 1, 1):
        todo = depth
        assert app.call("who") < made
    assert next(names) == made + 1


@pytest.mark.parametrize("instances", ["per-call", "shared", 2])
def test_the_call_after_a_trap_works(host: loop.blocking.Host, instances: Any) -> None:
    app = host.load(counter().wasm(), asking(), limits=loop.Limits(instances=instances))
    app.call("next")
    for _ in range(3):
        with pytest.raises(GuestTrap) as caught:
            app.call("boom")
        assert caught.value.code == "UnreachableCodeReached"
        assert app.call("next") == 1


@pytest.mark.parametrize(
    "wrong", [(256, []), (1, ["a", 1]), (1, None), (1,), (1, [], 3), (None, [])], ids=repr
)
def test_a_wrong_argument_costs_a_shared_instance_nothing(
    host: loop.blocking.Host, wrong: tuple[Any, ...]
) -> None:
    app = host.load(counter().wasm(), asking(), limits=loop.Limits(instances="shared"))
    assert app.call("next") == 1
    with pytest.raises(ArgumentError):
        app.call("take", *wrong)
    assert app.call("next") == 2


def test_iterators_reach_a_shared_instance(host: loop.blocking.Host) -> None:
    """An iterator can be read once only: the guest must not see it empty because it was checked before."""
    guest = (
        Guest()
        .exports("count", [List(U32)], U32, "(local.get 1)")
        .exports("words", [List(STRING)], U32, "(local.get 1)")
    )
    app = host.load(guest.wasm(), limits=loop.Limits(instances="shared"))
    assert app.call("count", iter([1, 2, 3])) == 3
    assert app.call("words", (w for w in "abcd")) == 4


@pytest.mark.parametrize("instances", ["per-call", "shared", 2])
def test_a_provider_that_fails_costs_no_more_than_the_instance(
    host: loop.blocking.Host, instances: Any
) -> None:
    answers: list[Any] = []

    def ask() -> Any:
        answer = answers.pop()
        if isinstance(answer, Exception):
            raise answer
        return answer

    app = host.load(counter().wasm(), asking(ask), limits=loop.Limits(instances=instances))
    answers[:] = [1, "text", 2, ValueError("no"), 3]
    assert app.call("ask") == 3
    with pytest.raises(ProviderError):
        app.call("ask")
    assert app.call("ask") == 2
    with pytest.raises(ProviderTypeError):
        app.call("ask")
    assert app.call("ask") == 1


def test_a_shared_instance_cannot_be_entered_twice(host: loop.blocking.Host) -> None:
    app: Any = None
    app = host.load(
        counter().wasm(), asking(lambda: app.call("next")), limits=loop.Limits(instances="shared")
    )
    with pytest.raises(Reentered):
        app.call("ask")
    assert app.call("next") == 1
