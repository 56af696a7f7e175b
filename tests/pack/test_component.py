"""Components: as the WASM working group lays them out, and run in this process."""

import json
from pathlib import Path

import pytest
from wasmtime import wat2wasm

import loop_kit as loop
from loop_kit import manifest as manifests
from loop_kit.errors import LoadError, PackageError
from loop_kit.oci import media_types, model
from loop_kit.oci.blobs import Blobs, digest_of
from loop_kit.oci.layout import Layout, check
from loop_kit.oci.model import Manifest as Artifact
from loop_kit.oci.wasm import parse_config
from loop_kit.pack import describe, pack, refer, unpack
from loop_kit.pack._bill import tools_in
from loop_kit.pack.config import SBOM
from tests.linked_guests import passing
from tests.preview1 import command
from tests.wit_types import STRING

TOML = """
[components.app]
path = "app.wasm"

[components.app.pack]
version = "0.3.0"
license = "MIT OR Apache-2.0"
description = "Says what it is told"
source = "https://example.com/app"
grants = { "loop:fsx" = { roots = { docs = { path = "docs" } } }, "acme:text/filter" = { most = 3 } }
"""
WASM = passing(STRING, "acme:text/filter", "acme:text/api").wasm()


def workspace(folder: Path, toml: str = TOML, wasm: bytes = WASM) -> manifests.Manifest:
    folder.mkdir(exist_ok=True)
    (folder / "loop.toml").write_text(toml)
    (folder / "app.wasm").write_bytes(wasm)
    return manifests.load(folder)


async def test_it_is_laid_out_as_others_read_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout").create()
    packed = await pack(workspace(tmp_path / "ws"), "app", layout.blobs)
    layout.add("app", packed)
    assert check(layout.folder) == []
    found = model.parse(layout.blobs.read(packed.digest))
    assert isinstance(found, Artifact)
    assert (found.config.media_type, found.artifact_type) == (media_types.WASM_CONFIG, None)
    assert [layer.media_type for layer in found.layers] == ["application/wasm"]
    assert layout.blobs.read(found.layers[0].digest) == WASM
    config = parse_config(layout.blobs.read(found.config.digest), found)
    assert (config.os, config.created) == ("wasip2", "1970-01-01T00:00:00Z")
    assert (config.exports, config.imports) == (("acme:text/api",), ("acme:text/filter",))
    assert found.annotations["org.opencontainers.image.licenses"] == "MIT OR Apache-2.0"
    assert json.loads(layout.blobs.read(found.config.digest))["component"]["target"] is None
    assert await pack(workspace(tmp_path / "again"), "app", Blobs(tmp_path / "two")) == packed


CARGO = """
[[package]]
name = "bytes"
version = "1.10.1"
source = "registry+https://example.com/index"
checksum = "d71b6127be86fdcfddb610f7182ac57211d4b18a3e9c82eb2d17662f2227ad6a"
"""


def producers(tool: str, version: str) -> bytes:
    """A section of a component that says what has made it."""
    name = lambda text: bytes([len(text)]) + text.encode()  # noqa: E731
    body = name("producers") + b"\x01" + name("processed-by") + b"\x01" + name(tool) + name(version)
    return b"\0" + bytes([len(body)]) + body


async def test_its_sbom_refers_to_it(tmp_path: Path) -> None:
    toml = TOML.replace('path = "app.wasm"', 'path = "out/app.wasm"\nbuild = "cp app.wasm out/app.wasm"')
    made = []
    for name in ("one", "two"):
        layout = Layout(tmp_path / name).create()
        ws = tmp_path / f"ws-{name}"
        ws.mkdir()
        (ws / "Cargo.lock").write_text(CARGO)
        (ws / "out").mkdir()
        packed = await pack(workspace(ws, toml, WASM + producers("rustc", "1.96.0")), "app", layout.blobs)
        about = refer(layout.blobs, packed)
        assert about is not None
        layout.add("app", packed)
        layout.add(None, about)
        assert check(layout.folder) == []
        assert layout.referrers(packed.digest) == [about]
        made.append((packed, about))
    assert made[0] == made[1]
    packed, about = made[0]
    manifest = model.parse(layout.blobs.read(about.digest))
    assert isinstance(manifest, Artifact)
    assert manifest.subject is not None
    assert (manifest.subject.digest, manifest.kind, manifest.config.media_type) == (
        packed.digest,
        SBOM,
        media_types.EMPTY,
    )
    bill = json.loads(layout.blobs.read(manifest.layers[0].digest))
    assert bill["metadata"]["component"]["hashes"] == [
        {"alg": "SHA-256", "content": digest_of(WASM + producers("rustc", "1.96.0")).partition(":")[2]}
    ]
    tools = [(each["name"], each["version"]) for each in bill["metadata"]["tools"]["components"]]
    assert ("rustc", "1.96.0") in tools
    said = describe(layout.blobs, packed, referrers=[about])
    assert said.packages == (("bytes", "1.10.1"),)
    assert [(each.title, each.digest) for each in said.referrers] == [("SBOM", about.digest)]


