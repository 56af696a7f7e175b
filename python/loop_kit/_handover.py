"""What a provider knows, on its way to the one that takes its place: `loop:core/lifecycle`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from loop_kit import _core
from loop_kit._relay import ask, exports
from loop_kit._session import LIFECYCLE
from loop_kit.errors import LoadError
from loop_kit.host import App, Host

__all__ = ["QUIET", "Pair", "Still", "hand_over", "idle", "keeps_state", "stilled"]

QUIET = 2.0
"""Seconds that calls have to end before what their provider knows is told."""
_LOOK = 0.005

_log = logging.getLogger("loop_kit.swap")


@dataclass(frozen=True)
class Pair:
    """A provider that serves, and the one that is to take its place.

    Attributes:
        name: Whose, for messages.
        old: As it stands in `Host.load`'s `imports`.
        new: Likewise.
        known: Equal for links of which one and the same old one knows all.
        begun: Equal for links that one and the same new one serves.
    """

    name: str
    old: Any
    new: Any
    known: Hashable
    begun: Hashable


def keeps_state(provider: Any) -> bool:
    """Whether a provider, as it stands in `Host.load`'s `imports`, exports `loop:core/lifecycle`."""
    return exports(provider, LIFECYCLE)


async def hand_over(host: Host, pairs: Iterable[Pair]) -> None:
    """Has each new provider go on with what the old one, which exports `loop:core/lifecycle`, knows.

    Nobody else is to call either meanwhile.

    Raises:
        LoadError: One cannot tell it, or cannot go on with it; what the new ones were told is theirs to forget.
    """
    told: dict[Hashable, Pair] = {}
    for pair in pairs:
        if not keeps_state(pair.new):
            _log.warning("%s does not export %s: what was known is not handed over", pair.name, LIFECYCLE)
        elif told.setdefault(pair.begun, pair).known != pair.known:
            message = "what several of it know cannot be handed to one that serves all their links"
            raise LoadError(f"{pair.name}: {message}")
    states: dict[Hashable, bytes] = {}
    for pair in told.values():
        if pair.known not in states:
            said = await _answered(pair.name, "tell what it knows", pair.old, host, "snapshot")
            states[pair.known] = said
        state = states[pair.known]
        await _answered(pair.name, "go on with what was known", pair.new, host, "restore", state)


async def _answered(name: str, what: str, provider: Any, host: Host, function: str, *args: Any) -> Any:
    try:
        return await ask(host, provider, LIFECYCLE, function, *args)
    except LoadError as error:
        raise LoadError(f"{name} cannot {what}: {error}") from None


@dataclass
class Still:
    """What calls a provider, to wait while what it knows is handed over.

    Attributes:
        name: The provider's, for messages.
        slots: The imports that it serves.
        servers: Its HTTP servers, where it is a component.
        app: The component, which this program may call.
    """

    name: str
    slots: list[_core.Slot] = field(default_factory=list)
    servers: list[_core.Server] = field(default_factory=list)
    app: App | None = None

    async def hold(self, over: asyncio.Event) -> None:
        """Has calls wait, and waits until those that have begun have ended."""
        ended = [slot.hold() for slot in self.slots]
        for server in self.servers:
            server.hold(True)
        if self.app is not None:
            self.app._hold(over)
        for each in ended:
            await each
        if self.app is not None:
            await idle(self.app._program)

    def let_go(self) -> None:
        """Has them go on."""
        for slot in self.slots:
            slot.let_go()
        for server in self.servers:
            server.hold(False)
        if self.app is not None:
            self.app._let_go()


@contextlib.asynccontextmanager
async def stilled(all_: Sequence[Still]) -> AsyncIterator[None]:
    """Has calls wait until this is over, and begins once those that have begun have ended.

    Args:
        all_: Whoever calls before whom it calls, so that what has begun can end.

    Raises:
        LoadError: Some do not end; all go on.
    """
    over = asyncio.Event()
    begun: list[Still] = []
    try:
        try:
            async with asyncio.timeout(QUIET):
                for still in all_:
                    begun.append(still)
                    await still.hold(over)
        except TimeoutError:
            message = f"calls had not ended within {QUIET:g} s, so that what it knows cannot be handed over"
            raise LoadError(f"{begun[-1].name}: {message}") from None
        yield
    finally:
        for still in begun:
            still.let_go()
        over.set()


async def idle(*programs: _core.Program) -> None:
    """Waits until no component is called; that it is not is told by nobody."""
    while any(program.calls for program in programs):  # noqa: ASYNC110
        await asyncio.sleep(_LOOK)
