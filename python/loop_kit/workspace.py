"""A workspace's components, built and linked as its manifest says."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

from loop_kit import _core, inspect
from loop_kit import manifest as manifests
from loop_kit._host import read
from loop_kit._members import Key, Linked, Member, Members, digest_of
from loop_kit._session import aclose_of
from loop_kit._shipped import Shipped, limits_of, shipped
from loop_kit._types import Err
from loop_kit.dev._command import make
from loop_kit.errors import LoadError, ProviderGone
from loop_kit.host import App, Host
from loop_kit.limits import Limits
from loop_kit.manifest import Component, Link, Manifest, Provider
from loop_kit.manifest._match import ImportName
from loop_kit.manifest._scan import Keys
from loop_kit.manifest._use import is_shipped
from loop_kit.placements import remote, sidecar
from loop_kit.placements._lifecycle import State
from loop_kit.placements._supervisor import Supervisor
from loop_kit.placements.builtin import Builtin, anchored, plain
from loop_kit.placements.component import SETTINGS, Settings, wants_settings
from loop_kit.placements.python import python
from loop_kit.wasi import Dir, Wasi

__all__ = ["Workspace"]

_AUDIT = logging.getLogger("loop_kit.audit")
_WITHIN: ContextVar[frozenset[str]] = ContextVar("loop_kit.loading", default=frozenset())
"""The providers that are loaded so that one of them can be."""


def _audited(component: str, interface: str, function: str, arguments: str) -> None:
    said = {"component": component, "interface": interface, "function": function}
    _AUDIT.info("%s uses %s#%s(%s)", component, interface, function, arguments, extra=said)


def _pid(supervisor: Supervisor[sidecar.Sidecar]) -> int | None:
    try:
        return supervisor.running.child.pid
    except ProviderGone:
        return None


def _file_of(provider: Provider, folder: Path) -> Path | None:
    """The one file that a provider of the user's is written in, as far as the manifest tells."""
    if provider.placement == "component":
        return None  # its bytes are at hand when it is loaded
    target = provider.target if provider.placement == "python" else provider.target.removeprefix("python:")
    if provider.path is None and ":" in target and not target.startswith("builtin:"):
        module = folder.joinpath(*target.partition(":")[0].split("."))
        return next(
            (file for file in (module.with_suffix(".py"), module / "__init__.py") if file.is_file()), None
        )
    return provider.path


def _python_key(provider: Provider, link: Link) -> str:
    """Links with the same grant share an object."""
    return f"{provider.name} {link.grant!r}"


