"""The resource `bucket` in a database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import wraps
from sqlite3 import Error
from typing import Concatenate, ParamSpec, TypeVar

from loop_kit.capabilities.keyvalue._db import Db
from loop_kit.capabilities.keyvalue._grant import Granted, KeyResponse, grown, other
from loop_kit.capabilities.keyvalue._watch import Change

__all__ = ["Bucket"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_LOG = logging.getLogger("loop_kit.keyvalue")
_LAST = 2**63 - 1
# Changes that are read at once, and the seconds from one look at the file to the next.
_AT_ONCE, _LOOK = 32, 0.05


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
            raise other(f"the database failed: {type(e).__name__}") from None

    return answer


class Bucket:
    """A bucket under a grant. Every method raises `Err` with an `error` where it fails."""

    def __init__(self, db: Db, table: int, granted: Granted, max_changes: int) -> None:
        self._db = db
        self._max_changes = max_changes
        self._table = table
        self._granted = granted

    @_answers
    def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        return self._db.get(self._table, self._granted.one(key))

    @_answers
    def exists(self, key: str) -> bool:
        """Whether there is a key."""
        return self._db.exists(self._table, self._granted.one(key))

    @_answers
    def list_keys(self, cursor: int | None) -> KeyResponse:
        """A page of keys, from a cursor on."""
        return KeyResponse(*self._db.list(self._table, min(cursor or 0, _LAST), self._granted.list))

    def set(self, key: str, value: bytes) -> None:
        """Sets the value of a key."""
        self.set_many([(key, value)])

    def delete(self, key: str) -> None:
        """Deletes a key; nothing happens where there is none."""
        self.delete_many([key])

    @_answers
    def increment(self, key: str, delta: int) -> int:
        """Adds to a number that is kept as decimal digits; 0 where there is none."""
        self._granted.may_write()
        self._granted.one(key)
        with self._db.writing(self._table, self._granted.max_size) as writing:
            number = grown(writing.get(key), delta)
            writing.put(key, str(number).encode())
        return number

    @_answers
    def get_many(self, keys: Sequence[str]) -> list[tuple[str, bytes] | None]:
        """The keys with their values, None for those that are not there."""
        self._granted.many(keys)
        values = [(key, self._db.get(self._table, key)) for key in keys]
        return [None if value is None else (key, value) for key, value in values]

    @_answers
    def set_many(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        """Sets the values of keys."""
        self._granted.may_write()
        self._granted.pairs(pairs)
        with self._db.writing(self._table, self._granted.max_size) as writing:
            for key, value in pairs:
                writing.put(key, value)

    @_answers
    def delete_many(self, keys: Sequence[str]) -> None:
        """Deletes keys."""
        self._granted.may_write()
        self._granted.many(keys)
        with self._db.writing(self._table, None) as writing:
            for key in keys:
                writing.delete(key)

    async def changes(self, started: Callable[[], None]) -> AsyncGenerator[Change]:
        """What anybody changes in it from now on, in whatever process; `started` is called when that begins."""
        try:
            after = self._db.watched(self._table, self._max_changes)
        except Error as e:
            raise other(f"the database failed: {type(e).__name__}") from None
        started()
        seen = None
        found: Sequence[tuple[int, str, bytes | None]]
        while True:
            try:
                version = self._db.version()
                lost, found = 0, []
                if version != seen:
                    lost, found = self._db.changes(self._table, after, _AT_ONCE)
            except Error as e:  # somebody else holds the file for long
                _LOG.warning("a watched bucket is looked at later: %s", type(e).__name__)
                version, lost, found = None, 0, []
            for place, key, value in found:
                yield Change(key, None if value is None else bytes(value), lost)
                after, lost = place, 0
            if not found:
                seen = version
                await asyncio.sleep(_LOOK)
