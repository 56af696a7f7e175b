"""A directory, and paths that never lead out of it.

Every step of a path is taken by itself, from an open directory and never through a link, so that nothing that is
swapped meanwhile can lead out: a link is read and its target walked in the same way, and `..` goes back to the
directory that the walk came from. What needs no look at the file system is refused before any.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from loop_kit._types import Err

__all__ = [
    "PATH_MAX",
    "Beneath",
    "Handle",
    "checked",
    "code_of",
    "name_of",
    "open_directory",
    "open_new",
    "regular",
]

# As Linux has it: bytes of a path without its end, and links on the way.
PATH_MAX = 4095
_LINKS_MAX = 40

_BASE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_READ_DIRECTORY = _BASE | getattr(os, "O_DIRECTORY", 0) | os.O_RDONLY
# Passing through a directory needs no right to list it, where the system can tell these apart.
_THROUGH = _BASE | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", os.O_RDONLY)
# A pipe or a device must not keep its opener waiting, nor become its terminal.
_FILE = _BASE | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)

_CODES = {
    errno.EACCES: "access",
    errno.EPERM: "access",
    errno.EFBIG: "file-too-large",
    errno.EOVERFLOW: "file-too-large",
    errno.EINVAL: "invalid",
    errno.EILSEQ: "invalid",
    errno.EIO: "io",
    errno.EISDIR: "is-directory",
    errno.ELOOP: "loop",
    errno.ENAMETOOLONG: "name-too-long",
    errno.ENOENT: "no-entry",
    errno.ENOTDIR: "not-directory",
    errno.ENXIO: "unsupported",
    errno.ENODEV: "unsupported",
    errno.EOPNOTSUPP: "unsupported",
    errno.EBUSY: "busy",
    errno.ETXTBSY: "busy",
    errno.EXDEV: "cross-device",
    errno.EEXIST: "exist",
    errno.ENOSPC: "insufficient-space",
    errno.ENOTEMPTY: "not-empty",
    errno.EDQUOT: "quota",
    errno.EROFS: "read-only",
}


def code_of(error: OSError) -> Err[object]:
    """The `error-code` of an error of the operating system, without its path."""
    number = error.errno or 0
    return Err(_CODES.get(number) or ("other", os.strerror(number)))


def name_of(name: str) -> str | None:
    """A name in a directory as the system gave it; None where it is not UTF-8."""
    if name.isascii():
        return name
    try:
        return os.fsencode(name).decode()
    except UnicodeDecodeError:
        return None


class Handle:
    """An open file or directory, closed with its last user: also one that a thread still reads.

    Attributes:
        fd: The descriptor.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        _close(self.fd)


def open_directory(name: bytes, within: Handle) -> Handle:
    """Opens a directory to be listed; not through a link.

    Raises:
        OSError: There is none, or it may not be read.
    """
    return Handle(os.open(name, _READ_DIRECTORY, dir_fd=within.fd))


def open_new(name: str | bytes, within: Handle, mode: int = 0o666) -> Handle:
    """Creates a file to be written.

    Raises:
        OSError: There is something of this name, or it cannot be created.
    """
    return Handle(os.open(name, _FILE | os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode, dir_fd=within.fd))


