"""What becomes of a manifest's components and providers, who uses whom, and in which order they end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from loop_kit.manifest import Link, Manifest
from loop_kit.placements import remote
from loop_kit.placements._lifecycle import Lifecycle, State

__all__ = ["Entry", "Key", "Linked", "Member", "Members", "digest_of"]


class Key(NamedTuple):
    """A member: a component and a provider may have the same name."""

    kind: Literal["component", "provider"]
    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """A component or provider, as it is now.

    Attributes:
        name: Its name in the manifest; one of several processes of a provider has the link after it.
        kind: `component` or `provider`.
        placement: `builtin`, `python`, `component`, `sidecar` or `remote`.
        transport: What it is reached by; "" in the host's process.
        source: What it is, as the manifest has it: a path, or a `use`.
        phase: What it is about.
        generation: How often it was started, from 1; 0 where it never was.
        digest: `sha256:…` of the code that serves, or None where it is not known.
        pid: Its process, where it has one of its own.
        since: When it came into this phase, in seconds since 1970; 0 where it was never in another.
        restarts: How often it was started again after a failure.
        reason: Why it failed last, or "".
        crash_loop: Whether it failed so often that it is not started again.
        pause: Seconds from its failure until it is started again; None: it is not.
    """

    name: str
    kind: Literal["component", "provider"]
    placement: str
    transport: str
    source: str
    phase: State
    generation: int
    digest: str | None
    pid: int | None
    since: float
    restarts: int
    reason: str
    crash_loop: bool
    pause: float | None


@dataclass(frozen=True, slots=True)
class Linked:
    """An import that was linked.

    Attributes:
        importer: Who imports.
        interface: The interface, with its version.
        provider: Who provides it.
        link: What the manifest says of it.
    """

    importer: Key
    interface: str
    provider: Key
    link: Link


@dataclass(eq=False)
class Entry:
    """What is kept of a member that was needed.

    Attributes:
        key: Who.
        of: Its name in the manifest.
        life: Its state.
        digest: As `Member` has it.
        file: Its code, where that is one file that is read whenever it starts.
        pid: Tells its process.
        restart: Ends it in good order and starts it again; None: it cannot be.
        supervised: Whether something else moves its state.
        ends: What ends it.
    """

    key: Key
    of: str
    life: Lifecycle
    digest: str | None = None
    file: Path | None = None
    pid: Callable[[], int | None] = lambda: None
    restart: Callable[[], Awaitable[object]] | None = None
    supervised: bool = False
    ends: list[Callable[[], Awaitable[object]]] = field(default_factory=list)


class Members:
    """The members of one running workspace; on the thread of its event loop alone."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._entries: dict[Key, Entry] = {}
        self._uses: dict[Key, set[Key]] = {}
        self._links: dict[tuple[Key, str], Linked] = {}
        self._listeners: list[Callable[[Member], object]] = []

    def entry(self, key: Key, of: str | None = None) -> Entry:
        """What is kept of a member, from now on. `of`: its name in the manifest, where that is another."""
        if key not in self._entries:
            of = of or key.name
            far = key.kind == "provider" and self._manifest.providers[of].placement == "remote"
            life = Lifecycle(remote.RESTARTS if far else None, begun=False)
            made = self._entries[key] = Entry(key, of, life)
            made.life.on_change = functools.partial(self._changed, made)
        return self._entries[key]

    def successor(self, key: Key, of: str, far: bool) -> Entry:
        """What is to take a member's place by `succeed`. `far`: it is at an address."""
        now = self._entries.get(key)
        life = Lifecycle(remote.RESTARTS if far else None, begun=False)
        life.generation = 0 if now is None else now.life.generation
        return Entry(key, of, life)

    def succeed(self, made: Iterable[Entry], of: str, kind: Literal["component", "provider"]) -> list[Entry]:
        """Has `made` be the members of that name and kind from now on; returns those that were, to be ended."""
        old = [entry for entry in self._entries.values() if (entry.of, entry.key.kind) == (of, kind)]
        for entry in old:
            entry.life.on_change = None
            del self._entries[entry.key]
        for entry in made:
            self._entries[entry.key] = entry
            entry.life.on_change = functools.partial(self._changed, entry)
            self._changed(entry)
        gone = {entry.key for entry in old} - self._entries.keys()
        self._links = {key: one for key, one in self._links.items() if one.importer not in gone}
        return old

    def reread(self, key: Key) -> None:
        """A member goes on with other code."""
        entry = self._entries[key]
        entry.life.generation += 1
        self._changed(entry)

    def redeclare(self, manifest: Manifest) -> None:
        """What the members are, from now on."""
        self._manifest = manifest

    @contextlib.contextmanager
    def starting(self, entry: Entry) -> Iterator[Entry]:
        """Has a member start, unless it is there; it is ready at the end, or has failed."""
        life = entry.life
        if life.state in (State.STOPPED, State.FAILED):
            life.again()
        try:
            yield entry
        except BaseException as error:
            if life.state is State.STARTING and isinstance(error, Exception):
                life.failed(str(error) or type(error).__name__)
            elif life.state is State.STARTING:
                life.stopped()
            raise
        if life.state is State.STARTING:
            life.ready()

    def use(self, importer: Key, provider: Key) -> None:
        """Notes that a member needs another until it has ended."""
        self._uses.setdefault(importer, set()).add(provider)

    def linked(self, importer: Key, interface: str, provider: Key, link: Link) -> None:
        """Notes an import that was linked."""
        self.use(importer, provider)
        self._links[importer, interface] = Linked(importer, interface, provider, link)

    def unlinked(self, importer: Key, but: Collection[str]) -> None:
        """Notes that a member imports nothing but some interfaces any more."""
        links = self._links.items()
        self._links = {key: one for key, one in links if one.importer != importer or one.interface in but}

    def knows(self, key: Key) -> bool:
        """Whether a member was needed."""
        return key in self._entries

    def keep(self) -> Callable[[Iterable[Key]], None]:
        """What puts the links of some importers back as they are now."""
        kept = dict(self._links)

        def put_back(importers: Iterable[Key]) -> None:
            mine = frozenset(importers)
            self._links = {key: one for key, one in self._links.items() if one.importer not in mine}
            self._links |= {key: one for key, one in kept.items() if one.importer in mine}

        return put_back

    def links(self) -> list[Linked]:
        """The imports of what is loaded."""
        return [*self._links.values()]

    def all(self) -> list[Member]:
        """All that the manifest has, by kind and name; what nobody has needed yet is stopped."""
        known: dict[Key, list[Entry]] = {}
        for entry in self._entries.values():
            known.setdefault(Key(entry.key.kind, entry.of), []).append(entry)
        named = [
            *(Key("component", name) for name in sorted(self._manifest.components)),
            *(Key("provider", name) for name in sorted(self._manifest.providers)),
        ]
        return [
            self.member(entry)
            for key in named
            for entry in known.get(key) or [Entry(key, key.name, Lifecycle(begun=False, wall=lambda: 0.0))]
        ]

    def member(self, entry: Entry) -> Member:
        """A member as it is now."""
        kind, life, digest = entry.key.kind, entry.life, entry.digest
        if kind == "component":
            component, folder = self._manifest.components[entry.of], self._manifest.folder
            path = component.path
            source = str(path.relative_to(folder) if path.is_relative_to(folder) else path)
            if component.artifact is not None:
                source = component.artifact.reference
            placement, transport = "component", ""
        else:
            provider = self._manifest.providers[entry.of]
            placement, transport, source = provider.placement, provider.transport, provider.use
            if placement == "oci":  # it will be, if it is no component
                placement = "sidecar"
            if placement == "component" and provider.path is None and digest is None:
                served = self._entries.get(Key("component", provider.target))
                digest = None if served is None else served.digest
        return Member(
            entry.key.name,
            kind,
            placement,
            transport,
            source,
            life.state,
            life.generation,
            digest,
            entry.pid(),
            life.since,
            life.restarts,
            life.reason,
            life.crash_loop,
            life.pause if entry.supervised else None,
        )

    def find(self, name: str) -> Entry | None:
        """The member of that name that was needed; where a component has it too, the provider."""
        return self._entries.get(Key("provider", name)) or self._entries.get(Key("component", name))

    def listen(self, told: Callable[[Member], object]) -> Callable[[], None]:
        """Has `told` called with each member whose phase or generation changes; returns what ends that."""
        self._listeners.append(told)
        return lambda: self._listeners.remove(told)

    async def aclose(self) -> None:
        """Ends all that was started: whoever uses a member before the member, the others at once.

        Raises:
            Exception: The first that something raised; all the rest was ended nevertheless.
        """
        failed: list[BaseException] = []
        for wave in self.waves():
            ended = await asyncio.gather(*map(self.end, wave), return_exceptions=True)
            failed += [item for item in ended if isinstance(item, BaseException)]
        if failed:
            raise failed[0]

    def waves(self) -> list[list[Entry]]:
        """The members that were needed, in the order in which they end: nobody in a wave is used by a later one."""
        left = dict(self._entries)
        found = []
        while left:
            used = {provider for key in left for provider in self._uses.get(key, ()) if provider != key}
            # where members use one another in a circle, nobody can be first
            free = [entry for key, entry in left.items() if key not in used] or [*left.values()]
            found.append(free)
            for entry in free:
                del left[entry.key]
        return found

    async def end(self, entry: Entry) -> None:
        """Ends one, in good order.

        Raises:
            Exception: The first that something raised.
        """
        life, ends = entry.life, entry.ends
        entry.ends, entry.restart = [], None
        if not entry.supervised and life.state in (State.STARTING, State.READY):
            life.drain()
        try:
            ended = await asyncio.gather(*(end() for end in ends), return_exceptions=True)
        finally:
            if life.state is not State.STOPPED:
                life.stopped()
            if self._entries.get(entry.key) is entry:
                self._links = {key: one for key, one in self._links.items() if one.importer != entry.key}
        for item in ended:
            if isinstance(item, BaseException):
                raise item

    def _changed(self, entry: Entry) -> None:
        if entry.life.state is State.READY and entry.file is not None:
            hashed = asyncio.get_running_loop().run_in_executor(None, digest_of, entry.file)
            hashed.add_done_callback(functools.partial(self._hashed, entry))
        self._tell(entry)

    def _hashed(self, entry: Entry, hashed: asyncio.Future[str | None]) -> None:
        if not hashed.cancelled() and entry.digest != hashed.result():
            entry.digest = hashed.result()
            self._tell(entry)

    def _tell(self, entry: Entry) -> None:
        if self._listeners:
            member = self.member(entry)
            for told in [*self._listeners]:
                told(member)


def digest_of(code: bytes | Path | None) -> str | None:
    """`sha256:…` of code or of a file; None where there is no such file."""
    try:
        data = code.read_bytes() if isinstance(code, Path) else code
    except OSError:
        return None
    return None if data is None else f"sha256:{hashlib.sha256(data).hexdigest()}"
