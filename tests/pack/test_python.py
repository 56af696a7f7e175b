"""Python providers: packed with the wheels that they need, and run out of nothing else."""

import os
import shutil
from pathlib import Path

import pytest

from loop_kit.errors import LoadError, PackageError
from loop_kit.manifest import Manifest, Provider
from loop_kit.oci import model
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Index, Platform
from loop_kit.pack import config_of, describe, pack, part_of, unpack
from loop_kit.pack._python import stem, tags_of, wants
from tests.pack.workspaces import PYTHON, WIT, called, loop_toml, wheel, written

TOML = loop_toml("""
use = "sidecar:python:text:Filter"
pack = { version = "1.2.0", license = "MIT", description = "Says all twice", grants = { "acme:text" = { most = 3 } } }
""")
TWICE = {
    "acme_pair.py": "import acme_pair_inner\n\ndef twice(text):\n    return acme_pair_inner.joined(text, text)\n"
}
INNER = {"acme_pair_inner/__init__.py": "def joined(*texts):\n    return '-'.join(texts)\n"}


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pip finds wheels, and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def manifest(tmp_path: Path, wheels: Path) -> Manifest:
    lock = wheel(wheels, "acme_pair", TWICE) + wheel(wheels, "acme_pair_inner", INNER)
    files = {"loop.toml": TOML, "text.py": PYTHON, "wit/text.wit": WIT, "requirements.txt": lock}
    return written(tmp_path / "ws", files)


