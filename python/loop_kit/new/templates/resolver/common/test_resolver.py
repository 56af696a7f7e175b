"""The resolver, built, and asked as `loop pkg` asks it."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import http.server
import io
import json
import os
import subprocess
import tarfile
import tempfile
import threading
import unittest
from pathlib import Path

import loop_kit as loop
from loop_kit import manifest
from loop_kit.pkg import Packages
from loop_kit.workspace import Workspace

FOLDER = Path(__file__).parent


class Tests(unittest.TestCase):
    """What it promises."""

    def test_a_tool_is_installed_by_it(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = asyncio.run(installed(Path(folder)))
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            self.assertEqual(said, "hello from 1.10.0\n")


async def installed(folder: Path) -> tuple[str, ...]:
    """What runs a tool that another workspace has by this resolver."""
    async with loop.Host() as host, Workspace(host, manifest.load(FOLDER)) as workspace:
        await workspace.load("my-resolver")  # which builds it
    site, served = folder / "site", folder / "served"
    site.mkdir()
    served.mkdir()
    sums = {}
    for version in ("1.9.0", "1.10.0", "2.0.0"):
        data = packed(f"#!/bin/sh\necho hello from {version}\n")
        (served / f"hello-{version}.tar.gz").write_bytes(data)
        sums[version] = hashlib.sha256(data).hexdigest()
    (served / "hello.json").write_text(json.dumps(sums))
    os.environ["XDG_DATA_HOME"] = str(folder / "data")
    handler = functools.partial(Quiet, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        (site / "loop.toml").write_text(f"""
[packages]
hello = "acme:hello@1"

[resolvers.acme]
use = "component:{FOLDER}/build/my-resolver.wasm"
allow = ["{url}"]
config = {{ base = "{url}" }}
""")
        async with Packages(manifest.load(site)) as packages:
            (program,) = await packages.install()
        server.shutdown()
    return program.command


def packed(script: str) -> bytes:
    """A tar with one program."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("bin/hello")
        info.size, info.mode = len(script), 0o755
        tar.addfile(info, io.BytesIO(script.encode()))
    return out.getvalue()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""
