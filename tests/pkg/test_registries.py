"""A real tool from each source that loop-kit knows.

PyPI, npm, crates and Go's proxy are those that the clients here are configured for; nothing else in these tests asks
them. OCI is Debian's docker-registry on loopback. Releases and URLs come from a server that speaks the same protocol.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import oras.client
import pytest

from loop_kit.pkg import Platform
from tests.checkout import ROOT
from tests.cli import LOOP
from tests.pkg.servers import Server, sha256

HERE = Platform.here()
ARCH = {"x86_64": "x64", "aarch64": "arm64"}[HERE.arch]
YAML = ("+STR", "+DOC", "=VAL :a", "-DOC", "-STR")

REAL = {
    "pypi": ("pypi:ruff@0.12.12", "ruff", ("--version",), ("ruff 0.12.12",)),
    "npm": ("npm:esbuild@0.28.2", "esbuild", ("--version",), ("0.28.2",)),
    "crates": ("crates:unsafe-libyaml@0.2.11", "run-parser-test-suite", ("a.yaml",), YAML),
    "go": ("go:golang.org/x/example/hello", "hello", ("-g", "Hi"), ("Hi",)),
}


@pytest.fixture(scope="module")
def esbuild() -> bytes:
    """A real tool's program, packed as those who release it do."""
    program = ROOT / f"node_modules/@esbuild/{HERE.os}-{ARCH}/bin/esbuild"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as packed:
        packed.add(program, "esbuild")
    return out.getvalue()


class Site:
    """A workspace of its own, as a user has it who installs a tool."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder, self.data = folder / "site", folder / "data"
        self.folder.mkdir()
        self._env = {**os.environ, **env, "XDG_DATA_HOME": str(self.data)}
        (self.folder / "a.yaml").write_text("a: [1, b]\n")

    def loop(self, *words: str, code: int = 0) -> str:
        """What `loop pkg` says."""
        done = subprocess.run(
            (LOOP, "pkg", *words), cwd=self.folder, env=self._env, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    def shows(
        self, name: str, asked: str, args: tuple[str, ...], said: tuple[str, ...], more: str = ""
    ) -> None:
        """The tool is installed and runs, also from the store alone; with another checksum it is refused."""
        (self.folder / "loop.toml").write_text(f'[packages]\n"{name}" = "{asked}"\n{more}')
        self.loop("install")
        printed = self.loop("run", name, "--", *args)
        assert all(words in printed for words in said)
        text = (self.folder / "loop.lock").read_text()
        assert HERE.key in text
        shutil.rmtree(self.data / "loop-kit/packages")
        self.loop("install", "--offline")
        assert self.loop("run", name, "--", *args) == printed
        assert (self.folder / "loop.lock").read_text() == text
        # somebody else's checksum: what comes is not kept, and nothing of it runs
        another = re.sub(r'(digest = "sha\d+:)(.)', lambda m: m[1] + ("0" if m[2] != "0" else "1"), text)
        assert another != text
        (self.folder / "loop.lock").write_text(another)
        shutil.rmtree(self.data)
        assert "do not use it" in self.loop("install", "--locked", code=4)
        assert not [path for path in self.data.glob("loop-kit/store/blobs/*/*") if path.is_file()]
        assert not list(self.data.glob("loop-kit/packages/t*s/*"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("source", REAL)
def test_a_tool_from_a_real_registry(source: str, tmp_path: Path) -> None:
    asked, name, args, said = REAL[source]
    Site(tmp_path, {}).shows(name, asked, args, said)


@pytest.mark.timeout(120)
def test_a_tool_from_an_oci_registry(
    docker_registry: str, esbuild: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("esbuild.tar.gz").write_bytes(esbuild)
    layer = "esbuild.tar.gz:application/vnd.oci.image.layer.v1.tar+gzip"
    pushed = oras.client.OrasClient(insecure=True).push(
        target=f"{docker_registry}/tools/esbuild:1.0.0", files=[layer]
    )
    assert pushed.status_code == 201
    Site(tmp_path, {}).shows("esbuild", f"oci:{docker_registry}/tools/esbuild@1", ("--version",), ("0.",))


@pytest.mark.timeout(120)
def test_a_tool_from_releases(server: Server, esbuild: bytes, tmp_path: Path) -> None:
    server.release("evanw/esbuild", "v1.0.0", {f"esbuild-{HERE.os}-{ARCH}.tar.gz": esbuild})
    env = {"GITHUB_API_URL": f"{server.url}/api"}
    Site(tmp_path, env).shows("esbuild", "github:evanw/esbuild@1", ("--version",), ("0.",))


@pytest.mark.timeout(120)
def test_a_tool_from_urls(server: Server, esbuild: bytes, tmp_path: Path) -> None:
    server.put(f"/esbuild-1.0.0-{HERE.os}-{HERE.arch}.tar.gz", esbuild)
    server.put("/SHA256SUMS", f"{sha256(esbuild)}  esbuild-1.0.0-{HERE.os}-{HERE.arch}.tar.gz\n")
    more = f"""
[resolvers.dist]
use = "url"
base = "{server.url}/{{name}}-{{version}}-{{os}}-{{arch}}.tar.gz"
config = {{ checksum = "{server.url}/SHA256SUMS" }}
"""
    Site(tmp_path, {}).shows("esbuild", "dist:esbuild@1.0.0", ("--version",), ("0.",), more)
