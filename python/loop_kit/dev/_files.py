"""The files of a workspace: which there are, and their digests, read anew where they may have changed.

Times are never taken for a proof. A digest is taken again for each change that is told; where nobody was watching, a
file is only taken for unchanged if its size, inode, and both its times are what they were, and these times are
older than when it was read, by the clock of the file system itself: `ctime` cannot be set by anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_kit._types import Err
from loop_kit.exports import Exports
from loop_kit.placements.builtin import builtin, driven

__all__ = ["NEVER", "Files", "Found", "Signature", "below", "is_never", "opened", "repository"]

NEVER = frozenset((
    ".git", ".hg", ".svn", ".jj", ".loop", "node_modules", ".venv", "venv", "__pycache__", ".mypy_cache", ".ruff_cache",
    ".pytest_cache", ".hypothesis", ".tox", ".nox",
))  # fmt: skip
"""Folders in which nothing is anybody's input, unless a pattern of `sources` names them."""

_GRAIN = 30_000_000
"""Nanoseconds that a file system's times may be coarse."""

Signature = tuple[int, int, int, int]
"""Size, inode, `mtime` and `ctime`."""


def repository(folder: Path) -> Path:
    """The folder whose `.gitignore` files count: the nearest with a `.git`, at or above, or else this one."""
    return next((at for at in (folder, *folder.parents) if (at / ".git").exists()), folder)


def is_never(name: str) -> bool:
    """Whether a name is one that editors, and `loop:fsx`, give what they are about to rename or remove."""
    if name == "4913" or name[-1:] == "~":  # vim's trial whether the folder can be written, and backups
        return True
    if name[:1] == "." and (name[:2] == ".#" or name[-4:-1] == ".sw" or name.startswith(".loop-fsx-")):
        return True
    return name[:1] == "#" == name[-1:] or "___jb_" in name or name.endswith(".vsctmp")


def below(path: str, folder: str) -> bool:
    """Whether a path is a folder, or in it."""
    return path == folder or path.startswith(folder if folder[-1:] == "/" else f"{folder}/")


@dataclass
class Found:
    """What a walk has found, as absolute paths."""

    files: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)


