"""What belongs to an artifact that is locked, as far as it is in the store."""

from __future__ import annotations

import contextlib

from loop_kit.errors import PackageError
from loop_kit.lock import Entry
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import MOST_BYTES, Descriptor, Index, Manifest, parse
from loop_kit.store._fetch import read, selected

__all__ = ["held_parts", "kind_of", "manifest_of", "root_of"]


def root_of(blobs: Blobs, digest: str) -> Descriptor:
    """The descriptor of a manifest or index that is in the store.

    Raises:
        Damaged: It is not what its digest says.
        PackageError: It is not there.
    """
    data = blobs.read(digest, most=MOST_BYTES)
    return Descriptor(parse(data, what=digest).media_type, digest, len(data))


def manifest_of(blobs: Blobs, entry: Entry) -> Manifest:
    """The manifest of an artifact, for this machine.

    Raises:
        Damaged: Something is not what its digest says.
        PackageError: It is not there, malformed, or not for this machine.
    """
    return read(blobs, root_of(blobs, entry.digest), entry.reference)[1]


def held_parts(blobs: Blobs, entry: Entry) -> list[str]:
    """The digests of all that belongs to an artifact; where a document is not there, they end with it.

    Raises:
        Damaged: A document is not what its digest says.
        PackageError: A document is malformed.
    """
    found = [entry.digest]
    if blobs.size(entry.digest) is None:
        return found
    document = parse(blobs.read(entry.digest, most=MOST_BYTES), what=entry.reference)
    if isinstance(document, Index):
        part = selected(document, entry.reference)
        found.append(part.digest)
        if blobs.size(part.digest) is None:
            return found
        document = parse(blobs.read(part.digest, most=MOST_BYTES), part.media_type, what=entry.reference)
    if isinstance(document, Manifest):
        found += [part.digest for part in document.parts]
    for digest in entry.signatures:
        found.append(digest)
        if blobs.size(digest) is None:
            return found
        signature = parse(blobs.read(digest, most=MOST_BYTES), what="a signature")
        found += [part.digest for part in signature.parts] if isinstance(signature, Manifest) else []
    return [*dict.fromkeys(found)]


def kind_of(blobs: Blobs, entry: Entry, digest: str) -> str:
    """What a part of an artifact is, for messages: as much as what is there and whole tells."""
    if digest in entry.signatures:
        return "the manifest of a signature"
    known: dict[str, str] = {}
    for each in entry.signatures:
        with contextlib.suppress(PackageError, OSError):
            signature = parse(blobs.read(each, most=MOST_BYTES))
            if isinstance(signature, Manifest):
                known |= dict.fromkeys((part.digest for part in signature.layers), "a signature")
    with contextlib.suppress(PackageError, OSError):
        known[entry.digest] = "the manifest or index"
        document = parse(blobs.read(entry.digest, most=MOST_BYTES))
        known[entry.digest] = "the index" if isinstance(document, Index) else "the manifest"
        if isinstance(document, Index):
            part = selected(document, entry.reference)
            known[part.digest] = "the manifest"
            document = parse(blobs.read(part.digest, most=MOST_BYTES))
        if isinstance(document, Manifest):
            known |= dict.fromkeys((part.digest for part in document.layers), "a layer")
            known[document.config.digest] = "the config"
    return known.get(digest, "a part")
