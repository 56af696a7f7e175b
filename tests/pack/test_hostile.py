"""Packages that others made: what would do harm, or is not what it says, is not unpacked."""

import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from loop_kit.errors import Damaged, PackageError
from loop_kit.manifest import Provider
from loop_kit.oci.archive import Bounds, Entry, write_tar
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor, Index, Manifest, Platform, describe
from loop_kit.pack import describe as said_of
from loop_kit.pack import unpack
from loop_kit.pack._layers import add_bytes
from loop_kit.pack.config import CONFIG, SBOM, TREE, WHEEL, ProviderConfig, Runtime


def packed(
    blobs: Blobs, layers: list[tuple[bytes, str, str]], config: ProviderConfig | None = None
) -> Descriptor:
    config = config or ProviderConfig(
        "text", "python", "text:Filter", 1 << 20, runtime=Runtime("python", ">=3.11")
    )
    made = tuple(add_bytes(blobs, data, media_type, title) for data, media_type, title in layers)
    manifest = Manifest(add_bytes(blobs, config.to_bytes(), CONFIG), made)
    blobs.add(manifest.to_bytes())
    return describe(manifest, manifest.to_bytes())


def tree(*entries: Entry) -> bytes:
    out = io.BytesIO()
    write_tar(out, entries)
    return out.getvalue()


def wheel(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name in names:
            packed.writestr(name, "x")
    return out.getvalue()


A_WHEEL = "a-1-py3-none-any.whl"
TEXT = (tree(Entry("text.py", b"x")), TREE, "text.tar.gz")


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([TEXT, (wheel("a.py"), WHEEL, "../../evil-1-py3-none-any.whl")], "not named as a wheel is"),
        ([TEXT, (wheel("a.py"), WHEEL, "..-..-py3-none-any.whl.sh")], "not named as a wheel is"),
        ([TEXT, (wheel("../a.py"), WHEEL, A_WHEEL)], "leads out of the folder"),
        ([TEXT, (b"no zip", WHEEL, A_WHEEL)], "is damaged, or no archive"),
        ([TEXT, (wheel("a.py"), WHEEL, A_WHEEL), (wheel("b.py"), WHEEL, A_WHEEL)], "not empty"),
        ([TEXT, (wheel("a.py", "a-1.data/purelib/a.py"), WHEEL, A_WHEEL)], "a.py is in the package twice"),
        ([TEXT, TEXT], "text.py is in the package twice"),
        ([TEXT, (b"x", "application/octet-stream", "other")], "octet-stream, which no python provider has"),
        ([(os.urandom(100), TREE, "text.tar.gz")], "text.tar.gz is damaged, or no archive"),
        ([(tree(Entry("big", bytes(3 << 20))), TREE, "big.tar.gz")], "big.tar.gz has more than"),
    ],
)  # fmt: skip
def test_what_would_do_harm_is_not_unpacked(
    layers: list[tuple[bytes, str, str]], said: str, tmp_path: Path
) -> None:
    blobs = Blobs(tmp_path / "blobs")
    found = packed(blobs, layers)
    with pytest.raises(PackageError, match=said):
        unpack(blobs, found, tmp_path / "in" / "place")
    assert list((tmp_path / "in").iterdir()) == []  # not even the half of it
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blobs", "in"]


