"""Artifacts in layouts, workspaces that name them, and `loop` with a store of its own."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loop_kit.cli import main
from loop_kit.oci.layout import Layout
from loop_kit.oci.media_types import WASM, WASM_CONFIG
from loop_kit.oci.model import Descriptor, Manifest, describe
from loop_kit.oci.wasm import WasmConfig
from tests.cli import LOOP
from tests.running import command

HELLO = """\
[components.hello]
path = "oci-layout:../dist:1.0"
run = "run"
wasi = { stdio = true }
"""


def component(
    layout: Layout,
    tag: str,
    wasm: bytes,
    *,
    version: str | None = None,
    imports: Sequence[str] = (),
    exports: Sequence[str] = (),
) -> Descriptor:
    """Puts a component into a layout."""
    layer = Descriptor(WASM, layout.blobs.add(wasm), len(wasm))
    said = WasmConfig(
        "2026-01-01T00:00:00Z", (layer.digest,), exports=tuple(exports), imports=tuple(imports)
    ).to_bytes()
    config = Descriptor(WASM_CONFIG, layout.blobs.add(said), len(said))
    manifest = Manifest(
        config, (layer,), annotations={"org.opencontainers.image.version": version} if version else {}
    )
    data = manifest.to_bytes()
    layout.blobs.add(data)
    descriptor = describe(manifest, data)
    layout.add(tag, descriptor)
    return descriptor


def hello(text: bytes = b"hello from a guest") -> bytes:
    """A command that says something, of 18 letters."""
    assert len(text) == 18
    return command().replace(b"hello from a guest", text)


class Place:
    """A workspace with a layout beside it, and a store.

    With `captured` and `patched` commands run in this process, which is quicker than to start one for each.
    """

    def __init__(
        self,
        folder: Path,
        manifest: str = HELLO,
        *,
        captured: pytest.CaptureFixture[str] | None = None,
        patched: pytest.MonkeyPatch | None = None,
    ) -> None:
        self._captured, self._patched = captured, patched
        self.folder = folder / "ws"
        self.folder.mkdir()
        self.store = folder / "data" / "loop-kit" / "store"
        self.lock = self.folder / "loop.lock"
        self.layout = Layout(folder / "dist").create()
        self.env = {"XDG_DATA_HOME": str(folder / "data"), "XDG_STATE_HOME": str(folder / "state")}
        for name, value in self.env.items() if patched is not None else ():
            patched.setenv(name, value)  # type: ignore[union-attr]
        self.write(manifest)

    def write(self, manifest: str) -> None:
        (self.folder / "loop.toml").write_text(manifest)

    def loop(
        self, *args: str, before: Sequence[str] = (), code: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        if self._captured is not None and self._patched is not None and not before:
            done = self._here(args, self._captured, self._patched)
        else:
            done = self._started(args, before)
        assert code is None or done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done

    def _here(
        self, args: Sequence[str], captured: pytest.CaptureFixture[str], patched: pytest.MonkeyPatch
    ) -> subprocess.CompletedProcess[str]:
        patched.chdir(self.folder)
        captured.readouterr()
        code = main(args)
        out, err = captured.readouterr()
        return subprocess.CompletedProcess([*args], code, out, err)

    def _started(self, args: Sequence[str], before: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, LOOP, *args],
            cwd=self.folder,
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def json(self, *args: str, code: int | None = 0) -> Any:
        return json.loads(self.loop(*args, "--json", code=code).stdout)
