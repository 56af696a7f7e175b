"""The states of components and providers, and when one is started again: plain logic, by clocks that are given."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Lifecycle", "Restarts", "State"]


class State(StrEnum):
    """What a component or provider is about.

    `starting → ready → draining → stopped`. From the first three it may also fail; a sidecar is then started again
    after a pause (`failed → starting`), or, if it fails over and over, left alone. What was stopped can be started.
    """

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


_NEXT: dict[State, dict[State, str]] = {
    State.STARTING: {
        State.READY: "it can be called",
        State.FAILED: "it cannot be started",
        State.DRAINING: "it is to end",
        State.STOPPED: "it is no longer wanted",
    },
    State.READY: {
        State.DRAINING: "it is to end",
        State.FAILED: "it ended by itself",
        State.STOPPED: "it had nothing to finish",
    },
    State.DRAINING: {
        State.STOPPED: "it ended in good order",
        State.FAILED: "it ended otherwise",
    },
    State.FAILED: {
        State.STARTING: "the pause is over, or somebody asked",
        State.STOPPED: "it is no longer wanted",
    },
    State.STOPPED: {State.STARTING: "it is needed"},
}
"""What follows what, and why; docs/lifecycle.md has the picture."""


@dataclass(frozen=True, slots=True)
class Restarts:
    """How a provider that failed is started again.

    Attributes:
        first: Seconds before the first time.
        factor: How much longer each time is than the last.
        longest: Seconds at most.
        budget: Failures within `window` seconds that are forgiven; one more is a crash loop. None: there is none.
        window: Seconds. One that was ready for so long starts again with `first`.
    """

    first: float = 0.1
    factor: float = 2.0
    longest: float = 30.0
    budget: int | None = 5
    window: float = 60.0


class Lifecycle:
    """The state of one component or provider.

    Args:
        restarts: When it is started again.
        clock: Seconds, of no particular beginning.
        wall: Seconds since 1970.
        begun: Whether it is starting already; else it is stopped, and was never started.

    Attributes:
        state: The state.
        generation: How often it was started, from 1; 0 where it never was.
        reason: Why it failed last, or "".
        restarts: How often it was started again after a failure.
        pause: Seconds from its last failure until it is started again; None: it is not, or has not failed.
        since: When it came into this state, in seconds since 1970.
        on_change: Called after each change of the state.
    """

    def __init__(
        self,
        restarts: Restarts | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        wall: Callable[[], float] = time.time,
        begun: bool = True,
    ) -> None:
        self.state = State.STARTING if begun else State.STOPPED
        self.generation = 1 if begun else 0
        self.reason = ""
        self.restarts = 0
        self.pause: float | None = None
        self.on_change: Callable[[], object] | None = None
        self._rules = restarts or Restarts()
        self._clock = clock
        self._wall = wall
        self.since = wall()
        self._failures: deque[float] = deque(maxlen=(self._rules.budget or 0) + 1)
        self._in_a_row = 0
        self._ready_since: float | None = None

    @property
    def crash_loop(self) -> bool:
        """Whether it failed so often that it is not started again."""
        times, budget = self._failures, self._rules.budget
        full = budget is not None and len(times) > budget
        return self.state is State.FAILED and full and times[-1] - times[0] <= self._rules.window

    def ready(self) -> None:
        """It can be called."""
        self._check(State.READY)
        self._ready_since = self._clock()
        self._to(State.READY)

    def drain(self) -> None:
        """What runs may end, and nothing new begins."""
        self._to(State.DRAINING)

    def stopped(self) -> None:
        """It ended as it was asked to."""
        self._to(State.STOPPED)

    def failed(self, reason: str) -> float | None:
        """It ended by itself, or could not be started; returns the seconds to wait before `again`, None for never."""
        was = self.state
        self._check(State.FAILED)
        self.reason = reason
        now, rules = self._clock(), self._rules
        if self._ready_since is not None and now - self._ready_since >= rules.window:
            self._in_a_row = 0
        self._ready_since = None
        self._failures.append(now)
        self._in_a_row += 1
        self.state = State.FAILED  # which a crash loop is a kind of
        self.pause = min(rules.longest, rules.first * rules.factor ** min(self._in_a_row - 1, 64))
        if self.crash_loop or was is State.DRAINING:
            self.pause = None
        self._entered()
        return self.pause

    def again(self) -> None:
        """It is started, after a failure or for the first time."""
        self._check(State.STARTING)
        self.restarts += self.state is State.FAILED
        self.generation += 1
        self._to(State.STARTING)

    def anew(self) -> None:
        """It is started since somebody asked: what failed before is forgiven."""
        self._check(State.STARTING)
        self._failures.clear()
        self._in_a_row = 0
        self.generation += 1
        self._to(State.STARTING)

    def _check(self, state: State) -> None:
        if state not in _NEXT[self.state]:
            raise RuntimeError(f"what is {self.state} cannot be {state}")

    def _to(self, state: State) -> None:
        self._check(state)
        self.state = state
        self.pause = None
        self._entered()

    def _entered(self) -> None:
        self.since = self._wall()
        if self.on_change is not None:
            self.on_change()
