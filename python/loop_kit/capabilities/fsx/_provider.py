"""The provider of `loop:fsx` in Python."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

from loop_kit._types import Err
from loop_kit.capabilities import _settings
from loop_kit.capabilities.fsx import _dir
from loop_kit.capabilities.fsx._beneath import Beneath
from loop_kit.capabilities.fsx._stream import Reading
from loop_kit.provider import provider

__all__ = ["Files"]


@provider(wit="wit")
class Files:
    """Serves the whole package `loop:fsx`: files and streaming.

        app = await host.load("site.wasm", imports={
            "loop:fsx": Files(grant={"roots": {"docs": {"path": "/srv/docs"}}}),
        })

    Args:
        config: There is nothing to configure.
        grant: `roots`: directories by name, each with its absolute `path` and the `mode` `ro`; `max-read`, the bytes
            that `read` and `read-range` return at most (16 MiB); `max-entries`, the entries or paths that `list` and
            `glob` return at most (100,000).

    Raises:
        ValueError: A key of the grant is not known, or its value does not do.
        NotImplementedError: This is no POSIX system.
    """

    Dir = _dir.Dir

    def __init__(
        self, *, config: Mapping[str, Any] | None = None, grant: Mapping[str, Any] | None = None
    ) -> None:
        _settings.no_config(config)
        given = _settings.table("grant", grant, ("roots", "max-read", "max-entries"))
        max_read = _settings.positive("grant.max-read", given.get("max-read"), 16 << 20)
        max_entries = _settings.positive("grant.max-entries", given.get("max-entries"), 100_000)
        roots = _settings.table("grant.roots", given.get("roots"))
        self._roots = {
            name: _dir.Dir(_root(f"grant.roots.{name}", roots[name]), max_read, max_entries)
            for name in sorted(roots)
        }

    def roots(self) -> Sequence[tuple[str, _dir.Dir]]:
        """Every root of the grant, by name, sorted."""
        return list(self._roots.items())

    def root(self, name: str) -> _dir.Dir:
        """The root with this name.

        Raises:
            Err: `not-permitted`: the grant has none.
        """
        if name not in self._roots:
            raise Err("not-permitted")
        return self._roots[name]

    async def read_stream(self, dir: _dir.Dir, path: str, offset: int) -> tuple[Reading, asyncio.Future[Any]]:
        """The file at `path` of `dir` from `offset` on, and how its reading will have ended.

        Raises:
            Err: It cannot be opened.
        """
        reading = Reading(await asyncio.to_thread(dir.open_at, path, offset))
        return reading, reading.ended


def _root(key: str, value: Any) -> Beneath:
    given = _settings.table(key, value, ("path", "mode"))
    _settings.word(f"{key}.mode", given.get("mode"), ("ro",), "ro")
    path = given.get("path")
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"{key}: missing the `path` of a directory")
    if not os.path.isabs(path):
        raise ValueError(f"{key}.path: `{os.fspath(path)}` is relative; write the absolute path")
    try:
        return Beneath(path)
    except OSError as e:
        hint = "name a directory that exists"
        raise ValueError(f"{key}.path: `{os.fspath(path)}` cannot be opened ({e.strerror}); {hint}") from None
