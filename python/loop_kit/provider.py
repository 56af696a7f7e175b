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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from loop_kit import _asking, _core
from loop_kit._asking import ask_exchange
from loop_kit._server import Server, anyone_of, maker, maker_of_native, native
from loop_kit._session import (
    names,
    targets,
)
from loop_kit.errors import LoadError, NotGranted
from loop_kit.manifest.model import Login, Tls
from loop_kit.placements.builtin import Builtin, contract_of

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
        server = Server(maker_of_native(served), contract, token=shown, generation=generation)
        if served.grant or served.config:
            server.open_to_all(targets(contract, native(served)))
        return server
    cls = served if isinstance(served, type) else type(served)
    said = None if interfaces and wit else declared(cls)
    where = Path(wit) if wit is not None else said.wit if said else Path.cwd()
    wanted = names(interfaces) or (list(said.interfaces) if said else [])
    told = any(name.startswith("loop:core/") for name in wanted)
    contract = _core.Contract(where, wanted, _CORE if told else None)
    back = names(imports) or (list(said.imports) if said else [])
    anyone = anyone_of(served)
    found = None if anyone is None else targets(contract, anyone)
    called_back = _core.Contract(where, back) if back else None
    server = Server(
        maker(served), contract, imports=called_back, token=shown, generation=generation, reload=reload
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
