"""The database, with the tables of the native provider: `crates/native/src/keyvalue/db.rs` says what they are."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from loop_kit._types import Err

__all__ = ["Db", "Writing"]

_PATIENCE = 5.0
_SCHEMA = """CREATE TABLE IF NOT EXISTS loop_buckets (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, size INTEGER)"""
_ALL = "length(CAST(key AS BLOB)) + length(value)"
_NEW = "length(CAST(new.key AS BLOB)) + length(new.value)"
_OLD = "length(CAST(old.key AS BLOB)) + length(old.value)"


class Db:
    """A file, or memory.

    Args:
        path: The file; None: memory.
        durability: `full`: a write that was answered is on the disk. `normal`: the system has it.

    Raises:
        sqlite3.Error: It cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str] | None, durability: str) -> None:
        self._lock = threading.Lock()
        # transactions begin where this says so; calls come from any thread, one at a time
        self._connection = sqlite3.connect(
            path or ":memory:", timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
        if path is not None:
            self._connection.execute("PRAGMA journal_mode = wal")
        self._connection.execute(f"PRAGMA synchronous = {durability}")
        self._connection.execute(_SCHEMA)

    def bucket(self, name: str, *, counted: bool) -> int:
        """The number of a bucket, which is made where there is none; `counted`: its size is kept from now on."""
        with self._lock, _transaction(self._connection):
            run = self._connection.execute
            run("INSERT OR IGNORE INTO loop_buckets (name) VALUES (?)", (name,))
            found = run("SELECT number, size IS NOT NULL FROM loop_buckets WHERE name = ?", (name,))
            number, is_counted = found.fetchone()
            run(
                f"""CREATE TABLE IF NOT EXISTS loop_bucket_{number} (
                    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value BLOB NOT NULL)"""
            )
            if counted and not is_counted:
                for statement in _counting(number):
                    run(statement)
            return int(number)

    def get(self, table: int, key: str) -> bytes | None:
        """A value, or None."""
        row = self._row(f"SELECT value FROM loop_bucket_{table} WHERE key = ?", key)
        return None if row is None else bytes(row[0])

    def exists(self, table: int, key: str) -> bool:
        """Whether there is a key."""
        return self._row(f"SELECT 1 FROM loop_bucket_{table} WHERE key = ?", key) is not None

    def list(self, table: int, after: int, most: int) -> tuple[list[str], int | None]:
        """Keys after the place `after`, and the place of the last if there are more."""
        sql = f"SELECT id, key FROM loop_bucket_{table} WHERE id > ? ORDER BY id LIMIT ?"
        with self._lock:
            rows = self._connection.execute(sql, (after, most + 1)).fetchall()
        cursor = rows[most - 1][0] if len(rows) > most else None
        return [key for _, key in rows[:most]], cursor

    def watched(self, table: int, kept: int) -> int:
        """Has the file keep the last `kept` changes of a bucket, whoever makes them; the place of the last so far."""
        with self._lock, _transaction(self._connection):
            for statement in _noting(table, kept):
                self._connection.execute(statement)
            # the number of the last, also where it is kept no longer
            found = self._connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = ?", (f"loop_changes_{table}",)
            ).fetchone()
            return 0 if found is None else int(found[0])

    def version(self) -> tuple[int, int]:
        """Differs once anybody has changed anything in the file."""
        with self._lock:
            (others,) = self._connection.execute("PRAGMA data_version").fetchone()
            return others, self._connection.total_changes

    def changes(
        self, table: int, after: int, most: int
    ) -> tuple[int, Sequence[tuple[int, str, bytes | None]]]:
        """What has changed after a place.

        Returns:
            How many changes are kept no longer; and keys in the order of their last change, with that and their values.
        """
        sql = f"""SELECT max(c.id) AS last, c.key, b.value FROM loop_changes_{table} AS c
            LEFT JOIN loop_bucket_{table} AS b ON b.key = c.key WHERE c.id > ?
            GROUP BY c.key ORDER BY last LIMIT ?"""
        # of one moment: what others forget in between would be in neither
        with self._lock, _transaction(self._connection, "DEFERRED"):
            (first,) = self._connection.execute(f"SELECT min(id) FROM loop_changes_{table}").fetchone()
            found = self._connection.execute(sql, (after, most)).fetchall()
        return 0 if first is None else max(0, int(first) - after - 1), found

    @contextmanager
    def writing(self, table: int, max_size: int | None) -> Iterator[Writing]:
        """A transaction, which leaves nothing where it fails, or leaves more than `max_size` bytes.

        Raises:
            Err: It would be larger.
        """
        with self._lock, _transaction(self._connection):
            yield Writing(self._connection, table)
            if max_size is not None:
                row = self._connection.execute("SELECT size FROM loop_buckets WHERE number = ?", (table,))
                (size,) = row.fetchone()
                if size > max_size:
                    words = (
                        f"the bucket would have {size} bytes; `max-size` of its grant lets it have {max_size}"
                    )
                    raise Err(("other", words))

    def _row(self, sql: str, key: str) -> tuple[bytes] | None:
        with self._lock:
            row: tuple[bytes] | None = self._connection.execute(sql, (key,)).fetchone()
            return row


class Writing:
    """What may be done in a transaction."""

    def __init__(self, connection: sqlite3.Connection, table: int) -> None:
        self._run = connection.execute
        self._table = f"loop_bucket_{table}"

    def get(self, key: str) -> bytes | None:
        """A value, or None."""
        row = self._run(f"SELECT value FROM {self._table} WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, key: str, value: bytes) -> None:
        """Sets a value."""
        self._run(
            f"INSERT INTO {self._table} (key, value) VALUES (?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, bytes(value)),
        )

    def delete(self, key: str) -> None:
        """Deletes a key."""
        self._run(f"DELETE FROM {self._table} WHERE key = ?", (key,))


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _counting(n: int) -> tuple[str, ...]:
    where = f"WHERE number = {n}"
    return (
        f"UPDATE loop_buckets SET size = (SELECT coalesce(sum({_ALL}), 0) FROM loop_bucket_{n}) {where}",
        f"CREATE TRIGGER loop_insert_{n} AFTER INSERT ON loop_bucket_{n} BEGIN "
        f"UPDATE loop_buckets SET size = size + {_NEW} {where}; END",
        f"CREATE TRIGGER loop_delete_{n} AFTER DELETE ON loop_bucket_{n} BEGIN "
        f"UPDATE loop_buckets SET size = size - ({_OLD}) {where}; END",
        f"CREATE TRIGGER loop_update_{n} AFTER UPDATE ON loop_bucket_{n} BEGIN "
        f"UPDATE loop_buckets SET size = size + {_NEW} - ({_OLD}) {where}; END",
    )


def _noting(n: int, kept: int) -> Iterator[str]:
    yield f"CREATE TABLE IF NOT EXISTS loop_changes_{n} (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL)"
    for event, row in (("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old")):
        name = f"loop_note_{event.lower()}_{n}"
        yield f"DROP TRIGGER IF EXISTS {name}"  # it may keep another number
        yield (
            f"CREATE TRIGGER {name} AFTER {event} ON loop_bucket_{n} BEGIN "
            f"INSERT INTO loop_changes_{n} (key) VALUES ({row}.key); "
            f"DELETE FROM loop_changes_{n} WHERE id <= last_insert_rowid() - {kept}; END"
        )