class Workspace:
    """Loads the components of a manifest into a host; a provider that is a component is loaded once.

    As an async context manager, within that of the host, it ends the sidecars, the sessions with remote providers, and
    Python providers that have an `aclose()`.

    Args:
        host: The host.
        manifest: The manifest.
        stdio: Whether components have this process's standard streams where the manifest grants them.
        audit: Whether each call of an import is logged, by the logger `loop_kit.audit`.
    """

    def __init__(self, host: Host, manifest: Manifest, *, stdio: bool = True, audit: bool = False) -> None:
        self.host = host
        self.manifest = manifest
        self._stdio = stdio
        self._audit = audit
        self._apps: dict[str, App] = {}
        self._python: dict[str, Any] = {}
        self._sidecars: dict[str, Supervisor[sidecar.Sidecar]] = {}
        self._remotes: dict[str, Supervisor[remote.Connection]] = {}
        self._watches = AsyncExitStack()
        self._members = Members(manifest)

    async def __aenter__(self) -> Workspace:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends all that runs, in good order: whoever uses a provider before it. Again is harmless."""
        await self._watches.aclose()
        for kept in (self._sidecars, self._remotes, self._python):
            kept.clear()
        await self._members.aclose()

    def members(self) -> list[Member]:
        """All components and providers of the manifest, as they are now; what nobody has needed yet is stopped."""
        return self._members.all()

    def links(self) -> list[Linked]:
        """The imports of what is loaded, and who provides them."""
        return self._members.links()

    def listen(self, told: Callable[[Member], object]) -> Callable[[], None]:
        """Has `told` called with each member that comes into another phase; returns what ends that."""
        return self._members.listen(told)

    async def restart(self, name: str) -> None:
        """Ends a member in good order and starts it again; calls of it fail meanwhile.

        Raises:
            KeyError: There is none of that name that was needed.
            LoadError: It cannot be started, or runs in the host's own process and ends with it.
        """
        entry = self._members.find(name)
        if entry is None:
            raise KeyError(name)
        if entry.restart is None:
            raise LoadError(
                f"{name} {'runs in' if entry.life.state is State.READY else 'is of'} the host's process"
            )
        await entry.restart()

    async def reload(self) -> None:
        """Has every sidecar that runs read its code anew, all at once.

        Raises:
            ExceptionGroup: A LoadError for each that could not, and goes on as before.
        """
        sessions = [
            sup.running.session for sup in self._sidecars.values() if sup.lifecycle.state is State.READY
        ]
        results = await asyncio.gather(*(session.reload() for session in sessions), return_exceptions=True)
        if failed := [item for item in results if isinstance(item, Exception)]:
            raise ExceptionGroup("sidecars that did not reload", failed)

    def routes(self) -> dict[str, _core.Route]:
        """Where the links go that leave this process and are there, by `component/interface`."""
        supervised: list[Supervisor[Any]] = [*self._sidecars.values(), *self._remotes.values()]
        running = [sup.running.routes for sup in supervised if sup.lifecycle.state is State.READY]
        return {name: route for of in running for name, route in of.routes.items()}

    async def build(self, name: str) -> None:
        """Runs the component's `build`, if it has one, in the manifest's folder.

        Raises:
            LoadError: The command cannot be started, fails, or leaves no component.
        """
        await make(self.manifest.components[name], self.manifest.folder)

    async def load(self, name: str) -> App:
        """Loads a component with everything that its imports are linked to.

        Raises:
            LoadError: It, or a provider, cannot be loaded.
            ManifestError: The manifest is not decided about an import, or a secret cannot be read.
        """
        if name not in self._apps:
            component, key = self.manifest.components[name], Key("component", name)
            with self._members.starting(key):
                await self.build(name)
                limits, wasi = Limits(**component.limits.given()), self._wasi(component)
                app = await self._load(key, component.path, limits, wasi)
                if component.watch:
                    await self._watch(component, app)
            self._apps[name] = app
        return self._apps[name]

    async def _watch(self, component: Component, app: App) -> None:
        """Has the component told of changes, until the workspace is closed."""
        from loop_kit.capabilities.keyvalue import watch

        where = ("components", component.name, "watch")
        link = self.manifest.link_for(component.name, "wasi:keyvalue/store@0.2.0-draft")
        if link is None:
            raise self.manifest.error(
                where, "nothing provides its buckets", 'link its import "wasi:keyvalue"'
            )
        provider = self.manifest.providers[link.provider]
        store: Any = self._python.get(_python_key(provider, link))
        if not hasattr(getattr(store, "Bucket", None), "changes"):
            hint = 'use "python:loop_kit.capabilities.keyvalue:NatsKeyValue" has, and ":KeyValue" for a file'
            raise self.manifest.error(where, f"{provider.use} has no changes to watch", hint)
        try:
            await self._watches.enter_async_context(watch(app, store, *component.watch))
        except Err as error:
            raise self.manifest.error(where, f"cannot be watched: {error}") from None

    async def _load(
        self,
        member: Key,
        path: Path | Shipped,
        limits: Limits,
        wasi: Wasi,
        settings: Settings | None = None,
    ) -> App:
        name = member.name if member.kind == "component" else None
        called = name or Path(path).name
        try:
            # read once, so that the digest is of what runs
            wasm = await asyncio.to_thread(read, path)
            names = await asyncio.to_thread(inspect.imports, wasm)
        except OSError as e:
            raise LoadError(f"cannot read {path}: {e.strerror}") from None
        imports: dict[str, Any] = {}
        told = wants_settings(names)
        if told is not None:
            imports[told] = settings or Settings()
        # by link and package: interfaces of one package hand each other their resources
        made: dict[tuple[Keys, str], Any] = {}
        for wanted in names:
            if wanted == told:
                continue
            link = self.manifest.link_for(name, wanted)
            if link is not None:
                provider = self.manifest.providers[link.provider]
                to = link.keys, ImportName.parse(wanted).package
                if to not in made:
                    made[to] = await self._provide(provider, link, member, called, wanted)
                imports[wanted] = made[to]
                self._members.linked(member, wanted, Key("provider", provider.name), link)
        audit = functools.partial(_audited, called) if self._audit else None
        limits = limits_of(path, limits)
        app = await self.host.load(wasm, imports, limits=limits, wasi=wasi, audit=audit)
        entry = self._members.entry(member)
        entry.digest = await asyncio.to_thread(digest_of, wasm)
        entry.ends.append(functools.partial(asyncio.to_thread, app._program.close))
        return app

    async def _provide(self, provider: Provider, link: Link, importer: Key, called: str, wanted: str) -> Any:
        """What serves an import. `called`: the importer, for messages."""
        config, grant = manifests.reveal(provider.config), link.grant
        if provider.shipped or provider.shipped_aside:
            config = anchored(config, self.manifest.folder)
        name = f"{called}/{wanted}"
        # a process for each link is a member for each
        alone = f" {called}/{link.name}" if provider.placement == "sidecar" and provider.isolate else ""
        member = Key("provider", f"{provider.name}{alone}")
        self._members.use(importer, member)
        with self._members.starting(member, provider.name) as entry:
            entry.file = _file_of(provider, self.manifest.folder)
            match provider.placement:
                case "builtin":
                    return Builtin(provider.target, config, grant, called)
                case "python":
                    key = _python_key(provider, link)
                    if key not in self._python:
                        # code that needs no trust must not bring modules of the workspace in
                        folder = None if provider.shipped else self.manifest.folder
                        made = python(provider.target, config=config, grant=grant, folder=folder)
                        self._python[key] = made
                        if (aclose := aclose_of(made)) is not None:
                            entry.ends.append(aclose)
                    return self._python[key]
                case "component":
                    return await self._component(provider, config, grant)
                case "sidecar":
                    if member.name not in self._sidecars:
                        started = await sidecar.start(
                            self.host._engine, provider, self.manifest.folder, entry.life
                        )
                        self._sidecars[member.name] = started
                        entry.supervised, entry.restart = True, started.restart
                        entry.pid = functools.partial(_pid, started)
                        entry.ends.append(started.aclose)
                    started = self._sidecars[member.name]
                    return await sidecar.bind(started, name, grant=grant, config=config, budget=link.budget)
                case "remote":
                    if provider.name not in self._remotes:
                        connected = await remote.start(self.host._engine, provider, entry.life)
                        self._remotes[provider.name] = connected
                        entry.supervised, entry.restart = True, connected.restart
                        entry.ends.append(connected.aclose)
                    connected = self._remotes[provider.name]
                    return await remote.bind(connected, name, grant=grant, config=config, budget=link.budget)

    async def _component(self, provider: Provider, config: Any, grant: Any) -> App:
        """A component that serves others: one for all, or one a grant where it asks what it is."""
        shipped_ = shipped(provider.target) if is_shipped(provider.target) else None
        own = self.manifest.components.get(provider.target) if provider.path is None else None
        if own is not None:
            self._members.use(Key("provider", provider.name), Key("component", own.name))
            await self.build(own.name)
        path = own.path if own is not None else shipped_ or provider.path
        assert path is not None
        if wants_settings(await asyncio.to_thread(inspect.imports, path)) is None:
            for what, given in (("config", config), ("grant", grant)):
                if given:
                    raise LoadError(
                        f"providers.{provider.name}: a component that does not import {SETTINGS} takes no {what}; "
                        "limit what it is linked to itself"
                    )
            if own is not None:
                return await self.load(own.name)
        # what ships with loop-kit keeps what it knows under the name of its provider
        key = str(path) if shipped_ is None else provider.name
        key = f"{key} {json.dumps([plain(config), plain(grant)], sort_keys=True)}"
        within = _WITHIN.get()
        if key in within:
            message = f"{provider.name} would be linked to itself"
            hint = "link it in [components.NAME.imports], and what it needs itself in [links]"
            raise self.manifest.error(("providers", provider.name), message, hint)
        if key not in self._apps:
            limits = Limits(**(own or self.manifest).limits.given())
            wasi = self._wasi(own) if own is not None else Wasi()
            token = _WITHIN.set(within | {key})
            try:
                member = Key("provider", provider.name) if own is None else Key("component", own.name)
                settings = Settings(config, grant)
                self._apps[key] = await self._load(member, path, limits, wasi, settings)
            finally:
                _WITHIN.reset(token)
        return self._apps[key]

    def _wasi(self, component: Component) -> Wasi:
        granted = component.wasi
        stdio: Literal["inherit"] | None = "inherit" if granted.stdio and self._stdio else None
        env = {name: os.environ[name] for name in granted.env if name in os.environ}
        env.update(manifests.reveal(dict(component.env)))
        return Wasi(
            args=(component.name, *manifests.reveal(list(component.args))),
            env=env,
            dirs=tuple(Dir(d.host, d.guest, d.mode == "rw") for d in granted.dirs),
            net=granted.net,
            http=granted.net,
            stdin=stdio,
            stdout=stdio,
            stderr=stdio,
        )
