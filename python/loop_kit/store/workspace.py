"""The artifacts of a workspace: fetched into the store, and pinned in `loop.lock`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from loop_kit import manifest as manifests
from loop_kit.errors import PackageError
from loop_kit.lock import Entry, Lock, changing, lock_of
from loop_kit.lock import read as read_lock
from loop_kit.manifest import Artifact, Manifest
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor
from loop_kit.oci.transfer import together
from loop_kit.store import _sources
from loop_kit.store._change import Change, changed
from loop_kit.store._fetch import Fetched, Found, fetch, find, parts_of
from loop_kit.store._held import held_parts, root_of
from loop_kit.store._progress import Counting, Tell, to_come
from loop_kit.store._store import Store
from loop_kit.store._unpacked import unpacked
from loop_kit.store._use import Use

if TYPE_CHECKING:
    from loop_kit.trust import Identity

__all__ = [
    "Pulled",
    "Tell",
    "Wanted",
    "left",
    "missing",
    "pull",
    "ready",
    "refuse_unlocked",
    "update",
    "wanted",
]

_AT_ONCE = 4
"""Artifacts that are fetched at the same time."""


class Wanted(NamedTuple):
    """A member of a workspace that is an artifact.

    Attributes:
        kind: `components` or `providers`, as in the manifest.
        name: Its name.
        artifact: The artifact.
    """

    kind: Literal["components", "providers"]
    name: str
    artifact: Artifact

    @property
    def keys(self) -> str:
        """How messages name it."""
        return f"{self.kind}.{self.name}"


@dataclass(frozen=True)
class Pulled:
    """What a pull came to.

    Attributes:
        manifest: The workspace, as it is with its lock.
        entries: What each member is, by its keys, `components.site`.
        lock: Whether `loop.lock` has changed.
        size: Bytes that came.
    """

    manifest: Manifest
    entries: dict[str, Entry]
    lock: bool
    size: int


def wanted(manifest: Manifest) -> list[Wanted]:
    """The members of a workspace that are artifacts, in the order of the manifest."""
    found = [
        Wanted("components", one.name, one.artifact) for one in manifest.components.values() if one.artifact
    ]
    return found + [
        Wanted("providers", one.name, one.artifact) for one in manifest.providers.values() if one.artifact
    ]


def missing(manifest: Manifest, store: Store) -> list[tuple[Wanted, str]]:
    """The artifacts of which not all is in the store, each with a digest that is not there; those that are locked."""
    found = []
    blobs = Blobs(store.folder)
    for one in wanted(manifest):
        if one.artifact.entry is not None:
            digest = next(
                (part for part in held_parts(blobs, one.artifact.entry) if blobs.size(part) is None), None
            )
            if digest is not None:
                found.append((one, digest))
    return found


def refuse_unlocked(manifest: Manifest) -> None:
    """Refuses a workspace whose `loop.lock` is not that of its manifest.

    Raises:
        PackageError: It would have to change.
    """
    said = [_why_unlocked(one) for one in wanted(manifest) if one.artifact.entry is None]
    said += [f"{keys} is in it, and is no artifact of the manifest" for keys in left(manifest)]
    if said:
        raise _hinted(
            f"loop.lock is not that of {manifest.source.shown}: {'; '.join(said)}", "run `loop update`"
        )


def _why_unlocked(one: Wanted) -> str:
    if one.artifact.stale is not None:
        return (
            f"it has {one.keys} as {one.artifact.stale}, and the manifest asks for {one.artifact.reference}"
        )
    return f"it does not have {one.keys}, {one.artifact.reference}"


def left(manifest: Manifest) -> list[str]:
    """What `loop.lock` has and the manifest does not ask for: `components.site`.

    Raises:
        ManifestError: It cannot be read.
    """
    asked = {(one.kind, one.name) for one in wanted(manifest)}
    path = lock_of(manifest.path)
    lock = read_lock(path) if path.exists() else Lock()
    both = (("components", lock.components), ("providers", lock.providers))
    return [f"{kind}.{name}" for kind, entries in both for name in entries if (kind, name) not in asked]


async def ready(
    manifest: Manifest, *, locked: bool = False, offline: bool = False, tell: Tell | None = None
) -> Manifest:
    """Has all artifacts of a workspace be in the store, and pinned; what is missing is fetched.

    Args:
        manifest: The workspace.
        locked: Refuse to change `loop.lock`.
        offline: Ask nobody.
        tell: Told how far it is.

    Raises:
        PackageError: The lock would have to change and must not, somebody would have to be asked, or something cannot
            be fetched.
    """
    if locked:
        refuse_unlocked(manifest)
    needed = wanted(manifest)
    if not needed:
        return manifest
    _refuse_stale(needed)
    store = Store()
    unlocked = [one for one in needed if one.artifact.entry is None]
    absent = missing(manifest, store)
    if offline and (unlocked or absent):
        said = [_why_unlocked(one) for one in unlocked]
        said += [
            f"{one.keys}, {one.artifact.reference}, is not in the store ({digest})" for one, digest in absent
        ]
        raise _hinted(
            f"without the network it cannot be run: {'; '.join(said)}", "run `loop pull` with the network"
        )
    if unlocked or absent:
        return (await pull(manifest, locked=locked, tell=tell)).manifest
    await asyncio.to_thread(_pin_all, store, manifest)
    return manifest


async def pull(
    manifest: Manifest,
    *,
    changes: Sequence[Change] = (),
    locked: bool = False,
    offline: bool = False,
    tell: Tell | None = None,
) -> Pulled:
    """Fetches all artifacts of a workspace, and has `loop.lock` say what they are.

    What the lock has is fetched by its digest; what it does not have is resolved. What is there already is read, and is
    fetched again, or unpacked again, where it is damaged. The lock is written once all is there.

    Args:
        manifest: The workspace.
        changes: What `update` found; only that is fetched then, and takes the place of what the lock has.
        locked: Refuse to change `loop.lock`.
        offline: Ask nobody: only see that all is there.
        tell: Told how far it is.

    Raises:
        PackageError: Something cannot be fetched, or must not.
    """
    if locked:
        refuse_unlocked(manifest)
    if offline:
        await ready(manifest, offline=True)
        return Pulled(manifest, _entries(manifest), False, 0)
    members, fresh = wanted(manifest), {(change.kind, change.name): change.after for change in changes}
    if changes:
        members = [one for one in members if (one.kind, one.name) in fresh]
    else:
        _refuse_stale(members)
    store, told, judge = Store(), Counting(tell or Tell()), _judge(manifest)
    with store.use() as use:
        got: list[tuple[Wanted, Entry, Fetched]] = []

        async def one(member: Wanted) -> None:
            known = fresh.get((member.kind, member.name)) or member.artifact.entry
            entry, fetched = await _pulled(manifest, member, known, use, told.tell, judge)
            got.append((member, (locked and known) or entry, fetched))

        await together(map(one, members), _AT_ONCE)
        got.sort(key=lambda each: each[0].keys)
        written = await asyncio.to_thread(_write, manifest, got)
        await asyncio.to_thread(_pin, store, manifest, got)
        for _, entry, _ in got:
            if entry.kind == "provider":
                check = manifest.trust is not None
                await asyncio.to_thread(unpacked, store, use, entry.digest, mend=True, compare=check)
    loaded = manifests.load(manifest.path) if written else manifest
    return Pulled(loaded, {one.keys: entry for one, entry, _ in got}, written, told.come)


async def update(
    manifest: Manifest,
    names: Collection[str] = (),
    *,
    allow_downgrade: bool = False,
    tell: Tell | None = None,
) -> list[Change]:
    """Resolves artifacts anew, and says what that would change; a `pull` of the changes makes it so.

    Only what says what they are is fetched.

    Args:
        manifest: The workspace.
        names: Members; all by default.
        allow_downgrade: Take an older version than the one that is recorded.
        tell: Told how far it is.

    Raises:
        PackageError: Somebody cannot be asked; there is no such member; or an older version came.
    """
    all_ = wanted(manifest)
    known = {one.name for one in all_}
    if unknown := [name for name in names if name not in known]:
        listed = ", ".join(sorted(known)) or "none"
        raise _hinted(f"{manifest.source.shown}: {unknown[0]!r} is no artifact", f"artifacts are: {listed}")
    chosen = [one for one in all_ if not names or one.name in names]
    store, told, judge = Store(), tell or Tell(), _judge(manifest)
    lock = read_lock(lock_of(manifest.path))
    with store.use() as use:
        changes: list[Change] = []

        async def one(member: Wanted) -> None:
            told.artifact(member.keys, member.artifact.reference)
            entries = lock.components if member.kind == "components" else lock.providers
            async with _sources.opened(member.artifact.reference, manifest.folder) as source:
                found = await find(source, use.blobs, await source.resolve(), member.keys)
            before, reference = entries.get(member.name), member.artifact.reference
            entry = entry_of_found(reference, found, sum(part.size for part in parts_of(use.blobs, found)))
            same = before is not None and before.reference == reference and not allow_downgrade
            floor = before.serial if before is not None and same else 0
            entry = await asyncio.to_thread(judge, entry, found, use, floor, allow_downgrade)
            changes.append(changed(member.kind, member.name, before, entry, allow_downgrade=allow_downgrade))

        await together(map(one, chosen), _AT_ONCE)
    return sorted(changes, key=lambda change: (change.kind, change.name))


async def _pulled(
    manifest: Manifest, member: Wanted, entry: Entry | None, use: Use, tell: Tell, judge: Judge
) -> tuple[Entry, Fetched]:
    reference = member.artifact.reference
    tell.artifact(member.keys, reference)
    async with _sources.opened(reference, manifest.folder) as source:
        if entry is None:
            root = await source.resolve()
        else:  # it is what it was, whatever its tag is now
            root = await _root(entry, source, use)
        found = await find(source, use.blobs, root, member.keys)
        size = sum(part.size for part in parts_of(use.blobs, found))
        made = entry or entry_of_found(reference, found, size)
        # what may not be loaded is not even fetched
        made = await asyncio.to_thread(judge, made, found, use, made.serial, entry is not None)
        tell.size(to_come(use, found))
        got = await fetch(source, use.blobs, found, member.keys, tell.come)
    return made, got


Judge = Callable[[Entry, Found, Use, int, bool], Entry]


def _judge(manifest: Manifest) -> Judge:
    """Has the policy of a workspace judge what was found, and says in its entry who signed it.

    Called with the entry, what was found, whoever fetches it, the serial below which it is refused, and whether it may
    be older than what its tag was seen to be. Raises Untrusted where it may not be loaded.
    """
    if manifest.trust is None:
        return lambda entry, *_: entry
    from loop_kit.trust import gate

    asked = gate(manifest)

    def judged(entry: Entry, found: Found, use: Use, floor: int, pinned: bool) -> Entry:
        name, tag = _sources.name_in(entry.reference), _sources.tag_in(entry.reference)
        identity = asked(
            name, found.root, use.blobs, found.signatures, tag=tag, pinned=pinned, floor=floor or None
        )
        made = dataclasses.replace(entry, signatures=tuple(sorted(each.digest for each in found.signatures)))
        return signed_as(made if identity is not None and identity.signers else entry, identity)

    return judged


def signed_as(entry: Entry, identity: Identity | None) -> Entry:
    """What is said of an artifact, with by whom it is signed."""
    if identity is None or not identity.signers:
        return dataclasses.replace(entry, signed_by="", serial=0)
    return dataclasses.replace(
        entry,
        version=identity.version or entry.version,
        signed_by=identity.signed_by,
        serial=identity.serial,
    )


def _refuse_stale(members: Iterable[Wanted]) -> None:
    if said := [_why_unlocked(one) for one in members if one.artifact.stale is not None]:
        raise _hinted(f"loop.lock is not that of the manifest: {'; '.join(said)}", "run `loop update`")


async def _root(entry: Entry, source: _sources.Source, use: Use) -> Descriptor:
    """The descriptor of what is locked."""
    try:
        return await asyncio.to_thread(root_of, use.blobs, entry.digest)
    except PackageError:
        return await source.at(entry.digest)


def entry_of_found(reference: str, found: Found, size: int) -> Entry:
    """What `loop.lock` says of an artifact that was found; nobody has judged its signatures."""
    return Entry(
        reference,
        found.root.digest,
        size,
        found.kind,
        found.version or _sources.tag_in(reference) or "",
        found.code,
        signatures=tuple(sorted(each.digest for each in found.signatures)),
        exports=tuple(sorted(found.exports)),
        imports=tuple(sorted(found.imports)),
        grants=found.grants,
        platforms=found.platforms,
    )


def _entries(manifest: Manifest) -> dict[str, Entry]:
    return {one.keys: one.artifact.entry for one in wanted(manifest) if one.artifact.entry is not None}


def _write(manifest: Manifest, got: Iterable[tuple[Wanted, Entry, Fetched]]) -> bool:
    """Has the lock say what was fetched, and nothing of what the manifest does not name; whether that is another."""
    fetched = {(member.kind, member.name): entry for member, entry, _ in got}
    with changing(lock_of(manifest.path)) as change:
        before = {"components": change.lock.components, "providers": change.lock.providers}
        made: dict[str, dict[str, Entry]] = {"components": {}, "providers": {}}
        for kind, name, _ in wanted(manifest):
            entry = fetched.get((kind, name)) or before[kind].get(name)
            if entry is not None:
                made[kind][name] = entry
        return change.write(Lock(made["components"], made["providers"], change.lock.others))


def _pin(store: Store, manifest: Manifest, got: Iterable[tuple[Wanted, Entry, Fetched]]) -> None:
    lock = lock_of(manifest.path)
    for member, _, fetched in got:
        store.pin(f"{lock} {member.keys}", fetched.found.root, fetched.digests, size=fetched.size, lock=lock)


def _pin_all(store: Store, manifest: Manifest) -> None:
    """Has what a workspace that was copied or moved needs stay; in a store that is read-only it does anyhow."""
    lock, blobs = lock_of(manifest.path), Blobs(store.folder)
    for one in wanted(manifest):
        entry, name = one.artifact.entry, f"{lock} {one.keys}"
        if entry is None or ((pinned := store.pinned(name)) is not None and pinned.digest == entry.digest):
            continue
        try:
            parts = held_parts(blobs, entry)
            store.pin(name, root_of(blobs, entry.digest), parts, size=entry.size, lock=lock)
        except PackageError as error:
            if not isinstance(error.__cause__, OSError):
                raise


def _hinted(message: str, hint: str) -> PackageError:
    error = PackageError(message)
    error.hint = hint
    return error