def test_all_parts_are_compared_with_their_digests(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    found = packed(blobs, [TEXT, (wheel("a.py"), WHEEL, A_WHEEL)])
    for digest in blobs:
        path = blobs.path(digest)
        before = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(Damaged, match=digest):
            unpack(blobs, found, tmp_path / "place")
        assert not (tmp_path / "place").exists()
        path.write_bytes(before)
    unpack(blobs, found, tmp_path / "place")


def test_bounds_are_of_all_layers_together(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    layers = [(tree(Entry(f"{n}", bytes(400))), TREE, f"{n}.tar.gz") for n in range(3)]
    found = packed(blobs, [*layers, TEXT])
    with pytest.raises(PackageError, match="has more than 200 bytes"):
        unpack(blobs, found, tmp_path / "place", bounds=Bounds(size=1000))
    unpack(blobs, found, tmp_path / "place", bounds=Bounds(size=2000))


@pytest.mark.parametrize("entry", ["bin/none", "link"])
def test_a_program_is_in_its_package(entry: str, tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    config = ProviderConfig("text", "native", entry, 10, platform=Platform("amd64", "linux"))
    found = packed(blobs, [(tree(Entry("link", None, link="nowhere")), TREE, "t.tar.gz")], config)
    with pytest.raises(PackageError, match=f"there is no {entry} in the package"):
        unpack(blobs, found, tmp_path / "place", platform=Platform("amd64", "linux"))


def test_a_python_that_does_not_fit_is_said(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    config = ProviderConfig("text", "python", "text:Filter", 10, runtime=Runtime("python", "3.7"))
    with pytest.raises(PackageError, match=r"text was packed for Python 3\.7, and this one is 3\.") as caught:
        unpack(blobs, packed(blobs, [TEXT], config), tmp_path / "place")
    assert "have it packed by Python 3." in (caught.value.hint or "")


def test_what_is_no_package_is_said(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    layer = add_bytes(blobs, b"x", "application/vnd.docker.image.rootfs.diff.tar.gzip")
    manifest = Manifest(add_bytes(blobs, b"{}", "application/vnd.docker.container.image.v1+json"), (layer,))
    blobs.add(manifest.to_bytes())
    with pytest.raises(PackageError, match="neither a component nor a provider"):
        unpack(blobs, describe(manifest, manifest.to_bytes()), tmp_path / "place")
    inner = Index()
    outer = Index((describe(inner, inner.to_bytes(), platform=Platform("amd64", "linux")),))
    for index in (inner, outer):
        blobs.add(index.to_bytes())
    with pytest.raises(PackageError, match="an index lists another index"):
        unpack(
            blobs, describe(outer, outer.to_bytes()), tmp_path / "place", platform=Platform("amd64", "linux")
        )


def test_an_sbom_that_is_none_is_no_harm(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    for text in (
        b"",
        b"[]",
        b'{"components": 3}',
        b'{"components": [1, {}]}',
        json.dumps({"components": [[]]}).encode(),
    ):
        assert said_of(blobs, packed(blobs, [TEXT, (text, SBOM, "sbom.cdx.json")])).packages == ()


def test_who_is_quicker_wins(tmp_path: Path) -> None:
    """A folder that is there is taken for what it was made of: nothing is written to it."""
    blobs = Blobs(tmp_path / "blobs")
    found = packed(blobs, [TEXT])
    first = unpack(blobs, found, tmp_path / "place")
    before = (first.tree / "text.py").stat()
    again = unpack(blobs, found, tmp_path / "place")
    assert again == first
    assert (first.tree / "text.py").stat() == before


def test_a_program_without_an_sdk_is_reached_as_it_says(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    here = Platform("amd64", "linux")
    config = ProviderConfig(
        "text", "native", "run", 10, platform=here, handshake=None, transports=("tcp", "unix")
    )
    found = packed(blobs, [(tree(Entry("run", b"x", True)), TREE, "t.tar.gz")], config)
    runnable = unpack(blobs, found, tmp_path / "place", platform=here)
    for transport in ("tcp", "unix", ""):
        made = runnable.provider(Provider("text", "oci:a/b", "sidecar", "", transport=transport))
        assert (made.transport, made.handshake) == (transport or "unix", False)
    with pytest.raises(PackageError, match="text is reached by tcp, unix, not by quic") as caught:
        runnable.provider(Provider("text", "oci:a/b", "sidecar", "", transport="quic"))
    assert caught.value.hint == 'write transport = "tcp"'
