"""The token that opens the page, kept so that a page which is open comes back after the host was started again."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from pathlib import Path

__all__ = ["token_of"]


def token_of(address: str) -> str:
    """The token of an address; a new one where there is none, or where somebody else could have read it.

    Raises:
        OSError: It cannot be kept.
    """
    if address.endswith(":0"):
        return secrets.token_urlsafe(32)
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "loop-kit" / "page"
    path = folder / (address.replace(":", "_").strip("[]") + ".token")
    kept = _read(path)
    if kept is None:
        kept = secrets.token_urlsafe(32)
        _write(path, kept)
    return kept


def _read(path: Path) -> str | None:
    """What is kept there, if only its owner, who is this user, can have read or written it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with open(file, encoding="ascii") as text:
        is_own = os.fstat(file)
        if not stat.S_ISREG(is_own.st_mode) or is_own.st_uid != os.getuid() or is_own.st_mode & 0o077:
            return None
        token = text.read(100)
    return token if len(token) >= 43 and token.isascii() else None


def _write(path: Path, token: str) -> None:
    """Puts it there in one step, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file, made = tempfile.mkstemp(dir=path.parent)  # its owner's alone
    try:
        with open(file, "w", encoding="ascii") as text:
            text.write(token)
        os.replace(made, path)
    except BaseException:
        os.unlink(made)
        raise
