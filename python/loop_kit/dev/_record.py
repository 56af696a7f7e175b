"""Which host runs a workspace: a file for each, which only its user can read, and that outlives a host that was killed.

A record alone proves nothing: the host is the process of that number that also began when the record says, and it
answers with the record's instance. Beside it lies a file that the host holds locked for as long as it lives, so that
two cannot run one workspace.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_kit.errors import LoopError

__all__ = [
    "Claim",
    "Record",
    "Running",
    "alive",
    "begun",
    "claim",
    "find",
    "folder",
    "forget",
    "log_of",
    "records",
]

_FORMAT = 1
_PATIENCE, _PAUSE = 1.0, 0.01


@dataclass(frozen=True, slots=True)
class Record:
    """What a host tells of itself to those who look for it.

    Attributes:
        instance: Names this run; it answers with it.
        pid: Its process.
        begun: When that process began, as the system counts: no other process of this number has the same.
        address: Where its control plane listens: `unix:/…`.
        manifest: The `loop.toml` that it runs.
        name: The workspace's.
        since: When it began, in seconds since 1970.
        log: Where it logs to.
        detached: Whether it runs without a terminal.
        version: Of loop-kit.
    """

    instance: str
    pid: int
    begun: str
    address: str
    manifest: Path
    name: str
    since: float
    log: Path
    detached: bool
    version: str


class Running(LoopError):
    """A workspace runs already.

    Attributes:
        record: The host that runs it; None where it is just beginning.
    """

    def __init__(self, record: Record | None, manifest: Path) -> None:
        who = "" if record is None else f" (process {record.pid})"
        super().__init__(f"{manifest.parent}: the workspace runs already{who}")
        self.hint = "`loop ps` shows it, and `loop down` ends it"
        self.record = record


def folder() -> Path:
    """The user's own folder for records; it is made where there is none.

    It lies in XDG_RUNTIME_DIR, or else in the state folder. Nobody else can look into it.

    Raises:
        LoopError: It is somebody else's, or others can open it.
    """
    return _private(_runtime() or _state() / "run")


def records() -> list[Record]:
    """All records, by manifest, also of hosts that are gone; those of another format are passed over."""
    found = filter(None, map(_read, folder().glob("*.json")))
    return sorted(found, key=lambda record: str(record.manifest))


def find(manifest: Path) -> Record | None:
    """The record of a workspace, also of a host that is gone."""
    return _read(folder() / f"{_key(manifest)}.json")


def forget(record: Record) -> bool:
    """Removes the record of a host that is gone, and its socket; False where another runs the workspace by now."""
    try:
        claim(record.manifest).release()  # which removes what it finds
    except Running:
        return False
    return True


def alive(record: Record) -> bool:
    """Whether the host lives: its process is there, and is no later one of the same number."""
    return begun(record.pid) == record.begun


def begun(pid: int) -> str | None:
    """When a process began, as text that no other process of this number has; None: there is none, or a dead one."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    # the state is the third field of the file, the time the 22nd
    return None if fields[0] in (b"Z", b"X") else f"{boot}/{fields[19].decode()}"


class Claim:
    """A workspace that this process alone may run, until it is released or the process ends."""

    def __init__(self, manifest: Path, descriptor: int) -> None:
        self.manifest = manifest
        self._descriptor = descriptor
        self._written: Record | None = None

    def write(self, record: Record) -> None:
        """Tells others of this host."""
        path = folder() / f"{_key(self.manifest)}.json"
        fields = dataclasses.asdict(record) | {"format": _FORMAT}
        fresh = path.with_suffix(f".{record.instance}")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(fields, file, default=str)
        os.replace(fresh, path)
        self._written = record

    def release(self) -> None:
        """Lets go of it: this host has ended in good order. Again is harmless."""
        if self._written is not None:
            (folder() / f"{_key(self.manifest)}.json").unlink(missing_ok=True)
            self._written = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def claim(manifest: Path) -> Claim:
    """Takes a workspace for this process; what a host that was killed has left of it is removed.

    Raises:
        Running: Another host runs it.
        LoopError: The folder for records cannot be used.
    """
    path = folder() / f"{_key(manifest)}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, manifest)
    except BaseException:
        os.close(descriptor)
        raise
    left = find(manifest)
    if left is not None:
        _remove_socket(left.address)
        (folder() / f"{_key(manifest)}.json").unlink(missing_ok=True)
    return Claim(manifest, descriptor)


def _lock(descriptor: int, manifest: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            # whoever has it writes its record at once, or only looks whether anybody has it
            record = find(manifest)
            lives = record is not None and alive(record)
            if lives or time.monotonic() > end:
                raise Running(record if lives else None, manifest) from None
            time.sleep(_PAUSE)


def _read(path: Path) -> Record | None:
    try:
        fields: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if fields.pop("format") != _FORMAT:
            return None
        return Record(**fields | {"manifest": Path(fields["manifest"]), "log": Path(fields["log"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _key(manifest: Path) -> str:
    """Names a workspace's files: its folder, for people, and a digest of the whole path."""
    real = Path(manifest).resolve()
    short = re.sub(r"[^A-Za-z0-9_-]+", "-", real.parent.name)[:32].strip("-")
    return f"{short or 'workspace'}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}"


def log_of(manifest: Path) -> Path:
    """Where the host of a workspace logs to."""
    return _private(_state() / "log") / f"{_key(manifest)}.log"


def socket_of(manifest: Path) -> Path:
    """Where the host of a workspace is spoken with."""
    return folder() / f"{_key(manifest)}.sock"


def _remove_socket(address: str) -> None:
    """Removes a socket of a host that is gone, with the folder that it may have had for itself."""
    path = Path(address.removeprefix("unix:"))
    path.unlink(missing_ok=True)
    if path.parent.name.startswith("loop-") and path.parent != folder():
        shutil.rmtree(path.parent, ignore_errors=True)


def _runtime() -> Path | None:
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    try:
        found = os.stat(given)
    except OSError:
        return None
    if not os.path.isabs(given) or found.st_uid != os.getuid() or found.st_mode & stat.S_IWOTH:
        return None
    return Path(given) / "loop-kit"


def _state() -> Path:
    given = os.environ.get("XDG_STATE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state") / "loop-kit"


def _private(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise LoopError(f"{path}: cannot be made: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise LoopError(f"{path}: is not this user's own folder")
    if found.st_mode & 0o077:
        raise LoopError(f"{path}: others can open it; `chmod 700 {path}` makes it yours alone")
    return path
