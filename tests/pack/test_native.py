"""Native programs: in Rust and Go, for two architectures each, and the part for a machine runs on it."""

import dataclasses
import gzip
import json
import os
import shutil
from pathlib import Path

import pytest
from backports import zstd

import loop_kit as loop
from loop_kit.errors import PackageError
from loop_kit.manifest import Manifest, Provider
from loop_kit.oci import model
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Index, Platform
from loop_kit.pack import Runnable, describe, pack, part_of, unpack
from loop_kit.pack._native import triples
from loop_kit.pack._plan import plan
from loop_kit.pack.config import TREE
from loop_kit.workspace import Workspace
from tests.checkout import ROOT
from tests.pack.workspaces import WIT, called, loop_toml, written

HERE = Path(__file__).parent / "native"
ARM = Platform("arm64", "linux")


async def emulated(manifest: Manifest, runnable: Runnable, *emulator: str) -> str:
    """What the component gets from a program for another machine."""
    provider = runnable.provider(Provider("text", "oci:a/b", "sidecar", "", start_timeout=60))
    provider = dataclasses.replace(provider, command=(*emulator, *provider.command))
    ran = dataclasses.replace(manifest, providers={"text": provider})
    async with loop.Host() as host, Workspace(host, ran) as workspace:
        return str(await (await workspace.load("app")).call("echo", "abc"))


def parts(blobs: Blobs, packed: model.Descriptor) -> list[str]:
    index = model.parse(blobs.read(packed.digest))
    assert isinstance(index, Index)
    return [str(part.platform) for part in index.manifests]


@pytest.mark.timeout(600)
async def test_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOFLAGS", "-mod=mod -buildvcs=false")
    files = {path.name: path.read_bytes() for path in (HERE / "go").iterdir()}
    manifest = written(tmp_path / "ws", {**files, "wit/text.wit": WIT})
    blobs = Blobs(tmp_path / "blobs")
    packed = await pack(manifest, "text", blobs)
    assert parts(blobs, packed) == ["linux/amd64", "linux/arm64"]
    said = describe(blobs, packed)
    assert (said.kind, said.version, said.handshake, said.transports) == ("native", "1.0.0", None, ("unix",))
    shutil.rmtree(manifest.folder / "build")
    (manifest.folder / "main.go").unlink()
    assert (await called(manifest, unpack(blobs, packed, tmp_path / "own"))).startswith("ABC by Go on ")
    arm = unpack(blobs, packed, tmp_path / "arm", platform=ARM)
    assert await emulated(manifest, arm, "qemu-aarch64-static") == "ABC by Go on arm64"


@pytest.mark.timeout(1800)  # the SDK is built for two machines, once
async def test_rust(tmp_path: Path) -> None:
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    sdk, toml = ROOT / "sdk/rust", (HERE / "rust/loop.toml").read_text()
    cargo = f"""
[package]
name = "text"
version = "0.4.0"
edition = "2024"
license = "MIT"
description = "Shouts"
repository = "https://example.com/text"

[workspace]

[dependencies]
loop-provider = {{ path = "{sdk}" }}

[build-dependencies]
loop-provider-build = {{ path = "{sdk}/codegen" }}
"""
    files: dict[str, str | bytes] = {
        "Cargo.toml": cargo,
        "Cargo.lock": (ROOT / "Cargo.lock").read_bytes(),  # the versions that are here already
        "build.rs": 'fn main() {\n    loop_provider_build::Wit::new("wit").write();\n}\n',
        "src/main.rs": (HERE / "rust/src/main.rs").read_bytes(),
        "loop.toml": toml.replace("--target-dir target", f"--target-dir {target}").replace(
            "target/{", f"{target}/{{"
        ),
        "wit/text.wit": WIT,
        ".cargo/config.toml": '[target.aarch64-unknown-linux-gnu]\nlinker = "aarch64-linux-gnu-gcc"\n',
    }
    manifest = written(tmp_path / "ws", files)
    blobs = Blobs(tmp_path / "blobs")
    packed = await pack(manifest, "text", blobs)
    assert parts(blobs, packed) == ["linux/amd64", "linux/arm64"]
    said = describe(blobs, packed)
    assert (said.version, said.licenses, said.source) == ("0.4.0", "MIT", "https://example.com/text")
    assert (said.entry, said.handshake) == ("bin/text", 1)
    assert "tokio" in dict(said.packages)
    own = await called(manifest, unpack(blobs, packed, tmp_path / "own"))
    assert own.startswith("ABC by Rust on ")
    arm = unpack(blobs, packed, tmp_path / "arm", platform=ARM)
    assert (
        await emulated(manifest, arm, "qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu")
        == "ABC by Rust on aarch64"
    )


TOML = loop_toml("""
use = "sidecar"
command = ["true"]
pack = { program = "out/{os}-{arch}", files = ["data/**"] }
""")


def elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + machine.to_bytes(2, "little") + bytes(44)


AMD, ARM64 = elf(62), elf(183)


