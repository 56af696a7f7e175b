"""How files of packages are compressed, what is said where that is damaged, and how much of them is taken."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from backports import zstd

from loop_kit.errors import PackageError
from loop_kit.pkg._fetch import Fetcher
from loop_kit.pkg._model import File
from loop_kit.pkg._store import Store
from tests.pkg.servers import tar

COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "bz2": bz2.compress,
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
}


def unpacked(folder: Path, data: bytes) -> Path:
    store = Store(folder)
    with store.use():
        return store.unpack(File(("any",), "tool.tar", store.blobs.add(data), len(data), "tar", 1))


async def test_what_is_there_already_is_bounded_too(tmp_path: Path) -> None:
    """A source could have the host hold any file of the store as what tells of a package."""
    store = Store(tmp_path)
    digest = store.blobs.add(bytes(1001))
    resolver: Any = None  # nobody is asked
    async with Fetcher(store.blobs, store.temporary, print) as fetcher:
        asset = SimpleNamespace(file="METADATA")
        assert await fetcher.get(resolver, asset, digest, None, most=1001) == (digest, 1001)
        with pytest.raises(PackageError, match="METADATA has 1001 bytes; 1000 are the most"):
            await fetcher.get(resolver, asset, digest, None, most=1000)


@pytest.mark.parametrize("how", COMPRESSED)
def test_whatever_a_tar_is_compressed_by(how: str, tmp_path: Path) -> None:
    tree = unpacked(tmp_path, COMPRESSED[how](tar({"a/b": "hello"}, mode="w:")))
    assert (tree / "b").read_text() == "hello"


@pytest.mark.parametrize("how", COMPRESSED)
@pytest.mark.parametrize("damage", ["short", "changed"])
def test_damage_is_told_with_the_file(how: str, damage: str, tmp_path: Path) -> None:
    whole = COMPRESSED[how](tar({"a/b": os.urandom(100_000)}, mode="w:"))
    half = len(whole) // 2
    broken = whole[:half] if damage == "short" else whole[:half] + bytes(300) + whole[half + 300 :]
    with pytest.raises(PackageError, match=r"^tool\.tar is damaged"):
        unpacked(tmp_path, broken)
    assert not list((tmp_path / "packages" / "trees").glob("*"))
