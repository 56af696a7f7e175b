"""What runs for the providers of a workspace, and for whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loop_kit._gate import Gate
from loop_kit._members import Entry, Key
from loop_kit.host import App
from loop_kit.manifest import Link, Provider
from loop_kit.placements._supervisor import Supervisor

__all__ = ["Asked", "Bound", "Part", "Parts"]


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


@dataclass(frozen=True, slots=True)
class Bound:
    """An import that was linked, and what it goes through."""

    asked: Asked
    gate: Gate


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


class Parts:
    """The parts that serve, with others in the place of some.

    Args:
        serving: Those that serve, by their providers' names; what is needed is added.
        declared: The providers that are to be exchanged, as they are to be.
    """

    def __init__(self, serving: dict[str, Part], declared: Mapping[str, Provider] | None = None) -> None:
        self._serving = serving
        self.declared = declared
        self.fresh = {name: Part(fresh=True) for name in declared or ()}

    def of(self, provider: str) -> Part:
        """The part of a provider."""
        return self.fresh.get(provider) or self._serving.setdefault(provider, Part())
