"""Loads what a workspace consists of: its components' code, what provides their imports, and the links between them."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loop_kit import _asking, inspect
from loop_kit import manifest as manifests
from loop_kit._gate import Gate
from loop_kit._host import read
from loop_kit._members import Entry, Key, digest_of
from loop_kit._modules import file_of
from loop_kit._parts import Asked, Bound, Part, Parts
from loop_kit._relay import unwell
from loop_kit._session import aclose_of
from loop_kit._shipped import Shipped, limits_of, shipped
from loop_kit._swaps import STORE
from loop_kit._types import Err
from loop_kit.dev._command import make
from loop_kit.dev.engine import accept, split, wants_code
from loop_kit.errors import LoadError, ProviderGone
from loop_kit.host import App
from loop_kit.limits import Limits
from loop_kit.manifest import Component, Manifest, Provider
from loop_kit.manifest._match import ImportName
from loop_kit.manifest._scan import Keys
from loop_kit.manifest._use import is_shipped
from loop_kit.pkg import Tools
from loop_kit.placements import remote, sidecar
from loop_kit.placements._supervisor import Supervisor
from loop_kit.placements.builtin import Builtin, anchored, plain
from loop_kit.placements.component import SETTINGS, Settings, wants_settings
from loop_kit.placements.python import python
from loop_kit.store.loading import Artifacts, artifact_of, entry_of
from loop_kit.wasi import Dir, Wasi

if TYPE_CHECKING:
    from loop_kit.workspace import Workspace

__all__ = ["Loader"]

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
    return provider.path if provider.module is None else file_of(provider.module, folder)


class Loader:
    """Loads the members of a workspace, as its manifest says.

    Args:
        of: The workspace, which keeps what is loaded.
        stdio: Whether components have this process's standard streams where the manifest grants them.
        audit: Whether each call of an import is logged.
        make: Builds a component before it is loaded, and says which file to load. None: as `build` says.

    Attributes:
        artifacts: The artifacts that are loaded.
    """

    def __init__(
        self, of: Workspace, stdio: bool, audit: bool, make: Callable[[Component], Awaitable[Path]] | None
    ) -> None:
        self._of = of
        self._stdio = stdio
        self._audit = audit
        self.make = make
        self.artifacts = Artifacts()
        self._watches = AsyncExitStack()

    async def quiet(self) -> None:
        """Ends what tells components of changes."""
        await self._watches.aclose()

    async def build(self, component: Component) -> Path:
        """Runs a component's `build`, if it has one, and returns the file to load."""
        if await asyncio.to_thread(self.artifacts.admit, component, self._of.manifest):
            return component.path
        if self.make is not None:
            return await self.make(component)
        await make(component, self._of.manifest.folder, Tools.of(self._of.manifest))
        return component.path

    async def own(self, name: str, parts: Parts) -> App:
        """A component of the workspace: the one that is to serve, where it is exchanged."""
        apps = (
            parts.apps
            if name in parts.code or (parts.exchange and name not in self._of._apps)
            else self._of._apps
        )
        if name not in apps:
            component, entry = parts.manifest.components[name], self._entry(name, parts)
            with self._of._members.starting(entry):
                path = parts.code.get(name) or await self.build(component)
                app = await self._load_component(entry, path, parts)
                if component.watch and name not in parts.code:
                    await self._watch(component, app, parts)
            apps[name] = app
        return apps[name]

    def _entry(self, component: str, parts: Parts) -> Entry:
        """What is kept of a component; of one that is exchanged, what will be."""
        key = Key("component", component)
        known = not parts.exchange or (component not in parts.code and self._of._members.knows(key))
        if known:
            return self._of._members.entry(key)
        if key not in parts.entries:
            parts.entries[key] = self._of._members.successor(key, component, far=False)
        return parts.entries[key]

    async def start(self, provider: str, parts: Parts) -> bool:
        """Has a sidecar run before any component needs it; returns whether it did not yet."""
        declared, key = parts.manifest.providers[provider], Key("provider", provider)
        self.artifacts.admit_provider(declared, parts.manifest)
        part = parts.of(provider)
        if key in part.supervised:
            return False
        entry = self._of._members.entry(key)
        with self._of._members.starting(entry):
            entry.file = _file_of(declared, parts.manifest.folder)
            part.supervised[key] = await self._start(declared, entry, parts.manifest)
        return True

    async def _load_component(self, entry: Entry, path: Path, parts: Parts) -> App:
        component = parts.manifest.components[entry.of]
        limits, wasi = Limits(**component.limits.given()), self._wasi(component)
        return await self._load(entry, path, limits, wasi, parts)

    async def _watch(self, component: Component, app: App, parts: Parts) -> None:
        """Has the component told of changes, until the workspace is closed."""
        from loop_kit.capabilities.keyvalue import watch

        where = ("components", component.name, "watch")
        link = parts.manifest.link_for(component.name, STORE)
        if link is None:
            raise parts.manifest.error(
                where, "nothing provides its buckets", 'link its import "wasi:keyvalue"'
            )
        provider = parts.manifest.providers[link.provider]
        store: Any = parts.of(provider.name).python.get(repr(link.grant))
        if not hasattr(getattr(store, "Bucket", None), "changes"):
            hint = 'use "python:loop_kit.capabilities.keyvalue:NatsKeyValue" has, and ":KeyValue" for a file'
            raise parts.manifest.error(where, f"{provider.use} has no changes to watch", hint)
        try:
            await self._watches.enter_async_context(watch(app, store, *component.watch))
        except Err as error:
            raise parts.manifest.error(where, f"cannot be watched: {error}") from None

    async def _load(
        self,
        entry: Entry,
        path: Path | Shipped,
        limits: Limits,
        wasi: Wasi,
        parts: Parts,
        settings: Settings | None = None,
    ) -> App:
        """Loads the code at `path` as a member, linked through gates to what `parts` has for its imports."""
        name = entry.key.name if entry.key.kind == "component" else None
        fetched = artifact_of(entry.key.kind, entry.of, path, parts.manifest)
        called = name or (entry.of if fetched is not None else Path(path).name)
        try:
            # read once, so that the digest is of what runs
            if fetched is None:
                if not isinstance(path, Shipped):
                    self.artifacts.admit_file(f"{entry.key.kind}s.{entry.of}", parts.manifest)
                held = await asyncio.to_thread(read, path)
            else:
                held = read(await asyncio.to_thread(self.artifacts.code, *fetched, parts.manifest))
            # engines are for `loop dev` alone
            wasm, code = (held, None) if self.make is None else split(held)
            names = await asyncio.to_thread(inspect.imports, wasm)
        except OSError as e:
            raise LoadError(f"cannot read {path}: {e.strerror}") from None
        imports: dict[str, Any] = {}
        asked = wants_code(names) if code is not None else None
        if asked is not None:
            imports[asked] = code
        told = wants_settings(names)
        if told is not None:
            imports[told] = settings or Settings()
        # by link and package: interfaces of one package hand each other their resources
        made: dict[tuple[Keys, str], Bound] = {}
        for wanted in names:
            if wanted in (told, asked):
                continue
            link = parts.manifest.link_for(name, wanted)
            if link is not None:
                to = link.keys, ImportName.parse(wanted).package
                if to not in made:
                    asks = Asked(link.provider, link, entry.key, called, wanted)
                    served = await self.provide(asks, parts)
                    made[to] = Bound(asks, Gate(self._of.host._attach(), served))
                imports[wanted] = made[to].gate
                made[to].interfaces.append(wanted)
                self._of._members.linked(entry.key, wanted, Key("provider", link.provider), link)
        audit = functools.partial(_audited, called) if self._audit else None
        limits = limits_of(path, limits)
        app = await self._of.host.load(wasm, imports, limits=limits, wasi=wasi, audit=audit)
        if asked is not None:
            try:
                await accept(app, called)
            except LoadError:
                await asyncio.to_thread(app._program.close)
                raise
        self._of._swaps.bound(app, made.values())
        entry.digest = await asyncio.to_thread(digest_of, held)
        entry.ends.append(functools.partial(asyncio.to_thread, app._program.close))
        return app

    async def provide(self, asked: Asked, parts: Parts) -> Any:
        """What serves an import, of the provider's part in `parts`; it says that it is well, where it says that."""
        made = await self._made(asked, parts)
        if (why := await unwell(self._of.host, made)) is not None:
            raise LoadError(f"{asked.provider} is not well: {why}")
        return made

    async def _made(self, asked: Asked, parts: Parts) -> Any:
        provider, link = parts.manifest.providers[asked.provider], asked.link
        config, grant = manifests.reveal(provider.config), link.grant
        if provider.shipped or provider.shipped_aside:
            config = anchored(config, self._of.manifest.folder)
        part = parts.of(provider.name)
        # a process for each link is a member for each
        aside = provider.placement == "sidecar" and provider.isolate
        alone = f" {asked.called}/{link.name}" if aside else ""
        member = Key("provider", f"{provider.name}{alone}")
        self._of._members.use(asked.importer, member)
        self.artifacts.admit_provider(provider, parts.manifest)
        if part.fresh and member not in part.entries:
            far = provider.placement == "remote"
            part.entries[member] = self._of._members.successor(member, provider.name, far)
        entry = part.entries.get(member) or self._of._members.entry(member, provider.name)
        with self._of._members.starting(entry):
            entry.file = _file_of(provider, self._of.manifest.folder)
            match provider.placement:
                case "builtin" if provider.target == "devserver":
                    return self._itself(provider, grant, asked.called, entry, part)
                case "builtin":
                    return Builtin(provider.target, config, grant, asked.called)
                case "python":
                    key = repr(grant)  # links with the same grant share an object
                    if key not in part.python:
                        # code that needs no trust must not bring modules of the workspace in
                        folder = None if provider.shipped else provider.folder or self._of.manifest.folder
                        made = python(
                            provider.target,
                            config=config,
                            grant=grant,
                            folder=folder,
                            anew=part.fresh,
                            paths=provider.paths,
                        )
                        part.python[key] = made
                        _asking.note(made, self._of._swaps.asking(provider.name))
                        if (aclose := aclose_of(made)) is not None:
                            entry.ends.append(aclose)
                    return part.python[key]
                case "component":
                    return await self._component(provider, config, grant, entry, parts)
                case "sidecar" | "remote":
                    if member not in part.supervised:
                        part.supervised[member] = await self._start(provider, entry, parts.manifest)
                    routes = part.supervised[member].running.routes
                    name = f"{asked.called}/{asked.wanted}"
                    return await routes.bind(name, grant=grant, config=config, budget=link.budget)

    def _itself(
        self, provider: Provider, grant: Mapping[str, Any], importer: str, entry: Entry, part: Part
    ) -> Any:
        """This workspace, as one of its members sees it."""
        if provider.config:
            raise LoadError(f"providers.{provider.name}: {provider.use} takes no config")
        if self._of.shown is None:
            raise LoadError(
                f"providers.{provider.name}: {provider.use} is there where a workspace is looked after: "
                "by `loop dev`, `loop up` or `loop x`"
            )
        key = repr((importer, grant))
        if key not in part.python:
            part.python[key] = self._of.shown(grant, importer)
            entry.ends.append(part.python[key].aclose)
        return part.python[key]

    async def _start(self, provider: Provider, entry: Entry, manifest: Manifest) -> Supervisor[Any]:
        """Starts a sidecar, or a session with what runs elsewhere."""
        made: Supervisor[Any]
        asked = functools.partial(self._of._swaps.ask, provider.name)
        if provider.placement == "sidecar":
            admit = None
            if provider.artifact is not None:
                entry.digest = entry_of(f"providers.{provider.name}", provider.artifact).digest
                admit = functools.partial(asyncio.to_thread, self.artifacts.provider, provider, manifest)
            engine, life = self._of.host._engine, entry.life
            made = await sidecar.start(engine, provider, manifest.folder, life, asked, self._ill, admit)
            entry.pid = functools.partial(_pid, made)
        else:
            made = await remote.start(self._of.host._engine, provider, entry.life, asked, self._ill)
        entry.supervised, entry.restart = True, made.restart
        entry.ends.append(made.aclose)
        return made

    async def _ill(self, running: sidecar.Sidecar | remote.Connection) -> str | None:
        """Why something that runs for a provider cannot do what it provides, if so."""
        for route in running.routes.routes.values():
            if (why := await unwell(self._of.host, route)) is not None:
                return why
        return None

    async def _component(
        self, provider: Provider, config: Any, grant: Any, entry: Entry, parts: Parts
    ) -> App:
        """A component that serves others: one for all, or one a grant where it asks what it is."""
        shipped_ = shipped(provider.target) if is_shipped(provider.target) else None
        own = parts.manifest.components.get(provider.target) if provider.path is None else None
        if own is not None:
            self._of._members.use(Key("provider", provider.name), Key("component", own.name))
        path: Path | Shipped | None = shipped_ or provider.path
        if own is not None:
            path = parts.code.get(own.name) or await self.build(own)
        assert path is not None
        if provider.artifact is not None:
            what = f"providers.{provider.name}"
            await asyncio.to_thread(self.artifacts.check, what, provider.artifact, parts.manifest)
        try:
            imports = await asyncio.to_thread(inspect.imports, path)
        except OSError as e:
            raise LoadError(f"providers.{provider.name}: cannot read {path}: {e.strerror}") from None
        if wants_settings(imports) is None:
            for what, given in (("config", config), ("grant", grant)):
                if given:
                    raise LoadError(
                        f"providers.{provider.name}: a component that does not import {SETTINGS} takes no {what}; "
                        "limit what it is linked to itself"
                    )
            if own is not None:
                return await self.own(own.name, parts)
        # each provider ends alone, and keeps what it knows for itself
        key = f"{provider.name} {json.dumps([plain(config), plain(grant)], sort_keys=True)}"
        within = _WITHIN.get()
        if key in within:
            message = f"{provider.name} would be linked to itself"
            hint = "link it in [components.NAME.imports], and what it needs itself in [links]"
            raise parts.manifest.error(("providers", provider.name), message, hint)
        part = parts.of(provider.name)
        apps = part.apps if part.fresh else self._of._apps
        if key not in apps:
            limits = Limits(**(own or parts.manifest).limits.given())
            wasi = self._wasi(own) if own is not None else Wasi()
            token = _WITHIN.set(within | {key})
            try:
                if own is not None:
                    entry = self._entry(own.name, parts)
                with self._of._members.starting(entry):
                    made = await self._load(entry, path, limits, wasi, parts, Settings(config, grant))
                    part.apps[key] = apps[key] = made
            finally:
                _WITHIN.reset(token)
        return apps[key]

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
