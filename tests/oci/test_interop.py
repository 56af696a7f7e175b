"""Other clients: what oras and wkg put into a registry is had by this one, and the other way round."""

import dataclasses
import subprocess
from pathlib import Path

import oras.client
import pytest

from loop_kit.oci import media_types
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.layout import Layout, check
from loop_kit.oci.model import Manifest, parse
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.oci.transfer import pull, push
from loop_kit.oci.wasm import WasmConfig, is_wasm, parse_config, wasm_layer
from tests.cli import loop
from tests.guests import assemble
from tests.oci.artifacts import CREATED, put, put_blob
from tests.registries import pinned

COMPONENT = """(component
  (import "wasi:cli/stdout@0.2.6" (instance))
  (instance $run)
  (export "wasi:cli/run@0.2.6" (instance $run)))"""


@pytest.fixture(params=["docker", "crane", "loop"])
def host(request: pytest.FixtureRequest) -> str:
    found = request.getfixturevalue(f"{request.param}_registry")
    assert isinstance(found, str)
    return found


@pytest.fixture(scope="module")
def wasm() -> bytes:
    return bytes(assemble(COMPONENT))


def wkg(*args: str, host: str, cwd: Path) -> None:
    argv = [pinned("wkg"), "oci", args[0], "--insecure", host, *args[1:]]
    result = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


async def put_there(host: str, repository: str, wasm: bytes, blobs: Blobs) -> Manifest:
    """The component as loop-kit lays it out."""
    layer = put_blob(blobs, wasm, media_types.WASM)
    config = WasmConfig(
        CREATED, (layer.digest,), exports=("wasi:cli/run@0.2.6",), imports=("wasi:cli/stdout@0.2.6",)
    )
    named = dataclasses.replace(layer, annotations={"org.opencontainers.image.title": "site.wasm"})
    manifest = Manifest(put_blob(blobs, config.to_bytes(), media_types.WASM_CONFIG), (named,))
    async with Registry(host) as registry:
        await push(blobs, put(blobs, manifest), registry, Reference(host, repository, "1.0"))
    return manifest


async def test_wkg_has_what_we_put_there(host: str, wasm: bytes, tmp_path: Path) -> None:
    await put_there(host, "for/wkg", wasm, Blobs(tmp_path / "here"))
    wkg("pull", "-o", "pulled.wasm", f"{host}/for/wkg:1.0", host=host, cwd=tmp_path)
    assert (tmp_path / "pulled.wasm").read_bytes() == wasm


@pytest.mark.parametrize("pushed_to", ["docker", "loop"])
async def test_we_have_what_wkg_put_there(
    pushed_to: str, request: pytest.FixtureRequest, crane_registry: str, wasm: bytes, tmp_path: Path
) -> None:
    """To go-containerregistry's registry wkg does not push, since that does not say where a manifest is."""
    host = request.getfixturevalue(f"{pushed_to}_registry")
    (tmp_path / "site.wasm").write_bytes(wasm)
    annotation = "org.opencontainers.image.description=a site"
    wkg("push", "--annotation", annotation, f"{host}/by/wkg:1.0", "site.wasm", host=host, cwd=tmp_path)
    there = Blobs(tmp_path / "there")
    async with Registry(host) as registry:
        descriptor = await pull(registry, Reference(host, "by/wkg", "1.0"), there)
    manifest = parse(there.read(descriptor.digest), descriptor.media_type)
    assert isinstance(manifest, Manifest)
    assert is_wasm(manifest)
    assert there.read(wasm_layer(manifest).digest) == wasm
    assert manifest.annotations["org.opencontainers.image.description"] == "a site"
    config = parse_config(there.read(manifest.config.digest), manifest)
    assert (config.os, config.exports, config.imports) == (
        "wasip2",
        ("wasi:cli/run@0.2.6",),
        ("wasi:cli/stdout@0.2.6",),
    )
    result = loop("copy", f"{host}/by/wkg:1.0", "oci-layout:layout", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    shown = loop("inspect", "--layout", "layout", cwd=tmp_path).stdout
    assert "exports    wasi:cli/run@0.2.6" in shown
    # and what we copied is wkg's again
    result = loop("copy", "oci-layout:layout:1.0", f"{crane_registry}/by/wkg:2.0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    wkg("pull", "-o", "again.wasm", f"{crane_registry}/by/wkg:2.0", host=crane_registry, cwd=tmp_path)
    assert (tmp_path / "again.wasm").read_bytes() == wasm


async def test_oras_has_what_we_put_there(host: str, wasm: bytes, tmp_path: Path) -> None:
    await put_there(host, "for/oras", wasm, Blobs(tmp_path / "here"))
    client = oras.client.OrasClient(insecure=True)
    pulled = client.pull(target=f"{host}/for/oras:1.0", outdir=str(tmp_path / "out"))
    assert [Path(file).read_bytes() for file in pulled] == [wasm]


def test_we_have_what_oras_put_there(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("some notes")
    Path("data.bin").write_bytes(b"\0" * 100_000)
    client = oras.client.OrasClient(insecure=True)
    answer = client.push(
        target=f"{host}/by/oras:1.0",
        files=["notes.txt:text/plain", "data.bin:application/x-data"],
        manifest_annotations={"by": "oras"},
    )
    assert answer.status_code == 201
    result = loop("copy", f"{host}/by/oras:1.0", "oci-layout:layout", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert check("layout") == []
    layout = Layout("layout")
    manifest = parse(layout.blobs.read(layout.resolve("1.0").digest))
    assert isinstance(manifest, Manifest)
    assert manifest.annotations["by"] == "oras"
    assert [layer.media_type for layer in manifest.layers] == ["text/plain", "application/x-data"]
    assert layout.blobs.read(manifest.layers[0].digest) == b"some notes"
