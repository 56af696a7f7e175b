"""Where `loop bench` says that time went is where it went."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_kit.bench import SEGMENTS, WORKLOADS, Place, Segments, Workload, attribute
from loop_kit.bench._run import Placed, placed
from loop_kit.bench._segments import middle
from tests.bench_slow import SECONDS

NS = 10**9
INJECTED = round(SECONDS * NS)
SMALL, RECORD = (next(w for w in WORKLOADS if w.name == name) for name in ("echo small", "echo record"))
# A machine that is busy takes its time with most calls: the quickest of so many measurements is judged.
ATTEMPTS = 5
SLOW = Path(__file__).with_name("bench_slow.py")

times = st.integers(0, 10**12)
anything = st.integers(-(10**12), 10**12)


def slow(where: str) -> Place:
    command = [sys.executable, str(SLOW), where]
    return Place(
        "sidecar",
        "unix",
        "python",
        {"loop:bench": {"use": "sidecar", "command": command, "transport": "unix"}},
    )


async def quickest(measure: Callable[[], Awaitable[list[Segments]]]) -> Segments:
    """The call that nothing else held up."""
    return min([call for _ in range(ATTEMPTS) for call in await measure()], key=sum)


def is_in(segments: Segments, name: str, usual: Segments) -> None:
    """The 2 ms are in one segment, and in no other."""
    more = getattr(segments, name) - getattr(usual, name)
    assert more == pytest.approx(INJECTED, rel=0.1), (segments, usual)
    # what is left is a call as any other, on a machine that may have grown slower
    assert sum(segments) - getattr(segments, name) < INJECTED, (segments, usual)


@given(times, st.tuples(*[anything] * 4), st.tuples(*[anything] * 3), st.none() | st.tuples(*[anything] * 4))
def test_no_clock_makes_a_segment_negative_or_the_sum_wrong(
    whole: int,
    stamps: tuple[int, int, int, int],
    session: tuple[int, int, int],
    theirs: tuple[int, int, int, int] | None,
) -> None:
    for spent in (None, (*session, theirs)):
        segments = attribute(whole, stamps, spent)
        assert min(segments) >= 0
        assert sum(segments) == whole


@given(times, st.integers(0, 10**6), st.floats(1.0, 1.5))
def test_a_clock_that_runs_fast_elsewhere_is_cut_down_to_ours(provider: int, other: int, pace: float) -> None:
    session = provider + other
    theirs = (0, 0, round(provider * pace), 0)
    segments = attribute(session, (0, 0, session, session), (0, session, 0, theirs))
    assert segments.provider == min(session, theirs[2])
    assert segments.write == session - segments.provider >= 0


def test_a_usual_call_is_of_those_in_the_middle() -> None:
    calls = [Segments(0, 0, 0, us, 0, 1, 0) for us in (1, 10, 10, 10, 10, 10, 10, 9000)]
    assert middle(calls) == Segments(0, 0, 0, 10, 0, 1, 0)
    assert middle(calls[:1]) == calls[0]


async def test_segments_are_of_the_call_and_of_nothing_else() -> None:
    """What is told apart lies within what it is a part of: nothing had to be cut."""
    async with placed(slow("provider")) as there:
        await there.divided(SMALL, 0.0)
        route = there.route("echo")
        app = await there.load("echo")
        route.watch(True)
        for _ in range(20):
            entered, called, answered, left = await app.call("small", 0)
            ((encode, session, decode, theirs),) = route.times()
            assert entered <= called <= answered <= left
            assert encode + session + decode <= answered - called
            assert theirs is not None
            assert 0 < sum(theirs) <= session
        route.watch(False)
        await app.call("small", 0)
        assert route.times() == []


@pytest.mark.timeout(120)
async def test_the_guest() -> None:
    async with placed(slow("decode")) as there:
        usual = await quickest(lambda: there.divided(SMALL, 0.1))
        worked = await quickest(lambda: there.divided(SMALL, 0.1, spin=INJECTED))
        is_in(worked, "guest", usual)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("where", "work"), [("provider", SMALL), ("decode", RECORD)], ids=["provider", "decode"]
)
async def test_the_other_process(where: str, work: Workload) -> None:
    other = "decode" if where == "provider" else "provider"
    async with placed(slow(other)) as there, placed(slow(where)) as here:
        # the other one does not hold up this work
        usual = await quickest(lambda: there.divided(work, 0.1))
        held_up = await quickest(lambda: here.divided(work, 0.1))
        is_in(held_up, where, usual)


async def three(there: Placed) -> list[Segments]:
    """Three calls at once, in the order in which they were answered."""
    app, route = await there.load("echo"), there.route("echo")

    async def one() -> tuple[int, tuple[int, int, int, int]]:
        begun = time.perf_counter_ns()
        stamps = await app.call("small", 0)
        return time.perf_counter_ns() - begun, stamps

    route.watch(True)
    taken = list(await asyncio.gather(one(), one(), one()))
    route.watch(False)
    # those that were answered together took as long as one another
    taken.sort(key=lambda one: one[1][2] - one[1][1])
    spent = sorted(route.times(), key=lambda times: times[1])
    segments = [attribute(ns, stamps, its) for (ns, stamps), its in zip(taken, spent, strict=True)]
    return sorted(segments, key=lambda of: of.queue)


@pytest.mark.timeout(120)
async def test_the_queue() -> None:
    """Two calls arrive together while another is served: the one waits for the other."""
    waited = []
    async with placed(slow("queue")) as there:
        for _ in range(50):
            _, second, third = await three(there)
            assert sum(third) > third.queue
            # on a busy machine they may not have arrived together
            if third.queue - second.queue > INJECTED / 4:
                waited.append(third.queue - second.queue)
            if len(waited) == 10:
                break
    # no less is possible, and more is other work of the machine
    assert min(waited) == pytest.approx(INJECTED, rel=0.1)


def test_segments_have_names() -> None:
    assert SEGMENTS == ("guest", "lift_lower", "encode", "write", "queue", "provider", "decode")
