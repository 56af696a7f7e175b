"""Exchanges of a running workspace's providers and components: all of one, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop_kit import _core
from loop_kit import manifest as manifests
from loop_kit._diff import Change, changes, components_anew, providers_anew
from loop_kit._gate import Retired
from loop_kit._handover import Pair, Still, hand_over, idle, keeps_state, stilled
from loop_kit._members import Entry, Key, digest_of
from loop_kit._parts import Asked, Bound, Parts, uses
from loop_kit.errors import LoadError, LoopError, PeerError
from loop_kit.host import App
from loop_kit.manifest import Component, Link, Manifest
from loop_kit.manifest._match import ImportName
from loop_kit.manifest._scan import Keys
from loop_kit.placements._lifecycle import State

if TYPE_CHECKING:
    from loop_kit.workspace import Workspace

__all__ = ["DRAIN", "STORE", "Change", "Swaps"]

DRAIN = 10.0
"""Seconds that a provider has to finish what it has begun, once another serves in its place."""

ASKED = 1.0
"""Seconds from one wish of a provider to be exchanged to the next."""

STORE = "wasi:keyvalue/store@0.2.0-draft"
"""The import whose buckets a component may be told of."""

_log = logging.getLogger("loop_kit.swap")


@dataclass(eq=False, slots=True)
class _Made:
    """An import, and what is to serve it.

    Attributes:
        bound: The import.
        asked: How it is to be linked.
        provider: What is to serve it.
        commit: Has that serve it.
    """

    bound: Bound
    asked: Asked
    provider: Any
    commit: Callable[[], Retired]


class Swaps:
    """Exchanges one after the other; what they have retired ends in the background."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._bound: list[tuple[weakref.ref[App], Bound]] = []
        self._servers: dict[str, list[_core.Server]] = {}
        self._order = asyncio.Lock()
        self._under_way: asyncio.Task[Any] | None = None
        self._loading = 0
        self._loaded = asyncio.Event()
        self._closed = False
        self._retiring: set[asyncio.Task[None]] = set()
        self._asked: dict[str, float] = {}

    def bound(self, app: App, bound: Iterable[Bound]) -> None:
        """Notes what a component that was loaded is linked to."""
        self._bound = [
            (of, one) for of, one in self._bound if of() is not None and (not one.retired or one.gate.slots())
        ]
        self._bound += [(weakref.ref(app), one) for one in bound]

    def serve(self, name: str, app: App, address: str, **options: Any) -> _core.Server:
        """Serves a component over HTTP, and what takes its place."""
        server = app.serve(address, **options)
        self._servers.setdefault(name, []).append(server)
        return server

    def tallies(self) -> dict[tuple[Key, str], tuple[int, int, int]]:
        """Calls, those of them that failed, and nanoseconds of all together, by who imports what.

        Counted since the importer was loaded, whoever served them.
        """
        found: dict[tuple[Key, str], tuple[int, int, int]] = {}
        for _, one in self._alive():
            for slot in one.gate.slots() if not one.retired else ():
                key = one.asked.importer, slot.interface.name
                calls, errors, busy = found.get(key, (0, 0, 0))
                more = slot.tally
                found[key] = calls + more[0], errors + more[1], busy + more[2]
        return found

    async def aclose(self) -> None:
        """Ends an exchange that is under way, and what was retired, without waiting for what it has begun."""
        self._closed = True
        if self._under_way is not None:
            self._under_way.cancel()
        async with self._order:  # whoever waits is refused
            pass
        await asyncio.sleep(0)  # a task that was cancelled before it began would end nothing
        for task in [*self._retiring]:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    async def provider(
        self, name: str, use: str, *, dry_run: bool = False, drain: float = DRAIN, forget: bool = False
    ) -> list[Change]:
        """As `Workspace.swap`; `forget`: nothing that is known is handed over."""
        async with self._turn():
            workspace = self._workspace
            before = workspace.manifest.providers[name]
            manifest = manifests.with_use(workspace.manifest, name, use)
            bound = [one for _, one in self._alive() if one.asked.provider == name]
            told = [Change(name, before.use, use)]
            serving = [one.asked for one in bound if not one.retired]
            told += [Change(f"{one.called}/{one.wanted}", before.use, use) for one in serving]
            if not dry_run:
                parts = Parts(workspace._parts, manifest, {name})
                parts.forgets = forget
                await self._exchange(parts, {id(one): one.asked for one in bound}, drain)
            return told

    def ask(self, name: str) -> None:
        """A provider asks to be exchanged for another one of its kind; what becomes of it is logged. On any thread.

        Raises:
            PeerError: That is not to be: it is under way, or was a moment ago; or the workspace ends.
        """
        now, loop = time.monotonic(), self._workspace.host._loop
        if self._closed or loop is None:
            raise PeerError(f"{name} is not exchanged: the workspace ends")
        if now - self._asked.get(name, -ASKED) < ASKED:
            raise PeerError(f"{name} is not exchanged: it asked a moment ago")
        self._asked[name] = now
        loop.call_soon_threadsafe(self._wish, name)

    def _wish(self, name: str) -> None:
        if not self._closed:
            self._retire(self._wished(name))

    async def _wished(self, name: str) -> None:
        try:
            await self.provider(name, self._workspace.manifest.providers[name].use)
        except (LoopError, KeyError) as error:
            _log.error("%s asked to be exchanged, and goes on as before: %s", name, error)
        else:
            _log.info("%s was exchanged, as it asked", name)

    def asking(self, name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        """How an object that serves in this process asks; it does not hold this."""
        known = weakref.ref(self)

        async def ask() -> None:
            if (swaps := known()) is not None:
                swaps.ask(name)

        return ask

    async def manifest(self, manifest: Manifest, *, dry_run: bool, drain: float) -> list[Change]:
        """As `Workspace.apply`."""
        async with self._turn():
            workspace = self._workspace
            old = workspace.manifest
            if manifest.folder != old.folder:
                message = f"the workspace that runs is {old.folder}"
                raise manifest.error((), message, "start this one by itself")
            told = changes(old, manifest)
            if dry_run:
                return told
            self._refuse_watching(manifest)
            differ = components_anew(old, manifest)
            anew, fresh = differ & workspace._apps.keys(), providers_anew(old, manifest)
            # what asks for its settings is not loaded for all alike
            alike = {
                one.asked.provider
                for _, one in self._alive()
                if one.gate.provider in workspace._apps.values()
            }
            fresh |= {
                name for name, one in manifest.providers.items() if one.target in differ and name not in alike
            }
            fresh &= old.providers.keys()
            relinked = self._relinked(manifest, anew, fresh)
            code = {name: await self._code(manifest.components[name]) for name in sorted(anew)}
            await self._exchange(Parts(workspace._parts, manifest, fresh, code), relinked, drain)
            return told

    def _relinked(self, manifest: Manifest, anew: set[str], fresh: set[str]) -> dict[int, Asked]:
        """How what is linked is to be linked by another manifest, by the `id` of each `Bound` that changes.

        Adds to `anew` and `fresh` the importers that cannot go over to that, and must be loaded anew, and the providers
        of which a process is for one link alone.
        """
        groups: dict[tuple[int, Keys, str], int] = {}
        relinked: dict[int, Asked] = {}
        for app, one in self._alive():
            asked = one.asked
            if one.retired:
                continue
            of_component = asked.importer.kind == "component"
            if asked.importer.name not in (manifest.components if of_component else manifest.providers):
                continue  # it ends
            name = asked.importer.name if of_component else None
            package = ImportName.parse(asked.wanted).package
            found = [manifest.link_for(name, interface) for interface in one.interfaces]
            link, places = found[0], {each and each.keys for each in found}
            if link is not None:
                known = groups.setdefault((id(app), link.keys, package), id(one))
            if link is None or len(places) > 1 or known != id(one):
                # what was one link is several now, or the other way round
                (anew if of_component else fresh).add(asked.importer.name)
                continue
            was = asked.link
            if _matters(was, link):
                for provider in (was.provider, link.provider):
                    if provider in manifest.providers and manifest.providers[provider].isolate:
                        fresh.add(provider)
            relinked[id(one)] = Asked(link.provider, link, asked.importer, asked.called, asked.wanted)
        changed = {}
        for _, one in self._alive():
            new = relinked.get(id(one))
            if new is not None and (new.provider in fresh or _matters(one.asked.link, new.link)):
                changed[id(one)] = new
        return changed

    async def reread(self, name: str, *, drain: float) -> bool:
        """As `Workspace.reread`."""
        workspace = self._workspace
        provider = workspace.manifest.providers[name]
        part = workspace._parts.get(name)
        if part is None:
            return False  # it is read when it is needed
        rereads = provider.placement == "sidecar" and provider.module is not None
        if rereads and not any(keeps_state(route) for _, route in part.routed()):
            async with self._turn():
                for member, made in part.supervised.items():
                    if made.lifecycle.state is State.READY:
                        await made.running.session.reload()
                        workspace._members.reread(member)
            return True
        await self.provider(name, provider.use, dry_run=False, drain=drain)
        return True

    async def component(
        self,
        name: str,
        path: Path | None = None,
        *,
        dry_run: bool = False,
        anew: bool = False,
        drain: float = DRAIN,
    ) -> list[Change]:
        """As `Workspace.replace`; `anew`: also where it is the same code, which knows nothing then."""
        async with self._turn():
            workspace = self._workspace
            if name not in workspace._apps:
                raise KeyError(name)
            key = Key("component", name)
            now = workspace._members.entry(key)
            path = path or await workspace.code(name)
            held = await asyncio.to_thread(digest_of, path)
            if held is not None and held == now.digest and not anew:
                return []
            if dry_run:
                return [Change(name, str(now.digest), held or f"{path}, which is not there")]
            parts = Parts(workspace._parts, workspace.manifest, (), {name: path})
            parts.forgets = anew
            await self._exchange(parts, {}, drain)
            return [Change(name, str(now.digest), str(parts.entries[key].digest))]

    async def _exchange(self, parts: Parts, relinked: Mapping[int, Asked], drain: float) -> None:
        """Has everything that `parts` says anew take its place at once, or nothing.

        Args:
            parts: By what manifest, and what of it begins anew.
            relinked: By the `id` of what is bound, how it is to be linked; what its importer is linked to when that is
                loaded anew does not matter.
            drain: Seconds for what has begun.
        """
        workspace, members = self._workspace, self._workspace._members
        for name in parts.fresh:
            self._refuse_watched(name)
        put_back = members.keep()
        served: list[tuple[_core.Server, App]] = []
        async with contextlib.AsyncExitStack() as stack:
            try:
                made = await self._linked(parts, relinked)
                handed = self._handed(parts, made)
                await stack.enter_async_context(stilled(self._stills(handed, parts)))
                await hand_over(workspace.host, handed)
                for name in parts.code:
                    for server in self._servers.get(name, ()):
                        # or it serves no HTTP, as its servers all find
                        server.exchange(parts.apps[name]._program)
                        served.append((server, workspace._apps[name]))
                for name, part in parts.fresh.items():
                    if (why := part.over()) is not None:
                        raise LoadError(f"{name} ended before it served: {why}")
            except BaseException:
                for server, app in served:
                    server.exchange(app._program)
                put_back(entry.key for entry in parts.made())
                await self._end(parts.made())
                raise
            # nothing waits in this, and nothing fails
            self._commit(parts, made, drain)

    async def _linked(self, parts: Parts, relinked: Mapping[int, Asked]) -> list[_Made]:
        """Makes what `parts` says anew, linked to the imports that it is to serve."""
        workspace, made = self._workspace, []
        for name in parts.code:
            await workspace._loader.own(name, parts)
        for _, one in self._alive():
            importer = one.asked.importer
            gone = importer.name in (parts.code if importer.kind == "component" else parts.fresh)
            to = relinked.get(id(one))
            now = next((name for name in parts.code if one.gate.provider is workspace._apps[name]), None)
            new = importer in parts.entries or any(importer in part.entries for part in parts.fresh.values())
            if ((gone or new) and not one.retired) or (to is None and now is None):
                continue
            try:
                provider = parts.apps[now or ""] if to is None else await workspace._loader.provide(to, parts)
                # linked on another thread: what is compiled or opened must not hold up the loop
                commit = await asyncio.to_thread(one.gate.prepare, provider)
            except LoopError:
                if one.retired:
                    continue  # it ends with what it has
                raise
            made.append(_Made(one, to or one.asked, provider, commit))
        return made

    def _handed(self, parts: Parts, made: list[_Made]) -> list[Pair]:
        """The providers that know something, with those that are to go on with it."""
        workspace = self._workspace
        pairs: list[Pair] = []
        if parts.forgets:
            return pairs
        for each in made:
            name, old = each.asked.provider, each.bound.gate.provider
            before, after = workspace._parts.get(name), parts.fresh.get(name)
            same = each.bound.asked.provider == name and not each.bound.retired
            if not same or before is None or after is None or not keeps_state(old):
                continue
            if (why := before.over()) is not None:
                _log.warning("%s is not there to tell what it knows: %s", name, why)
                continue
            pairs.append(Pair(name, old, each.provider, before.whose(old), after.whose(each.provider)))
        for name in parts.code:
            old, app = workspace._apps.get(name), parts.apps[name]
            if old is not None and keeps_state(old):
                pairs.append(Pair(name, old, app, id(old), id(app)))
        return pairs

    def _stills(self, handed: list[Pair], parts: Parts) -> list[Still]:
        """What must not be called while it is exchanged, whoever calls before whom it calls."""
        found = {pair.name: Still(pair.name) for pair in handed}
        bound = [one for _, one in self._alive()]
        for pair in handed:
            still = found[pair.name]
            still.slots += [s for one in bound if one.gate.provider is pair.old for s in one.gate.slots()]
            if isinstance(pair.old, App):
                still.app = pair.old
        # all servers of a component are exchanged at once
        for name in parts.code:
            found.setdefault(name, Still(name)).servers += self._servers.get(name, ())
        used = {name: uses(name, bound, self._workspace.manifest) for name in found}
        return sorted(found.values(), key=lambda still: -len(used[still.name]))

    def _commit(self, parts: Parts, made: list[_Made], drain: float) -> None:
        """Has all that was made serve."""
        workspace, members, before = self._workspace, self._workspace._members, self._workspace.manifest
        workspace.manifest = parts.manifest
        members.redeclare(parts.manifest)
        retired = [each.commit() for each in made]
        for each in made:
            one, asked = each.bound, each.asked
            if one.asked is not asked:
                one.asked = asked
                for interface in one.interfaces:
                    members.linked(asked.importer, interface, Key("provider", asked.provider), asked.link)
        programs = self._become(parts)
        old = [entry for name in parts.apps for entry in self._succeed(parts, Key("component", name))]
        for name, part in parts.fresh.items():
            old += members.succeed(part.entries.values(), name, "provider")
            self._forget(name)
            if part.entries:
                part.fresh = False
                workspace._parts[name] = part
                workspace._apps.update(part.apps)
        for name in before.components.keys() - parts.manifest.components.keys():
            old += members.succeed((), name, "component")
            if name in workspace._apps:
                programs.append(workspace._apps.pop(name)._program)
            for server in self._servers.pop(name, ()):
                self._retire(asyncio.to_thread(server.shutdown, drain))
        for name in before.providers.keys() - parts.manifest.providers.keys():
            old += members.succeed((), name, "provider")
            self._forget(name)
        self._settle(parts)
        names = sorted({entry.of for entry in old})
        self._retire(self._drained(", ".join(names), retired, old, drain, programs))

    def _become(self, parts: Parts) -> list[_core.Program]:
        """Has the components that were loaded be what serves; returns what did."""
        apps, old = self._workspace._apps, []
        for name, made in parts.apps.items():
            app = apps.setdefault(name, made)
            if app is made:
                continue  # it is there for the first time
            old.append(app._program)
            for of, one in self._bound:
                one.retired |= of() is app
            app._become(made)
            self._bound = [(weakref.ref(app) if of() is made else of, one) for of, one in self._bound]
            for _, one in self._bound:
                if one.gate.provider is made:
                    one.gate.provider = app
        return old

    def _forget(self, provider: str) -> None:
        """What ran for a provider serves no longer; what nobody needs is started when somebody does."""
        if (part := self._workspace._parts.pop(provider, None)) is not None:
            for key in part.apps:
                self._workspace._apps.pop(key, None)

    def _settle(self, parts: Parts) -> None:
        """Notes who is linked to what, once it serves."""
        apps = {id(app) for app in self._workspace._apps.values()}
        found: dict[Key, list[str]] = {entry.key: [] for entry in parts.made()}
        for app, one in self._alive():
            one.retired |= id(app) not in apps
            if not one.retired:
                found.setdefault(one.asked.importer, []).extend(one.interfaces)
        for importer, interfaces in found.items():
            self._workspace._members.unlinked(importer, interfaces)

    async def _code(self, component: Component) -> Path:
        """The file to load a component from; it is built where it is to be built otherwise than it was."""
        old = self._workspace.manifest.components[component.name]
        if self._workspace._loader.make is None and (old.build, old.path) == (
            component.build,
            component.path,
        ):
            return component.path
        return await self._workspace._loader.build(component)

    def _refuse_watching(self, manifest: Manifest) -> None:
        """Refuses another manifest that would have a component that is loaded be told of other changes."""
        old = self._workspace.manifest
        for name in self._workspace._apps.keys() & old.components.keys():
            told = []
            for each in (old, manifest):
                component = each.components.get(name)
                watch = () if component is None else component.watch
                link = each.link_for(name, STORE) if watch else None
                told.append((watch, link and (link.provider, link.grant)))
            if told[0] != told[1]:
                raise LoadError(
                    f"{name} is told of changes in buckets; start the workspace again to change that"
                )

    def _succeed(self, parts: Parts, key: Key) -> list[Entry]:
        made = [parts.entries[key]] if key in parts.entries else []
        return self._workspace._members.succeed(made, key.name, "component") if made else []

    def _alive(self) -> list[tuple[App, Bound]]:
        """What is linked, with its importers."""
        return [(app, one) for of, one in self._bound if (app := of()) is not None]

    @contextlib.asynccontextmanager
    async def loading(self) -> AsyncIterator[None]:
        """Lets nothing be exchanged meanwhile: who is linked now would be left with what is retired."""
        async with self._order:
            self._loading += 1
        try:
            yield
        finally:
            self._loading -= 1
            self._loaded.set()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One after the other, until all is closed.

        Raises:
            LoadError: It was closed.
        """
        async with self._order:
            closed = LoadError("the workspace was closed")
            if self._closed:
                raise closed
            task = self._under_way = asyncio.current_task()
            assert task is not None
            before = task.cancelling()
            try:
                while self._loading:
                    self._loaded.clear()
                    await self._loaded.wait()
                yield
            except asyncio.CancelledError:
                if not self._closed or task.uncancel() > before:
                    raise
                raise closed from None
            finally:
                self._under_way = None

    def _refuse_watched(self, name: str) -> None:
        manifest = self._workspace.manifest
        for component in manifest.components.values():
            link = manifest.link_for(component.name, STORE)
            if component.watch and link is not None and link.provider == name:
                raise LoadError(
                    f"{name} cannot be exchanged: {component.name} watches its buckets; start the workspace again"
                )

    def _retire(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _drained(
        self,
        name: str,
        retired: list[Retired],
        old: list[Entry],
        seconds: float,
        programs: Sequence[_core.Program] = (),
    ) -> None:
        """Lets what has begun end, and ends what is left."""
        try:
            ended = await asyncio.gather(*(one.drained(seconds) for one in retired))
            try:
                await asyncio.wait_for(idle(*programs), seconds)
            except TimeoutError:
                ended.append(False)
            if not all(ended):
                _log.warning("%s had not finished %g s after it was exchanged", name, seconds)
        finally:
            await self._end(old)

    async def _end(self, entries: Iterable[Entry]) -> None:
        for entry in [*entries]:
            with contextlib.suppress(LoopError, OSError):  # there is nobody left to part from in good order
                await self._workspace._members.end(entry)


def _matters(old: Link, new: Link) -> bool:
    return (old.provider, old.grant, old.budget) != (new.provider, new.grant, new.budget)
