"""Providers driven without a component, in whatever placement."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from loop_kit import _core, inspect, peer, provider
from loop_kit._session import aclose_of
from loop_kit._shipped import shipped
from loop_kit.errors import LoadError
from loop_kit.exports import Exports
from loop_kit.host import App, Host
from loop_kit.manifest._use import is_shipped
from loop_kit.placements._process import Child, Command
from loop_kit.placements._ready import listen_on
from loop_kit.placements.builtin import Builtin, driven
from loop_kit.placements.component import Settings, wants_settings
from loop_kit.placements.python import class_of, python
from loop_kit.provider import declared

__all__ = ["Placed", "client"]

_START = 60.0
_KINDS = ("builtin", "python", "component", "remote")
_FORMS = "expected builtin:NAME, python:module:Class, component:FILE, component:loop:PACKAGE/WHAT or remote:ADDRESS"


@contextlib.asynccontextmanager
async def client(
    capability: str,
    *,
    provider: Any = None,
    config: Mapping[str, Any] | None = None,
    grant: Mapping[str, Any] | None = None,
    imports: Mapping[str, Any] | None = None,
    placement: str | None = None,
    transport: str | None = None,
) -> AsyncIterator[Exports]:
    """Drives a provider without a component: the same code, the same grant, the same checks of every value.

        async with client("loop:fsx", grant={"roots": {"docs": {"path": "/srv/docs"}}}, placement="sidecar") as fsx:
            docs = await fsx.files.root("docs")
            assert await docs.read("hello.txt") == b"hello"

    Interfaces are attributes, with functions to await and classes for resources. The error case of a WIT `result` is
    raised as `loop_kit.Err`; streams are asynchronous iterators.

    Args:
        capability: The package, `loop:fsx`.
        provider: `builtin:NAME`, `python:module:Class` (or the class itself), `component:FILE`, or `remote:ADDRESS`.
            None: the native one of the package.
        config: What the provider is configured with.
        grant: What it may touch.
        imports: For a component: what its own imports are linked to.
        placement: `builtin`, `python` or `component` (in this process; what the provider is), `sidecar` (a process
            that is started for it) or `remote` (a process that serves at an address). None: in this process.
        transport: For the last two: `unix` (the default), `stdio`, `shm`, `tcp`, `quic`, `http2` or `ws`.

    Raises:
        LoadError: There is no such provider, it cannot be placed so, or its config or grant does not do.
        NotGranted: It refuses the grant.
        PeerError: It cannot be reached.
    """
    async with (
        Placed(capability, provider, imports=imports, placement=placement, transport=transport) as placed,
        placed.client(config=config, grant=grant) as made,
    ):
        yield made


class Placed:
    """A provider in its placement, for clients under different grants; an async context manager.

    Attributes:
        provider: As it was given, in words.
        placement: Where it runs.
        transport: What it is reached by; "" in this process.
        address: Where, once it was entered.
        token: What it asks for.
    """

    def __init__(
        self,
        capability: str,
        provider: Any = None,
        *,
        imports: Mapping[str, Any] | None = None,
        placement: str | None = None,
        transport: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        """The arguments are those of `client`; `settings` are a component's config and grant, wherever it runs.

        Raises:
            LoadError: It cannot be placed so.
        """
        self.capability = capability
        name = capability.rpartition(":")[2]
        given = f"builtin:{name}" if provider is None else provider
        if isinstance(given, type):
            given = f"python:{given.__module__}:{given.__qualname__}"
        if not isinstance(given, str) or ":" not in given:
            raise LoadError(
                f"{given!r} is no provider: builtin:NAME, python:module:Class, component:FILE, remote:ADDRESS"
            )
        kind, _, target = given.partition(":")
        if kind not in ("builtin", "python", "component", "remote"):
            raise LoadError(f"{given}: expected builtin:, python:, component: or remote:")
        self.provider = given
        self.placement = placement or kind
        if self.placement not in (kind, "sidecar", "remote") or (kind == "remote" != self.placement):
            raise LoadError(f"{given} cannot be placed as {self.placement!r}: use {kind}, sidecar or remote")
        self._inside = self.placement == kind != "remote"
        if transport is not None and self._inside:
            raise LoadError(
                f"{given} runs in this process: a transport goes with placement sidecar or remote"
            )
        self.transport = "" if self._inside else transport or "unix"
        self.address = target if kind == "remote" else ""
        self.token: str | None = None
        self._kind, self._target = kind, target
        self._settings = settings
        self._interfaces: list[str] = []  # all of the package
        self._imports = dict(imports or {})
        self._child: Child | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Placed:
        if not self._inside and self._kind != "remote":
            if self._kind == "component":
                await self._serve_component()
            elif self.transport != "stdio":
                self._child = await Child.start(self._command())
                self.address, self.token = self._child.address, self._child.token
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        child, self._child = self._child, None
        if child is not None:
            await child.stop()

    @contextlib.asynccontextmanager
    async def client(
        self, *, config: Mapping[str, Any] | None = None, grant: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Exports]:
        """The provider under a grant, on the running loop, which need not be that which entered this.

        Raises:
            LoadError, NotGranted, PeerError: As `client`.
        """
        config, grant = _plain(config), _plain(grant)
        if self._kind == "component" and (config or grant) and not self._inside:
            raise LoadError(
                f"{self.provider}: a component that is served has its config and grant from the start"
            )
        async with contextlib.AsyncExitStack() as stack:
            if not self._inside:
                yield await stack.enter_async_context(self._session(config, grant))
            elif self._kind == "builtin":
                made = Builtin(self._target, config, grant)
                yield await stack.enter_async_context(driven(made))
            elif self._kind == "python":
                yield await stack.enter_async_context(self._python(config, grant))
            else:
                host = await stack.enter_async_context(Host())
                settings = Settings(config, grant) if config or grant else self._settings
                yield (await self._load(host, settings)).exports

    def _contract(self) -> tuple[Path, list[str]]:
        """The WIT that the provider's interfaces are in, and their names."""
        if self._kind == "python":
            said = declared(class_of(self._target))
            return said.wit, list(said.interfaces)
        if self._kind == "builtin":
            self._interfaces = dict(_core.capabilities()).get(self._target, [])
        folder = Path(__file__).parents[1] / "capabilities" / self.capability.rpartition(":")[2] / "wit"
        return folder, self._interfaces

    def _command(self) -> Command:
        target = f"builtin:{self._target}" if self._kind == "builtin" else self._target
        argv = (sys.executable, "-m", "loop_kit.serve", target)
        paths = os.pathsep.join(path for path in sys.path if path)
        return Command(
            self.capability, argv, Path.cwd(), {"PYTHONPATH": paths}, self.transport, start_timeout=_START
        )

    @contextlib.asynccontextmanager
    async def _session(self, config: Mapping[str, Any], grant: Mapping[str, Any]) -> AsyncIterator[Exports]:
        where: str | tuple[int, int] = self.address
        async with contextlib.AsyncExitStack() as stack:
            if self.transport == "stdio":
                child = await Child.start(self._command())
                stack.push_async_callback(child.stop)
                where = child.take_pipes()
            wit, interfaces = self._contract()
            session = await stack.enter_async_context(
                await peer.connect(where, interfaces, wit=wit, token=self.token, identity="client")
            )
            link = 0 if self._kind == "component" else 1
            if link:
                await session.link(link, f"client/{self.capability}", _json(grant), _json(config))
            yield session.exports(link)

    @contextlib.asynccontextmanager
    async def _python(self, config: Mapping[str, Any], grant: Mapping[str, Any]) -> AsyncIterator[Exports]:
        """A Python provider here: every value passes a wire that does not leave the process."""
        instance = python(self._target, config=config, grant=grant, folder=None)
        wit, interfaces = self._contract()
        here, there = (end.detach() for end in socket.socketpair())
        server = provider.server_of(instance)
        server.accept(there, there)
        try:
            async with await peer.connect((here, here), interfaces, wit=wit, identity="client") as session:
                yield session.exports()
        finally:
            await server.close(0)
            if (aclose := aclose_of(instance)) is not None:
                await aclose()

    async def _load(self, host: Host, settings: Settings | None) -> App:
        component = shipped(self._target) if is_shipped(self._target) else self._target
        names = await asyncio.to_thread(inspect.imports, component)
        told, imports = wants_settings(names), dict(self._imports)
        if told is not None:
            imports[told] = settings or Settings()
        elif settings is not None and settings.said:
            raise LoadError(
                f"{self.provider}: takes no config and no grant; grant what its imports are linked to"
            )
        return await host.load(component, imports)

    async def _serve_component(self) -> None:
        host = await self._stack.enter_async_context(Host())
        app = await self._load(host, self._settings)
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.token = secrets.token_hex(16)
        address = listen_on(self.transport, None, folder, exact=False)
        exported = [name for name in app.exports if name.startswith(f"{self.capability}/")]
        self._interfaces = [name.partition("@")[0] for name in exported]
        server = await provider.serve_component(
            app, on=address, interfaces=self._interfaces, token=self.token
        )
        self._stack.push_async_callback(server.close, 0)
        self.address = server.address


def _plain(value: Any) -> Any:
    if value is None:
        return {}
    return json.loads(json.dumps(value, default=os.fspath))


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value) if value else ""
