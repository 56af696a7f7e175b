"""The run: one case after another, each with a time of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from loop_kit.conform import _cases  # noqa: F401 - fills CASES
from loop_kit.conform._scene import CASES, Case, Scene, Unmet, turn
from loop_kit.conform._target import Target
from loop_kit.errors import LoopError

__all__ = ["Outcome", "names", "run"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case.

    Attributes:
        group: What the case belongs to.
        name: What a provider must do.
        problem: What it did instead; None where it did it.
        seconds: How long that took.
    """

    group: str
    name: str
    problem: str | None
    seconds: float


def names(groups: frozenset[str] | None = None) -> list[tuple[str, str]]:
    """Groups and names of the cases, in their order; those of some groups alone."""
    return [(case.group, case.name) for case in CASES if groups is None or case.group in groups]


async def run(
    target: Target,
    *,
    groups: frozenset[str] | None = None,
    patience: float = 60.0,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Drives the provider at `target`, which has been entered.

    Args:
        target: Where it is.
        groups: Those cases alone.
        patience: Seconds for each case.
        on_outcome: Is told of each as it comes.

    Raises:
        PeerError, LoadError: There is no provider, or it does not serve the conformance interface.
    """
    outcomes = []
    left = [case for case in CASES if groups is None or case.group in groups]
    while left:
        # cases share a session as long as it lasts; what ends it fails its case alone
        async with target.session() as session:
            scene = Scene(target, session)
            while left:
                outcome = await _outcome(scene, left.pop(0), patience)
                outcomes.append(outcome)
                on_outcome(outcome)
                if outcome.problem is not None:
                    break
    return outcomes


async def _outcome(scene: Scene, case: Case, patience: float) -> Outcome:
    began = time.perf_counter()
    problem = None
    stage = ""
    try:
        async with asyncio.timeout(patience):
            await case.run(scene)
            stage = "; the case itself was through, and calls or streams were left open"
            while scene.session._wire.busy:
                await turn()
    except TimeoutError:
        problem = f"not through within {patience:g} s{stage}"
    except Unmet as error:
        problem = str(error)
    except (LoopError, OSError, EOFError) as error:
        problem = f"{type(error).__name__}: {error}"
    return Outcome(case.group, case.name, problem, time.perf_counter() - began)
