"""The grant, and what it lets pass: the same whatever keeps the buckets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loop_kit._types import Err
from loop_kit.capabilities import _settings
from loop_kit.capabilities._hints import Hints, named

__all__ = ["Granted", "KeyResponse", "granted", "grown", "missing", "other"]

_LARGEST = 2**64 - 1


@dataclass(frozen=True, slots=True)
class KeyResponse:
    """A page of keys.

    Attributes:
        keys: So many of them.
        cursor: Where the next page begins, or None after the last.
    """

    keys: Sequence[str]
    cursor: int | None


@dataclass(frozen=True, slots=True)
class Granted:
    """What may be done with a bucket.

    Attributes:
        name: What the component calls it.
        hints: Where is told what the grant lacks.
        writable: Whether it may be changed.
        max_size: Bytes of its keys and values together, or None.
        key, value: Bytes of a key and of a value.
        list, batch: Keys in a page and in a batch.
    """

    name: str
    hints: Hints
    writable: bool
    max_size: int | None
    key: int
    value: int
    list: int
    batch: int

    def may_write(self) -> None:
        """Raises `access-denied` where it is read-only."""
        if not self.writable:
            name = named(self.name)
            lets = f'`buckets.{name}.mode = "rw"` lets it be changed'
            self.hints.say(f"the bucket `{name}` is read-only; {lets}")
            raise Err("access-denied")

    def one(self, key: str) -> str:
        """The key, which is not too long."""
        length = len(key.encode())
        if length > self.key:
            raise other(f"a key of {length} bytes; `grant.max-key` lets it have {self.key}")
        return key

    def many(self, keys: Sequence[str]) -> None:
        """Refuses keys that are too many at once, or too long."""
        if len(keys) > self.batch:
            raise other(f"{len(keys)} keys at once; `grant.max-batch` lets it be {self.batch}")
        for key in keys:
            self.one(key)

    def pairs(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        """The same of keys that are to be set, and refuses values that are too long."""
        self.many([key for key, _ in pairs])
        for _, value in pairs:
            if len(value) > self.value:
                raise other(f"a value of {len(value)} bytes; `grant.max-value` lets it have {self.value}")


def granted(grant: Mapping[str, Any] | None, hints: Hints) -> dict[str, Granted]:
    """Reads a provider's `grant`: buckets by name, and what may be done with each. `hints` tell what it lacks.

    Raises:
        ValueError: A key is not known, or its value does not do.
    """
    known = ("buckets", "max-key", "max-value", "max-list", "max-batch")
    given = _settings.table("grant", grant, known)
    bounds = (
        _settings.positive("grant.max-key", given.get("max-key"), 1024),
        _settings.positive("grant.max-value", given.get("max-value"), 1 << 20),
        _settings.positive("grant.max-list", given.get("max-list"), 1000),
        _settings.positive("grant.max-batch", given.get("max-batch"), 1000),
    )
    buckets = {}
    for name, value in _settings.table("grant.buckets", given.get("buckets")).items():
        key = f"grant.buckets.{name}"
        bucket = _settings.table(key, value, ("mode", "max-size"))
        mode = _settings.word(f"{key}.mode", bucket.get("mode"), ("ro", "rw"), "ro")
        most = bucket.get("max-size")
        most = most if most is None else _settings.positive(f"{key}.max-size", most, 1)
        buckets[name] = Granted(name, hints, mode == "rw", most, *bounds)
    return buckets


def missing(name: str, hints: Hints) -> Err[Any]:
    """What a bucket that the grant does not name is answered with."""
    hints.say(f"the grant has no bucket `{named(name)}`; add `buckets.{named(name)}.mode`")
    return Err("access-denied")


def grown(old: bytes | None, delta: int) -> int:
    """A number that is kept as decimal digits, grown by `delta`; 0 where there is none.

    Raises:
        Err: It is no number, or the sum is larger than 64 bits hold.
    """
    try:
        number = 0 if old is None else int(old) if old.isdigit() else -1
    except ValueError:  # more digits than Python reads
        number = -1
    if not 0 <= number <= _LARGEST:
        raise other("the value is no number in decimal digits")
    if number + delta > _LARGEST:
        raise other("the number would be larger than 64 bits hold")
    return number + delta


def other(words: str) -> Err[Any]:
    """An `error` that says what went wrong."""
    return Err(("other", words))
