"""The resource `bucket`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from sqlite3 import Error
from typing import Any, Concatenate, ParamSpec, TypeVar

from loop_kit._types import Err
from loop_kit.capabilities.keyvalue._db import Db

__all__ = ["Bucket", "KeyResponse", "Limits"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_ACCESS_DENIED = "access-denied"
_LARGEST = 2**64 - 1
_LAST = 2**63 - 1


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
class Limits:
    """Bounds of a grant: bytes of a key and of a value, keys in a page and in a batch."""

    key: int
    value: int
    list: int
    batch: int


def _answers(
    method: Callable[Concatenate[Bucket, _P], _T],
) -> Callable[Concatenate[Bucket, _P], _T]:
    """Turns errors of the database into those of the interface."""

    @wraps(method)
    def answer(self: Bucket, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return method(self, *args, **kwargs)
        except Error as e:
            # its text may name the file
            raise _other(f"the database failed: {type(e).__name__}") from None

    return answer


class Bucket:
    """A bucket under a grant. Every method raises `Err` with an `error` where it fails."""

    def __init__(self, db: Db, table: int, writable: bool, max_size: int | None, limits: Limits) -> None:
        self._db = db
        self._table = table
        self._writable = writable
        self._max_size = max_size
        self._limits = limits

    @_answers
    def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        return self._db.get(self._table, self._key(key))

    @_answers
    def exists(self, key: str) -> bool:
        """Whether there is a key."""
        return self._db.exists(self._table, self._key(key))

    @_answers
    def list_keys(self, cursor: int | None) -> KeyResponse:
        """A page of keys, from a cursor on."""
        return KeyResponse(*self._db.list(self._table, min(cursor or 0, _LAST), self._limits.list))

    def set(self, key: str, value: bytes) -> None:
        """Sets the value of a key."""
        self.set_many([(key, value)])

    def delete(self, key: str) -> None:
        """Deletes a key; nothing happens where there is none."""
        self.delete_many([key])

    @_answers
    def increment(self, key: str, delta: int) -> int:
        """Adds to a number that is kept as decimal digits; 0 where there is none."""
        self._may_write()
        self._key(key)
        with self._db.writing(self._table, self._max_size) as writing:
            old = writing.get(key)
            try:
                number = 0 if old is None else int(old) if old.isdigit() else -1
            except ValueError:
                number = -1
            if not 0 <= number <= _LARGEST:
                raise _other("the value is no number in decimal digits")
            if number + delta > _LARGEST:
                raise _other("the number would be larger than 64 bits hold")
            writing.put(key, str(number + delta).encode())
        return number + delta

    @_answers
    def get_many(self, keys: Sequence[str]) -> list[tuple[str, bytes] | None]:
        """The keys with their values, None for those that are not there."""
        self._many(keys)
        values = [(key, self._db.get(self._table, self._key(key))) for key in keys]
        return [None if value is None else (key, value) for key, value in values]

    @_answers
    def set_many(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        """Sets the values of keys."""
        self._may_write()
        self._many(pairs)
        for key, value in pairs:
            self._key(key)
            if len(value) > self._limits.value:
                most = self._limits.value
                raise _other(f"a value of {len(value)} bytes; `grant.max-value` lets it have {most}")
        with self._db.writing(self._table, self._max_size) as writing:
            for key, value in pairs:
                writing.put(key, value)

    @_answers
    def delete_many(self, keys: Sequence[str]) -> None:
        """Deletes keys."""
        self._may_write()
        self._many(keys)
        for key in keys:
            self._key(key)
        with self._db.writing(self._table, None) as writing:
            for key in keys:
                writing.delete(key)

    def _may_write(self) -> None:
        if not self._writable:
            raise Err(_ACCESS_DENIED)

    def _key(self, key: str) -> str:
        length = len(key.encode())
        if length > self._limits.key:
            raise _other(f"a key of {length} bytes; `grant.max-key` lets it have {self._limits.key}")
        return key

    def _many(self, items: Sequence[Any]) -> None:
        if len(items) > self._limits.batch:
            raise _other(f"{len(items)} keys at once; `grant.max-batch` lets it be {self._limits.batch}")


def _other(words: str) -> Err[Any]:
    return Err(("other", words))
