"""What changes in a workspace, in batches, as soon as it does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_kit._types import Err
from loop_kit.dev._assets import assets_of
from loop_kit.dev._files import NEVER, Files, below, is_never, opened
from loop_kit.dev._inputs import BUILT, inputs_of
from loop_kit.errors import LoadError
from loop_kit.manifest import Manifest

__all__ = ["Batch", "Watcher", "plan"]

MOST = 24
"""Watches at the start: the system lets a user have 128 of them. Each may be of any number of folders."""

BURST = 16
"""More paths than these at once are the beginning of more: they are gathered until none come for `REST`."""

REST = 0.02
LONGEST = 2.0
"""Seconds that a burst is gathered at most."""

LOCKED = 5.0
"""Seconds that git is waited for: a lock that is older was left behind."""

_log = logging.getLogger("loop_kit.dev")

_READ = 4096
_BIG = 50
_HEAVY = NEVER | BUILT


@dataclass(frozen=True, slots=True)
class Batch:
    """What has changed since the last one.

    Attributes:
        paths: Files and folders that are new, changed or gone; of a folder that is new or renamed perhaps it alone.
        everything: Whether there was more than can be told: look at everything anew.
    """

    paths: frozenset[Path]
    everything: bool = False


def plan(folder: str, visible: Collection[str], most: int = MOST) -> list[tuple[str, bool]]:
    """Which folders to watch, and whether with all below.

    Big folders that git ignores, or that hold nobody's inputs, are left out as far as `most` watches allow; else they
    are watched too, and what happens there is not told.

    Args:
        folder: The workspace's.
        visible: All folders that may hold inputs.
        most: Watches at most.
    """
    mixed: set[str] = set()
    children: dict[str, list[str]] = defaultdict(list)
    known = set(visible)
    for at in known:
        if at != folder:
            children[os.path.dirname(at)].append(at)
        if at not in mixed and any(_is_big(path) for path in _folders(at) if path not in known):
            while at not in mixed:
                mixed.add(at)
                if at == folder:
                    break
                at = os.path.dirname(at)
    watches: list[tuple[str, bool]] = []
    waiting = [folder]
    while waiting:
        at = waiting.pop(0)
        split = at in mixed and len(watches) + len(waiting) + 1 + len(children[at]) <= most
        watches.append((at, not split))
        if split:
            waiting += sorted(children[at])
    return watches


def _folders(at: str) -> list[str]:
    try:
        with os.scandir(at) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _is_big(path: str) -> bool:
    """Whether it is worth a watch of its own to leave a folder out."""
    return os.path.basename(path) in _HEAVY - {"__pycache__"} or len(_folders(path)) > _BIG


class Watcher:
    """Watches a workspace from when it is entered on; iterate over it for what has changed.

        async with Watcher(manifest) as watcher:
            async for batch in watcher:
                ...

    The first change is told at once, and what comes until the next batch is asked for comes together. So does what comes
    while git has the working tree in its hands, and a burst of changes. Who gives up waiting loses nothing.

    Files that editors make on the way, what lies in `node_modules`, `.git` and their like, and what builds make by the
    manifest is left out, unless the manifest names it as a source. Contents are not looked at: see `Builder`.

    Args:
        manifest: The manifest, whose folder is watched, and the files outside of it that it names.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._stack = contextlib.AsyncExitStack()
        self._paths: set[str] = set()
        self._everything = False
        self._awake = asyncio.Event()
        self._error: LoadError | None = None
        self._pumps: dict[tuple[str, bool], asyncio.Task[None]] = {}
        self._fsx: Any = None
        self._all: Any = None
        self._stale_lock: tuple[int, int] | None = None
        self._root = str(manifest.folder)
        self._define(manifest)

    def _define(self, manifest: Manifest) -> None:
        inputs = inputs_of(manifest).values()
        named = {rule.base for found in inputs for rule in found.rules if rule.take}
        named |= {path for found in inputs for path in found.files}
        shown = {rule.base for rule in assets_of(manifest) if rule.take}
        self._optional = shown - named
        """What pages show, which may be too much to be watched."""
        named |= shown
        self._named = named - {self._root}
        """Files and folders that the manifest names."""
        self._outside = {path for path in self._named if self._is_aside(path)}
        self._outputs = {str(found.output) for found in inputs if found.output is not None} - named

    def _is_aside(self, path: str) -> bool:
        """Whether what is told of the workspace's folder does not cover it."""
        if not below(path, self._root):
            return True
        return not NEVER.isdisjoint(path[len(self._root) + 1 :].split("/"))

    async def __aenter__(self) -> Watcher:
        """Raises LoadError where the system does not watch."""
        try:
            files = await self._stack.enter_async_context(Files(Path(self._root)))
            self._lock, self._inode = _lock_of(files.top), _inode(self._root)
            found = await files.walk(self._root)
            self._fsx, _, self._all = await self._stack.enter_async_context(opened(files.top))
            self._folders = {self._root, *found.folders}
            for path, deep in plan(self._root, self._folders):
                await self._watch(path, deep)
            await self._aside(self._outside | self._led_to(found.links))
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends watching. Again is harmless."""
        for pump in self._pumps.values():
            pump.cancel()
        await asyncio.gather(*self._pumps.values(), return_exceptions=True)
        self._pumps.clear()
        self._fsx = self._all = None
        await self._stack.aclose()

    async def replace(self, manifest: Manifest) -> None:
        """Goes on with another manifest of the same folder."""
        self._define(manifest)
        await self._aside(self._outside)

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> Batch:
        """Raises LoadError where the folder is gone, or the system can watch no more."""
        while True:
            await self._awake.wait()
            await self._gathered()
            # its own end is not told while it is open somewhere, and it is
            if self._error is None and _inode(self._root) != self._inode:
                self._error = LoadError(f"{self._root} is gone, and with it what was watched")
            if self._error is not None:
                raise self._error
            self._awake.clear()
            paths, everything = self._paths, self._everything
            self._paths, self._everything = set(), False
            if paths or everything:
                return Batch(frozenset(map(Path, paths)), everything)

    async def _gathered(self) -> None:
        """Waits until git is done, and until a burst is over."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while (lock := _locked(self._lock)) is not None and lock != self._stale_lock:
            if loop.time() - begun > LOCKED:
                self._stale_lock = lock
            await asyncio.sleep(REST / 2)
        count, begun = 0, loop.time()
        while len(self._paths) > max(count, BURST) and loop.time() - begun < LONGEST:
            count = len(self._paths)
            await asyncio.sleep(REST)

    # ---- watching

    async def _watch(self, path: str, deep: bool) -> None:
        """Watches a folder; nothing, where there is none."""
        if (path, deep) in self._pumps or (path, True) in self._pumps:
            return
        if (opened := await self._open(path, deep)) is not None:
            pump = asyncio.create_task(self._pump(path, deep, *opened), name=f"watch {path}")
            self._pumps[path, deep] = pump

    async def _open(self, path: str, deep: bool) -> tuple[Any, Any] | None:
        options = {"recursive": deep, "debounce": None}
        try:
            stream, end = await self._fsx.watching.watch(self._all, path.lstrip("/") or ".", options)
        except Err as error:
            if (problem := _problem(path, error)) is not None:
                raise problem from None
            return None
        return stream, end

    async def _pump(self, at: str, deep: bool, stream: Any, end: Any) -> None:
        """Takes what a watch tells, until its folder is gone."""
        try:
            while events := await stream.read(_READ):
                new = self._take(events)
                if self._paths or self._everything:
                    self._awake.set()
                if new:
                    await self._grow(new, deep)
            self._pumps.pop((at, deep), None)
            await self._ended(at, deep, end)
        except LoadError as error:
            self._error = error
            self._awake.set()
        finally:
            await stream.aclose()

    def _take(self, events: Iterable[Any]) -> set[str]:
        """Notes what has changed; returns what is new."""
        new: set[str] = set()
        for event in events:
            if event.case == "overflow":
                self._everything = True
                continue
            path = f"/{event.value.new if event.case == 'renamed' else event.value}"
            self._add(path)
            if event.case in ("created", "renamed"):
                new.add(path)
            if event.case == "renamed":
                self._add(f"/{event.value.old}")
        return new

    async def _ended(self, at: str, deep: bool, end: Any) -> None:
        try:
            await end
        except Err as error:
            if (problem := _problem(at, error)) is not None:
                raise problem from None
        if at == self._root:
            self._awake.set()
        elif os.path.isdir(at):
            # it was moved away, or removed, and made again
            await self._watch(at, deep)
            self._paths |= {at, *(path for path in self._outside if below(path, at))}
            self._awake.set()

    def _add(self, path: str) -> None:
        if path in self._outputs:
            return
        if path not in self._named and is_never(os.path.basename(path)):
            return
        if self._is_aside(path) and not any(below(path, named) for named in self._outside):
            return
        self._paths.add(path)

    async def _grow(self, new: set[str], deep: bool) -> None:
        """Watches what is new and not covered: folders in one that is watched alone, and where links lead out."""
        if self._outside and (led := {path for path in self._outside if any(below(path, at) for at in new)}):
            await self._aside(led)
        if led := self._led_to(path for path in new if os.path.islink(path)):
            await self._aside(led)
        if deep:
            return
        for path in new:
            inside = below(path, self._root) and os.path.basename(path) not in _HEAVY
            if inside and os.path.isdir(path) and not os.path.islink(path):
                await self._watch(path, True)
                self._paths.add(path)
                self._awake.set()

    def _led_to(self, links: Iterable[str]) -> set[str]:
        """The files outside to which links lead; they are told of too."""
        led = {os.path.realpath(link) for link in links}
        led = {path for path in led if self._is_aside(path) and os.path.isfile(path)}
        self._outside |= led
        return led

    async def _aside(self, paths: Iterable[str]) -> None:
        """Watches what lies elsewhere: folders with all below, files by the folder that they are in."""
        for path in sorted(paths):
            real = os.path.realpath(path)
            if real != path:
                self._outside.add(real)
            if os.path.isdir(real):
                try:
                    await self._watch(real, True)
                except LoadError as error:
                    if path not in self._optional:
                        raise
                    _log.warning(
                        "changes of what pages show are not seen: %s; `assets` says what it is", error
                    )
                if not os.path.islink(path):
                    self._paths.add(path)
            at = os.path.dirname(real)
            while not os.path.isdir(at):
                at = os.path.dirname(at)
            await self._watch(at, False)


def _problem(path: str, error: Err[Any]) -> LoadError | None:
    """What to tell of a watch that cannot be; None where there is only nothing to watch."""
    case = getattr(error.value, "case", "")
    if case in ("no-entry", "not-directory", "access", "loop"):
        return None
    if case == "quota":
        why = "this user watches as much as the system allows; raise fs.inotify.max_user_watches or max_user_instances"
    elif case == "unsupported":
        why = "this system does not tell of changes; Linux does"
    else:
        why = str(error)
    return LoadError(f"cannot watch {path}: {why}")


def _lock_of(top: Path) -> Path | None:
    """The file that is there while git changes the working tree."""
    git = top / ".git"
    try:
        if git.is_file():
            said = git.read_text().partition("gitdir:")[2].strip()
            git = top / said
        return git / "index.lock" if git.is_dir() else None
    except (OSError, ValueError):
        return None


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _locked(lock: Path | None) -> tuple[int, int] | None:
    if lock is None:
        return None
    try:
        found = os.stat(lock)
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
