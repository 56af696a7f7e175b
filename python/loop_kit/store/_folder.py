"""Folders of the store: whose they are, and what it means when they cannot be used."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from loop_kit.errors import LoopError, PackageError

__all__ = ["check", "default", "put", "sync", "telling"]

_REMEDY = {
    errno.ENOSPC: "free some space: `loop store gc` removes what nothing needs any more",
    errno.EDQUOT: "free some space: `loop store gc` removes what nothing needs any more",
    errno.EFBIG: "files may not grow as large here: look at `ulimit -f`",
    errno.EROFS: "what is in it can still be run with --offline; XDG_DATA_HOME names the folder that it is in",
    errno.EACCES: "give it to the user that runs this, or have XDG_DATA_HOME name another folder",
    errno.EPERM: "give it to the user that runs this, or have XDG_DATA_HOME name another folder",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def default() -> Path:
    """The folder of the user's store."""
    root = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(root) / "loop-kit" / "store"


def check(folder: Path) -> bool:
    """Whether a folder of the store is there, and is what it should be.

    Raises:
        PackageError: It is a link, or somebody else could write to it.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _failed(error, folder) from None
    if stat.S_ISLNK(found.st_mode):
        raise _refused(f"{folder} is a link: whoever can change it could exchange the store", "remove it")
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(f"{folder} is no folder", "remove it, or have XDG_DATA_HOME name another place")
    if found.st_uid not in (os.geteuid(), 0):
        raise _refused(
            f"{folder} belongs to another user, {found.st_uid}",
            "have XDG_DATA_HOME name a folder of your own",
        )
    if found.st_mode & 0o022:
        raise _refused(f"others may write to {folder}", f"chmod go-w {folder}")
    return True


@contextlib.contextmanager
def telling(folder: Path) -> Iterator[None]:
    """Has what the system refuses said with the store's name and a remedy.

    Raises:
        PackageError: In the place of OSError.
    """
    try:
        yield
    except LoopError:
        raise
    except OSError as error:
        named = error.filename if isinstance(error.filename, str) else None
        inside = error.errno in _FULL if named is None else Path(named).is_relative_to(folder)
        if not inside:  # of a network, or of a file elsewhere
            raise
        raise _failed(error, folder) from error


def _failed(error: OSError, folder: Path) -> PackageError:
    named = error.filename if isinstance(error.filename, str) else os.fspath(folder)
    where = "" if named == os.fspath(folder) else f": {named}"
    return _refused(
        f"the store in {folder} cannot be used{where}: {error.strerror or error}",
        _REMEDY.get(error.errno or 0),
    )


def _refused(message: str, hint: str | None) -> PackageError:
    error = PackageError(message)
    error.hint = hint
    return error


def put(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Has a file hold bytes, at once and for good.

    Raises:
        OSError: It cannot be written; what it held is held still.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    sync(path.parent)


def sync(folder: Path) -> None:
    """Has the system keep what names a folder has."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
