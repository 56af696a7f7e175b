"""What a provider may know of the call that it answers, and the trace that calls belong to."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from loop_kit import _core
from loop_kit.errors import NoSuchExport, NotOffered

__all__ = [
    "Invocation",
    "current",
    "current_bytes",
    "invocation",
    "read_traceparent",
    "traced",
    "traceparent_of",
]

_TRACE: ContextVar[bytes | None] = ContextVar("loop_kit.trace", default=None)

_SEEN: ContextVar[str | None] = ContextVar("loop_kit.seen", default=None)
"""The trace of the call that was answered when `_TRACE` was set."""

at_work: dict[asyncio.Task[None], _core.Job] = {}
"""The calls of peers that tasks answer now."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """A call that a provider answers.

    Attributes:
        trace: The W3C trace context that it belongs to, as `traceparent` has it.
        identity: Who calls, as they say; None within the host's own process.
        link: The link that it is made in, `component/interface`; None within the host's own process, and without one.
    """

    _until: float | None
    trace: str | None
    identity: str | None
    link: str | None
    _wire: _core.Wire | None

    @property
    def deadline(self) -> float | None:
        """Seconds left until nobody waits any more; None: no end was set."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def call(self, path: str, *args: Any, deadline: float | None = None) -> Awaitable[Any]:
        """Calls back whoever made this call: what it `exports`, of which the provider says that it `imports` it.

        The trace goes on, and so does the deadline where there is no nearer one.

        Args:
            path: As in `Peer.call`.
            args: Its arguments.
            deadline: Seconds that it may take at most.

        Raises:
            NoSuchExport: The provider imports no such function.
            NotOffered: It imports nothing, or this is no call of a session's.
            ArgumentError: An argument does not fit.
            CallError, PeerError: It ended without a result.
        """
        from loop_kit._session import functions  # which needs this module

        contract = self._wire.imports if self._wire is not None else None
        if self._wire is None or contract is None:
            raise NotOffered(
                f"{path}: nobody can be called back: that takes a session, and `imports`", path, ""
            )
        numbers = functions(contract)
        if path not in numbers:
            raise NoSuchExport(path, numbers)
        ends = [seconds for seconds in (deadline, self.deadline) if seconds is not None]
        trace = None if self.trace is None else read_traceparent(self.trace)
        return self._wire.call(numbers[path], args, deadline=min(ends, default=None), trace=trace)


def invocation() -> Invocation:
    """The call that the running code answers.

    To be asked by a method of a provider, or in what it awaits; tasks that it starts are none of the call's. Outside of
    a call all that can be known is None.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None  # no loop runs here
    told = _core.invoked(task)
    if told is None and task is not None and task in at_work:
        told = at_work[task].told()
    if told is None:
        return Invocation(None, None, None, None, None)
    left, trace, identity, link, wire = told
    until = None if left is None else time.monotonic() + left
    return Invocation(until, trace, identity, link, wire)


@contextlib.contextmanager
def traced(parent: str) -> Iterator[None]:
    """Has the calls made within belong to a trace: those of components, with the calls that they make, and of peers.

    Args:
        parent: As the header `traceparent` has it, `00-TRACE-SPAN-FLAGS`.

    Raises:
        ValueError: It is no such text.
    """
    _core.tracing()
    trace, seen = _TRACE.set(read_traceparent(parent)), _SEEN.set(invocation().trace)
    try:
        yield
    finally:
        _TRACE.reset(trace)
        _SEEN.reset(seen)


def current_bytes() -> bytes | None:
    """The trace context that the running code belongs to: 25 bytes.

    That of `traced`, or of the call that is answered, whichever is further within.
    """
    own, answered = _TRACE.get(), invocation().trace
    # a call that came in after `traced` brings its own, which is that one or one below it
    if own is not None and (answered is None or answered == _SEEN.get()):
        return own
    return None if answered is None else read_traceparent(answered)


def current() -> str | None:
    """The same as a `traceparent`."""
    own = current_bytes()
    return None if own is None else traceparent_of(own)


def traceparent_of(trace: bytes) -> str:
    """25 bytes, trace id, span id and flags, as `traceparent` has them."""
    return f"00-{trace[:16].hex()}-{trace[16:24].hex()}-{trace[24:].hex()}"


def read_traceparent(parent: str) -> bytes:
    """Trace id, span id and flags of a `traceparent`: 25 bytes.

    Raises:
        ValueError: It is no such text.
    """
    parts = parent.split("-")
    # what later versions add comes after these
    if [len(part) for part in parts[:4]] == [2, 32, 16, 2] and parts[0] != "ff":
        with contextlib.suppress(ValueError):
            read = bytes.fromhex("".join(parts[1:4]))
            if any(read[:16]) and any(read[16:24]) and (parts[0] != "00" or len(parts) == 4):
                return read
    raise ValueError(f"expected a traceparent, `00-TRACE-SPAN-FLAGS` in hex, got {parent!r}")


_core.trace_by(_TRACE, current_bytes)