class _Shared:
    """An open `loop:fsx`, and how many use it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.users = 0
        self.stack = contextlib.AsyncExitStack()
        self.ready: asyncio.Future[tuple[Exports, Any, Any]] = loop.create_future()


_SHARED: dict[tuple[int, Path], _Shared] = {}


@contextlib.asynccontextmanager
async def opened(top: Path) -> AsyncIterator[tuple[Exports, Any, Any]]:
    """`loop:fsx` for whoever may read everything, with its roots at `top` and at `/`; one for all of an event loop."""
    loop = asyncio.get_running_loop()
    key = id(loop), top
    shared = _SHARED.get(key)
    if shared is None:
        shared = _SHARED[key] = _Shared(loop)
        roots = {"top": {"path": top}, "all": {"path": "/"}}
        most = builtin(
            "fsx", roots=roots, max_watched=1 << 30, max_watches=256, max_streams=256, max_events=1 << 16
        )
        try:
            fsx = await shared.stack.enter_async_context(driven(most))
            shared.ready.set_result((fsx, await fsx.files.root("top"), await fsx.files.root("all")))
        except BaseException as error:
            del _SHARED[key]
            shared.ready.set_exception(error)
            shared.ready.exception()  # it need not have been waited for
            raise
    shared.users += 1
    try:
        yield await asyncio.shield(shared.ready)
    finally:
        shared.users -= 1
        if not shared.users:
            _SHARED.pop(key, None)
            await shared.stack.aclose()


class Files:
    """Walks and digests; as an async context manager.

    Args:
        folder: The workspace's.
        known: What `keep` returned last time.
    """

    def __init__(self, folder: Path, known: dict[str, tuple[Signature, str]] | None = None) -> None:
        self.folder = folder
        self.top = repository(folder)
        self._known = dict(known or {})
        self._used: dict[str, tuple[Signature, str]] = {}
        self._stack = contextlib.AsyncExitStack()
        self._fsx: Any = None
        self._blake3: Any = None
        self._real: dict[str, str] = {}
        """Where folders are that were asked for since `begin`, without the first slash."""
        self._clock = 0

    async def __aenter__(self) -> Files:
        self._fsx, self._in_top, self._in_all = await self._stack.enter_async_context(opened(self.top))
        self._blake3 = self._fsx.digests.digest
        return self

    async def __aexit__(self, *_: object) -> None:
        self._fsx = self._blake3 = self._in_top = self._in_all = (
            None  # who keeps this is not to keep folders open
        )
        await self._stack.aclose()

    def keep(self) -> dict[str, tuple[Signature, str]]:
        """What needs not be read again next time, by path."""
        return dict(self._used)

    def begin(self, mark: Path) -> None:
        """Sets the time before which a file must have changed last to be known by its signature.

        Args:
            mark: A file, or a path for one, on the file system of the workspace.
        """
        self._real.clear()
        try:
            with open(mark, "w"):
                pass
            os.utime(mark)
            self._clock = os.stat(mark).st_ctime_ns - _GRAIN
        except OSError:
            self._clock = 0  # nothing is known by its signature

    async def walk(self, folder: str, *, ignore: bool = True, deep: bool = True) -> Found:
        """What is in a folder and below, without `NEVER`; nothing, if there is no such folder.

        Args:
            folder: Absolute.
            ignore: Whether what git ignores is left out, but for the folder itself.
            deep: Whether it goes down.
        """
        inside = below(folder, str(self.top))
        base = str(self.top) if inside else "/"
        options = {
            "globs": [],
            "gitignore": ignore and inside,
            "hidden": True,
            "max_depth": None if deep else 0,
        }
        found = Found()
        path = os.path.relpath(folder, base)
        try:
            handle = self._in_top if inside else self._in_all
            folders, _ = await self._fsx.walking.walk(handle, path, options)
        except Err:
            return found
        prefix = "" if base == "/" else base
        never = self._never_below(folder)
        async with folders:
            while batch := await folders.read(256):
                for item in batch:
                    at = base if item.path == "." else f"{prefix}/{item.path}"
                    if never(at):
                        continue
                    found.folders.append(at)
                    start = "/" if at == "/" else f"{at}/"
                    found.files += [start + name for name in item.files if not is_never(name)]
                    found.links += [start + name for name in item.links if not is_never(name)]
                    if not deep:
                        found.folders += [start + name for name in item.directories if name not in NEVER]
        return found

    @staticmethod
    def _never_below(folder: str) -> Any:
        start = len(folder) + 1

        def never(at: str) -> bool:
            return not NEVER.isdisjoint(at[start:].split("/"))

        return never

    async def digest(self, path: str, *, anew: bool = False) -> str | None:
        """BLAKE3 of a file's contents, in hex; None where there is nothing.

        A link's is of what it says and of the file that it leads to; what is no file has a word in place of a digest.

        Args:
            path: Absolute.
            anew: Whether it is read even if nothing about it has changed.
        """
        try:
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode):
                return await self._of_link(path)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(found.st_mode):
            return "folder" if stat.S_ISDIR(found.st_mode) else "special"
        signature = (found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
        if not anew and (known := self._known.get(path)) is not None and known[0] == signature:
            self._used[path] = known
            return known[1]
        digest = await self._read(path)
        if digest is not None and max(signature[2:]) < self._clock:
            self._known[path] = self._used[path] = (signature, digest)
        else:
            self._known.pop(path, None)
            self._used.pop(path, None)
        return digest

    async def _of_link(self, path: str) -> str:
        said, real = os.readlink(path), os.path.realpath(path)
        if os.path.isdir(real):
            inside = below(real, str(self.folder)) and not below(path, real)
            parts = [f"{real} {await self.of_folder(real)}"] if inside else [real]
        else:
            parts = [str(await self.digest(real, anew=True)) if real != path else "loop"]
        return hashlib.blake2b("\0".join([said, *parts]).encode("utf-8", "surrogateescape")).hexdigest()[:64]

    async def of_folder(self, folder: str) -> str:
        """The digest of all files below a folder, without links."""
        found = await self.walk(folder)
        return combined([(path, await self.digest(path)) for path in sorted(found.files)])

    async def _read(self, path: str) -> str | None:
        try:
            # every folder on the way may be a link, which may not be absolute below a root
            folder, _, name = path.rpartition("/")
            real = self._real.get(folder)
            if real is None:
                real = self._real[folder] = os.path.realpath(folder or "/").strip("/")
            name = f"{real}/{name}" if real else name
            name.encode()
            return bytes(await self._blake3(self._in_all, name, "blake3")).hex()
        except Err as error:
            case = getattr(error.value, "case", "")
            return None if case in ("no-entry", "not-directory") else f"unreadable: {case}"
        except UnicodeEncodeError:
            return "unreadable: name"


def combined(items: Iterable[tuple[str, str | None]]) -> str:
    """One digest of paths with theirs."""
    whole = hashlib.blake2b(digest_size=32)
    for path, digest in items:
        whole.update(f"{path}\0{digest}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()
