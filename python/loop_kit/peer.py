"""Peers: what another process serves, called from Python.

async with await peer.connect("unix:/run/kv.sock", "acme:kv/store", wit="wit") as store:
    await store.call("get", "colour")
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loop_kit import _core
from loop_kit._session import Events, functions, give_hub, instance_id, names, take_hub, targets_of
from loop_kit.errors import NoSuchExport, PeerError
from loop_kit.exports import Exports
from loop_kit.manifest.model import Login, Tls
from loop_kit.routes import match

__all__ = ["Peer", "connect"]


class Peer:
    """A session with a provider. Made by `connect`; an async context manager that ends it."""

    def __init__(self, contract: _core.Contract, wire: _core.Wire, events: Events, address: str) -> None:
        self._wire = wire
        self._contract = contract
        self._exports: tuple[int, Exports] | None = None
        self._events = events
        self._numbers = functions(contract)
        self._closed = False
        self.address = address

    def call(self, path: str, *args: Any, deadline: float | None = None, link: int = 0) -> Awaitable[Any]:
        """Calls `interface#function`, with or without the interface or its version; await it for the result.

        Cancelling whoever awaits it cancels the call at the peer. The error case of a WIT `result` is raised.

        Args:
            path: What to call.
            args: Its arguments, as `docs/values.md` says.
            deadline: Seconds that it may take.
            link: The link that it is made in; 0: without a grant.

        Raises:
            NoSuchExport: The contract has no such function, or several.
            ArgumentError: An argument does not fit.
            CallError, PeerError: It ended without a result.
        """
        try:
            number = self._numbers[path]
        except KeyError:
            raise NoSuchExport(path, self._numbers) from None
        return self._wire.call(number, args, deadline=deadline, link=link)

    def exports(self, link: int = 0) -> Exports:
        """What is served as objects: `peer.exports().store.get("colour")`, and classes for resources.

        Args:
            link: The link that calls are made in. One session has the objects of one link.

        Raises:
            ValueError: They were taken for another link.
        """
        if self._exports is None:
            made = Exports.of_contract(
                self._contract, lambda number, *args: self._wire.call(number, args, deadline=None, link=link)
            )
            self._exports = link, made
        elif self._exports[0] != link:
            raise ValueError(
                f"this session's objects are those of link {self._exports[0]}; connect again for others"
            )
        return self._exports[1]

    async def link(self, number: int, name: str, grant: str = "", config: str = "") -> None:
        """Binds a link at the peer: `number` (1 and up) is good for calls from then on.

        Args:
            number: Chosen by this side.
            name: For messages.
            grant: JSON, as in the manifest.
            config: JSON.

        Raises:
            NotGranted: The peer serves nothing under a grant.
        """
        await self._wire.link(number, name, grant, config)

    def unlink(self, number: int) -> None:
        """Lets go of a link, with all that was made in it."""
        self._wire.unlink(number)

    async def reload(self, number: int = 1) -> None:
        """Has the peer read its code anew.

        Raises:
            CallError: It could not, and goes on as before.
        """
        await self._wire.reload(number)

    async def closed(self) -> Exception:
        """Waits for the end of the session; why it ended."""
        return await asyncio.shield(self._events.over)

    async def close(self) -> None:
        """Ends the session; again is harmless. Calls on their way fail with ProviderGone."""
        self._wire.close()
        if not self._closed:
            self._closed = True
            give_hub(asyncio.get_running_loop())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


async def connect(
    address: str | tuple[int, int],
    interfaces: str | Sequence[str] | None = None,
    *,
    wit: str | os.PathLike[str],
    exports: Mapping[str, Any] | None = None,
    token: str | bytes | None = None,
    tls: Tls | None = None,
    login: Login | None = None,
    identity: str = "",
    patience: float = 10.0,
) -> Peer:
    """Connects to a provider.

    Args:
        address: `unix:PATH`, `tcp://HOST:PORT` or of another transport (docs/wire.md has all); or the descriptors to
            read and write, which are owned from here on.
        interfaces: What it must offer. None: all of the WIT.
        wit: The file or folder that defines them.
        exports: What the provider may call here while the session lasts: objects by the interfaces that they serve.
        token: What the provider asks for.
        tls: How the connection is secured; None: not at all.
        login: Whom to be at a NATS server.
        identity: Who this is, for the provider's log.
        patience: Seconds for connecting and for the handshake.

    Raises:
        NotOffered, VersionMismatch, Unauthenticated: The provider refuses, or offers something else.
        PeerError: There is no provider at the address.
        LoadError: The WIT is not sound.
        LinkError: Members of what is exported are missing or do not fit.
    """
    loop = asyncio.get_running_loop()
    contract = _core.Contract(Path(wit), names(interfaces))
    offered, served = None, []
    if exports:
        offered = _core.Contract(Path(wit), list(exports))
        served = targets_of(offered, lambda interface: exports[str(match(interface, exports))])
    wire: _core.Wire | None = None
    hub = take_hub(loop)
    try:
        async with asyncio.timeout(patience):
            if isinstance(address, tuple):
                read, write = address
            else:
                dialled = await asyncio.to_thread(
                    _core.Socket.connect, hub, address, tls=tls, login=login, timeout=patience
                )
                read = write = dialled.detach()
            events = Events(offered)
            wire = _core.Wire(
                loop,
                hub,
                read,
                write,
                initiator=True,
                events=events,
                exports=offered,
                imports=contract,
                identity=identity,
                instance=instance_id(),
                token=token.encode() if isinstance(token, str) else token,
                shared=isinstance(address, str) and address.startswith("shm:"),
            )
            events.wire = wire
            if served:
                wire.serve(0, served)
            wire.start()
            await asyncio.shield(events.opened)
    except BaseException as error:
        if wire is not None:
            wire.close()
        give_hub(loop)
        if isinstance(error, TimeoutError):
            raise PeerError(f"{address}: no session within {patience} s") from None
        raise
    return Peer(contract, wire, events, str(address))
