"""The stream of a file."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from loop_kit._types import Ok
from loop_kit.capabilities._settled import Settled
from loop_kit.capabilities.fsx._beneath import Handle, code_of

__all__ = ["Reading"]

# Bytes read at once.
_CHUNK = 256 << 10


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