async def test_files_come_along_and_the_same_makes_the_same(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "out/linux-amd64": AMD,
        "data/a.txt": "a",
        "data/.env": "x",
        "wit/text.wit": WIT,
        "loop.toml": TOML,
    }
    packed = set()
    for index in range(2):
        manifest = written(tmp_path / f"ws{index}", files)
        blobs = Blobs(tmp_path / f"blobs{index}")
        packed.add(await pack(manifest, "text", blobs, targets=["x86_64-unknown-linux-musl"]))
        unpacked = unpack(
            blobs, next(iter(packed)), tmp_path / f"place{index}", platform=Platform("amd64", "linux")
        )
        found = {
            path.relative_to(unpacked.tree).as_posix() for path in unpacked.tree.rglob("*") if path.is_file()
        }
        assert found == {"bin/linux-amd64", "data/a.txt"}
        assert os.access(unpacked.tree / "bin/linux-amd64", os.X_OK)
    assert len(packed) == 1


@pytest.mark.parametrize(
    ("files", "targets", "said"),
    [
        ({"out/linux-arm64": AMD}, ["aarch64-unknown-linux-gnu"], "is for linux/amd64, not linux/arm64"),
        ({"out/linux-arm64": b"#!/bin/sh\n"}, ["aarch64-unknown-linux-gnu"], "is a script"),
        ({"out/linux-arm64": b"hello"}, ["aarch64-unknown-linux-gnu"], "is no program"),
        ({}, ["aarch64-unknown-linux-gnu"], r"there is no .*out/linux-arm64 for aarch64-unknown-linux-gnu"),
        ({}, ["x86_64-unknown-linux-gnu", "x86_64-unknown-linux-musl"], "are both linux/amd64"),
        ({}, ["sparc"], "of no machine that is known"),
    ],
)
async def test_a_program_is_what_it_is_said_to_be(
    files: dict[str, bytes], targets: list[str], said: str, tmp_path: Path
) -> None:
    manifest = written(tmp_path / "ws", {**files, "loop.toml": TOML, "wit/text.wit": WIT, "data/x": ""})
    with pytest.raises(PackageError, match=said) as caught:
        await pack(manifest, "text", Blobs(tmp_path / "blobs"), targets=targets)
    assert caught.value.hint


async def test_one_program_is_not_for_every_target(tmp_path: Path) -> None:
    toml = TOML.replace("out/{os}-{arch}", "out/text").replace("{ program", '{ build = "false", program')
    manifest = written(tmp_path / "ws", {"loop.toml": toml, "wit/text.wit": WIT, "data/x": ""})
    planned = await plan(manifest, "text")
    assert len(triples(planned, [])) == 1
    with pytest.raises(PackageError, match="out/text for every target"):
        triples(planned, ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"])
    with pytest.raises(PackageError, match=r"building text for .*: `false` exited with 1"):
        await pack(manifest, "text", Blobs(tmp_path / "blobs"))


async def test_the_part_for_a_machine_is_chosen(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "out/linux-amd64": AMD,
        "out/linux-arm64": ARM64,
        "loop.toml": TOML,
        "wit/text.wit": WIT,
        "data/x": "",
    }
    manifest = written(tmp_path / "ws", files)
    blobs = Blobs(tmp_path / "blobs")
    targets = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]
    packed = await pack(manifest, "text", blobs, targets=targets)
    for machine, program in (("amd64", AMD), ("arm64", ARM64)):
        _, artifact = part_of(blobs, packed, Platform(machine, "linux"))
        config = json.loads(blobs.read(artifact.config.digest))
        assert (config["architecture"], config["os"], config["entry"]) == (
            machine,
            "linux",
            f"bin/linux-{machine}",
        )
        place = unpack(blobs, packed, tmp_path / machine, platform=Platform(machine, "linux")).tree
        assert (place / config["entry"]).read_bytes() == program
    # one part alone, for another machine than this
    part, _ = part_of(blobs, packed, Platform("arm64", "linux"))
    with pytest.raises(PackageError, match="is for linux/arm64, and this machine is linux/riscv64"):
        unpack(blobs, part, tmp_path / "other", platform=Platform("riscv64", "linux"))


async def test_layers_that_others_have_folded_by_zstd_are_read(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "out/linux-amd64": AMD,
        "data/a.txt": "a",
        "wit/text.wit": WIT,
        "loop.toml": TOML,
    }
    blobs, machine = Blobs(tmp_path / "blobs"), Platform("amd64", "linux")
    packed = await pack(written(tmp_path / "ws", files), "text", blobs, targets=["x86_64-unknown-linux-musl"])
    _, part = part_of(blobs, packed, machine)
    layers = []
    for layer in part.layers:
        if layer.media_type == TREE:
            data = zstd.compress(gzip.decompress(blobs.read(layer.digest)))
            media_type = TREE.replace("gzip", "zstd")
            layer = model.Descriptor(media_type, blobs.add(data), len(data), layer.annotations)
        layers.append(layer)
    other = dataclasses.replace(part, layers=tuple(layers))
    blobs.add(other.to_bytes())
    place = unpack(blobs, model.describe(other, other.to_bytes()), tmp_path / "place", platform=machine)
    assert (place.tree / "bin/linux-amd64").read_bytes() == AMD
    assert (place.tree / "data/a.txt").read_text() == "a"
