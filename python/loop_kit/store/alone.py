"""Artifacts by themselves, without a workspace that pins them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from loop_kit.errors import PackageError
from loop_kit.lock import Entry
from loop_kit.oci.model import Descriptor
from loop_kit.oci.wasm import wasm_layer
from loop_kit.store import _sources
from loop_kit.store._fetch import fetch, find, read
from loop_kit.store._held import root_of
from loop_kit.store._progress import Counting, Tell, to_come
from loop_kit.store._store import Store
from loop_kit.store._use import Use
from loop_kit.store.workspace import entry_of_found, signed_as
from loop_kit.trust import own_gate

if TYPE_CHECKING:
    from loop_kit.trust import Gate, Identity

__all__ = ["code", "pull"]

_MOST_CODE = 1 << 30


async def pull(
    reference: str, folder: Path, *, tell: Tell | None = None, gate: Gate | None = None
) -> tuple[Entry, int]:
    """Fetches one artifact, which then stays until it is given up by its name; returns what it is, and its new bytes.

    Args:
        reference: `oci:REGISTRY/REPOSITORY:TAG`, or `oci-layout:FOLDER:TAG`.
        folder: What the path of a layout starts from.
        tell: Told how far it is.
        gate: Judges whether it may be loaded, before it is fetched; None: by the user's own policy.

    Raises:
        Untrusted: The policy does not let it be loaded.
        PackageError: It cannot be fetched.
    """
    store, told, gate = Store(), Counting(tell or Tell()), gate or own_gate()
    with store.use() as use:
        return await _pulled(reference, folder, store, use, told, gate), told.come


async def _pulled(reference: str, folder: Path, store: Store, use: Use, told: Counting, gate: Gate) -> Entry:
    told.tell.artifact("", reference)
    async with _sources.opened(reference, folder) as source:
        root = await source.resolve()
        found = await find(source, use.blobs, root, reference)
        # what may not be loaded is not even fetched
        identity = await asyncio.to_thread(_judged, gate, reference, root, use, found.signatures)
        told.tell.size(to_come(use, found))
        got = await fetch(source, use.blobs, found, reference, told.tell.come)
    await asyncio.to_thread(store.pin, reference, root, got.digests, size=got.size)
    return signed_as(entry_of_found(reference, got.found, got.size), identity)


def _judged(
    gate: Gate, reference: str, root: Descriptor, use: Use, signatures: Iterable[Descriptor]
) -> Identity | None:
    name, tag = _sources.name_in(reference), _sources.tag_in(reference)
    return gate(name, root, use.blobs, signatures, tag=tag)


async def code(
    reference: str,
    folder: Path,
    *,
    locked: bool = False,
    offline: bool = False,
    tell: Tell | None = None,
    gate: Gate | None = None,
) -> bytes:
    """The `.wasm` of a component that is an artifact, compared with its digest; it is fetched if it must be.

    Args:
        reference: `oci:REGISTRY/REPOSITORY:TAG`, or `oci-layout:FOLDER:TAG`, with a digest or not.
        folder: What the path of a layout starts from.
        locked: Refuse a tag, which may come to stand for something else.
        offline: Ask nobody: take what was pulled by that name, or has the digest.
        tell: Told how far it is.
        gate: Judges whether it may be loaded; None: by the user's own policy.

    Raises:
        Untrusted: The policy does not let it be loaded.
        Damaged: Something is another than its digest says; the text names it.
        PackageError: It is not there, must not be fetched, or is no component.
    """
    digest = _sources.digest_in(reference)
    if locked and digest is None:
        raise _hinted(
            f"{reference} is a tag, which may come to stand for something else",
            "write its digest behind it, as `loop pull` shows it",
        )
    store, gate = Store(), gate or own_gate()
    with store.use() as use:
        if not offline:
            told = Counting(tell or Tell())
            digest = (await _pulled(reference, folder, store, use, told, gate)).digest
        elif digest is None:
            digest = None if (pinned := store.pinned(reference)) is None else pinned.digest
        if digest is None or use.blobs.size(digest) is None:
            raise _hinted(f"{reference} is not in the store", f"run `loop pull {reference}` with the network")
        root = root_of(use.blobs, digest)
        if offline and gate.policy is not None:
            await asyncio.to_thread(_judged, gate, reference, root, use, store.referrers(digest))
        return await asyncio.to_thread(_read, use, root, reference)


def _read(use: Use, root: Descriptor, reference: str) -> bytes:
    _, manifest, _ = read(use.blobs, root, reference)
    for part in manifest.parts:
        use.blobs.verify(part.digest)
    return use.blobs.read(wasm_layer(manifest, what=reference).digest, most=_MOST_CODE)


def _hinted(message: str, hint: str) -> PackageError:
    error = PackageError(message)
    error.hint = hint
    return error
