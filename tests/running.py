"""A workspace that other commands look after: a component that serves HTTP, and asks a sidecar in Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.checkout import ROOT
from tests.children import until
from tests.cli import LOOP

MANIFEST = """\
[workspace]
name = "shop"
[components.site]
path = "site.wasm"
run = "serve"
serve = { addr = "127.0.0.1:0" }
imports."acme:near/near" = { provider = "near" }
[providers.near]
use = "sidecar:python:near:Near"
[providers.idle]
use = "sidecar:python:near:Near"
"""
WIT = "package acme:near;\n\ninterface near {\n  ask: func() -> u32;\n}\n"
# What a request of `/n` is answered with: the status 200, or that in the file `status`. With the file `hang` there it
# never answers, and with `crash` the provider does not start.
NEAR = """\
import os, sys, time
from loop_kit.provider import provider

if os.path.exists("crash"):
    sys.exit("no coin for the meter")

@provider(wit="near.wit")
class Near:
    def ask(self):
        print("asked", file=sys.stderr, flush=True)
        if os.path.exists("hang"):
            open("hangs", "w").close()
            time.sleep(1000)
        return int(open("status").read()) if os.path.exists("status") else 200
"""


def site() -> bytes:
    """A proxy of WASI 0.2 whose answer to `/n` has the status that `acme:near/near#ask` says."""
    import wasmtime

    text = (ROOT / "tests" / "parity" / "proxy.wat").read_text()
    for old, new in {
        "(component\n": '(component (import "acme:near/near" (instance $near (export "ask" (func (result u32)))))\n',
        "  (core func $c-fields": '  (core func $c-ask (canon lower (func $near "ask")))\n  (core func $c-fields',
        '    (import "h" "fields"': '    (import "h" "ask" (func $ask (result i32)))\n    (import "h" "fields"',
        '(export "fields" (func $c-fields))': '(export "ask" (func $c-ask)) (export "fields" (func $c-fields))',
        "(i32.const 404)": "(call $ask)",
    }.items():
        assert old in text
        text = text.replace(old, new, 1)
    return bytes(wasmtime.wat2wasm(text))


def command() -> bytes:
    """A command of WASI preview 1 that says hello."""
    import wasmtime

    text = """(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\\10\\00\\00\\00\\13\\00\\00\\00")
      (data (i32.const 16) "hello from a guest\\n")
      (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
    return bytes(wasmtime.wat2wasm(text))


def endless() -> bytes:
    """A command that never ends."""
    import wasmtime

    text = '(module (memory (export "memory") 1) (func (export "_start") (loop $more (br $more))))'
    return bytes(wasmtime.wat2wasm(text))


class Shop:
    """The workspace in a folder, and what the shell says to it. `home` is where its user has records and logs."""

    def __init__(self, folder: Path, home: Path, manifest: str = MANIFEST) -> None:
        self.folder = folder
        self.env = {**os.environ, "HOME": str(home), "NO_COLOR": "1"}
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
            self.env.pop(name, None)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "site.wasm").write_bytes(site())
        (folder / "loop.toml").write_text(manifest)
        (folder / "near.py").write_text(NEAR)
        (folder / "near.wit").write_text(WIT)

    def loop(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [LOOP, *args], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60
        )

    def ps(self, *args: str) -> dict[str, Any]:
        """What `loop ps --json` has of this workspace."""
        told = json.loads(self.loop("ps", "--json", *args).stdout)["workspaces"]
        found = [one for one in told if Path(one["folder"]) == self.folder.resolve()]
        return found[0] if found else {"state": "down"}

    def member(self, name: str) -> dict[str, Any]:
        return next(one for one in self.ps()["members"] if one["name"] == name)

    def until(self, name: str, **expected: Any) -> dict[str, Any]:
        """Waits until a member is as it should be."""
        found: list[dict[str, Any]] = []

        def is_so() -> bool:
            found[:] = [self.member(name)]
            return all(found[0][key] == value for key, value in expected.items())

        until(is_so)
        return found[0]

    def url(self) -> str:
        return str(self.ps()["served"]["site"])

    def get(self, path: str = "n") -> int:
        return self.get_at(self.url(), path)

    def get_at(self, url: str, path: str = "n") -> int:
        try:
            with urllib.request.urlopen(url + path, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    @contextmanager
    def up(self) -> Iterator[None]:
        """In the background, and ended however the test ends."""
        done = self.loop("up", "--detach")
        assert done.returncode == 0, done.stderr
        with self.ending():
            yield

    @contextmanager
    def ending(self) -> Iterator[None]:
        try:
            yield
        finally:
            left = self.ps()
            if left["state"] in ("up", "unknown"):
                with suppress(ProcessLookupError):
                    os.kill(left["pid"], signal.SIGKILL)
