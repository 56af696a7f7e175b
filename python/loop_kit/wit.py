"""How WIT packages may change, and whether a change is one that a version allows."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loop_kit import _core

__all__ = ["Change", "Comparison", "compare"]

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+.*)?")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two versions of a WIT package.

    Attributes:
        interface: `loop:fsx/files`.
        item: The function or type in it, such as `dir.read`; "": the interface itself.
        what: In words.
        breaks: Whether a component that was built for the old no longer links.
    """

    interface: str
    item: str
    what: str
    breaks: bool

    @property
    def package(self) -> str:
        """`loop:fsx`."""
        return self.interface.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from one version to another.

    Attributes:
        changes: Every difference, in the order of the old.
        versions: For each package of the old: its old version, and its new one or None where it is gone.
    """

    changes: tuple[Change, ...]
    versions: Mapping[str, tuple[str, str | None]]

    @property
    def refused(self) -> tuple[Change, ...]:
        """Those that break, in packages whose version does not say so.

        A version says so where the number goes up that stands first and is not 0: from 0.1.0 to 0.2.0, from 1.4.2 to
        2.0.0. One with a `-`, such as 0.1.0-dev, promises nothing yet.
        """
        return tuple(
            change
            for change in self.changes
            if change.breaks and not _allows(*self.versions.get(change.package, ("", None)))
        )


def compare(old: str | os.PathLike[str], new: str | os.PathLike[str]) -> Comparison:
    """What changed between two files, or folders, of WIT.

    Compatible is what is only added: interfaces, functions, types. Any other change breaks, a field or case that is
    added too, for it changes the values that components exchange.

    Raises:
        LoadError: The WIT of one of them is not sound.
    """
    changes, before, after = _core.wit_changes(Path(old), Path(new))
    there = dict(after)
    versions = {name: (version, there.get(name)) for name, version in before}
    return Comparison(tuple(Change(*change) for change in changes), versions)


def _allows(old: str, new: str | None) -> bool:
    """Whether a package may break from a version to another."""
    if new is None:
        return False
    was, now = _VERSION.fullmatch(old), _VERSION.fullmatch(new)
    if was is None or was[4]:
        return True
    if now is None:
        return False
    # 0.0.z promises nothing from one z to the next, 0.y from one y, others from one x
    before, after = ([int(part) for part in found.group(1, 2, 3)] for found in (was, now))
    kept = next((i for i, part in enumerate(before) if part), 2)
    return after[: kept + 1] > before[: kept + 1]
