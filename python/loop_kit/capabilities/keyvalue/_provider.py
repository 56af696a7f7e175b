"""The provider of `wasi:keyvalue` in Python that keeps values in SQLite."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from sqlite3 import Error
from typing import Any

from loop_kit.capabilities import _settings
from loop_kit.capabilities._hints import Hints
from loop_kit.capabilities.keyvalue import _bucket, _grant
from loop_kit.capabilities.keyvalue._db import Db
from loop_kit.provider import provider

__all__ = ["INTERFACES", "KeyValue"]

# `watcher` is for components to export
INTERFACES = tuple(f"wasi:keyvalue/{name}@0.2.0-draft" for name in ("store", "atomics", "batch"))


@provider(*INTERFACES, wit="wit")
class KeyValue:
    """Serves `wasi:keyvalue`: store, atomics and batch. Writes wait for the disk on the caller's thread.

        app = await host.load("app.wasm", imports={
            "wasi:keyvalue": KeyValue(config={"path": "/srv/kv.db"}, grant={"buckets": {"": {"mode": "rw"}}}),
        })

    Args:
        config: `path`: the absolute path of the file, memory by default; `durability`: `full` or `normal`;
            `max-changes` that are kept of a bucket that is watched.
        grant: `buckets` by name, each with its `mode`, `ro` or `rw`, and `max-size`; `max-key`, `max-value`, `max-list`,
            `max-batch`.

    Raises:
        ValueError: A key of the config or grant is not known, or its value does not do.
    """

    Bucket = _bucket.Bucket

    def __init__(
        self, *, config: Mapping[str, Any] | None = None, grant: Mapping[str, Any] | None = None
    ) -> None:
        configured = _settings.table("config", config, ("path", "durability", "max-changes"))
        durability = _settings.word(
            "config.durability", configured.get("durability"), ("full", "normal"), "full"
        )
        changes = _settings.positive("config.max-changes", configured.get("max-changes"), 10_000)
        self._hints = Hints("wasi:keyvalue")
        buckets = _grant.granted(grant, self._hints)
        path = configured.get("path")
        if path is not None and not (isinstance(path, (str, os.PathLike)) and os.path.isabs(path)):
            raise ValueError(f"config.path: `{path}` is relative; write the absolute path")
        try:
            db = Db(path, durability)
        except Error as e:
            hint = "its folder must exist and be writable"
            raise ValueError(f"config.path: `{path}` cannot be opened as a database ({e}); {hint}") from None
        self._buckets = {
            name: _bucket.Bucket(db, db.bucket(name, counted=granted.max_size is not None), granted, changes)
            for name, granted in buckets.items()
        }

    def open(self, identifier: str) -> _bucket.Bucket:
        """The bucket of this name.

        Raises:
            Err: `access-denied`: the grant has none.
        """
        if identifier not in self._buckets:
            raise _grant.missing(identifier, self._hints)
        return self._buckets[identifier]

    def increment(self, bucket: _bucket.Bucket, key: str, delta: int) -> int:
        """`atomics`."""
        return bucket.increment(key, delta)

    def get_many(self, bucket: _bucket.Bucket, keys: Sequence[str]) -> list[tuple[str, bytes] | None]:
        """`batch`."""
        return bucket.get_many(keys)

    def set_many(self, bucket: _bucket.Bucket, key_values: Sequence[tuple[str, bytes]]) -> None:
        """`batch`."""
        bucket.set_many(key_values)

    def delete_many(self, bucket: _bucket.Bucket, keys: Sequence[str]) -> None:
        """`batch`."""
        bucket.delete_many(keys)
