"""Sessions of a host with providers outside its process, and the routes of imports to them."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from loop_kit import _core
from loop_kit.errors import LoadError, LoopError, NotGranted
from loop_kit.manifest.model import Login, Tls

__all__ = ["Routes", "Session", "connect"]

_CLOSE = 5.0
_IDENTITY = f"loop-kit host {os.getpid()}"
# Bytes of an identity that the wire has room for.
_LONGEST = 256


class Session:
    """A session with one provider."""

    def __init__(self, remote: _core.Remote, name: str) -> None:
        self.remote = remote
        self.name = name
        self._numbers = itertools.count(1)

    async def link(self, name: str, grant: Mapping[str, Any], config: Mapping[str, Any]) -> int:
        """Binds a link at the provider, and returns its number.

        That is 0 where there is neither a grant nor a config, and the provider binds nothing.

        Raises:
            LoadError: The provider refuses it.
        """
        number = next(self._numbers)
        words = [json.dumps(dict(part), default=os.fspath) if part else "" for part in (grant, config)]
        try:
            await asyncio.to_thread(self.remote.link, number, name, *words)
        except NotGranted as error:
            if any(words):
                raise LoadError(f"provider {self.name} refuses {name}: {error}") from error
            return 0
        except LoopError as error:
            raise LoadError(f"provider {self.name} refuses {name}: {error}") from error
        return number

    async def reload(self) -> None:
        """Has the provider read its code anew; calls that have begun end in the old.

        Raises:
            LoadError: It could not, and goes on as before.
        """
        try:
            await asyncio.to_thread(self.remote.reload)
        except LoopError as error:
            raise LoadError(f"provider {self.name} did not reload: {error}") from error

    async def aclose(self) -> None:
        """Lets calls end that have begun, and closes."""
        await asyncio.to_thread(self.remote.close, _CLOSE)


@dataclass(frozen=True)
class _Bound:
    route: _core.Route
    name: str
    grant: Mapping[str, Any]
    config: Mapping[str, Any]


class Routes:
    """The routes of all links to one provider, wherever it runs at the moment."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._bound: list[_Bound] = []

    async def move(self, session: Session) -> None:
        """Has all links go to another session from now on.

        Raises:
            LoadError: The provider refuses one of them.
        """
        for bound in self._bound:
            number = await session.link(bound.name, bound.grant, bound.config)
            session.remote.take_over(bound.route, number, _caller(bound.name))
        self._session = session

    async def bind(
        self, name: str, *, grant: Mapping[str, Any], config: Mapping[str, Any], budget: float | None
    ) -> _core.Route:
        """The route of a new link: `name` for messages, `budget` in seconds.

        Raises:
            LoadError: The provider refuses it, or there is none at the moment.
        """
        session = self._session
        if session is None:
            raise LoadError(f"{name}: its provider does not run")
        number = await session.link(name, grant, config)
        route = session.remote.route(number, _caller(name), budget)
        self._bound.append(_Bound(route, name, grant, config))
        return route

    @property
    def routes(self) -> dict[str, _core.Route]:
        """Those of the links that are bound, by the names that messages have for them."""
        return {bound.name: bound.route for bound in self._bound}

    async def aclose(self) -> None:
        """Ends the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.aclose()


def _caller(name: str) -> str:
    """Who the provider is told calls in the link of that name: the component."""
    return name.partition("/")[0].encode()[:_LONGEST].decode(errors="ignore")


async def connect(
    engine: _core.Engine,
    where: str | tuple[int, int],
    *,
    name: str,
    handshake: bool,
    token: str | None,
    tls: Tls | None,
    login: Login | None = None,
    start_timeout: float = 10.0,
    asked: Callable[[], object] | None = None,
) -> Session:
    """Begins a session with a provider.

    Args:
        engine: The host's, which outlives the session: a call that stays on the engine's threads wakes no other.
        where: Its address, or the descriptors to read and to write, which are owned from here on.
        name: The provider's, for messages.
        handshake: Whether it speaks sessions; else it speaks plain wRPC.
        token: What it asks for.
        tls: How it is to be proven; None: not at all.
        login: Whom to be at the NATS server between.
        start_timeout: Seconds until it must have answered.
        asked: Called on any thread when it asks to be exchanged; returns at once, or raises where that is not to be.

    Raises:
        LoadError: There is none, it refuses, or it cannot be spoken with.
    """
    address, descriptors = ("stdio:", where) if isinstance(where, tuple) else (where, None)
    try:
        remote = await asyncio.to_thread(
            _core.Remote.connect,
            engine,
            address,
            descriptors=descriptors,
            # the names of a certificate are who it is of
            identity="" if tls is not None and tls.certificate is not None else _IDENTITY,
            token=token,
            tls=tls,
            login=login,
            plain=not handshake,
            timeout=start_timeout,
            asked=asked,
        )
    except LoopError as error:
        raise LoadError(f"provider {name} at {address}: {error}") from error
    return Session(remote, name)
