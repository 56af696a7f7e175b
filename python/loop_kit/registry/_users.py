"""Who may read and write: a file of users, one in each line, `NAME:RIGHTS:HASH`.

RIGHTS is `read` or `write`, which lets read too; HASH is scrypt's. It is read anew when it changes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loop_kit.errors import PackageError
from loop_kit.registry._answers import Refused
from loop_kit.store._folder import put

__all__ = ["Rights", "Users"]

Rights = Literal["read", "write"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASH = re.compile(r"\$scrypt\$ln=([0-9]{1,2}),r=8,p=1\$([A-Za-z0-9+/]{22})\$([A-Za-z0-9+/]{43})")
_COST = 14
"""Of a new hash: 16 MiB, and about 50 ms."""
_COSTS = range(10, 18)
_MOST_BYTES = 1 << 20
_MOST_PASSWORD = 1024
_AT_ONCE = 2
_WAITING = 16
"""Hashes that are made at once, and that wait for it."""
_FAILURES = 10
_WITHIN = 60.0
"""How often a client may fail within so many seconds."""
_MOST_CLIENTS = 4096


@dataclass(frozen=True, slots=True)
class _User:
    rights: Rights
    cost: int
    salt: bytes
    key: bytes

    def line(self, name: str) -> str:
        return f"{name}:{self.rights}:$scrypt$ln={self.cost},r=8,p=1${_text(self.salt)}${_text(self.key)}\n"

    def is_right(self, password: bytes) -> bool:
        return hmac.compare_digest(_scrypt(password, self.salt, self.cost), self.key)


_NOBODY = _User("read", _COST, b"\0" * 16, b"\0" * 32)
"""Is asked where there is no such user, so that it takes as long."""


class Users:
    """The users of a registry.

    A password is hashed once, and then known by a digest that only this process can make. Hashes are made few at a time,
    and a client that fails too often waits: somebody who guesses costs others nothing.

    Args:
        path: Their file.

    Raises:
        PackageError: It is not there, is malformed, or others may write to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._secret = secrets.token_bytes(32)
        self._known: dict[str, bytes] = {}
        self._asked: dict[bytes, asyncio.Task[Rights | None]] = {}
        self._failed: OrderedDict[str, list[float]] = OrderedDict()
        self._hashing = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._signature: tuple[int, ...] = ()
        self._users: dict[str, _User] = {}
        self._load()

    def _load(self) -> None:
        try:
            found = self.path.stat()
            signature = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if signature == self._signature:
                return
            self._users = _read(self.path)
        except OSError as error:
            raise _wrong(self.path, error.strerror or str(error)) from None
        self._signature = signature
        self._known.clear()

    async def rights(self, name: str, password: str, client: str) -> Rights | None:
        """What a user may do; None, if it is none, or the password is another.

        Args:
            name: The user's.
            password: The password.
            client: Who says so, by its address.

        Raises:
            Refused: The client has failed too often, or too many ask at once.
            PackageError: The file is not what it should be any more.
        """
        self._load()
        user = self._users.get(name)
        seen = hmac.digest(self._secret, f"{name}\0{password}".encode("utf-8", "surrogateescape"), "sha256")
        if user is not None and hmac.compare_digest(self._known.get(name, b""), seen):
            return user.rights
        # whoever says the same at the same time, as for several layers, waits for one hash
        asked = self._asked.get(seen)
        if asked is None:
            asked = asyncio.create_task(self._hashed(name, user, password, seen, client))
            self._asked[seen] = asked
            asked.add_done_callback(lambda _: self._asked.pop(seen, None))
        return await asyncio.shield(asked)

    async def _hashed(
        self, name: str, user: _User | None, password: str, seen: bytes, client: str
    ) -> Rights | None:
        now = time.monotonic()
        failures = [at for at in self._failed.get(client, ()) if now - at < _WITHIN]
        if len(failures) >= _FAILURES:
            raise _too_many("this client has failed to log in too often", int(_WITHIN))
        if self._waiting >= _WAITING:
            raise _too_many("too many log in at once", 1)
        # counted before it is known, so that many at once are not more
        self._failed[client] = [*failures, now]
        self._failed.move_to_end(client)
        while len(self._failed) > _MOST_CLIENTS:
            self._failed.popitem(last=False)
        self._waiting += 1
        try:
            async with self._hashing:
                is_right = (user or _NOBODY).is_right
                right = await asyncio.to_thread(is_right, password.encode("utf-8", "surrogateescape"))
        finally:
            self._waiting -= 1
        if user is None or not right or self._users.get(name) != user:
            return None  # or the user has become another meanwhile
        with contextlib.suppress(KeyError, ValueError):
            self._failed[client].remove(now)
        self._known[name] = seen
        return user.rights

    @staticmethod
    def set(path: Path, name: str, rights: Rights, password: str) -> bool:
        """Writes a user into a file, which is made if it is not there; whether the user is new.

        Raises:
            PackageError: The name or the password does not do, or the file is malformed.
            OSError: It cannot be written.
        """
        if _NAME.fullmatch(name) is None:
            raise PackageError(f"{name!r} is not a name of a user: up to 64 letters, digits, ., _, @ and -")
        if not 0 < len(password.encode()) <= _MOST_PASSWORD or not password.isprintable():
            raise PackageError(f"a password has up to {_MOST_PASSWORD} bytes, in one line")
        users = _read(path) if path.exists() else {}
        new = name not in users
        salt = secrets.token_bytes(16)
        users[name] = _User(rights, _COST, salt, _scrypt(password.encode(), salt, _COST))
        _write(path, users)
        return new

    @staticmethod
    def remove(path: Path, name: str) -> None:
        """Takes a user out of a file.

        Raises:
            PackageError: There is none of that name, or the file is malformed.
            OSError: It cannot be written.
        """
        try:
            users = _read(path)
        except OSError as error:
            raise _wrong(path, error.strerror or str(error)) from None
        if users.pop(name, None) is None:
            raise PackageError(f"{path} has no user {name!r}")
        _write(path, users)


def _read(path: Path) -> dict[str, _User]:
    users: dict[str, _User] = {}
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _wrong(path, "others may write to it", f"chmod go-w {path}")
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise _wrong(path, f"it has more than {_MOST_BYTES} bytes")
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, rights, text = [*line.split(":", 2), "", ""][:3]
        found = _HASH.fullmatch(text.strip())
        if _NAME.fullmatch(name) is None or rights not in ("read", "write"):
            raise _wrong(path, f"line {number} is not NAME:read:HASH or NAME:write:HASH")
        if found is None or int(found[1]) not in _COSTS:
            raise _wrong(path, f"line {number} has no hash as `loop registry user` writes it")
        if name in users:
            raise _wrong(path, f"line {number} has {name} for the second time")
        users[name] = _User(
            "write" if rights == "write" else "read", int(found[1]), _bytes(found[2]), _bytes(found[3])
        )
    return users


def _write(path: Path, users: dict[str, _User]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    put(path, "".join(users[name].line(name) for name in sorted(users)).encode())


def _scrypt(password: bytes, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=1 << cost, r=8, p=1, maxmem=1 << 28, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def _too_many(message: str, seconds: int) -> Refused:
    return Refused(429, "TOOMANYREQUESTS", f"{message}: wait a little", [("retry-after", str(seconds))])


def _wrong(path: Path, problem: str, hint: str | None = None) -> PackageError:
    error = PackageError(f"{path}: {problem}")
    error.hint = hint or "`loop registry user NAME --users FILE` writes one"
    return error
