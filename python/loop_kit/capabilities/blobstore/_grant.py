"""The grant: which containers, and the bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loop_kit._types import Err
from loop_kit.capabilities import _settings
from loop_kit.capabilities._hints import Hints, named
from loop_kit.capabilities.blobstore._backend import invalid
from loop_kit.capabilities.blobstore._usage import Most

__all__ = ["Bounds", "Grant", "Rule"]

_DENIED: Any = "access-denied"
_HELD_SIZE, _HELD_OBJECTS = 1 << 30, 100_000
_BOUNDS = {
    "max-name": 1024,
    "max-object": 1 << 30,
    "max-whole": 16 << 20,
    "max-list": 1000,
    "max-batch": 1000,
    "max-streams": 64,
    "max-containers": 16,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What may be done with a container.

    Attributes:
        writable: Whether it may be changed.
        create: Whether it may be created and deleted.
        there: Whether it is made where it is missing: its name is known, and nobody else sees to it.
        most: What it may hold.
    """

    writable: bool
    create: bool
    there: bool
    most: Most


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes of a name, of an object, of one that is read whole; names in a page, in a call; streams; containers."""

    name: int
    object: int
    whole: int
    list: int
    batch: int
    streams: int
    containers: int


class Grant:
    """A grant.

    Args:
        grant: As it was given.
        local: Whether the storage takes room of the host, so that there is a bound where none is said.

    Attributes:
        bounds: Its bounds.

    Raises:
        ValueError: A key is not known, or its value does not do.
    """

    def __init__(self, grant: Mapping[str, Any] | None, *, local: bool) -> None:
        given = _settings.table("grant", grant, ("containers", *_BOUNDS))
        self.bounds = Bounds(
            *(_settings.positive(f"grant.{key}", given.get(key), default) for key, default in _BOUNDS.items())
        )
        self._hints = Hints("wasi:blobstore")
        self._exact: dict[str, Rule] = {}
        self._begins: dict[str, Rule] = {}
        for name, value in _settings.table("grant.containers", given.get("containers")).items():
            many = name.endswith("*")
            rule = _rule(f"grant.containers.{name}", value, local, named=not many)
            if many:
                self._begins[name[:-1]] = rule
            else:
                self._exact[name] = rule

    def rule(self, container: str) -> Rule:
        """What holds for a container: its own name, else the longest that it begins with.

        Raises:
            Err: `access-denied`: nothing does.
        """
        self.check_name(container)
        rule = self._find(container)
        if rule is None:
            name = named(container)
            raise self._denied(f"the grant has no container `{name}`; add `containers.{name}.mode`")
        return rule

    def _find(self, container: str) -> Rule | None:
        if container in self._exact:
            return self._exact[container]
        fitting = [begin for begin in self._begins if container.startswith(begin)]
        return self._begins[max(fitting, key=len)] if fitting else None

    def _denied(self, words: str) -> Err[Any]:
        """The error, which has no room for words; the host's log has."""
        self._hints.say(words)
        return Err(_DENIED)

    def to_write(self, container: str) -> Rule:
        """The same, where it may be changed.

        Raises:
            Err: `access-denied`.
        """
        rule = self.rule(container)
        if not rule.writable:
            name = named(container)
            lets = f'`containers.{name}.mode = "rw"` lets it be changed'
            raise self._denied(f"the container `{name}` is read-only; {lets}")
        return rule

    def to_create(self, container: str) -> Rule:
        """The same, where it may be created and deleted.

        Raises:
            Err: `access-denied`.
        """
        rule = self.rule(container)
        if not rule.create:
            name = named(container)
            lets = f"`containers.{name}.create = true` lets it be"
            raise self._denied(f"the container `{name}` may not be created or deleted; {lets}")
        return rule

    def may_create(self, container: str) -> bool:
        """Whether a container is one that may be created."""
        rule = self._find(container)
        return rule is not None and rule.create

    def check_name(self, name: str) -> str:
        """A name that is not too long.

        Raises:
            Err: `invalid`.
        """
        length = len(name.encode())
        if length > self.bounds.name:
            raise invalid(f"a name of {length} bytes; `grant.max-name` lets it have {self.bounds.name}")
        return name


def _rule(key: str, value: Any, local: bool, *, named: bool) -> Rule:
    given = _settings.table(key, value, ("mode", "create", "max-size", "max-objects"))
    writable = _settings.word(f"{key}.mode", given.get("mode"), ("ro", "rw"), "ro") == "rw"
    create = given.get("create", False)
    if not isinstance(create, bool):
        raise ValueError(f"{key}.create: must be true or false, got {create!r}")
    if create and not writable:
        raise ValueError(f'{key}.create: what is read-only cannot be created; add `mode = "rw"`')
    return Rule(
        writable,
        create,
        named and writable and not create,
        Most(
            _most(key, "max-size", given, _HELD_SIZE if local else None),
            _most(key, "max-objects", given, _HELD_OBJECTS if local else None),
        ),
    )


def _most(key: str, name: str, given: Mapping[str, Any], default: int | None) -> int | None:
    value = given.get(name)
    return default if value is None else _settings.positive(f"{key}.{name}", value, 1)
