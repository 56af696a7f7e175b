"""The log of a workspace: a file of JSON lines that keeps the newest, and outlives the host that wrote it.

Beside these lines stands what a detached host and its guests write to standard output and error as it is.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["MOST", "Log", "Tail", "entry_of"]

MOST = 8 << 20
"""Bytes of a file; the one before it is kept too."""
_LONGEST = 1 << 20


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


class Log:
    """Writes a log; from any thread.

    Args:
        path: The file; what it has already stays.
        streams: Whether standard output and error go there too.
        most: Bytes, after which another file is begun.
    """

    def __init__(self, path: Path, *, streams: bool = False, most: int = MOST) -> None:
        self.path = path
        self._streams = streams
        self._most = most
        self._lock = threading.Lock()
        self._fd = -1
        self._open()

    def line(self, line: dict[str, Any], _refusal: bool = False) -> None:
        """Adds a line, as `loop_kit.dev._sources.logged` tells it."""
        data = (json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
        with self._lock:
            if self._fd >= 0:
                self._turn()
                os.write(self._fd, data)

    def check(self) -> None:
        """Begins another file if this one is full: what is not written by `line` fills it too."""
        with self._lock:
            if self._fd >= 0:
                self._turn()

    def close(self) -> None:
        """Writes no more; again is harmless."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _turn(self) -> None:
        if os.fstat(self._fd).st_size >= self._most:
            os.replace(self.path, _older(self.path))
            os.close(self._fd)
            self._open()

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self._streams:
            for stream in (1, 2):
                os.dup2(self._fd, stream)


def entry_of(raw: bytes) -> dict[str, Any]:
    """A line of the file; one that is not JSON is of the host itself."""
    text = raw.decode("utf-8", "replace").rstrip("\n")
    if text.startswith('{"time":'):
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if isinstance(found, dict) and isinstance(found.get("message"), str):
            return found
    return {"time": 0, "level": "info", "source": "", "target": "", "message": text, "fields": []}


class Tail:
    """Follows a log as it grows, over changes of the file. `begin` where it ends now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def begin(self, lines: int | None = None) -> list[dict[str, Any]]:
        """What there is already, and nothing of it again by `more`: the newest lines, or all."""
        found: deque[dict[str, Any]] = deque(maxlen=lines)
        time = 0
        if (older := self._opened(_older(self._path))) is not None:
            with older:
                found.extend(map(entry_of, older))
        self._file = self._opened(self._path)
        found.extend(self._read())
        for entry in found:
            time = entry["time"] = entry["time"] or time
        return list(found)

    def more(self) -> list[dict[str, Any]]:
        """What was added since, which may be nothing."""
        if self._file is None:
            self._file = self._opened(self._path)
        found = self._read()
        if self._file is not None and self._turned():
            found += self._read()  # what came between the two looks
            self._file.close()
            self._file = self._opened(self._path)
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
        while data := self._file.read(_LONGEST):
            *whole, self._rest = (self._rest + data).split(b"\n")
            found += [entry_of(raw) for raw in whole]
            if len(self._rest) > _LONGEST:
                found.append(entry_of(self._rest))
                self._rest = b""
        return found

    @staticmethod
    def _opened(path: Path) -> BinaryIO | None:
        try:
            return path.open("rb")
        except FileNotFoundError:
            return None
