"""Artifacts for tests, put into a store as a pull does it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loop_kit.oci.blobs import Blobs, digest_of
from loop_kit.oci.model import Descriptor, Manifest
from loop_kit.store import Store, Use

LAYER, CONFIG = "application/vnd.test.layer", "application/vnd.test.config+json"


def artifact(seed: int, size: int = 5000, layers: int = 2) -> tuple[Descriptor, dict[str, bytes]]:
    """An artifact, told by a number, and its blobs by their digests."""
    made = random.Random(seed)
    parts = [b"{}", *(made.randbytes(size) for _ in range(layers))]
    config, *rest = (
        Descriptor(LAYER if at else CONFIG, digest_of(data), len(data)) for at, data in enumerate(parts)
    )
    data = Manifest(config, tuple(rest)).to_bytes()
    root = Descriptor("application/vnd.oci.image.manifest.v1+json", digest_of(data), len(data))
    return root, {digest_of(part): part for part in [*parts, data]}


def put(blobs: Blobs, parts: dict[str, bytes], piece: int = 1 << 16) -> None:
    for digest, data in parts.items():
        with blobs.writer(digest, len(data)) as writer:
            if writer is not None:
                for at in range(writer.offset, len(data), piece):
                    writer.write(data[at : at + piece])


def unpacked(parts: dict[str, bytes]) -> Any:
    """Puts the parts into a folder as files."""

    def fill(place: Path) -> None:
        (place / "bin").mkdir(parents=True)
        for digest, data in parts.items():
            (place / "bin" / digest[7:20]).write_bytes(data)
        (place / "link").symlink_to("bin")

    return fill


@contextmanager
def pulled(store: Store, seed: int, **how: Any) -> Iterator[tuple[Use, Descriptor, dict[str, bytes]]]:
    """An artifact that is in the store and pinned, while it is in use."""
    root, parts = artifact(seed, **how)
    with store.use() as use:
        put(use.blobs, parts)
        store.pin(f"artifact {seed}", root, parts)
        yield use, root, parts
