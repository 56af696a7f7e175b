"""Layers: files and bytes that become blobs."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_kit.oci.archive import CHUNK, Entry, write_tar
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor, Platform
from loop_kit.pack.config import TREE, Runtime
from loop_kit.pack.sbom import Item

__all__ = ["TITLE", "Part", "add_bytes", "add_file", "add_tree"]

TITLE = "org.opencontainers.image.title"
"""What clients call the file of a layer that they write."""


@dataclass
class Part:
    """What a package has for one platform, or for all.

    Attributes:
        entry: What runs: as in `ProviderConfig`.
        platform: What it is for; None: wherever its runtime is.
        runtime: What it runs in.
        layers: Its layers.
        unpacked: Bytes of all its files.
        items: What others have made of it.
    """

    entry: str
    platform: Platform | None = None
    runtime: Runtime | None = None
    layers: list[Descriptor] = field(default_factory=list)
    unpacked: int = 0
    items: list[Item] = field(default_factory=list)


def add_bytes(blobs: Blobs, data: bytes, media_type: str, title: str | None = None) -> Descriptor:
    """Adds bytes as a blob."""
    return Descriptor(media_type, blobs.add(data), len(data), {TITLE: title} if title else {})


def add_file(blobs: Blobs, file: Any, media_type: str, title: str) -> Descriptor:
    """Adds a binary file, which can be read anew, as a blob."""
    file.seek(0)
    digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    size = file.tell()
    with blobs.writer(digest, size) as writer:
        if writer is not None:
            file.seek(writer.offset)
            while chunk := file.read(CHUNK):
                writer.write(chunk)
    return Descriptor(media_type, digest, size, {TITLE: title})


def add_tree(blobs: Blobs, entries: Iterable[Entry], title: str, part: Part) -> None:
    """Adds files as a layer of a part; nothing, if there are none."""
    found = list(entries)
    if not found:
        return
    with tempfile.TemporaryFile() as file:
        part.unpacked += write_tar(file, found)
        part.layers.append(add_file(blobs, file, TREE, title))


def folder_entries(folder: Path, name: str, leave_out: frozenset[str] = frozenset()) -> list[Entry]:
    """All that is in a folder, but for files of some names."""
    return [
        Entry.of(f"{name}/{path.relative_to(folder).as_posix()}", path)
        for path in folder.rglob("*")
        if (path.is_symlink() or path.is_file()) and path.name not in leave_out
    ]
