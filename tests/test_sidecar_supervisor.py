"""When a provider is started again, and when no longer: by a clock of the test's."""

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_kit.errors import LoadError, ProviderGone
from loop_kit.placements._lifecycle import Lifecycle, Restarts, State
from loop_kit.placements._supervisor import Supervisor


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_states() -> None:
    life = Lifecycle()
    assert (life.state, life.generation) == (State.STARTING, 1)
    life.ready()
    life.drain()
    life.stopped()
    assert life.state == "stopped"
    for step in (life.ready, life.drain, life.stopped):
        with pytest.raises(RuntimeError, match="what is stopped cannot be"):
            step()


def test_pauses_grow_and_a_long_run_resets_them() -> None:
    clock = Clock()
    rules = Restarts(first=1, factor=3, longest=20, budget=100, window=60)
    life = Lifecycle(rules, clock)
    pauses = []
    for _ in range(5):
        pauses.append(life.failed("x"))
        life.again()
    assert pauses == [1, 3, 9, 20, 20]
    life.ready()
    clock.now += 59
    assert life.failed("x") == 20
    life.again()
    life.ready()
    clock.now += 60
    assert life.failed("x") == 1
    assert life.generation == 7


def test_a_crash_loop_is_given_up() -> None:
    clock = Clock()
    life = Lifecycle(Restarts(budget=2, window=10), clock)
    for seconds in (0, 4, 7):  # the first is forgotten when the third comes, 11 s later
        clock.now += seconds
        assert life.failed("exited with 1") is not None
        assert not life.crash_loop
        life.again()
    clock.now += 2
    assert life.failed("exited with 2") is None
    assert (life.crash_loop, life.state, life.reason) == (True, State.FAILED, "exited with 2")


def test_what_fails_while_it_ends_is_not_started_again() -> None:
    life = Lifecycle()
    life.ready()
    life.drain()
    assert life.failed("killed by SIGKILL") is None
    life.stopped()


@given(
    st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60),
    st.floats(0.001, 1),
    st.floats(1, 4),
    st.floats(1, 60),
    st.integers(0, 6),
)
def test_pauses_are_bounded_and_failures_within_the_budget(
    runs: list[tuple[float, bool]], first: float, factor: float, longest: float, budget: int
) -> None:
    clock = Clock()
    life = Lifecycle(Restarts(first, factor, longest, budget, 60), clock)
    times: list[float] = []
    for seconds, becomes_ready in runs:
        if becomes_ready:
            life.ready()
        clock.now += seconds
        times.append(clock.now)
        pause = life.failed("x")
        recent = [at for at in times if clock.now - at <= 60]
        assert (pause is None) == (len(recent) > budget) == life.crash_loop
        if pause is None:
            return
        assert min(first, longest) <= pause <= longest
        assert math.isfinite(pause)
        clock.now += pause
        life.again()


class Fake:
    """A provider that ends when the test says so."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self.closed = 0

    async def gone(self) -> str:
        return str(await self.ended)

    async def aclose(self) -> None:
        self.closed += 1


class World:
    """Starts fakes, each as the test lets it, and counts pauses instead of making them."""

    def __init__(self, rules: Restarts | None = None) -> None:
        self.started: list[Fake] = []
        self.refusals: list[Exception] = []
        self.pauses: list[float] = []
        self.awake = asyncio.Event()
        self.awake.set()
        self.life = Lifecycle(rules, Clock())
        start: Callable[[], Awaitable[Fake]] = self.start
        self.supervisor = Supervisor("kv", start, self.life, self.sleep)

    async def start(self) -> Fake:
        if self.refusals:
            raise self.refusals.pop(0)
        self.started.append(Fake())
        return self.started[-1]

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.awake.wait()


async def test_what_ends_is_started_again() -> None:
    world = World()
    first = await world.supervisor.start()
    assert world.supervisor.running is first is await world.supervisor.ready()
    world.awake.clear()
    first.ended.set_result("killed by SIGKILL")
    while not world.pauses:
        await asyncio.sleep(0)
    with pytest.raises(ProviderGone, match=r"^provider kv is failed: killed by SIGKILL$"):
        _ = world.supervisor.running
    waiting = [asyncio.create_task(world.supervisor.ready()) for _ in range(3)]
    await asyncio.sleep(0)
    world.refusals = [LoadError("no"), OSError("nor now")]
    world.awake.set()
    assert await asyncio.gather(*waiting) == [world.started[1]] * 3
    assert world.pauses == [0.1, 0.2, 0.4]
    assert (first.closed, world.life.generation, world.life.state) == (1, 4, State.READY)
    await world.supervisor.aclose()
    await world.supervisor.aclose()
    assert (world.started[1].closed, world.life.state) == (1, State.STOPPED)
    with pytest.raises(ProviderGone, match="provider kv is stopped"):
        await world.supervisor.ready()


async def test_a_first_start_that_fails_is_not_repeated() -> None:
    world = World()
    world.refusals = [LoadError("no such program")]
    with pytest.raises(LoadError, match="no such program"):
        await world.supervisor.start()
    await world.supervisor.aclose()
    assert world.pauses == []


async def test_whoever_waits_learns_of_a_crash_loop() -> None:
    world = World(Restarts(budget=2))
    first = await world.supervisor.start()
    world.awake.clear()
    first.ended.set_result("exited with 1")
    while not world.pauses:
        await asyncio.sleep(0)
    waiting = asyncio.create_task(world.supervisor.ready())
    await asyncio.sleep(0)
    world.refusals = [LoadError("still broken")] * 9
    world.awake.set()
    with pytest.raises(ProviderGone) as caught:
        await waiting
    assert str(caught.value) == (
        "provider kv is failed over and over, and is not started again: still broken"
    )
    assert len(world.refusals) == 7
    await world.supervisor.aclose()
    assert world.life.state is State.STOPPED


async def test_a_restart_ends_it_first_and_is_no_failure() -> None:
    world = World(Restarts(budget=0))
    first = await world.supervisor.start()
    await asyncio.gather(world.supervisor.restart(), world.supervisor.ready())
    assert (first.closed, len(world.started), world.pauses) == (1, 2, [])
    assert (world.life.state, world.life.generation, world.life.restarts) == (State.READY, 2, 0)
    assert await world.supervisor.ready() is world.started[1]
    world.started[1].ended.set_result("exited with 1")
    while not world.life.crash_loop:
        await asyncio.sleep(0)
    await world.supervisor.restart()  # what is given up starts again when somebody asks
    assert world.supervisor.running is world.started[2]
    await world.supervisor.aclose()
    with pytest.raises(ProviderGone):
        await world.supervisor.restart()
    assert len(world.started) == 3


async def test_a_restart_that_fails_is_tried_again() -> None:
    world = World()
    await world.supervisor.start()
    world.refusals = [LoadError("the code is broken"), LoadError("still")]
    with pytest.raises(LoadError, match="the code is broken"):
        await world.supervisor.restart()
    assert await world.supervisor.ready() is world.started[1]
    assert (world.pauses, world.life.generation, world.life.restarts) == ([0.1, 0.2], 4, 2)
    await world.supervisor.aclose()


async def test_closing_while_it_is_about_to_start_again() -> None:
    world = World()
    first = await world.supervisor.start()
    world.awake.clear()
    first.ended.set_result("exited with 0")
    while not world.pauses:
        await asyncio.sleep(0)
    await world.supervisor.aclose()
    assert len(world.started) == 1
