"""Providers that ask to be exchanged, wherever they run."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable

from loop_kit.errors import PeerError

__all__ = ["ask_exchange", "forget", "note"]

_ways: dict[int, tuple[weakref.ref[object], Callable[[], Awaitable[None]]]] = {}


def note(provider: object, ask: Callable[[], Awaitable[None]]) -> None:
    """Has `ask` be how a provider's object asks; it must not hold the object, nor what does."""
    key = id(provider)
    try:
        _ways[key] = weakref.ref(provider, lambda _: _ways.pop(key, None)), ask
    except TypeError:  # a class with slots: it cannot ask
        _ways.pop(key, None)


def forget(provider: object) -> None:
    """It serves no longer."""
    _ways.pop(id(provider), None)


async def ask_exchange(provider: object) -> None:
    """Asks the host to exchange a provider for a new one, its code read anew; calls that have begun end in the old one.

    Returns once the host has taken that up. What it cannot start it logs, and the old one serves on.

    Args:
        provider: The object that serves, such as `self` in one of its methods; not one of its resources.

    Raises:
        PeerError: Nobody can exchange it, or it asked a moment ago.
    """
    known = _ways.get(id(provider))
    if known is None or known[0]() is not provider:
        raise PeerError(f"nobody can exchange {type(provider).__qualname__}: it serves nothing")
    await known[1]()