@pytest.mark.parametrize("broken", [b"", b"\xff" * 9, producers("rustc", "1")[:-3], b"\0\x0a\x09producers"])
def test_what_says_nothing_of_its_tools_is_passed_over(broken: bytes) -> None:
    assert tools_in(WASM + broken) == tools_in(WASM)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("requirements.txt", "A_b[x]==1.0 \\\n  --hash=sha256:00\n# c==2\n", (("A_b", "1.0"),)),
        (
            "package-lock.json",
            json.dumps(
                {
                    "packages": {
                        "": {},
                        "node_modules/a": {"version": "1.0.0"},
                        "node_modules/b": {"version": "2.0.0", "dev": True},
                    }
                }
            ),
            (("a", "1.0.0"),),
        ),
    ],
)
async def test_the_lock_of_its_build_is_listed(
    file: str, text: str, expected: object, tmp_path: Path
) -> None:
    toml = TOML.replace('path = "app.wasm"', 'path = "app.wasm"\nbuild = "true"')
    manifest, blobs = workspace(tmp_path / "ws", toml), Blobs(tmp_path / "blobs")
    (manifest.folder / file).write_text(text)
    assert describe(blobs, await pack(manifest, "app", blobs)).packages == expected
    # of a file that nobody here has built, nobody here can tell
    (manifest.folder / "loop.toml").write_text(TOML)
    assert describe(blobs, await pack(manifests.load(manifest.folder), "app", blobs)).packages == ()


async def test_it_runs(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    packed = await pack(workspace(tmp_path / "ws"), "app", blobs)
    runnable = unpack(blobs, packed, tmp_path / "place")
    assert runnable.wasm is not None

    class Filter:
        def echo(self, text: str) -> str:
            return text.upper()

    async with loop.Host() as host:
        app = await host.load(runnable.wasm, imports={"acme:text/filter": Filter()})
        assert await app.call("echo", "abc") == "ABC"


async def test_it_says_what_it_needs(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    said = describe(blobs, await pack(workspace(tmp_path / "ws"), "app", blobs))
    assert (said.kind, said.name, said.version, said.source) == (
        "component",
        "app",
        "0.3.0",
        "https://example.com/app",
    )
    assert (said.exports, said.imports) == (("acme:text/api",), ("acme:text/filter",))
    assert said.may == (
        "use acme:text/filter under { most = 3 }",
        "read docs (as `docs`, read-only)",
    )
    assert said.size == said.unpacked == len(WASM)


async def test_a_module_is_of_wasi_preview_1(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    said = describe(
        blobs, await pack(workspace(tmp_path / "ws", wasm=bytes(wat2wasm(command("hello")))), "app", blobs)
    )
    assert (said.kind, said.exports, said.imports) == ("module", (), ())


async def test_a_component_with_a_build_is_built(tmp_path: Path) -> None:
    toml = '[components.app]\npath = "out/app.wasm"\nbuild = "cp app.wasm out/app.wasm"\n'
    manifest = workspace(tmp_path / "ws", toml)
    await pack(manifest, "app", Blobs(tmp_path / "blobs"))
    (manifest.folder / "loop.toml").write_text(toml.replace("cp app", "cp none"))
    with pytest.raises(LoadError, match="building app: `cp none"):
        await pack(manifests.load(manifest.folder), "app", Blobs(tmp_path / "blobs"))


async def test_what_is_no_component_is_not_packed(tmp_path: Path) -> None:
    manifest = workspace(tmp_path / "ws", wasm=b"\0asm, or so")
    with pytest.raises(LoadError):
        await pack(manifest, "app", Blobs(tmp_path / "blobs"))
    (manifest.folder / "app.wasm").unlink()
    with pytest.raises(LoadError, match="there is no"):
        await pack(manifest, "app", Blobs(tmp_path / "blobs"))


@pytest.mark.parametrize(
    ("name", "use", "said", "hint"),
    [
        ("ap", 'use = "builtin:fsx"', "no component and no provider 'ap'", "did you mean"),
        ("p", 'use = "builtin:fsx"', "ships with loop-kit", "your own"),
        ("p", 'use = "sidecar:builtin:fsx"', "ships with loop-kit", "your own"),
        ("p", 'use = "component:loop:keyvalue/memory"', "ships with loop-kit", "your own"),
        ("p", 'use = "component:app"', "is the component app", "loop pack app"),
        ("p", 'use = "remote:tcp://127.0.0.1:7000"', "runs elsewhere", "its own workspace"),
        ("p", 'use = "sidecar:kv-provider"', "is found in PATH", "program ="),
        ("p", 'use = "sidecar:python:nobody:Kv"', "no module 'nobody'", "wheel"),
    ],
)
async def test_what_is_not_ones_own_is_not_packed(
    name: str, use: str, said: str, hint: str, tmp_path: Path
) -> None:
    manifest = workspace(tmp_path / "ws", f"{TOML}\n[providers.p]\n{use}\n")
    with pytest.raises(PackageError, match=said) as caught:
        await pack(manifest, name, Blobs(tmp_path / "blobs"))
    assert hint in (caught.value.hint or "")
