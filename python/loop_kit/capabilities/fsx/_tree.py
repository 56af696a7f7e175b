"""Whole trees: removed and copied.

From open directories and never through a link, so that nothing that is swapped meanwhile leads out; and without
recursion, since a tree may be deeper than a stack.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from loop_kit._types import Err
from loop_kit.capabilities.fsx._beneath import Beneath, Handle, name_of, open_directory, open_new, regular
from loop_kit.capabilities.fsx._quota import ONE, Count, count_of

__all__ = ["Copied", "copy_bytes", "copy_tree", "leads_out", "remove_tree", "write_all"]

# Directories that are open at once: what is deeper is brought up before it is removed.
_MAX_OPEN = 64
# Deeper trees are not copied.
_MAX_DEPTH = 256
# What a directory that is brought up is called until it is removed.
_RAISED = b".loop-fsx-raised-"
_CHUNK = 1 << 20


def remove_tree(within: Handle, name: str, gone: Callable[[Count], None]) -> None:
    """Removes what is called `name` with all that is in it, and tells of each thing that is gone.

    Raises:
        OSError: Something cannot be removed.
    """
    meta = os.stat(name, dir_fd=within.fd, follow_symlinks=False)
    if not stat.S_ISDIR(meta.st_mode):
        os.unlink(name, dir_fd=within.fd)
        gone(count_of(meta))
        return
    top = open_directory(os.fsencode(name), within)
    levels = [(top, os.fsencode(name), _names(top))]
    while levels:
        at, own, names = levels[-1]
        if names:
            _remove_one(levels, at, names.pop(), gone)
            continue
        if len(levels) == 1 and (raised := [n for n in _names(top) if n.startswith(_RAISED)]):
            names.extend(raised)
            continue
        levels.pop()
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(own, dir_fd=levels[-1][0].fd if levels else within.fd)
            gone(ONE)


def _remove_one(
    levels: list[tuple[Handle, bytes, list[bytes]]], at: Handle, name: bytes, gone: Callable[[Count], None]
) -> None:
    try:
        meta = os.stat(name, dir_fd=at.fd, follow_symlinks=False)
        if not stat.S_ISDIR(meta.st_mode):
            os.unlink(name, dir_fd=at.fd)
            gone(count_of(meta))
        elif len(levels) < _MAX_OPEN:
            below = open_directory(name, at)
            levels.append((below, name, _names(below)))
        else:
            top = levels[0][0]
            os.rename(name, _RAISED + os.urandom(8).hex().encode(), src_dir_fd=at.fd, dst_dir_fd=top.fd)
    except FileNotFoundError:
        pass  # removed meanwhile


def _names(directory: Handle) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(directory.fd)]


@dataclass(slots=True)
class Copied:
    """What copying a tree did.

    Attributes:
        entries: Files, directories and links that were made.
        bytes: Bytes of the files.
        left_out: What was not copied.
    """

    entries: int = 0
    bytes: int = 0
    left_out: int = 0


def copy_tree(
    source: Beneath, path: str, within: Handle, name: str, links: bool, take: Callable[[Count], None]
) -> Copied:
    """Copies all that is in a directory into a new one.

    Args:
        source: The root that it is in.
        path: The directory.
        within: Where the copy will be.
        name: What it will be called there.
        links: Whether links are copied, as long as they stay in the tree.
        take: Is asked before anything is made.

    Raises:
        Err: It is nested too deep.
        OSError: Something cannot be read or made.
    """
    copied = Copied()
    top = source.open_list(path)
    made = _make(within, name, take)
    copied.entries += 1
    own = os.fstat(made.fd)
    levels = [(top, made, _names(top))]
    while levels:
        at, to, names = levels[-1]
        if not names:
            levels.pop()
            continue
        raw = names.pop()
        text = name_of(os.fsdecode(raw))
        try:
            meta = os.stat(raw, dir_fd=at.fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if text is None:
            copied.left_out += 1
        elif stat.S_ISREG(meta.st_mode):
            copied.bytes += _copy_file(at, to, raw, take)
            copied.entries += 1
        elif stat.S_ISDIR(meta.st_mode):
            if (meta.st_dev, meta.st_ino) == (own.st_dev, own.st_ino):
                continue  # a copy within its own source must not copy itself
            if len(levels) == _MAX_DEPTH:
                raise Err("name-too-long")
            below = open_directory(raw, at)
            levels.append((below, _make(to, text, take), _names(below)))
            copied.entries += 1
        elif stat.S_ISLNK(meta.st_mode) and links and _copy_link(at, to, text, len(levels) - 1, take):
            copied.entries += 1
        else:
            copied.left_out += 1
    return copied


def _make(within: Handle, name: str, take: Callable[[Count], None]) -> Handle:
    take(ONE)
    os.mkdir(name, dir_fd=within.fd)
    return open_directory(os.fsencode(name), within)


def _copy_file(at: Handle, to: Handle, name: bytes, take: Callable[[Count], None]) -> int:
    file = Handle(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at.fd))
    meta = os.fstat(file.fd)
    size = regular(meta)
    take(Count(size, 1))
    made = open_new(name, to)
    os.fchmod(made.fd, stat.S_IMODE(meta.st_mode))
    copy_bytes(file, made, size)
    return size


def _copy_link(at: Handle, to: Handle, name: str, depth: int, take: Callable[[Count], None]) -> bool:
    target = name_of(os.readlink(name, dir_fd=at.fd))
    if target is None or target.startswith("/") or leads_out("d/" * depth + name, target):
        return False
    take(ONE)
    os.symlink(target, name, dir_fd=to.fd)
    return True


def copy_bytes(source: Handle, to: Handle, size: int) -> None:
    """Copies so many bytes; what is missing by then reads as zeroes.

    Raises:
        OSError: They cannot be read or written.
    """
    left = size
    while left and (chunk := os.read(source.fd, min(left, _CHUNK))):
        write_all(to, chunk)
        left -= len(chunk)
    if left:
        os.ftruncate(to.fd, size)


def write_all(file: Handle, data: bytes) -> None:
    """Writes all of some bytes.

    Raises:
        OSError: They cannot be written.
    """
    view = memoryview(data)
    while view:
        written = os.write(file.fd, view)
        if not written:
            raise OSError(errno.EIO, "")
        view = view[written:]


def leads_out(path: str, target: str) -> bool:
    """Whether a link at `path` would, by the letters of both, lead above the root."""
    depth = 0
    above = path.rstrip("/").rpartition("/")[0]
    for part in (*above.split("/"), *target.split("/")):
        if part == "..":
            depth -= 1
            if depth < 0:
                return True
        elif part not in ("", "."):
            depth += 1
    return False
