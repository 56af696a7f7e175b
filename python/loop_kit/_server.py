"""What serves a provider to those who connect, and what makes the objects that answer them."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

from loop_kit import _asking, _core
from loop_kit._login import of_environment
from loop_kit._session import (
    Events,
    all_closed,
    asking,
    give_hub,
    hub_and_engine,
    instance_id,
    take_hub,
    targets,
)
from loop_kit.errors import LoadError, NotGranted, PeerError
from loop_kit.manifest.model import Login, Tls
from loop_kit.placements.builtin import Builtin, Opened

__all__ = ["Server", "anyone_of", "maker", "maker_of_native", "native"]


class Server:
    """Serves a provider to those who connect. Made by `serve`.

    Attributes:
        address: Where it really listens, such as `tcp://127.0.0.1:41234`.
    """

    def __init__(
        self,
        make: Callable[[str, Any, Any], Any],
        contract: _core.Contract,
        *,
        imports: _core.Contract | None = None,
        token: bytes | None,
        generation: int = 0,
        reload: Callable[[], Any] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._hub = take_hub(self._loop)
        self._make = make
        self._contract = contract
        self._imports = imports
        self._open: list[tuple[Any, bool]] | None = None
        self._token = token
        self._generation = generation
        self._reload = reload
        self._instance = instance_id()
        self._sessions: dict[_core.Wire, Events] = {}
        self._listener: _core.Listener | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self.address = ""

    def open_to_all(self, functions: list[tuple[Any, bool]]) -> None:
        """Has these answer the calls that are made in no link; without, there are none."""
        self._open = functions

    async def listen(
        self, address: str, tls: Tls | None = None, login: Login | None = None, plain: bool | None = None
    ) -> None:
        """Begins to listen.

        Args:
            address: Where.
            tls: As in `serve`.
            login: As in `serve`.
            plain: Whether calls in plain mode may return resources; None: there are none.

        Raises:
            LoadError: Only links are served, which plain mode has none of.
            PeerError: The address is none, cannot be used, or could be reached by whoever likes.
        """
        if plain is not None and self._open is None:
            raise LoadError("plain mode can pass no grant and no config, which this provider takes")
        if plain is not None and self._imports is not None:
            raise LoadError("plain mode has no calls back, and this provider imports some")
        if address == "stdio:" and plain is None:
            self.accept(*_stdio())
            self.address = address
            return
        token = self._token.decode(errors="replace") if self._token is not None else None
        self._listener = await asyncio.to_thread(
            _core.Listener.bind,
            self._hub,
            address,
            self._accepted,
            token=token,
            tls=tls,
            login=login or of_environment(address),
            contract=self._contract,
            plain=plain,
        )
        self.address = self._listener.address

    def _accepted(self, fd: int, certificate: list[str] | None) -> None:
        if self._closed:
            os.close(fd)
        else:
            self.accept(fd, fd, certificate)

    def accept(self, read: int, write: int, certificate: list[str] | None = None) -> None:
        """Begins a session on a connection; the descriptors are owned from here on.

        Args:
            read: To read from.
            write: To write to; the same of a socket.
            certificate: The names in the certificate that the peer has shown.
        """
        events = Events(self._contract, self._make, self.reload)
        wire = _core.Wire(
            self._loop,
            self._hub,
            read,
            write,
            initiator=False,
            events=events,
            exports=self._contract,
            imports=self._imports,
            instance=self._instance,
            generation=self._generation,
            token=self._token,
            certificate=certificate,
            shared=self.address.startswith(("unix:", "shm:")),
        )
        events.wire = wire
        if self._open is not None:
            wire.serve(0, self._open)
        self._sessions[wire] = events
        self._idle.clear()
        events.on_closed = lambda _error: self._ended(wire)
        wire.start()

    def _ended(self, wire: _core.Wire) -> None:
        self._sessions.pop(wire, None)
        if not self._sessions:
            self._idle.set()

    @property
    def reloads(self) -> bool:
        """Whether it was told how to reload."""
        return self._reload is not None

    def reload(self) -> None:
        """Reads the code anew, as its `reload` does, and has it serve the calls to come, in all sessions at once.

        Raises:
            PeerError: There is no `reload`.
            Exception: What it, or making a link's object anew, raises; all goes on as before then.
        """
        if self._reload is None:
            raise PeerError("this provider cannot reload: it was not told how")
        served = self._reload()
        if served is None:
            return
        make, anyone = maker(served), anyone_of(served)
        found = targets(self._contract, anyone) if anyone is not None else None
        commits = [events.remade(make) for events in self._sessions.values()]
        self._make, self._open = make, found
        self._generation += 1
        for commit in commits:
            commit()
        if found is not None:
            _asking.note(anyone, self.asking())
            for wire in self._sessions:
                wire.serve(0, found)

    def asking(self) -> Callable[[], Coroutine[Any, Any, None]]:
        """Asks all who are connected to exchange what is served here; it does not hold this."""
        known = weakref.ref(self)

        async def ask() -> None:
            server = known()
            await asking(*(server._sessions.values() if server is not None else ()))()

        return ask

    async def idle(self) -> None:
        """Waits until no session is left."""
        await self._idle.wait()

    async def close(self, patience: float = 5.0) -> None:
        """Listens no longer, lets calls end that have begun, for at most `patience` seconds, and leaves.

        What `aclose()` of providers does has as much time again.
        """
        if self._closed:
            return
        self._closed = True
        listener, self._listener = self._listener, None
        if listener is not None:
            await asyncio.to_thread(listener.stop)
        for wire in list(self._sessions):
            wire.leave("the provider is shutting down")
        try:
            await asyncio.wait_for(self._idle.wait(), patience)
        except TimeoutError:
            for wire in list(self._sessions):
                wire.close()
        await all_closed(patience)
        if listener is not None:
            await asyncio.to_thread(listener.finish, patience)
        give_hub(self._loop)


def _wants(cls: type) -> set[str]:
    try:
        parameters = inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return set()
    return {"grant", "config"} & set(parameters)


def maker(served: Any) -> Callable[[str, Any, Any], Any]:
    if not isinstance(served, type):
        return lambda _name, _grant, _config: served
    wants = _wants(served)

    def make(name: str, grant: Any, config: Any) -> Any:
        given = {key: value for key, value in (("grant", grant), ("config", config)) if value}
        unwanted = sorted(set(given) - wants)
        if unwanted:
            raise LoadError(f"{name}: {served.__qualname__} takes no {' and no '.join(unwanted)}")
        return served(**given)

    return make


def native(served: Builtin) -> Opened:
    hub, engine = hub_and_engine(asyncio.get_running_loop())
    return Opened(served, engine, hub)


def maker_of_native(served: Builtin) -> Callable[[str, Any, Any], Any]:
    """What makes a native provider for each link.

    Where whoever serves it has said what it may touch, that goes for all, and no link can ask for more.
    """

    def make(name: str, grant: Any, config: Any) -> Any:
        if not served.grant and not served.config:
            return native(Builtin(served.name, config or {}, grant or {}))
        if grant or config:
            raise NotGranted(
                f"{name}: what builtin:{served.name} may touch here is set where it is served", name
            )
        return native(served)

    return make


def anyone_of(served: Any) -> Any | None:
    """What calls without a grant reach."""
    if not isinstance(served, type):
        return served
    return None if _wants(served) else served()


def _stdio() -> tuple[int, int]:
    """The wire's ends of standard input and output; prints of the provider go to standard error from here on."""
    read, write = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdout.flush()
    os.dup2(2, 1)
    return read, write
