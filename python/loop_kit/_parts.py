"""What runs for the providers of a workspace, and for whom."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_kit import _core
from loop_kit._gate import Gate
from loop_kit._members import Entry, Key
from loop_kit.errors import ProviderGone
from loop_kit.host import App
from loop_kit.manifest import Link, Manifest
from loop_kit.placements._lifecycle import State
from loop_kit.placements._supervisor import Supervisor

__all__ = ["Asked", "Bound", "Part", "Parts", "uses"]


@dataclass(frozen=True, slots=True)
class Asked:
    """An import that a provider serves.

    Attributes:
        provider: The provider's name.
        link: What the manifest says of it.
        importer: Who imports.
        called: The importer, for messages.
        wanted: The interface; the first, where the link is for several of a package.
    """

    provider: str
    link: Link
    importer: Key
    called: str
    wanted: str


@dataclass(eq=False, slots=True)
class Bound:
    """An import that was linked, and what it goes through.

    Attributes:
        asked: How it is linked now.
        gate: What it goes through.
        interfaces: All interfaces that do.
        retired: Whether another code has taken the importer's place; it only ends what it has begun.
    """

    asked: Asked
    gate: Gate
    interfaces: list[str] = field(default_factory=list)
    retired: bool = False


@dataclass(eq=False)
class Part:
    """What runs for one provider: one generation of it.

    Attributes:
        python: Objects, by the grants that they were made for.
        supervised: Sidecars and sessions, by their members.
        apps: Components that were loaded for it alone, while it does not serve yet.
        entries: Its members, while it does not serve yet.
        fresh: Whether it is to take the place of another, and does not serve yet.
    """

    python: dict[str, Any] = field(default_factory=dict)
    supervised: dict[Key, Supervisor[Any]] = field(default_factory=dict)
    apps: dict[str, App] = field(default_factory=dict)
    entries: dict[Key, Entry] = field(default_factory=dict)
    fresh: bool = False

    def whose(self, provider: Any) -> Hashable:
        """What serves an import of this part: equal for imports that one and the same serves."""
        for key, route in self.routed():
            if route is provider:
                return key, route.number or "all"
        return id(provider)

    def routed(self) -> Iterator[tuple[Key, _core.Route]]:
        """The routes to what is there of it outside of this process, with its member."""
        for key, made in self.supervised.items():
            if made.lifecycle.state is State.READY:
                for route in made.running.routes.routes.values():
                    yield key, route

    def over(self) -> str | None:
        """Why something that runs for it is no longer there, if so."""
        for made in self.supervised.values():
            why: str | None
            try:
                why = made.running.over()
            except ProviderGone:
                why = made.lifecycle.reason or "it ended by itself"
            if why is not None:
                return why
        return None


class Parts:
    """The parts that serve; for an exchange, with others in the place of some.

    Args:
        serving: Those that serve, by their providers' names; what is needed is added.
        manifest: What they are made by.
        anew: The providers that are to be exchanged; None: nothing is.
        code: The components that are to be exchanged, and the files that they are loaded from.

    Attributes:
        manifest: What they are made by.
        exchange: Whether they are to take the place of others, and do not serve yet.
        fresh: The parts that are to serve, by their providers' names.
        code: The components that are to be exchanged, and the files that they are loaded from.
        apps: The components that are to serve.
        entries: Their members.
        forgets: Whether what is known is not handed over.
    """

    def __init__(
        self,
        serving: dict[str, Part],
        manifest: Manifest,
        anew: Iterable[str] | None = None,
        code: Mapping[str, Path] | None = None,
    ) -> None:
        self._serving = serving
        self.manifest = manifest
        self.exchange = anew is not None
        self.fresh = {name: Part(fresh=True) for name in anew or ()}
        self.code = dict(code or {})
        self.apps: dict[str, App] = {}
        self.entries: dict[Key, Entry] = {}
        self.forgets = False

    def of(self, provider: str) -> Part:
        """The part of a provider."""
        if provider in self.fresh:
            return self.fresh[provider]
        if self.exchange and provider not in self._serving:
            return self.fresh.setdefault(provider, Part(fresh=True))  # nobody has needed it before
        return self._serving.setdefault(provider, Part())

    def made(self) -> list[Entry]:
        """The members that were started for an exchange; components before what they use."""
        return [
            *self.entries.values(),
            *(one for part in self.fresh.values() for one in part.entries.values()),
        ]


def uses(name: str, bound: Iterable[Bound], manifest: Manifest) -> set[str]:
    """The providers that a member calls, and those that they call, by what is `bound`."""
    links = [(one.asked.importer.name, one.asked.provider) for one in bound]
    found: set[str] = set()
    left = [name]
    while left:
        one = left.pop()
        provider = manifest.providers.get(one)
        names = (
            {one, provider.target} if provider is not None and provider.placement == "component" else {one}
        )
        new = {used for importer, used in links if importer in names} - found
        found |= new
        left += new
    return found
