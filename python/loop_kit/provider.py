"""Providers written in Python: the same class in-process, as a sidecar or on another machine.

    import loop_kit as loop

    @loop.provider("acme:kv/store@0.1.0", wit="wit")
    class Store:
        def __init__(self) -> None:
            self.values: dict[str, bytes] = {}

        def get(self, key: str) -> bytes | None:
            return self.values.get(key)

`python -m loop_kit.serve store:Store --on unix:/run/kv.sock` serves it; in `loop.toml`, `use = "python:store:Store"`
places it in the host's process and `use = "sidecar:python:store:Store"` in one of its own.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import inspect
import logging
import os
import signal
import sys
import weakref
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from loop_kit import _asking, _core
from loop_kit._asking import ask_exchange
from loop_kit._login import of_environment
from loop_kit._session import (
    Events,
    all_closed,
    asking,
    give_hub,
    hub_and_engine,
    instance_id,
    names,
    take_hub,
    targets,
)
from loop_kit.errors import LoadError, NotGranted, PeerError
from loop_kit.manifest.model import Login, Tls
from loop_kit.placements.builtin import Builtin, Opened, contract_of

__all__ = [
    "Declared",
    "Server",
    "announce",
    "ask_exchange",
    "declared",
    "provider",
    "serve",
    "serve_component",
    "server_of",
]

if TYPE_CHECKING:
    from loop_kit.host import App

_T = TypeVar("_T", bound=type)
_CORE = Path(__file__).parent / "capabilities" / "core" / "wit"
# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True, slots=True)
class Declared:
    """What a class says that it provides.

    Attributes:
        interfaces: Names of WIT interfaces.
        wit: The file or folder that defines them.
        imports: Interfaces of whoever calls, to be called back.
    """

    interfaces: tuple[str, ...]
    wit: Path
    imports: tuple[str, ...] = ()


def provider(
    *interfaces: str, wit: str | os.PathLike[str], imports: str | Sequence[str] | None = None
) -> Callable[[_T], _T]:
    """Declares that a class provides WIT interfaces.

    The class's methods are named as `docs/values.md` says. Its constructor may take `grant` and `config`, which are
    what the manifest gives the link that an instance serves; each link has an instance of its own. Its `aclose()`, a
    coroutine, is called when the link ends, or the workspace.

    Args:
        interfaces: Such as `acme:kv/store@0.1.0`; without any, all of the WIT. `loop:core/lifecycle@0.1.0` among them:
            it hands on what it knows when it is exchanged; `loop:core/health@0.1.0`: it says how it is (see docs/swap.md
            and docs/lifecycle.md).
        wit: The file or folder that defines them, relative to the file of the class.
        imports: Interfaces that whoever connects must export, to be called back by `loop_kit.invocation().call`. Hosts
            export none, and cannot use such a provider; peers may.
    """

    def declare(cls: _T) -> _T:
        file = inspect.getsourcefile(cls)
        folder = Path(file).resolve().parent if file else Path.cwd()
        cls.__loop_provider__ = Declared(interfaces, folder / wit, tuple(names(imports)))  # type: ignore[attr-defined]
        return cls

    return declare


def declared(cls: type) -> Declared:
    """What `cls` was declared to provide.

    Raises:
        LoadError: It was not declared.
    """
    found = getattr(cls, "__loop_provider__", None)
    if not isinstance(found, Declared):
        raise LoadError(f"{cls.__qualname__} is no provider: decorate it with @loop_kit.provider(…)")
    return found


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
        make, anyone = _maker(served), _open(served)
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


async def serve(
    served: Any,
    *,
    on: str | None = None,
    interfaces: str | Sequence[str] | None = None,
    wit: str | os.PathLike[str] | None = None,
    imports: str | Sequence[str] | None = None,
    token: str | bytes | None = None,
    tls: Tls | None = None,
    login: Login | None = None,
    plain: bool = False,
    plain_handles: bool = False,
    generation: int = 0,
    reload: Callable[[], Any] | None = None,
) -> Server:
    """Serves a provider to other processes.

    Args:
        served: A class decorated by `provider`, of which each link gets an instance under its grant; or an object,
            which serves every link, and calls without one. A class that takes neither `grant` nor `config` serves
            those too. Or `loop_kit.builtin(NAME)`, of which each link gets one of its own in the same way;
            where it says itself what it may touch, that goes for all, and links can ask for nothing else.
        on: Where: `unix:PATH`, `stdio:`, `nats://SERVER/SUBJECT`, or `tcp:`, `quic:`, `http2:` or `ws://HOST:PORT`
            (port 0: any that is free). None: as the environment variable LOOP_PROVIDER_ADDRESS says, else stdio.
        interfaces: Instead of those declared.
        wit: Instead of the declared file or folder.
        imports: Instead of those declared.
        token: What whoever connects must show.
        tls: The certificate and key to serve with; with `ca`, whoever connects must have a certificate of theirs.
            Other machines are served with it alone, and only with `ca` or a token.
        login: Whom to be at a NATS server; None: as NATS_USER and NATS_PASSWORD, NATS_TOKEN or NATS_CREDS say.
        plain: Whether peers of plain wRPC are served too, over tcp, unix, quic (these alone there) and ws. They show no
            token: where one is asked for, they need a certificate.
        plain_handles: Whether functions that return resources are served to them, which they can never drop.
        generation: Goes up with every swap.
        reload: Called when the host asks for it (RELOAD, SIGHUP): reads code or configuration anew, and returns what
            to serve from then on, as `served`; None: the same. What it raises is told to the host, and all goes on as
            before.

    Raises:
        LoadError: The WIT is not sound, or the class was not declared; or it takes a grant or a config, and plain mode
            has none.
        LinkError: Members are missing or do not fit.
        PeerError: The address cannot be used, or could be reached by whoever likes.
    """
    server = server_of(
        served,
        interfaces=interfaces,
        wit=wit,
        imports=imports,
        token=token,
        generation=generation,
        reload=reload,
    )
    address = on or os.environ.get("LOOP_PROVIDER_ADDRESS") or "stdio:"
    return await _listening(server, address, tls, login, plain_handles if plain or plain_handles else None)


def server_of(
    served: Any,
    *,
    interfaces: str | Sequence[str] | None = None,
    wit: str | os.PathLike[str] | None = None,
    imports: str | Sequence[str] | None = None,
    token: str | bytes | None = None,
    generation: int = 0,
    reload: Callable[[], Any] | None = None,
) -> Server:
    """A server that listens nowhere yet: `Server.listen` and `Server.accept` are for whoever asks.

    The arguments, and what it raises, are those of `serve`.
    """
    shown = token.encode() if isinstance(token, str) else token
    if isinstance(served, Builtin):
        contract = contract_of(served.name)
        server = Server(_maker_of(served), contract, token=shown, generation=generation)
        if served.grant or served.config:
            server.open_to_all(targets(contract, _native(served)))
        return server
    cls = served if isinstance(served, type) else type(served)
    said = None if interfaces and wit else declared(cls)
    where = Path(wit) if wit is not None else said.wit if said else Path.cwd()
    wanted = names(interfaces) or (list(said.interfaces) if said else [])
    told = any(name.startswith("loop:core/") for name in wanted)
    contract = _core.Contract(where, wanted, _CORE if told else None)
    back = names(imports) or (list(said.imports) if said else [])
    anyone = _open(served)
    found = None if anyone is None else targets(contract, anyone)
    called_back = _core.Contract(where, back) if back else None
    server = Server(
        _maker(served), contract, imports=called_back, token=shown, generation=generation, reload=reload
    )
    if found is not None:
        server.open_to_all(found)
        _asking.note(anyone, server.asking())
    return server


async def serve_component(
    app: App,
    *,
    on: str,
    interfaces: str | Sequence[str] | None = None,
    token: str | bytes | None = None,
    tls: Tls | None = None,
    login: Login | None = None,
) -> Server:
    """Serves what a component exports to other processes: it is the provider of its interfaces.

    Calls share the component's instances as those of its host do. A link to it may have no grant. The resources that
    it makes belong to the session: those that the other side has not dropped are dropped with it.

    Args:
        app: The component.
        on: Where, as in `serve`.
        interfaces: Of those that it exports; None: all of them.
        token: What whoever connects must show.
        tls: As in `serve`.
        login: As in `serve`.

    Raises:
        LoadError: It exports no such interface, or one that passes resources of others.
        PeerError: The address cannot be used, or could be reached by whoever likes.
    """
    contract = _core.Contract.of(app._program, names(interfaces))
    found: list[tuple[Any, bool]] = [
        (functools.partial(app.call, f"{interface.name}#{function.name}"), True)
        for interface in contract.interfaces()
        for function in interface.functions
    ]
    server = Server(_nothing_granted, contract, token=token.encode() if isinstance(token, str) else token)
    server.open_to_all(found)
    return await _listening(server, on, tls, login)


def _nothing_granted(name: str, _grant: Any, _config: Any) -> Any:
    raise NotGranted(f"{name}: a component is granted nothing by those who call it", name)


async def _listening(
    server: Server, on: str, tls: Tls | None, login: Login | None, plain: bool | None = None
) -> Server:
    try:
        await server.listen(on, tls, login, plain)
    except BaseException:
        await server.close()
        raise
    announce(server.address)
    return server


def announce(address: str) -> None:
    """Tells the process that started this one where it listens."""
    fd = os.environ.pop("LOOP_PROVIDER_READY", None)
    if fd is not None and fd.isdigit():
        with os.fdopen(int(fd), "w", encoding="utf-8") as ready:
            ready.write(f"{address}\n")


def _wants(cls: type) -> set[str]:
    try:
        parameters = inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return set()
    return {"grant", "config"} & set(parameters)


def _maker(served: Any) -> Callable[[str, Any, Any], Any]:
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


def _native(served: Builtin) -> Opened:
    hub, engine = hub_and_engine(asyncio.get_running_loop())
    return Opened(served, engine, hub)


def _maker_of(served: Builtin) -> Callable[[str, Any, Any], Any]:
    """What makes a native provider for each link.

    Where whoever serves it has said what it may touch, that goes for all, and no link can ask for more.
    """

    def make(name: str, grant: Any, config: Any) -> Any:
        if not served.grant and not served.config:
            return _native(Builtin(served.name, config or {}, grant or {}))
        if grant or config:
            raise NotGranted(
                f"{name}: what builtin:{served.name} may touch here is set where it is served", name
            )
        return _native(served)

    return make


def _open(served: Any) -> Any | None:
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


def _hung_up(server: Server) -> None:
    try:
        server.reload()
    except Exception:
        logging.getLogger(__name__).exception("the reload failed; the old code goes on")


def _keep_memory() -> None:
    """Has the C library keep what large values leave, for the next: new memory costs more than to send the bytes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc alone gives it back at once
    if mallopt is not None:
        for option, size in ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 128 << 20)):
            mallopt(option, size)


async def run(served: Any, *, on: str | None, **options: Any) -> None:
    """Serves until SIGTERM or SIGINT comes, or, on stdio, until the other side has gone; SIGHUP reloads."""
    _keep_memory()
    stop = stop_signal()
    await until_stopped(await serve(served, on=on, **options), stop)


def stop_signal() -> asyncio.Event:
    """What SIGTERM and SIGINT set from now on. Ask for it before anybody knows where this serves."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def until_stopped(server: Server, stop: asyncio.Event) -> None:
    """Waits for `stop`, or, on stdio, until the other side has gone, and closes the server; SIGHUP reloads."""
    if server.reloads:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _hung_up, server)
    waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(stop.wait())]
    if server.address == "stdio:":
        waiting.append(asyncio.ensure_future(server.idle()))
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await server.close()
