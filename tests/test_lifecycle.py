"""The one state machine of components and providers: against a model, by a clock of the test's, and its picture."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from loop_kit.placements._lifecycle import _NEXT, Lifecycle, Restarts, State

PAGE = Path(__file__).resolve().parent.parent / "docs" / "lifecycle.md"


class Machine(RuleBasedStateMachine):
    """Whatever is done to a member: the lifecycle and the model agree."""

    @initialize(
        first=st.floats(0.001, 1),
        factor=st.floats(1, 4),
        longest=st.floats(1, 60),
        budget=st.none() | st.integers(0, 4),
        window=st.floats(1, 100),
        begun=st.booleans(),
    )
    def begin(
        self, first: float, factor: float, longest: float, budget: int | None, window: float, begun: bool
    ) -> None:
        self.now = 1000.0
        self.policy = Restarts(first, factor, longest, budget, window)
        self.life = Lifecycle(self.policy, lambda: self.now, wall=lambda: self.now + 7, begun=begun)
        self.told: list[State] = []
        self.life.on_change = lambda: self.told.append(self.life.state)
        # the model: plain facts, of which the machine keeps less
        self.state = "starting" if begun else "stopped"
        self.changed = self.now
        self.starts = int(begun)
        self.again_after_failure = 0
        self.failures: list[float] = []  # all that nobody has forgiven
        self.row = 0
        self.ready_at: float | None = None
        self.expected: list[str] = []
        self.why = ""

    def exceeds(self, recent: list[float]) -> bool:
        return self.policy.budget is not None and len(recent) > self.policy.budget

    def model_to(self, state: str) -> None:
        self.state, self.changed = state, self.now
        self.expected.append(state)

    @rule(seconds=st.floats(0, 150))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(what=st.sampled_from(["ready", "drain", "stopped", "failed", "again", "anew"]), reason=st.text())
    def do(self, what: str, reason: str) -> None:
        after = {
            "ready": "ready", "drain": "draining", "stopped": "stopped",
            "failed": "failed", "again": "starting", "anew": "starting",
        }[what]  # fmt: skip
        before = vars(self.life).copy(), list(self.life._failures)
        step = getattr(self.life, what)
        if after not in _ALLOWED[self.state]:
            with pytest.raises(RuntimeError, match=f"^what is {self.state} cannot be {after}$"):
                step(*([reason] if what == "failed" else []))
            assert (vars(self.life), list(self.life._failures)) == before, "what is refused changes nothing"
            return
        pause = step(*([reason] if what == "failed" else []))
        was = self.state
        if what == "failed":
            self.why = reason
            long = self.ready_at is not None and self.now - self.ready_at >= self.policy.window
            self.row = 1 if long else self.row + 1
            self.failures.append(self.now)
            recent = [at for at in self.failures if self.now - at <= self.policy.window]
            if self.exceeds(recent) or was == "draining":
                assert pause is None
            else:
                expected = self.policy.first
                for _ in range(min(self.row - 1, 64)):
                    expected = min(self.policy.longest, expected * self.policy.factor)
                assert pause is not None
                assert abs(pause - min(self.policy.longest, expected)) <= 1e-9 * expected
        if what in ("again", "anew"):
            self.starts += 1
            self.again_after_failure += what == "again" and was == "failed"
        if what == "anew":
            self.failures, self.row = [], 0
        if what in ("failed", "ready"):
            self.ready_at = self.now if what == "ready" else None
        self.model_to(after)
        assert self.life.pause == (pause if what == "failed" else None)

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "life"):
            return
        life = self.life
        assert (life.state, life.generation) == (self.state, self.starts)
        assert (life.restarts, life.reason) == (self.again_after_failure, self.why)
        assert life.since == self.changed + 7
        assert self.told == self.expected
        if life.crash_loop:
            assert self.state == "failed"
            newest = self.failures[-1]
            assert self.exceeds([at for at in self.failures if newest - at <= self.policy.window])

    @precondition(lambda self: hasattr(self, "life") and self.life.crash_loop)
    @rule()
    def a_crash_loop_ends_only_when_somebody_asks(self) -> None:
        self.now += self.policy.window * 10
        assert self.life.crash_loop


# What the picture and the words of the docs promise, written down a second time.
_ALLOWED = {
    "starting": {"ready", "failed", "draining", "stopped"},
    "ready": {"draining", "failed", "stopped"},
    "draining": {"stopped", "failed"},
    "failed": {"starting", "stopped"},
    "stopped": {"starting"},
}

TestLifecycle = Machine.TestCase
TestLifecycle.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def picture() -> str:
    lines = [
        "stateDiagram-v2",
        "    [*] --> stopped: in the manifest",
        "    [*] --> starting: needed at once",
    ]
    lines += [f"    {a} --> {b}: {why}" for a, after in _NEXT.items() for b, why in after.items()]
    return "\n".join(lines)


def test_the_docs_show_the_machine_as_it_is() -> None:
    """`LOOP_WRITE_LIFECYCLE=1` draws it anew."""
    block = re.compile(r"(?<=```mermaid\n).*?(?=\n```)", re.DOTALL)
    text = PAGE.read_text("utf-8")
    if os.environ.get("LOOP_WRITE_LIFECYCLE"):
        PAGE.write_text(block.sub(lambda _: picture(), text, count=1), "utf-8")
    found = block.search(PAGE.read_text("utf-8"))
    assert found is not None
    assert found.group() == picture(), "draw it anew by LOOP_WRITE_LIFECYCLE=1"


def test_every_state_can_be_reached_and_left() -> None:
    reached = {State.STOPPED, State.STARTING}
    for _ in State:
        reached |= {after for state in reached for after in _NEXT[state]}
    assert reached == set(State) == {state for state in State if _NEXT[state]}
