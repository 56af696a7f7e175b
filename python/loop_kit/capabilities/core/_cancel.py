"""Tokens that call work off, by hand or when their time is up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import ClassVar

from loop_kit.capabilities.core._quota import Quota

__all__ = ["Token"]


class _Scope:
    """One scope of work: what its token may cancel, and the scope that it is part of."""

    __slots__ = ("cancelled", "held", "parent", "waiting")

    def __init__(self, parent: _Scope | None) -> None:
        self.parent = parent
        self.cancelled = False
        self.held = True
        self.waiting: set[asyncio.Event] = set()

    def is_cancelled(self) -> bool:
        at: _Scope | None = self
        while at is not None:
            if at.cancelled:
                self.cancelled = True
                return True
            # What no token can cancel any more is passed over from now on: a line of dropped ancestors costs nothing.
            while (parent := at.parent) is not None and not parent.held and not parent.cancelled:
                at.parent = parent.parent
            at = at.parent
        return False

    def cancel(self) -> None:
        self.cancelled = True
        for event in self.waiting:
            event.set()

    @contextlib.contextmanager
    def told(self, event: asyncio.Event) -> Iterator[None]:
        """Sets the event when this or an ancestor is cancelled."""
        line = []
        at: _Scope | None = self
        while at is not None:
            line.append(at)
            at.waiting.add(event)
            at = at.parent
        try:
            yield
        finally:
            for scope in line:
                scope.waiting.discard(event)


class Token:
    """A scope of work that can be called off.

    Cancelling only marks the token; descendants look upwards. So a token keeps nothing of its children alive.
    """

    __slots__ = ("_due", "_held", "_scope")

    quota: ClassVar[Quota] = Quota("token", "cancel.max", 16384)

    def __init__(self, _parent: _Scope | None = None, _due: int | None = None) -> None:
        self._held = self.quota.take()
        self._scope = _Scope(_parent)
        self._due = _due

    def __del__(self) -> None:
        if hasattr(self, "_scope"):  # it may have been one too many
            self._scope.held = False

    def child(self) -> Token:
        """A token that is cancelled with this one, and can be cancelled alone."""
        self._scope.is_cancelled()  # lets go of ancestors that were dropped
        return type(self)(self._scope, self._due)

    def child_for(self, after: int) -> Token:
        """A child whose time is up so many nanoseconds from now, or with this token's own."""
        made = self.child()
        due = time.monotonic_ns() + after
        made._due = due if self._due is None else min(due, self._due)
        return made

    def cancel(self) -> None:
        """Cancels this token and all its descendants. Again is harmless."""
        self._scope.cancel()

    def is_cancelled(self) -> bool:
        """Whether this token or one of its ancestors was cancelled, or its time is up."""
        return self._scope.is_cancelled() or self.remaining() == 0

    def remaining(self) -> int | None:
        """Nanoseconds until its time is up; None: it has no end."""
        return None if self._due is None else max(0, self._due - time.monotonic_ns())

    async def wait(self) -> None:
        """Waits until it is cancelled or its time is up."""
        event = asyncio.Event()
        with self._scope.told(event):
            while not self.is_cancelled():
                left = self.remaining()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if left is None else min(left / 1e9, 86_400.0)):
                        await event.wait()
