"""The provider of `loop:fsx` in Python."""

from __future__ import annotations

import asyncio
import os
import tempfile
import weakref
from collections.abc import AsyncIterable, Mapping, Sequence
from functools import partial
from typing import Any

from loop_kit._types import Err
from loop_kit.capabilities import _settings
from loop_kit.capabilities._hints import Hints, named
from loop_kit.capabilities.fsx import _dir
from loop_kit.capabilities.fsx._beneath import Beneath
from loop_kit.capabilities.fsx._quota import Count, Quota
from loop_kit.capabilities.fsx._sink import Sink
from loop_kit.capabilities.fsx._stream import Reading
from loop_kit.capabilities.fsx._temp import Session
from loop_kit.capabilities.fsx._walking import Walking
from loop_kit.capabilities.fsx._writing import Writing
from loop_kit.provider import provider

__all__ = ["Files"]

_QUOTA = ("max-bytes", "max-files")
_AT_MOST = ("max-streams", "max-watches", "max-watched", "max-events")


@provider(wit="wit")
class Files(Writing):
    """Serves the whole package `loop:fsx`, as far as the standard library can.

        app = await host.load("site.wasm", imports={
            "loop:fsx": Files(grant={"roots": {"docs": {"path": "/srv/docs"}}}),
        })

    What it cannot do answers `unsupported`: watching, BLAKE3, and walks that obey `.gitignore` files.

    Args:
        config: There is nothing to configure.
        grant: `roots`: directories by name, each with its absolute `path`, the `mode` `ro` or `rw`, what `links` mean
            (`refuse`, `follow` or `create`), `max-bytes` (1 GiB) and `max-files` (100,000); `temp`, with a `path`, the
            same two and `max-dirs` (16); `max-read`, the bytes that `read` and `read-range` return at most (16 MiB);
            `max-entries`, the entries or paths that `list` and `glob` return at most (100,000); `max-streams` (64);
            and, for providers that watch, `max-watches`, `max-watched` and `max-events`.

    Raises:
        ValueError: A key of the grant is not known, or its value does not do.
        NotImplementedError: This is no POSIX system.
    """

    Dir = _dir.Dir

    def __init__(
        self, *, config: Mapping[str, Any] | None = None, grant: Mapping[str, Any] | None = None
    ) -> None:
        _settings.no_config(config)
        given = _settings.table("grant", grant, ("roots", "temp", "max-read", "max-entries", *_AT_MOST))
        bounds = (
            _settings.positive("grant.max-read", given.get("max-read"), 16 << 20),
            _settings.positive("grant.max-entries", given.get("max-entries"), 100_000),
        )
        self._left, *_ = [_settings.positive(f"grant.{key}", given.get(key), 64) for key in _AT_MOST]
        roots = _settings.table("grant.roots", given.get("roots"))
        self._hints = Hints("loop:fsx")
        self._roots = {name: _root(name, roots[name], self._hints, *bounds) for name in sorted(roots)}
        self._temp = None if given.get("temp") is None else _temp("grant.temp", given["temp"], *bounds)

    def roots(self) -> Sequence[tuple[str, _dir.Dir]]:
        """Every root of the grant, by name, sorted."""
        return list(self._roots.items())

    def root(self, name: str) -> _dir.Dir:
        """The root with this name.

        Raises:
            Err: `not-permitted`: the grant has none.
        """
        if name not in self._roots:
            self._hints.say(f"the grant has no root `{named(name)}`; add `roots.{named(name)}.path`")
            raise Err("not-permitted")
        return self._roots[name]

    @_dir.answers
    def temp_dir(self) -> _dir.Dir:
        """A fresh directory that is removed with its handle.

        Raises:
            Err: `not-permitted`: the grant gives none; `quota`: it gives no more.
        """
        if self._temp is None:
            self._hints.say("the grant has no temporary directories; add `temp = {}`")
            raise Err("not-permitted")
        return self._temp.temp_dir()

    async def read_stream(self, dir: _dir.Dir, path: str, offset: int) -> tuple[Reading, asyncio.Future[Any]]:
        """The file at `path` of `dir` from `offset` on, and how its reading will have ended.

        Raises:
            Err: It cannot be opened.
        """
        self._take()
        try:
            reading = Reading(await asyncio.to_thread(dir.open_at, path, offset))
        except BaseException:
            self._give()
            raise
        weakref.finalize(reading, self._give)
        return reading, reading.ended

    async def write_stream(self, dir: _dir.Dir, path: str, placement: Any, data: AsyncIterable[bytes]) -> int:
        """Writes `data` to the file at `path` of `dir`; the number of bytes.

        Raises:
            Err: It cannot be written.
        """
        self._take()
        try:
            sink = await asyncio.to_thread(_dir.answers(Sink), dir, path, placement)
            write = _dir.answers(sink.write)
            async for chunk in data:
                await asyncio.to_thread(write, bytes(chunk))
            return await asyncio.to_thread(_dir.answers(sink.finish))
        finally:
            self._give()

    async def walk(self, dir: _dir.Dir, path: str, options: Any) -> tuple[Walking, asyncio.Future[Any]]:
        """The folders at and below `path` of `dir`, and how the walk will have ended.

        Raises:
            Err: It cannot be opened, or `options` does not do.
        """
        self._take()
        try:
            walking = _dir.answers(Walking)(dir.beneath, path, options)
        except BaseException:
            self._give()
            raise
        weakref.finalize(walking, self._give)
        return walking, walking.ended

    async def watch(self, dir: _dir.Dir, path: str, options: Any) -> tuple[Any, asyncio.Future[Any]]:
        """Is not in the standard library.

        Raises:
            Err: It leads out; else `unsupported`.
        """
        _dir.answers(dir.beneath.open_list)(path)
        raise Err("unsupported")

    def _take(self) -> None:
        if not self._left:
            raise Err("quota")
        self._left -= 1

    def _give(self) -> None:
        self._left += 1


