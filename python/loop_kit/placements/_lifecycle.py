"""The states of a provider that runs elsewhere, and when it is started again: plain logic, by a clock that is given."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Lifecycle", "Restarts", "State"]


class State(StrEnum):
    """What a provider is about.

    `starting → ready → draining → stopped`. From the first three it may also fail; it is then started again after a
    pause (`failed → starting`), or, if it fails over and over, left alone.
    """

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


_NEXT = {
    State.STARTING: {State.READY, State.DRAINING, State.FAILED, State.STOPPED},
    State.READY: {State.DRAINING, State.FAILED, State.STOPPED},
    State.DRAINING: {State.STOPPED, State.FAILED},
    State.FAILED: {State.STARTING, State.STOPPED},
    State.STOPPED: set[State](),
}


@dataclass(frozen=True, slots=True)
class Restarts:
    """How a provider that failed is started again.

    Attributes:
        first: Seconds before the first time.
        factor: How much longer each time is than the last.
        longest: Seconds at most.
        budget: Failures within `window` seconds that are forgiven; one more is a crash loop.
        window: Seconds. One that was ready for so long starts again with `first`.
    """

    first: float = 0.1
    factor: float = 2.0
    longest: float = 30.0
    budget: int = 5
    window: float = 60.0


class Lifecycle:
    """One provider's state.

    Attributes:
        state: The state.
        generation: How often it was started, from 1.
        reason: Why it failed last, or "".
    """

    def __init__(self, restarts: Restarts | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = State.STARTING
        self.generation = 1
        self.reason = ""
        self._restarts = restarts or Restarts()
        self._clock = clock
        self._failures: deque[float] = deque(maxlen=self._restarts.budget + 1)
        self._in_a_row = 0
        self._ready_since: float | None = None

    @property
    def crash_loop(self) -> bool:
        """Whether it failed so often that it is not started again."""
        times = self._failures
        full = len(times) > self._restarts.budget
        return self.state is State.FAILED and full and times[-1] - times[0] <= self._restarts.window

    def ready(self) -> None:
        """It can be called."""
        self._to(State.READY)
        self._ready_since = self._clock()

    def drain(self) -> None:
        """What runs may end, and nothing new begins."""
        self._to(State.DRAINING)

    def stopped(self) -> None:
        """It ended as it was asked to."""
        self._to(State.STOPPED)

    def failed(self, reason: str) -> float | None:
        """It ended by itself, or could not be started; returns the seconds to wait before `again`, None for never."""
        was = self.state
        self._to(State.FAILED)
        self.reason = reason
        now, rules = self._clock(), self._restarts
        if self._ready_since is not None and now - self._ready_since >= rules.window:
            self._in_a_row = 0
        self._ready_since = None
        self._failures.append(now)
        self._in_a_row += 1
        if self.crash_loop or was is State.DRAINING:
            return None
        return min(rules.longest, rules.first * rules.factor ** min(self._in_a_row - 1, 64))

    def again(self) -> None:
        """It is started again."""
        self._to(State.STARTING)
        self.generation += 1

    def _to(self, state: State) -> None:
        if state not in _NEXT[self.state]:
            raise RuntimeError(f"a provider that is {self.state} cannot be {state}")
        self.state = state
