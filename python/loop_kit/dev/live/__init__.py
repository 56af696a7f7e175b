"""Pages that take up changes: what `loop dev` puts before a component that it serves.

    live = Live()
    front = await live.open("127.0.0.1:8080", upstream)

Requests go on to the component. A document that it answers with has one script more, which listens for what changes: a
style sheet is exchanged in place, a module that accepts it is handed the new one, and anything else loads the page anew
once new code serves. `docs/live.md` says what pages can rely on, `docs/adr/023-live.md` why it is a server before the
server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loop_kit._address import is_loopback
from loop_kit.dev.live._front import Front

__all__ = ["Front", "Live", "is_own"]

_WAITING = 64
"""Messages that wait for one page; one that reads none of them is let go, and finds out when it connects again."""
_MOST = 200
"""Paths that are told one by one; of more, everything is to be loaded anew."""


def is_own(address: str) -> bool:
    """Whether an address is one that this machine alone reaches."""
    return is_loopback(address.rpartition(":")[0])


class Live:
    """What has changed, and all pages that want to know.

    Attributes:
        version: Of all that pages show; another one once anything has changed, and in another process.
    """

    def __init__(self) -> None:
        self._run = secrets.token_hex(6)
        self._number = 0
        self._pages: set[asyncio.Queue[str | None]] = set()

    @property
    def version(self) -> str:
        """As pages are told it."""
        return f"{self._run}-{self._number}"

    async def open(self, address: str, upstream: str) -> Front:
        """Listens at an address of this machine, before the server at another.

        Raises:
            OSError: The address cannot be used.
        """
        script = Path(__file__).with_name("files") / "live.js"
        front = Front(self, upstream, await asyncio.to_thread(script.read_bytes))
        await front.listen(address)
        return front

    def assets(self, paths: Iterable[str]) -> None:
        """Files that pages show have changed."""
        told = sorted({*paths})
        if len(told) > _MOST:
            return self.code("")
        self._number += 1
        self._tell("assets", paths=told)
        return None

    def code(self, member: str, *, styles: bool = False) -> None:
        """New code serves; `styles`: nothing but style sheets is new in it."""
        self._number += 1
        self._tell("code", member=member, styles=styles)

    def failed(self, member: str, reason: str) -> None:
        """New code cannot serve."""
        self._tell("failed", member=member, reason=reason[:4000])

    def _tell(self, kind: str, **said: Any) -> None:
        text = json.dumps({"kind": kind, "version": self.version, **said})
        for queue in [*self._pages]:
            if queue.full():
                self._pages.discard(queue)
                with contextlib.suppress(asyncio.QueueEmpty):
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(text)

    @contextlib.contextmanager
    def listening(self) -> Any:
        """A queue of what is told from now on, after which version pages are to be; None ends it."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(_WAITING)
        queue.put_nowait(json.dumps({"kind": "hello", "version": self.version}))
        self._pages.add(queue)
        try:
            yield queue
        finally:
            self._pages.discard(queue)