async def test_it_runs_with_its_dependencies_and_without_pip(
    manifest: Manifest, tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(tmp_path / "blobs")
    packed = await pack(manifest, "text", blobs)
    shutil.rmtree(wheels)
    for name in ("text.py", "requirements.txt", "wit/text.wit"):
        (manifest.folder / name).unlink()
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    runnable = unpack(blobs, packed, tmp_path / "place")
    before = sorted(path for path in runnable.place.rglob("*"))
    assert await called(manifest, runnable) == "abc-abc"
    assert sorted(path for path in runnable.place.rglob("*")) == before  # nothing compiled is put there
    assert runnable.provider(Provider("text", "oci:a/b", "sidecar", "")).placement == "sidecar"


async def test_the_same_makes_the_same(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    first = await pack(manifest, "text", Blobs(tmp_path / "one"))
    files = [path for path in manifest.folder.rglob("*.*") if path.is_file()]
    copies = {path.relative_to(manifest.folder).as_posix(): path.read_bytes() for path in files}
    other = written(tmp_path / "elsewhere", copies)
    (other.folder / "text.py").chmod(0o600)
    os.utime(other.folder / "text.py", (1, 1))
    assert await pack(other, "text", Blobs(tmp_path / "two")) == first
    assert list(Blobs(tmp_path / "one")) == list(Blobs(tmp_path / "two"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    dated = await pack(manifest, "text", Blobs(tmp_path / "one"))
    assert dated.digest != first.digest
    assert describe(Blobs(tmp_path / "one"), dated).created == "2026-01-01T00:00:00Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(PackageError, match="SOURCE_DATE_EPOCH is 'soon'"):
        await pack(manifest, "text", Blobs(tmp_path / "one"))


async def test_it_says_what_it_is(manifest: Manifest, tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    said = describe(blobs, await pack(manifest, "text", blobs))
    assert (said.kind, said.name, said.version, said.licenses) == ("python", "text", "1.2.0", "MIT")
    assert (said.exports, said.runtime, said.entry) == (("acme:text/filter",), "python >=3.11", "text:Filter")
    assert (said.platforms, said.handshake) == ((), 1)
    assert said.may == ("use acme:text under { most = 3 }",)
    assert said.packages == (("acme_pair", "1.0"), ("acme_pair_inner", "1.0"))
    assert [layer.title for layer in said.layers] == [
        "text.tar.gz", "acme_pair-1.0-py3-none-any.whl", "acme_pair_inner-1.0-py3-none-any.whl", "sbom.cdx.json",
    ]  # fmt: skip


async def test_in_the_hosts_process_it_needs_to_be_trusted(manifest: Manifest, tmp_path: Path) -> None:
    import sys

    blobs = Blobs(tmp_path / "blobs")
    runnable = unpack(blobs, await pack(manifest, "text", blobs), tmp_path / "place")
    before, modules = list(sys.path), set(sys.modules)
    try:
        assert await called(manifest, runnable, trusted=True) == "abc-abc"
        assert sys.modules["acme_pair"].__file__ == str(runnable.place / "wheels/acme_pair-1.0/acme_pair.py")
    finally:
        sys.path[:] = before
        for name in set(sys.modules) - modules:
            if name.startswith(("acme_", "text")):
                del sys.modules[name]


async def test_what_is_not_in_the_package_is_not_found(manifest: Manifest, tmp_path: Path) -> None:
    """`click` is installed beside loop-kit."""
    (manifest.folder / "text.py").write_text("import click\n" + PYTHON)
    blobs = Blobs(tmp_path / "blobs")
    runnable = unpack(blobs, await pack(manifest, "text", blobs), tmp_path / "place")
    with pytest.raises(LoadError, match="No module named 'click'"):
        await called(manifest, runnable)


async def test_wheels_for_one_machine_make_a_part_for_each(
    manifest: Manifest, tmp_path: Path, wheels: Path
) -> None:
    lock = wheel(wheels, "acme_pair", TWICE)
    hashes = [
        wheel(wheels, "acme_pair_inner", INNER, f"cp311-abi3-manylinux_2_17_{machine}", "2.0")
        .partition(" ")[2]
        .strip()
        for machine in ("x86_64", "aarch64")
    ]
    (manifest.folder / "requirements.txt").write_text(f"{lock}acme_pair_inner==2.0 {' '.join(hashes)}\n")
    blobs = Blobs(tmp_path / "blobs")
    targets = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")
    packed = await pack(manifest, "text", blobs, targets=targets)
    index = model.parse(blobs.read(packed.digest))
    assert isinstance(index, Index)
    assert [str(part.platform) for part in index.manifests] == ["linux/amd64", "linux/arm64"]
    for machine, tag in (("amd64", "x86_64"), ("arm64", "aarch64")):
        _, part = part_of(blobs, packed, Platform(machine, "linux"))
        titles = [layer.annotations["org.opencontainers.image.title"] for layer in part.layers]
        assert f"acme_pair_inner-2.0-cp311-abi3-manylinux_2_17_{tag}.whl" in titles
        config = config_of(blobs, part)
        assert config is not None
        assert (str(config.platform), config.runtime and config.runtime.version) == (
            f"linux/{machine}",
            ">=3.11",
        )
        unpacked = unpack(blobs, packed, tmp_path / machine, platform=Platform(machine, "linux"))
        assert (unpacked.place / "wheels/acme_pair_inner-2.0/acme_pair_inner").is_dir()
    with pytest.raises(PackageError, match="has nothing for darwin/arm64") as caught:
        unpack(blobs, packed, tmp_path / "mac", platform=Platform("arm64", "darwin"))
    assert caught.value.hint == "it has linux/amd64, linux/arm64"


async def test_a_wheel_of_its_own(tmp_path: Path, wheels: Path) -> None:
    text = PYTHON.replace('wit="wit"', 'wit="text.wit"')
    wheel(tmp_path / "ws/dist", "acme_text", {"text/__init__.py": text, "text/text.wit": WIT})
    lock = wheel(wheels, "acme_pair", TWICE) + wheel(wheels, "acme_pair_inner", INNER)
    toml = loop_toml("""
use = "sidecar:python:text:Filter"
pack = { wheel = "dist/acme_text-1.0-py3-none-any.whl", wit = "text.wit" }
""")
    manifest = written(tmp_path / "ws", {"loop.toml": toml, "text.wit": WIT, "requirements.txt": lock})
    blobs = Blobs(tmp_path / "blobs")
    runnable = unpack(blobs, await pack(manifest, "text", blobs), tmp_path / "place")
    assert await called(manifest, runnable) == "abc-abc"


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        ("acme_pair\n", "In --require-hashes mode"),
        ("acme_pair==1.0 --hash=sha256:" + "0" * 64, "THESE PACKAGES DO NOT MATCH THE HASHES"),
        ("nobody==1.0 --hash=sha256:" + "0" * 64, "No matching distribution found"),
        ("loop-kit==0.1.0 --hash=sha256:" + "0" * 64, "names loop-kit, which the host has"),
    ],
)
async def test_a_lock_that_does_not_hold(lock: str, said: str, manifest: Manifest, tmp_path: Path) -> None:
    (manifest.folder / "requirements.txt").write_text(lock)
    with pytest.raises(PackageError, match=said) as caught:
        await pack(manifest, "text", Blobs(tmp_path / "blobs"))
    assert caught.value.hint


def test_what_wheels_want() -> None:
    assert wants([]).version == ">=3.11"
    assert wants(["a-1-cp313-abi3-any.whl", "b-1-py2.py3-none-any.whl"]).version == ">=3.13"
    assert wants(["a-1-cp311-cp311-manylinux_2_17_x86_64.whl"], (3, 11)).version == "3.11"
    assert stem("a_b-1.0-1-py3-none-any.whl") == "a_b-1.0-1"
    for name in ("../../a-1-py3-none-any.whl", "a.whl", "a-1-py3-none-any.zip"):
        with pytest.raises(PackageError, match="not named as a wheel is"):
            tags_of(name)
