"""What a case is, and what it has to hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from loop_kit import peer
from loop_kit.conform._target import Target

__all__ = ["CASES", "Case", "Scene", "Unmet", "case", "expect", "fails", "turn"]


class Unmet(Exception):
    """The provider did something else than it should."""


@dataclass
class Scene:
    """A session whose link 1 is bound, and where more of them come from."""

    target: Target
    session: peer.Peer

    def call(self, path: str, *args: Any, deadline: float | None = None) -> Awaitable[Any]:
        """Calls `interface#function` of the conformance package in link 1."""
        return self.session.call(f"loop:conform/{path}", *args, deadline=deadline, link=1)

    async def until(self, path: str, wanted: Any) -> None:
        """Asks again and again until the answer is as wanted; the time of the case bounds it."""
        while await self.call(path) != wanted:
            await turn()


@dataclass(frozen=True)
class Case:
    """One thing that a provider must do.

    Attributes:
        group: What it belongs to: `values`, `streams`, …
        name: The thing, in words.
        run: Raises where the provider does not do it.
    """

    group: str
    name: str
    run: Callable[[Scene], Awaitable[None]]


CASES: list[Case] = []


def case(
    group: str, name: str
) -> Callable[[Callable[[Scene], Awaitable[None]]], Callable[[Scene], Awaitable[None]]]:
    """Adds a function to the cases."""

    def add(run: Callable[[Scene], Awaitable[None]]) -> Callable[[Scene], Awaitable[None]]:
        CASES.append(Case(group, name, run))
        return run

    return add


async def turn() -> None:
    """Lets everything else on this loop have its turn, the connection too."""
    await asyncio.sleep(0)


def expect(got: Any, wanted: Any, what: str) -> None:
    """Raises Unmet where two values differ."""
    if got != wanted:
        raise Unmet(f"{what}: expected {_brief(wanted)}, got {_brief(got)}")


async def fails(made: Awaitable[Any], kind: type[BaseException], what: str) -> BaseException:
    """What a call raised, which must be of that kind.

    Raises:
        Unmet: It gave a result, or raised something else.
    """
    try:
        result = await made
    except kind as error:
        return error
    except Exception as error:
        raise Unmet(f"{what}: expected {kind.__name__}, got {type(error).__name__}: {error}") from error
    raise Unmet(f"{what}: expected {kind.__name__}, got the result {_brief(result)}")


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"