class Beneath:
    """A directory of the host, opened once.

    Args:
        path: The directory; or its name, where `within` is given.
        links: Whether links that stay inside are followed.
        within: The directory that it is in, which it is opened from, not through a link.

    Raises:
        OSError: It cannot be opened.
        NotImplementedError: This system cannot open files relative to a directory, and not through links.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, links: bool = True, within: Handle | None = None
    ) -> None:
        able = {os.open, os.stat, os.readlink} <= os.supports_dir_fd and os.scandir in os.supports_fd
        if not (able and hasattr(os, "O_NOFOLLOW") and hasattr(os, "O_DIRECTORY")):
            raise NotImplementedError("loop:fsx in Python needs a POSIX system; use `builtin:fsx` here")
        self._links = links
        if within is None:
            self._root = Handle(os.open(path, _THROUGH & ~os.O_NOFOLLOW))
        else:
            self._root = Handle(os.open(path, _THROUGH, dir_fd=within.fd))

    def reach(self, path: str, *, follow: bool = True, missing: bool = False) -> tuple[Handle, bytes]:
        """Walks to what `path` names.

        Args:
            path: Relative, with `/`.
            follow: Whether a link at its very end is followed; one before a `/` always is.
            missing: Whether nothing need be at its very end.

        Returns:
            The directory that holds it, and its name there: `.` for that directory itself. With `follow` it was no
            link when it was looked at; open it so that a link is refused.

        Raises:
            Err: The path is malformed, or leads out.
            OSError: It cannot be walked.
        """
        above = [self._root]
        left = checked(path).split(b"/")[::-1]
        links = 0
        while left:
            part = left.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                above.pop()
                if not above:
                    raise Err("not-permitted")
                continue
            if left:
                through = _through(part, above[-1])
                if through is not None:
                    above.append(through)
                    continue
            elif not follow:
                return above[-1], part
            try:
                target = _link(part, above[-1])
            except FileNotFoundError:
                if left or not missing:
                    raise
                target = None
            if target is None:
                if left:
                    raise NotADirectoryError(errno.ENOTDIR, "")
                return above[-1], part
            links += 1
            if links > _LINKS_MAX or not self._links:
                raise OSError(errno.ELOOP, "")
            if target.startswith(b"/"):
                raise Err("not-permitted")
            left += target.split(b"/")[::-1]
        return above[-1], b"."

    def directory(self, path: str) -> Handle:
        """Opens a directory to pass through.

        Raises:
            Err: As `reach`.
            OSError: There is none, or it cannot be reached.
        """
        within, name = self.reach(path)
        through = _through(name, within)
        if through is None:
            raise NotADirectoryError(errno.ENOTDIR, "")
        return through

    def parent(self, path: str, *, file: bool = False) -> tuple[Handle, str]:
        """The directory that holds what `path` names, and its name there.

        Args:
            path: Relative, with `/`.
            file: Whether it is to be no directory, which a slash at the end would say.

        Raises:
            Err: As `reach`; or `path` ends in no name.
            OSError: It cannot be walked.
        """
        checked(path)
        above, _, name = path.rstrip("/").rpartition("/")
        if name == "..":
            raise Err("not-permitted")
        if name in ("", "."):
            raise Err("invalid")
        within = self.directory(above) if above else self._root
        if file and path.endswith("/"):
            meta = os.stat(name, dir_fd=within.fd, follow_symlinks=False)
            raise Err("is-directory" if stat.S_ISDIR(meta.st_mode) else "not-directory")
        return within, name

    def open_to_write(self, path: str, flags: int, create: Callable[[], None] | None) -> tuple[Handle, int]:
        """Opens a regular file to be written: the file, and its size in bytes.

        Args:
            path: Relative, with `/`.
            flags: Of `os.open`, besides those for writing.
            create: Is asked before it is created, where it is missing; None: it may not be.

        Raises:
            Err: As `reach`; or it is a directory, a device, a pipe or a socket.
            OSError: It may not be written, or there is none and it may not be created.
        """
        within, name = self.reach(path, missing=create is not None)
        try:
            regular(os.stat(name, dir_fd=within.fd, follow_symlinks=False))
        except FileNotFoundError:
            if create is None:
                raise
            if path.endswith("/"):
                raise Err("is-directory") from None
            create()
            flags |= os.O_CREAT
        file = Handle(os.open(name, _FILE | os.O_WRONLY | flags, 0o666, dir_fd=within.fd))
        return file, regular(os.fstat(file.fd))

    def read_link(self, path: str) -> str:
        """Where the link at `path` points to.

        Raises:
            Err: As `parent`; or it points to an absolute path, or to a name that is not UTF-8.
            OSError: There is no link.
        """
        within, name = self.parent(path, file=True)
        target = name_of(os.readlink(name, dir_fd=within.fd))
        if target is None:
            raise Err("invalid")
        if target.startswith("/"):
            raise Err("not-permitted")
        return target

    def stat(self, path: str) -> os.stat_result:
        """What `path` names; a link at its very end is described itself.

        Raises:
            Err: As `reach`.
            OSError: There is nothing, or it cannot be reached.
        """
        within, name = self.reach(path, follow=False)
        return os.stat(name, dir_fd=within.fd, follow_symlinks=False)

    def open_list(self, path: str) -> Handle:
        """Opens a directory to be listed.

        Raises:
            Err: As `reach`.
            OSError: There is none, or it may not be read.
        """
        within, name = self.reach(path)
        return open_directory(name, within)

    def open_file(self, path: str) -> tuple[Handle, int]:
        """Opens a regular file: the file, and its size in bytes.

        Raises:
            Err: As `reach`; or it is a directory, a device, a pipe or a socket.
            OSError: There is none, or it may not be read.
        """
        within, name = self.reach(path)
        # Opening a device can have effects of its own, so look first; and look again at what was opened.
        regular(os.stat(name, dir_fd=within.fd, follow_symlinks=False))
        file = Handle(os.open(name, _FILE | os.O_RDONLY, dir_fd=within.fd))
        return file, regular(os.fstat(file.fd))


def checked(path: str) -> bytes:
    """The bytes of a path about which nothing is wrong so far.

    Raises:
        Err: It is malformed, too long, or absolute.
    """
    if not path or "\0" in path:
        raise Err("invalid")
    if path.startswith("/"):
        raise Err("not-permitted")
    raw = path.encode()
    if len(raw) > PATH_MAX:
        raise Err("name-too-long")
    return raw


def _through(name: bytes, within: Handle) -> Handle | None:
    """A directory to pass through; None where the name is something else."""
    try:
        return Handle(os.open(name, _THROUGH, dir_fd=within.fd))
    except OSError as e:
        if e.errno in (errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _link(name: bytes, within: Handle) -> bytes | None:
    """The target of a link; None where the name is something else."""
    try:
        return os.readlink(name, dir_fd=within.fd)
    except OSError as e:
        if e.errno == errno.EINVAL:
            return None
        raise


def regular(meta: os.stat_result) -> int:
    """The size of a regular file.

    Raises:
        Err: It is something else.
    """
    if stat.S_ISREG(meta.st_mode):
        return meta.st_size
    # a link here was swapped in after the walk
    raise Err("is-directory" if stat.S_ISDIR(meta.st_mode) else "unsupported")
