"""Streams, and how they ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from loop_kit._types import Err, Ok
from loop_kit.capabilities.fsx._beneath import Handle, code_of

__all__ = ["Reading", "Settled"]

# Bytes read at once.
_CHUNK = 256 << 10


class Settled:
    """A stream that tells how it ended.

    Attributes:
        ended: Settled once nothing more will be read: by the end, by an error, or as nobody reads any more.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Any] = self._loop.create_future()

    def settle(self, end: Ok[None] | Err[Any]) -> None:
        """Tells how it ended, if that is not known yet."""
        _settle(self.ended, end)

    def __del__(self) -> None:
        # A dropped stream lets go of its source, on whatever thread that happens; a closed loop has no use for it.
        if not self.ended.done():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_settle, self.ended, Ok(None))


class Reading(Settled):
    """The bytes of a file from where it stands: an async iterator. Each read waits on a thread, not on the loop.

    Args:
        file: The file; None gives no bytes.
    """

    def __init__(self, file: Handle | None) -> None:
        super().__init__()
        self._file = file

    def __aiter__(self) -> Reading:
        return self

    async def __anext__(self) -> bytes:
        chunk = b""
        end: Any = Ok(None)
        if self._file is not None:
            try:
                # the thread has the file, which stays open until it is done
                chunk = await asyncio.to_thread(_read, self._file)
            except OSError as e:
                end = code_of(e)
        if not chunk:
            self._file = None
            self.settle(end)
            raise StopAsyncIteration
        return chunk


def _read(file: Handle) -> bytes:
    return os.read(file.fd, _CHUNK)


def _settle(ended: asyncio.Future[Any], end: Ok[None] | Err[Any]) -> None:
    if not ended.done():
        ended.set_result(end)
