"""What happened, as far as there is room, and whoever wants to hear what happens: bounded in number and in bytes."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Collection
from typing import Any, Literal

from loop_kit.errors import Overloaded

__all__ = ["Journal", "Subscriber", "Topic"]

Topic = Literal["members", "lines", "builds", "refusals", "spans", "assets"]

KEPT = 10_000
"""Events of a topic that are kept, and that wait for one subscriber; of several topics, so many for each."""
KEPT_BYTES = 8 << 20
"""Bytes that these take at most, roughly."""
SUBSCRIBERS = 64
"""Who may listen at once."""

_EVENT = 200
"""Bytes that an event takes besides its text."""

Event = tuple[str, Any]
"""A case of `loop:devserver/events.event`, and its value."""


class _Kept:
    """The newest events, within bounds."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.events: deque[tuple[int, Event, int]] = deque()
        self.dropped = 0
        self._most, self._most_bytes, self._bytes = most, most_bytes, 0

    def add(self, number: int, event: Event, size: int) -> None:
        self.events.append((number, event, size))
        self._bytes += size
        while len(self.events) > self._most or (self._bytes > self._most_bytes and len(self.events) > 1):
            self._bytes -= self.events.popleft()[2]
            self.dropped += 1

    def take(self) -> Event:
        _, event, size = self.events.popleft()
        self._bytes -= size
        return event


class Journal:
    """Keeps events by topic, and hands them to subscribers; from any thread.

    Args:
        kept: Events of each topic that are kept, and as many for each that wait for one subscriber.
        kept_bytes: Bytes that these take at most, roughly.
    """

    def __init__(self, kept: int = KEPT, kept_bytes: int = KEPT_BYTES) -> None:
        self._bounds = kept, kept_bytes
        self._history: dict[Topic, _Kept] = {}
        self._subscribers: list[Subscriber] = []
        self._number = 0
        self._lock = threading.Lock()

    def tell(self, topic: Topic, event: Event, size: int = 0) -> None:
        """Something happened. `size`: bytes of its text."""
        size += _EVENT
        with self._lock:
            self._number += 1
            if topic not in self._history:
                self._history[topic] = _Kept(*self._bounds)
            self._history[topic].add(self._number, event, size)
            for subscriber in self._subscribers:
                subscriber._add(topic, self._number, event, size)

    def wanted(self, topic: Topic) -> bool:
        """Whether anybody listens to a topic now."""
        return any(topic in subscriber.topics for subscriber in self._subscribers)

    def subscribe(self, topics: Collection[Topic], history: int = 0) -> Subscriber:
        """What happens from now on, after the newest `history` events that are kept; on the running event loop.

        Raises:
            Overloaded: There are as many subscribers as may be.
        """
        made = Subscriber(self, frozenset(topics), *(bound * len(set(topics)) for bound in self._bounds))
        with self._lock:
            if len(self._subscribers) >= SUBSCRIBERS:
                raise Overloaded(f"{SUBSCRIBERS} listen already", SUBSCRIBERS)
            told = [self._history[topic] for topic in topics if topic in self._history]
            known = sorted(item for kept in told for item in kept.events) if history else []
            if len(known) < history and (lost := sum(kept.dropped for kept in told)):
                made._add_lost(lost)
            for number, event, size in known[-history:] if history else ():
                made._keep(number, event, size)
            self._subscribers.append(made)
        return made

    def _leave(self, subscriber: Subscriber) -> None:
        with self._lock:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)


class Subscriber:
    """An async iterator of events, and of `("lost", n)` where some were dropped. Made by `Journal.subscribe`."""

    def __init__(self, journal: Journal, topics: frozenset[Topic], kept: int, kept_bytes: int) -> None:
        self.topics = topics
        self._journal = journal
        self._queue = _Kept(kept, kept_bytes)
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None
        self._woken = False
        self._closed = False

    def close(self) -> None:
        """Ends it; what waits is forgotten. Again is harmless, and from the loop's thread alone."""
        self._closed = True
        self._journal._leave(self)
        self._wake()

    async def events(self) -> AsyncIterator[Event]:
        """The events, until it is closed."""
        try:
            while not self._closed:
                with self._journal._lock:
                    event = self._next()
                    if event is None:
                        waiting = self._waiting = self._loop.create_future()
                        self._woken = False
                if event is not None:
                    yield event
                else:
                    await waiting
        finally:
            self.close()

    def _next(self) -> Event | None:
        queue = self._queue
        if queue.dropped:
            lost, queue.dropped = queue.dropped, 0
            return "lost", lost
        return queue.take() if queue.events else None

    def _add(self, topic: Topic, number: int, event: Event, size: int) -> None:
        if topic in self.topics:
            self._keep(number, event, size)
            if self._waiting is not None and not self._woken:
                self._woken = True
                try:
                    self._loop.call_soon_threadsafe(self._wake)
                except RuntimeError:
                    self._closed = True  # the loop has ended, and with it whoever read

    def _keep(self, number: int, event: Event, size: int) -> None:
        self._queue.add(number, event, size)

    def _add_lost(self, count: int) -> None:
        self._queue.dropped += count

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
