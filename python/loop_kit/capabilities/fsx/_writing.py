"""The interfaces that change something, but for streams."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any

from loop_kit._types import Err
from loop_kit.capabilities.fsx._atomic import Atomic
from loop_kit.capabilities.fsx._beneath import Handle, checked, regular
from loop_kit.capabilities.fsx._dir import Dir, answers
from loop_kit.capabilities.fsx._quota import ONE, Count, count, count_of
from loop_kit.capabilities.fsx._tree import Copied, copy_bytes, copy_tree, leads_out, remove_tree, write_all

__all__ = ["Writing", "cut", "grow"]

_SIZE_MAX = (1 << 63) - 1
_SECOND = 10**9
_CHUNK = 1 << 20


class Writing:
    """`writing` and `digests`. Every method raises `Err` with an `error-code` where it fails."""

    @answers
    def write(self, dir: Dir, path: str, data: bytes) -> None:
        """Makes the file at `path` hold `data` and nothing else."""
        quota = dir.quota
        file, size = dir.beneath.open_to_write(path, 0, lambda: quota.take(ONE))
        grow(dir, file, size, len(data), data)
        cut(dir, file, size, len(data))

    @answers
    def write_new(self, dir: Dir, path: str, data: bytes) -> None:
        """Creates the file at `path` with `data` in it."""
        quota = dir.quota
        try:
            dir.beneath.stat(path)
        except FileNotFoundError:
            pass
        else:
            raise Err("exist")
        quota.take(ONE)
        try:
            file, size = dir.beneath.open_to_write(path, os.O_EXCL, lambda: None)
        except BaseException:
            quota.give(ONE)
            raise
        grow(dir, file, size, len(data), data)

    @answers
    def write_range(self, dir: Dir, path: str, offset: int, data: bytes) -> None:
        """Writes `data` from `offset` on into the file at `path`."""
        quota = dir.quota
        end = _checked(offset + len(data))
        file, size = dir.beneath.open_to_write(path, 0, lambda: quota.take(ONE))
        if data:
            grow(dir, file, size, end, data, offset)

    @answers
    def append(self, dir: Dir, path: str, data: bytes) -> None:
        """Adds `data` at the end of the file at `path`."""
        quota = dir.quota
        file, size = dir.beneath.open_to_write(path, os.O_APPEND, lambda: quota.take(ONE))
        grow(dir, file, size, size + len(data), data)

    @answers
    def write_atomic(self, dir: Dir, path: str, data: bytes, durable: bool) -> None:
        """Replaces the file at `path` in one step."""
        atomic = Atomic(dir, path)
        more = ONE + Count(len(data))
        dir.quota.take(more)
        try:
            write_all(atomic.file, data)
            atomic.commit(durable)
        except BaseException:
            dir.quota.give(more)
            raise

    @answers
    def truncate(self, dir: Dir, path: str, size: int) -> None:
        """Sets the size of the file at `path`."""
        quota = dir.quota
        _checked(size)
        file, old = dir.beneath.open_to_write(path, 0, None)
        quota.take(Count(max(size - old, 0)))
        os.ftruncate(file.fd, size)
        quota.give(Count(max(old - size, 0)))

    @answers
    def create_directory(self, dir: Dir, path: str) -> None:
        """Makes the directory at `path`."""
        _make(dir, path)

    @answers
    def create_directories(self, dir: Dir, path: str) -> None:
        """Makes the directory at `path` with all that are missing above it."""
        dir.quota.give(Count())
        checked(path)
        done = 0
        while done <= len(path.rstrip("/")):
            end = path.find("/", done)
            end = len(path) if end < 0 else end
            part, done = path[: max(end, 1)], end + 1
            try:
                _make(dir, part)
            except FileExistsError:
                dir.beneath.directory(part)
            except Err as e:
                # what ends in dots is there or is not, and nothing makes it
                dots = e.value == "not-permitted" and part.endswith("..")
                if e.value not in ("exist", "invalid") and not dots:
                    raise
                dir.beneath.directory(part)

    @answers
    def rename(self, dir: Dir, path: str, to_dir: Dir, to: str) -> None:
        """Gives what is at `path` the name `to` in `to_dir`."""
        quota, to_quota = dir.quota, to_dir.quota
        within, name = dir.beneath.parent(path)
        to_within, to_name = to_dir.beneath.parent(to)
        meta = _look(within, name)
        if not stat.S_ISDIR(meta.st_mode) and (path.endswith("/") or to.endswith("/")):
            raise Err("not-directory")
        try:
            replaced = _look(to_within, to_name)
        except FileNotFoundError:
            replaced = None
        if replaced is not None and _same(meta, replaced):
            replaced = None  # two names of one file, or one name: the system leaves both as they are
            moved = Count()
        elif quota is to_quota:
            moved = Count()
        elif stat.S_ISDIR(meta.st_mode):
            moved = count(dir.beneath.open_list(path)) + ONE
        else:
            moved = count_of(meta)
        to_quota.take(moved)
        try:
            os.rename(name, to_name, src_dir_fd=within.fd, dst_dir_fd=to_within.fd)
        except BaseException:
            to_quota.give(moved)
            raise
        quota.give(moved)
        if replaced is not None:
            to_quota.give(count_of(replaced))

    @answers
    def remove_file(self, dir: Dir, path: str) -> None:
        """Removes the file or the link at `path`."""
        quota = dir.quota
        within, name = dir.beneath.parent(path, file=True)
        meta = _look(within, name)
        if stat.S_ISDIR(meta.st_mode):
            raise Err("is-directory")
        os.unlink(name, dir_fd=within.fd)
        quota.give(count_of(meta))

    @answers
    def remove_directory(self, dir: Dir, path: str) -> None:
        """Removes the empty directory at `path`."""
        quota = dir.quota
        within, name = dir.beneath.parent(path)
        os.rmdir(name, dir_fd=within.fd)
        quota.give(ONE)

    @answers
    def remove_tree(self, dir: Dir, path: str) -> None:
        """Removes what is at `path` with all that is in it."""
        quota = dir.quota
        within, name = dir.beneath.parent(path)
        if path.endswith("/") and not stat.S_ISDIR(_look(within, name).st_mode):
            raise Err("not-directory")
        remove_tree(within, name, quota.give)

    @answers
    def copy(self, dir: Dir, path: str, to_dir: Dir, to: str) -> int:
        """Copies the file at `path` to `to` in `to_dir`; the bytes copied."""
        quota = to_dir.quota
        source, _ = dir.beneath.open_file(path)
        file, old = to_dir.beneath.open_to_write(to, 0, lambda: quota.take(ONE))
        meta = os.fstat(source.fd)
        if _same(meta, os.fstat(file.fd)):
            raise Err("invalid")
        quota.take(Count(max(meta.st_size - old, 0)))
        copy_bytes(source, file, meta.st_size)
        cut(to_dir, file, old, meta.st_size)
        return meta.st_size

    @answers
    def copy_tree(self, dir: Dir, path: str, to_dir: Dir, to: str) -> Copied:
        """Copies the directory at `path` with all that is in it to `to`."""
        quota = to_dir.quota
        within, name = to_dir.beneath.parent(to)
        return copy_tree(dir.beneath, path, within, name, to_dir.makes_links, quota.take)

    @answers
    def symlink(self, dir: Dir, target: str, path: str) -> None:
        """Makes a symbolic link at `path` that points to `target`."""
        quota = dir.quota
        if not dir.makes_links:
            raise Err("not-permitted")
        if not target or "\0" in target:
            raise Err("invalid")
        within, name = dir.beneath.parent(path, file=True)
        # whoever else follows links below this root is not confined as we are
        if target.startswith("/") or leads_out(path, target):
            raise Err("not-permitted")
        quota.take(ONE)
        try:
            os.symlink(target, name, dir_fd=within.fd)
        except BaseException:
            quota.give(ONE)
            raise

    @answers
    def link(self, dir: Dir, path: str, to_dir: Dir, to: str) -> None:
        """Gives the file at `path` a second name, `to` in `to_dir`."""
        shared = dir.quota is to_dir.quota
        within, name = dir.beneath.parent(path, file=True)
        to_within, to_name = to_dir.beneath.parent(to, file=True)
        size = regular(_look(within, name))
        more = ONE + Count(0 if shared else size)
        to_dir.quota.take(more)
        try:
            os.link(name, to_name, src_dir_fd=within.fd, dst_dir_fd=to_within.fd, follow_symlinks=False)
        except BaseException:
            to_dir.quota.give(more)
            raise
        if stat.S_ISLNK(_look(to_within, to_name).st_mode):  # it was swapped meanwhile
            os.unlink(to_name, dir_fd=to_within.fd)
            raise Err("unsupported")

    @answers
    def set_times(self, dir: Dir, path: str, accessed: Any, modified: Any) -> None:
        """Sets when what is at `path` was read and changed last."""
        dir.quota.give(Count())
        within, name = dir.beneath.reach(path)
        meta = os.stat(name, dir_fd=within.fd, follow_symlinks=False)
        if not stat.S_ISREG(meta.st_mode) and not stat.S_ISDIR(meta.st_mode):
            raise Err("unsupported")
        times = (_time(accessed, meta.st_atime_ns), _time(modified, meta.st_mtime_ns))
        os.utime(name, ns=times, dir_fd=within.fd, follow_symlinks=False)

    @answers
    def digest(self, dir: Dir, path: str, algorithm: Any) -> bytes:
        """The SHA-256 of the file at `path`; BLAKE3 is not in the standard library: `unsupported`."""
        file, _ = dir.beneath.open_file(path)
        if algorithm.name.lower() != "sha256":
            raise Err("unsupported")
        hasher = hashlib.sha256()
        while chunk := os.read(file.fd, _CHUNK):
            hasher.update(chunk)
        return hasher.digest()


def grow(dir: Dir, file: Handle, size: int, end: int, data: bytes, offset: int | None = None) -> None:
    """Writes what makes a file of `size` bytes one of `end`, if that is more.

    Raises:
        Err: `quota`.
        OSError: It cannot be written.
    """
    more = Count(max(end - size, 0))
    dir.quota.take(more)
    try:
        if offset is not None:
            os.lseek(file.fd, offset, os.SEEK_SET)
        write_all(file, data)
    except OSError:
        got = os.fstat(file.fd).st_size
        dir.quota.give(more - Count(max(got - size, 0)))
        raise


def cut(dir: Dir, file: Handle, size: int, end: int) -> None:
    """Lets go of what a file of `size` bytes has after `end`.

    Raises:
        OSError: It cannot be cut.
    """
    if end < size:
        os.ftruncate(file.fd, end)
        dir.quota.give(Count(size - end))


def _make(dir: Dir, path: str) -> None:
    quota = dir.quota
    try:
        within, name = dir.beneath.parent(path)
    except Err as e:
        if e.value == "invalid" and path and "\0" not in path:
            dir.beneath.directory(path)
            raise Err("exist") from None  # the root itself, however it is written
        raise
    quota.take(ONE)
    try:
        os.mkdir(name, dir_fd=within.fd)
    except BaseException:
        quota.give(ONE)
        raise


def _look(within: Handle, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=within.fd, follow_symlinks=False)


def _same(a: os.stat_result, b: os.stat_result) -> bool:
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def _checked(end: int) -> int:
    if end > _SIZE_MAX:
        raise Err("file-too-large")
    return end


def _time(instant: Any, there: int) -> int:
    """Nanoseconds since 1970 of an `instant`; where there is none, what is there already."""
    if instant is None:
        return there
    if instant.nanoseconds >= _SECOND:
        raise Err("invalid")
    return int(instant.seconds) * _SECOND + int(instant.nanoseconds)
