"""Streams that tell how they ended."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from loop_kit._types import Err, Ok

__all__ = ["Settled"]


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


def _settle(ended: asyncio.Future[Any], end: Ok[None] | Err[Any]) -> None:
    if not ended.done():
        ended.set_result(end)
