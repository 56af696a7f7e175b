"""Artifacts by themselves, without a workspace that pins them."""

from __future__ import annotations

import asyncio
from pathlib import Path

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
from loop_kit.store.workspace import entry_of_found

__all__ = ["code", "pull"]

_MOST_CODE = 1 << 30


async def pull(reference: str, folder: Path, *, tell: Tell | None = None) -> tuple[Entry, int]:
    """Fetches one artifact, which then stays until it is given up by its name; returns what it is, and its new bytes.

    Args:
        reference: `oci:REGISTRY/REPOSITORY:TAG`, or `oci-layout:FOLDER:TAG`.
        folder: What the path of a layout starts from.
        tell: Told how far it is.

    Raises:
        PackageError: It cannot be fetched.
    """
    store, told = Store(), Counting(tell or Tell())
    with store.use() as use:
        return await _pulled(reference, folder, store, use, told), told.come


async def _pulled(reference: str, folder: Path, store: Store, use: Use, told: Counting) -> Entry:
    told.tell.artifact("", reference)
    async with _sources.opened(reference, folder) as source:
        root = await source.resolve()
        found = await find(source, use.blobs, root, reference)
        told.tell.size(to_come(use, found))
        got = await fetch(source, use.blobs, found, reference, told.tell.come)
    await asyncio.to_thread(store.pin, reference, root, got.digests, size=got.size)
    return entry_of_found(reference, got.found, got.size)


async def code(
    reference: str, folder: Path, *, locked: bool = False, offline: bool = False, tell: Tell | None = None
) -> bytes:
    """The `.wasm` of a component that is an artifact, compared with its digest; it is fetched if it must be.

    Args:
        reference: `oci:REGISTRY/REPOSITORY:TAG`, or `oci-layout:FOLDER:TAG`, with a digest or not.
        folder: What the path of a layout starts from.
        locked: Refuse a tag, which may come to stand for something else.
        offline: Ask nobody: take what was pulled by that name, or has the digest.
        tell: Told how far it is.

    Raises:
        Damaged: Something is another than its digest says; the text names it.
        PackageError: It is not there, must not be fetched, or is no component.
    """
    digest = _sources.digest_in(reference)
    if locked and digest is None:
        raise _hinted(
            f"{reference} is a tag, which may come to stand for something else",
            "write its digest behind it, as `loop pull` shows it",
        )
    store = Store()
    with store.use() as use:
        if not offline:
            digest = (await _pulled(reference, folder, store, use, Counting(tell or Tell()))).digest
        elif digest is None:
            digest = None if (pinned := store.pinned(reference)) is None else pinned.digest
        if digest is None or use.blobs.size(digest) is None:
            raise _hinted(f"{reference} is not in the store", f"run `loop pull {reference}` with the network")
        return await asyncio.to_thread(_read, use, root_of(use.blobs, digest), reference)


def _read(use: Use, root: Descriptor, reference: str) -> bytes:
    _, manifest, _ = read(use.blobs, root, reference)
    for part in manifest.parts:
        use.blobs.verify(part.digest)
    return use.blobs.read(wasm_layer(manifest, what=reference).digest, most=_MOST_CODE)


def _hinted(message: str, hint: str) -> PackageError:
    error = PackageError(message)
    error.hint = hint
    return error
