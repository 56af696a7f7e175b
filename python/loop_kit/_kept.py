"""The output of a command, as far as it is kept."""

from __future__ import annotations

__all__ = ["Kept"]


class Kept:
    """The beginning and the end of what is written.

    Args:
        most: Bytes that are kept: the first half of them, and the last.
    """

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._head, self._tail, self._dropped = bytearray(), bytearray(), 0

    def feed(self, data: bytes) -> None:
        """Adds what was written next."""
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:] if room < len(data) else b""
        if (over := len(self._tail) - self._half) > 0:
            del self._tail[:over]
            self._dropped += over

    def text(self) -> str:
        """What is kept, and how much is left out between."""
        left_out = f"\n… {self._dropped} bytes left out …\n".encode() if self._dropped else b""
        return bytes(self._head + left_out + self._tail).decode("utf-8", "replace")
