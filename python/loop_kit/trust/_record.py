"""What was seen of releases, so that nobody can offer an older one as the newest."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.trust._reasons import untrusted
from loop_kit.trust._verify import Identity
from loop_kit.trust.statement import instant

__all__ = ["Seen"]

_MOST = 64 << 10


class Seen:
    """The newest release that each reference has been, in a folder that any number of processes may use at once.

    Args:
        folder: The folder; by default one in the user's state folder.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder) if folder is not None else _state() / "loop-kit" / "trust"

    def accept(self, reference: str, identity: Identity) -> None:
        """Keeps that a reference, `REGISTRY/REPOSITORY:TAG`, is this release now.

        Raises:
            Untrusted: It was a newer one, or another one of the same serial.
            PackageError: What is kept cannot be read or written.
        """
        with self._locked(reference) as path:
            kept = _read(path)
            if kept is not None:
                _compare(reference, kept, identity)
            if kept is None or kept["serial"] < identity.serial:
                made = {
                    "reference": reference,
                    "serial": identity.serial,
                    "version": identity.version,
                    "digest": identity.digest,
                    "signed": identity.signed,
                }
                _write(path, made)

    @contextmanager
    def _locked(self, reference: str) -> Iterator[Path]:
        name = hashlib.sha256(reference.encode()).hexdigest()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(self.folder / ".lock", "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield self.folder / f"{name}.json"
        except OSError as error:
            raise PackageError(
                f"{self.folder}: what was seen of releases cannot be kept: {error.strerror}"
            ) from None


def _compare(reference: str, kept: dict[str, Any], identity: Identity) -> None:
    was = f"{kept['version']}, {kept['digest']}, signed {instant(kept['signed'])}"
    hint = f"ask for the older one by its version or digest, if it is wanted, as {identity.name}@{identity.digest}"
    if identity.serial < kept["serial"]:
        raise untrusted(
            "rollback",
            f"{reference} is {identity.version} (release {identity.serial}) now, and was the newer release "
            f"{kept['serial']} ({was}) before",
            hint,
        )
    if identity.serial == kept["serial"] and identity.digest != kept["digest"]:
        raise untrusted(
            "rollback",
            f"{reference} is {identity.digest} now, and was another with the same serial, {kept['serial']} ({was})",
            "whoever signs must give each release a serial of its own",
        )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MOST))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        found = None
    if not (
        isinstance(found, dict)
        and all(type(found.get(name)) is int for name in ("serial", "signed"))
        and all(type(found.get(name)) is str for name in ("version", "digest"))
    ):
        damaged = PackageError(f"{path}: it does not say which release was seen")
        damaged.hint = "remove the file, if you know what happened: older releases could be taken once again"
        raise damaged
    return found


def _write(path: Path, value: dict[str, Any]) -> None:
    """Puts it there in one step, so that a process that is killed leaves the old or the new."""
    file, made = tempfile.mkstemp(dir=path.parent)
    try:
        with open(file, "w", encoding="utf-8") as text:
            json.dump(value, text, indent=2)
            text.write("\n")
            text.flush()
            os.fsync(text.fileno())
        os.replace(made, path)
    except BaseException:
        os.unlink(made)
        raise


def _state() -> Path:
    given = os.environ.get("XDG_STATE_HOME", "")
    return Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
