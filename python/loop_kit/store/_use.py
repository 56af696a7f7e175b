"""Who uses the store: what a process reads, or has just fetched, is not removed under its hands.

A user has a file that lists the digests it needs, and holds its lock for as long as it lives: the system takes it from
one that is killed. A digest is listed under the store's lock, shared; what removes has that lock for itself alone, and
reads all lists. So what was not listed in time is gone before it is looked at, and is fetched anew.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TextIO

from loop_kit._alone import locked_alone
from loop_kit.errors import PackageError
from loop_kit.oci.blobs import Blobs, is_digest

__all__ = ["Use", "alone", "ensure", "held", "shared"]

_LOCK = "lock"
USERS = "users"
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_TELL = 1.0
"""Seconds until somebody is told that there is something to wait for."""


def ensure(folder: Path) -> None:
    """Makes a folder that only its owner can look into, with those above it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextlib.contextmanager
def shared(store: Path) -> Iterator[None]:
    """Keeps things from being removed meanwhile; for moments, and for whoever only reads."""
    with _open(store) as fd:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def alone(store: Path, tell: Callable[[str], object]) -> Iterator[None]:
    """Keeps everybody else from listing what they use meanwhile."""
    with _open(store) as fd:
        words = "waiting for a process that checks the store, or cleans it up …"
        locked_alone(fd, lambda: tell(words), _TELL)
        yield


@contextlib.contextmanager
def _open(store: Path) -> Iterator[int]:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(store / _LOCK, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        fd = os.open(store / _LOCK, os.O_RDONLY | flags)  # a lock may well be held on what cannot be written
    try:
        yield fd
    finally:
        os.close(fd)


def held(store: Path, *, tidy: bool) -> set[str]:
    """What living users need. `tidy` removes the files of those that were killed; only with the lock for oneself."""
    found: set[str] = set()
    for path, file in _users(store):
        if file is not None:
            found |= {line for line in file.read().split("\n") if is_digest(line)}
        elif tidy:
            path.unlink(missing_ok=True)
    return found


def living(store: Path) -> set[str]:
    """The names of the users that live."""
    return {path.name for path, file in _users(store) if file is not None}


def _users(store: Path) -> Iterator[tuple[Path, TextIO | None]]:
    """The files of users, in order, each open where its user lives."""
    try:
        names = sorted(os.listdir(store / USERS))
    except FileNotFoundError:
        return
    for name in names:
        path = store / USERS / name
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(fd, encoding="ascii", errors="replace") as file:
                lives = False
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    lives = True
                yield path, file if lives else None


class Use:
    """A process that uses the store, as a context manager. Made by `Store.use`.

    What only reads may do so in a store that cannot be written: nobody can remove anything there either.

    Attributes:
        blobs: The store's; whatever is asked of it by its digest stays as long as this.
        name: Its own, which no other user has.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._fd: int | None = None
        self._known: set[str] = set()
        self._guard = threading.Lock()
        self.name = f"{os.getpid()}-{secrets.token_hex(8)}"
        self.blobs: Blobs = _Held(self, store)

    def __enter__(self) -> Use:
        try:
            with shared(self._store):
                ensure(self._store / USERS)
                path = self._store / USERS / self.name
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
                self._fd = os.open(path, flags, 0o600)
                fcntl.flock(self._fd, fcntl.LOCK_EX)
        except FileNotFoundError:
            pass  # there is no store yet
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._store / USERS / self.name)
            os.close(self._fd)
            self._fd = None

    def hold(self, digest: str) -> None:
        """Has something stay while this lasts, whether it is there already or not.

        Raises:
            PackageError: It is no digest.
            OSError: That cannot be written down.
        """
        if not is_digest(digest):
            raise PackageError(f"{digest!r} is not a digest")
        with self._guard:
            if self._fd is None or digest in self._known:
                return
            with shared(self._store):
                line = f"{digest}\n".encode()
                if os.write(self._fd, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._store))
            self._known.add(digest)


class _Held(Blobs):
    """Blobs of which those that are asked for stay."""

    def __init__(self, use: Use, folder: Path) -> None:
        super().__init__(folder)
        self._use = use

    def path(self, digest: str) -> Path:
        found = super().path(digest)
        self._use.hold(digest)
        return found
