"""Providers that are exchanged while calls run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from loop_kit import _core
from loop_kit.errors import LinkError, LinkProblem
from loop_kit.routes import link_interface

__all__ = ["Gate", "Retired"]

_LAST = 1.0
"""Seconds for what was told that its time is over to notice it."""


class Gate:
    """What serves imports of components now, for `Host.load`'s `imports`: one provider after another.

    Args:
        hub: The host's.
        provider: The first, as it would stand in `imports` itself.
    """

    def __init__(self, hub: _core.Hub, provider: Any) -> None:
        self.provider = provider
        self._hub = hub
        self._generation = _core.Generation(hub)
        self._ways: list[_Way] = []

    def _loop_way(self, resolve: Callable[[Any], Any]) -> _Way:
        """What one component is linked to. `resolve`: from what stands in `imports` to what can be linked."""
        way = _Way(self, resolve)
        self._ways.append(way)
        return way

    def slots(self) -> list[_core.Slot]:
        """The imports that are linked to it, of components that are still there."""
        return [slot for way in self._ways for slot in way.alive()]

    def prepare(self, provider: Any) -> Callable[[], Retired]:
        """Links another provider, which serves once what this returns is called.

        Raises:
            LinkError: It does not serve what the components import; each problem is listed.
            LoadError: It cannot be made.
        """
        generation = _core.Generation(self._hub)
        problems: list[LinkProblem] = []
        exchanges: list[_core.Exchange] = []
        self._ways = [way for way in self._ways if way.alive()]
        for way in self._ways:
            target = way.resolve(provider)
            for slot in way.alive():
                exchange = slot.exchange(generation)
                link_interface(exchange, slot.interface, target, problems)
                exchanges.append(exchange)
        if problems:
            raise LinkError(problems)

        def commit() -> Retired:
            for exchange in exchanges:
                exchange.commit()
            old, self._generation = self._generation, generation
            self.provider = provider
            return Retired(old, self.slots())

        return commit


class _Way:
    """A gate as one component sees it."""

    def __init__(self, gate: Gate, resolve: Callable[[Any], Any]) -> None:
        self._gate = gate
        self._slots: list[_core.Slot] = []
        self.resolve = resolve

    def alive(self) -> list[_core.Slot]:
        self._slots = [slot for slot in self._slots if slot.alive]
        return self._slots

    def _loop_link(self, link: _core.Link, interface: _core.Interface, problems: list[LinkProblem]) -> bool:
        slot = link.slot(interface.name, self._gate._generation)
        self._slots.append(slot)
        link_interface(link, interface, self._target(), problems)
        return True

    def _target(self) -> Any:
        # one for all interfaces, which hand each other their resources
        made = self.__dict__.get("made")
        if made is None or made[0] is not self._gate.provider:
            made = self.__dict__["made"] = (self._gate.provider, self.resolve(self._gate.provider))
        return made[1]


class Retired:
    """A provider that begins nothing any more; what it has begun may end."""

    def __init__(self, generation: _core.Generation, slots: list[_core.Slot]) -> None:
        self._generation = generation
        self._drained: Awaitable[None] = generation.retire()
        self._slots = slots

    async def drained(self, seconds: float) -> bool:
        """Waits until all has ended, `seconds` at most; what is left then is ended by ProviderGone.

        Returns whether it ended by itself.
        """
        ended = asyncio.ensure_future(self._drained)
        done, _ = await asyncio.wait([ended], timeout=seconds)
        if not done:
            self._generation.expire()
            await asyncio.wait([ended], timeout=_LAST)
        if not ended.done():
            ended.cancel()
        for slot in self._slots:
            slot.prune()
        return bool(done)
