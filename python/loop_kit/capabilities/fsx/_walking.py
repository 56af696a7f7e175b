"""A walk as a stream of folders."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from loop_kit._types import Err, Ok
from loop_kit.capabilities._settled import Settled
from loop_kit.capabilities.fsx._beneath import PATH_MAX, Beneath, Handle, code_of, open_directory
from loop_kit.capabilities.fsx._pattern import Pattern, State
from loop_kit.capabilities.fsx._walk import LEFT_OUT, named

__all__ = ["Folder", "Walking"]

# Names that are looked for at once.
_BATCH = 2048


@dataclass(slots=True)
class Folder:
    """What was found in one directory.

    Attributes:
        path: The directory, from the root on.
        files: Regular files.
        directories: Directories.
        links: Symbolic links.
        others: Devices, pipes and sockets.
    """

    path: str
    files: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.files or self.directories or self.links or self.others)


class _Globs:
    """Patterns, the last of which that matches decides."""

    def __init__(self, globs: Sequence[str]) -> None:
        if "!" in globs:
            raise Err("invalid")
        self._patterns = [(Pattern(glob.removeprefix("!")), not glob.startswith("!")) for glob in globs]
        self._unmatched = all(glob.startswith("!") for glob in globs)

    def finds(self, path: str) -> bool:
        """Whether they find the file at `path`."""
        for pattern, takes in reversed(self._patterns):
            state: State = pattern.step(pattern.start, path.encode())
            if state.accepts:
                return takes
        return self._unmatched


class Walking(Settled):
    """The folders below a directory: an async iterator. Each step waits on a thread, not on the loop.

    Args:
        beneath: The root.
        path: The directory.
        options: The record `walk-options`.

    Raises:
        Err: It leads out, a pattern is none, or `.gitignore` files should be obeyed, which the standard library cannot.
        OSError: It cannot be opened.
    """

    def __init__(self, beneath: Beneath, path: str, options: Any) -> None:
        super().__init__()
        if options.gitignore:
            raise Err("unsupported")
        self._globs = _Globs(options.globs) if options.globs else None
        self._batch: list[Folder] = []
        self._hidden = options.hidden
        self._max_depth = options.max_depth
        shown = "/".join(part for part in path.split("/") if part not in ("", "."))
        self._found = self._walk(beneath.open_list(path), shown)

    def __aiter__(self) -> Walking:
        return self

    async def __anext__(self) -> Folder:
        if not self._batch:
            try:
                self._batch = await asyncio.to_thread(self._next)
            except OSError as e:
                self.settle(code_of(e))
        if not self._batch:
            self.settle(Ok(None))
            raise StopAsyncIteration
        return self._batch.pop(0)

    def _next(self) -> list[Folder]:
        batch: list[Folder] = []
        names = 0
        for folder in self._found:
            batch.append(folder)
            names += 1 + len(folder.files)
            if names >= _BATCH:
                break
        return batch

    def _walk(self, top: Handle, shown: str) -> Iterator[Folder]:
        waiting: list[tuple[Handle, bytes, str, int]] = [(top, b".", shown, 0)]
        while waiting:
            parent, own, path, depth = waiting.pop()
            try:
                # from the open parent and never through a link: a swap meanwhile cannot lead out
                directory = open_directory(own, parent)
                folder = self._look(directory, path, depth, waiting)
            except OSError as e:
                if code_of(e).value not in LEFT_OUT:
                    raise
                continue
            if folder or self._globs is None:
                yield folder

    def _look(
        self, directory: Handle, path: str, depth: int, waiting: list[tuple[Handle, bytes, str, int]]
    ) -> Folder:
        folder = Folder(path or ".")
        above = f"{path}/" if path else ""
        for name, entry in named(directory):
            if name.startswith(".") and not self._hidden:
                continue
            if entry.is_dir(follow_symlinks=False):
                if self._globs is None:
                    folder.directories.append(name)
                deeper = self._max_depth is None or depth < self._max_depth
                if deeper and len(below := above + name) <= PATH_MAX:
                    waiting.append((directory, name.encode(), below, depth + 1))
            elif entry.is_file(follow_symlinks=False):
                if self._globs is None or self._globs.finds(above + name):
                    folder.files.append(name)
            elif self._globs is None:
                (folder.links if entry.is_symlink() else folder.others).append(name)
        return folder