def _root(name: str, value: Any, hints: Hints, max_read: int, max_entries: int) -> _dir.Dir:
    key = f"grant.roots.{name}"
    given = _settings.table(key, value, ("path", "mode", "links", *_QUOTA))
    mode = _settings.word(f"{key}.mode", given.get("mode"), ("ro", "rw"), "ro")
    links = _settings.word(f"{key}.links", given.get("links"), ("refuse", "follow", "create"), "follow")
    most = _most(key, given)
    if mode == "ro" and any(name in given for name in _QUOTA):
        hint = 'add `mode = "rw"`, or leave the quota out'
        raise ValueError(f"{key}: a quota bounds what is written, and nothing is: {hint}")
    if mode == "ro" and links == "create":
        raise ValueError(
            f'{key}.links: links can be created where `mode = "rw"` only; use `follow` or `refuse`'
        )
    path = given.get("path")
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"{key}: missing the `path` of a directory")
    _absolute(key, path)
    try:
        beneath = Beneath(path, links=links != "refuse")
        quota = Quota(beneath.open_list("."), most) if mode == "rw" else None
    except OSError as e:
        hint = "name a directory that exists"
        raise ValueError(f"{key}.path: `{os.fspath(path)}` cannot be opened ({e.strerror}); {hint}") from None
    lets = f'`roots.{named(name)}.mode = "rw"` lets it be changed'
    refused = partial(hints.say, f"the root `{named(name)}` is read-only; {lets}")
    return _dir.Dir(beneath, max_read, max_entries, quota or refused, links == "create")


def _temp(key: str, value: Any, max_read: int, max_entries: int) -> Session:
    given = _settings.table(key, value, ("path", "max-dirs", *_QUOTA))
    max_dirs = _settings.positive(f"{key}.max-dirs", given.get("max-dirs"), 16)
    path = given.get("path") or tempfile.gettempdir()
    _absolute(key, path)
    try:
        return Session(path, _most(key, given), max_dirs, max_read, max_entries)
    except OSError as e:
        hint = "name a directory that exists and may be written"
        raise ValueError(
            f"{key}.path: nothing can be made in `{os.fspath(path)}` ({e.strerror}); {hint}"
        ) from None


def _absolute(key: str, path: str | os.PathLike[str]) -> None:
    if not os.path.isabs(path):
        raise ValueError(f"{key}.path: `{os.fspath(path)}` is relative; write the absolute path")


def _most(key: str, given: Mapping[str, Any]) -> Count:
    return Count(
        _settings.positive(f"{key}.max-bytes", given.get("max-bytes"), 1 << 30),
        _settings.positive(f"{key}.max-files", given.get("max-files"), 100_000),
    )
