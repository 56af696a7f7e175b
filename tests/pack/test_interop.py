"""What `loop push` has pushed is read by wkg and oras, and what wkg has pushed is run here."""

import subprocess
from pathlib import Path

import oras.client
import pytest

import loop_kit
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.oci.transfer import pull
from loop_kit.pack import describe, unpack
from tests.cli import loop
from tests.pack.test_component import TOML, WASM, workspace
from tests.pack.test_python import INNER, TWICE, wheels
from tests.pack.test_python import TOML as PYTHON_TOML
from tests.pack.workspaces import PYTHON, WIT, wheel, written
from tests.registries import pinned

__all__ = ["wheels"]  # a fixture


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


def wkg(registry: str, *arguments: str) -> None:
    command = [pinned("wkg"), "oci", *arguments, "--insecure", registry]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_wkg_reads_what_was_pushed(crane_registry: str, tmp_path: Path) -> None:
    manifest = workspace(tmp_path / "ws", TOML)
    name = f"{crane_registry}/acme/for-wkg:1"
    assert loop("push", "app", name, cwd=manifest.folder).returncode == 0
    wkg(crane_registry, "pull", name, "-o", str(tmp_path / "app.wasm"))
    assert (tmp_path / "app.wasm").read_bytes() == WASM


async def test_what_wkg_has_pushed_runs_here(docker_registry: str, tmp_path: Path) -> None:
    """To docker-registry: go-containerregistry's does not say where a manifest went, which wkg wants to hear."""
    (tmp_path / "app.wasm").write_bytes(WASM)
    name = f"{docker_registry}/acme/by-wkg:1"
    wkg(docker_registry, "push", name, str(tmp_path / "app.wasm"))
    blobs, reference = Blobs(tmp_path / "blobs"), Reference.parse(name)
    async with Registry(reference.registry) as registry:
        found = await pull(registry, reference, blobs)
    said = describe(blobs, found)
    assert (said.kind, said.exports, said.imports) == ("component", ("acme:text/api",), ("acme:text/filter",))
    runnable = unpack(blobs, found, tmp_path / "place")
    assert runnable.wasm is not None

    class Filter:
        def echo(self, text: str) -> str:
            return text[::-1]

    async with loop_kit.Host() as host:
        app = await host.load(runnable.wasm, imports={"acme:text/filter": Filter()})
        assert await app.call("echo", "abc") == "cba"
    shown = loop("inspect", name, cwd=tmp_path)
    assert "  imports    acme:text/filter\n" in shown.stdout, shown.stderr


def test_oras_writes_the_files_of_a_provider(crane_registry: str, tmp_path: Path, wheels: Path) -> None:
    lock = wheel(wheels, "acme_pair", TWICE) + wheel(wheels, "acme_pair_inner", INNER)
    files = {"loop.toml": PYTHON_TOML, "text.py": PYTHON, "wit/text.wit": WIT, "requirements.txt": lock}
    manifest = written(tmp_path / "ws", files)
    name = f"{crane_registry}/acme/for-oras:1"
    assert loop("push", "text", name, cwd=manifest.folder).returncode == 0
    client = oras.client.OrasClient(insecure=True)
    written_ = client.pull(target=name, outdir=str(tmp_path / "out"))
    assert sorted(Path(path).name for path in written_) == [
        "acme_pair-1.0-py3-none-any.whl", "acme_pair_inner-1.0-py3-none-any.whl", "sbom.cdx.json", "text.tar.gz",
    ]  # fmt: skip
    for each in wheels.iterdir():
        assert (tmp_path / "out" / each.name).read_bytes() == each.read_bytes()
