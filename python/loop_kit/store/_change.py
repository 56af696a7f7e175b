"""What an update changes about an artifact: its version and digest, who signed it, and what it wants to be allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from loop_kit.errors import PackageError
from loop_kit.lock import Entry
from loop_kit.manifest._source import dotted
from loop_kit.manifest._toml import inline

__all__ = ["Change", "changed", "older"]

_VERSION = re.compile(r"v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.-]+))?(?:\+.*)?")


@dataclass(frozen=True)
class Change:
    """What becomes of one member.

    Attributes:
        kind: `components` or `providers`.
        name: Its name.
        before: What `loop.lock` has of it, or None.
        after: What it is now.
    """

    kind: Literal["components", "providers"]
    name: str
    before: Entry | None
    after: Entry

    @property
    def any(self) -> bool:
        """Whether anything changes."""
        return self.before != self.after

    @property
    def narrower(self) -> tuple[str, ...]:
        """What it needs no longer, in words."""
        return () if self.before is None else _more(self.after, self.before)

    @property
    def wider(self) -> tuple[str, ...]:
        """What it needs that it did not, in words; all of it, where it is new."""
        return _more(self.before, self.after)

    @property
    def asks(self) -> bool:
        """Whether somebody must agree: it was there, and wants more than it had."""
        return self.before is not None and bool(self.wider)


def changed(
    kind: Literal["components", "providers"],
    name: str,
    before: Entry | None,
    after: Entry,
    *,
    allow_downgrade: bool = False,
) -> Change:
    """The change of a member.

    Raises:
        PackageError: It would be an older version than the one that is recorded under the same name.
    """
    if before is not None and before.reference == after.reference and not allow_downgrade:
        back = older(after.version, before.version) or after.serial < before.serial
        if back and after.digest != before.digest:
            error = PackageError(
                f"{kind}.{name}: {after.reference} is {_which(after)} now, which is older than {_which(before)} of "
                "loop.lock: it may have been put back to one with known faults"
            )
            error.hint = "--allow-downgrade takes it nevertheless"
            raise error
    return Change(kind, name, before, after)


def _which(entry: Entry) -> str:
    return f"{entry.version or 'no version'} ({entry.digest[:19]}…)"


def older(one: str, other: str) -> bool:
    """Whether a version is older than another; not, where either is none."""
    ours, theirs = _key(one), _key(other)
    return ours is not None and theirs is not None and ours < theirs


def _key(version: str) -> tuple[Any, ...] | None:
    """Sorts as semantic versions do: what comes before a release has a last part with a `-`."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    before = found[2]
    parts = tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in (before or "").split(".") if part
    )
    return tuple(numbers), before is None, parts


def _more(before: Entry | None, after: Entry) -> tuple[str, ...]:
    """What the one needs and the other did not."""
    had = before.imports if before is not None else ()
    said = [f"needs {name}" for name in after.imports if name not in had]
    granted = dict(_flat(before.grants)) if before is not None else {}
    for path, value in _flat(after.grants):
        where = f"{path[0]}: {dotted(path[1:])}" if path[1:] else path[0]
        was = granted.get(path)
        if was == value and path in granted:
            continue
        if isinstance(value, tuple) and isinstance(was, tuple):
            fresh = [item for item in value if item not in was]
            said += [f"wants {where} to have {inline(item)}" for item in fresh]
        else:
            said.append(f"wants {where} = {inline(value)}" if path[1:] else f"wants a grant of {where}")
    return tuple(said)


def _flat(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, (*path, name))
        else:
            yield (*path, name), tuple(inner) if isinstance(inner, list) else {} if inner == {} else inner
