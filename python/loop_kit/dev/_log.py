"""The log of a workspace: a file of JSON lines that keeps the newest, and outlives the host that wrote it.

What a detached host and its guests write to standard output and error goes to a file beside it, from which it becomes
lines of the log: nobody but the host says whose a line is.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["MOST", "Log", "Streams", "Tail", "last_words", "open_output", "shown"]

MOST = 8 << 20
"""Bytes of a file; the one before it is kept too."""
LONGEST = 8 << 10
"""Characters of a message."""
RATE = 500
"""Lines of standard output and error that are taken at once."""

_CHUNK = 1 << 20
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")

Told = Callable[[dict[str, Any], bool], object]


def shown(text: str, longest: int = LONGEST) -> str:
    """Text that no terminal obeys, cut to size."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", cut)


class Log:
    """Writes a log; from any thread.

    Args:
        path: The file; what it has already stays.
        most: Bytes, after which another file is begun.
    """

    def __init__(self, path: Path, *, most: int = MOST) -> None:
        self.path = path
        self._most = most
        self._lock = threading.Lock()
        self._fd = _appending(path)

    def line(self, line: dict[str, Any], _refusal: bool = False) -> None:
        """Adds a line, as `loop_kit.dev._sources.logged` tells it."""
        data = (json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8", "replace")
        with self._lock:
            if self._fd < 0:
                return
            if os.fstat(self._fd).st_size >= self._most:
                os.replace(self.path, _older(self.path))
                os.close(self._fd)
                self._fd = _appending(self.path)
            os.write(self._fd, data)

    def close(self) -> None:
        """Writes no more; again is harmless."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


class Streams:
    """This process's standard output and error, as lines of its log.

    They go to a file, which is exchanged for another whenever something was written: what a host that is killed said
    last is there.

    Args:
        log: The log's file; the other is beside it.
        told: Is told each line, as `loop_kit.dev._sources.logged` does.
    """

    def __init__(self, log: Path, told: Told) -> None:
        self._path = _out_of(log)
        self._told = told
        self._rest = b""
        self._fd = _appending(self._path)
        self._become()

    def take(self) -> None:
        """Tells what was written since."""
        if not os.fstat(self._fd).st_size:
            return
        aside = self._path.with_suffix(".aside")
        os.replace(self._path, aside)
        old, self._fd = self._fd, _appending(self._path)
        self._become()
        os.close(old)
        with aside.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            skipped = file.seek(max(0, size - _CHUNK))
            *whole, self._rest = (self._rest + file.read()).split(b"\n")
        aside.unlink()
        for line in whole[-RATE:]:
            self._tell("info", line.decode("utf-8", "replace"))
        if skipped or len(whole) > RATE:
            self._tell(
                "warn",
                f"of what was written before this, only the last {min(len(whole), RATE)} lines are kept",
            )
        if len(self._rest) > LONGEST:
            self._tell("info", self._rest.decode("utf-8", "replace"))
            self._rest = b""

    def _tell(self, level: str, text: str) -> None:
        self._told(_line(int(time.time() * 1000), level, shown(text), target="output"), False)

    def _become(self) -> None:
        for stream in (1, 2):
            os.dup2(self._fd, stream)


def last_words(log: Path) -> list[dict[str, Any]]:
    """What a host wrote to its standard output and error that it did not live to log."""
    try:
        data = _out_of(log).read_bytes()[-_CHUNK:]
    except FileNotFoundError:
        return []
    return [_line(0, "info", shown(raw.decode("utf-8", "replace"))) for raw in data.splitlines()[-RATE:]]


def open_output(log: Path) -> int:
    """A descriptor for the standard output and error of a host that is about to be started, to be closed."""
    return _appending(_out_of(log))


class Tail:
    """Reads a log, and follows it as it grows, over changes of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def begin(self, lines: int | None = None) -> list[dict[str, Any]]:
        """What there is already, and nothing of it again by `more`: the newest lines, or all."""
        found: deque[dict[str, Any]] = deque(maxlen=lines)
        if (older := _opened(_older(self._path))) is not None:
            with older:
                found.extend(map(_entry, older))
        self._file = _opened(self._path)
        found.extend(self._read())
        return list(found)

    def more(self) -> list[dict[str, Any]]:
        """What was added since, which may be nothing."""
        if self._file is None:
            self._file = _opened(self._path)
        found = self._read()
        if self._file is not None and self._turned():
            found += self._read()  # what came between the two looks
            self._file.close()
            self._file = _opened(self._path)
            found += self._read()
        return found

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _turned(self) -> bool:
        assert self._file is not None
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        mine = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    def _read(self) -> list[dict[str, Any]]:
        if self._file is None:
            return []
        found = []
        while data := self._file.read(_CHUNK):
            *whole, self._rest = (self._rest + data).split(b"\n")
            found += [_entry(raw) for raw in whole]
        return found


def _line(time_: int, level: str, message: str, source: str = "", target: str = "") -> dict[str, Any]:
    return {
        "time": time_,
        "level": level,
        "source": source,
        "target": target,
        "message": message,
        "fields": [],
    }


def _entry(raw: bytes) -> dict[str, Any]:
    """A line of the file; one that is damaged, as by a full disk, is shown as it is."""
    try:
        found: dict[str, Any] = json.loads(raw)
        return found | {
            "time": int(found["time"]),
            "fields": [(key, value) for key, value in found["fields"]],
        }
    except (ValueError, TypeError, KeyError):
        return _line(0, "info", shown(raw.decode("utf-8", "replace")))


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _out_of(log: Path) -> Path:
    return log.with_suffix(".out")


def _appending(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None
