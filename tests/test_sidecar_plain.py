"""Providers that speak plain wRPC and know nothing of us, as others build them, in a workspace."""

import os
import sys
from pathlib import Path

import pytest

import loop_kit as loop
from loop_kit.errors import LoadError
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests.children import is_gone, started, until
from tests.guests import assemble

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

STORE = "test:keyvalue/store@0.1.0"
# Opens the bucket `a`, keeps `hello` as `k` in it, and returns how long what it then finds is.
GUEST = f"""\
(component
  (import "{STORE}" (instance $store
    (export "bucket" (type $bucket (sub resource)))
    (type $e (variant (case "no-such-store") (case "other" string)))
    (export "error" (type $error (eq $e)))
    (export "open" (func (param "name" string) (result (result (own $bucket) (error $error)))))
    (export "[method]bucket.set" (func (param "self" (borrow $bucket)) (param "key" string)
      (param "value" (list u8)) (result (result (error $error)))))
    (export "[method]bucket.get" (func (param "self" (borrow $bucket)) (param "key" string)
      (result (result (option (list u8)) (error $error)))))))
  (alias export $store "bucket" (type $bucket))
  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 16) "akhello")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
  (core instance $m (instantiate $memory))
  (core func $open (canon lower (func $store "open") (memory $m "memory") (realloc (func $m "realloc"))))
  (core func $set (canon lower (func $store "[method]bucket.set") (memory $m "memory")
    (realloc (func $m "realloc"))))
  (core func $get (canon lower (func $store "[method]bucket.get") (memory $m "memory")
    (realloc (func $m "realloc"))))
  (core func $drop (canon resource.drop $bucket))
  (core module $code
    (import "m" "memory" (memory 1))
    (import "h" "open" (func $open (param i32 i32 i32)))
    (import "h" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
    (import "h" "get" (func $get (param i32 i32 i32 i32)))
    (import "h" "drop" (func $drop (param i32)))
    (func (export "run") (result i32) (local $bucket i32)
      (call $open (i32.const 16) (i32.const 1) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then unreachable))
      (local.set $bucket (i32.load (i32.const 68)))
      (call $set (local.get $bucket) (i32.const 17) (i32.const 1) (i32.const 18) (i32.const 5) (i32.const 96))
      (if (i32.load8_u (i32.const 96)) (then unreachable))
      (call $get (local.get $bucket) (i32.const 17) (i32.const 1) (i32.const 128))
      (call $drop (local.get $bucket))
      (if (i32.load8_u (i32.const 128)) (then unreachable))
      (if (i32.eqz (i32.load8_u (i32.const 132))) (then unreachable))
      (i32.load (i32.const 140))))
  (core instance $i (instantiate $code
    (with "m" (instance $m))
    (with "h" (instance (export "open" (func $open)) (export "set" (func $set)) (export "get" (func $get))
      (export "drop" (func $drop))))))
  (func (export "run") (result u32) (canon lift (core func $i "run"))))
"""
# The three lines that such a provider takes.
MANIFEST = f"""\
[components.a]
path = "a.wasm"
imports."{STORE}" = {{ provider = "kv" }}
[providers.kv]
use = "sidecar"
command = ["{{program}}", "{{address}}"]
handshake = false
transport = "{{transport}}"
"""


@pytest.fixture(scope="session")
def program() -> str:
    """`tests/interop/examples/wrpc-kv.rs`, of the official crates alone."""
    if "WRPC_KV" not in os.environ:
        pytest.fail("WRPC_KV does not say where wrpc-kv is: `make test` builds it and does")
    return os.environ["WRPC_KV"]


@pytest.mark.parametrize("transport", ["tcp", "unix", "quic"])
async def test_an_unmodified_provider_is_a_sidecar(transport: str, tmp_path: Path, program: str) -> None:
    (tmp_path / "a.wasm").write_bytes(assemble(GUEST))
    text = MANIFEST.replace("{program}", program).replace("{transport}", transport)
    (tmp_path / "loop.toml").write_text(text)
    async with loop.Host(cache=None) as host, Workspace(host, load(tmp_path)) as workspace:
        app = await workspace.load("a")
        for _ in range(20):
            assert await app.call("run") == len(b"hello")
        pid = started(workspace, "kv").running.child.pid
    until(lambda: is_gone(pid))


PYTHON = """\
from loop_kit import Err
from loop_kit.provider import provider

@provider("test:keyvalue/store@0.1.0", wit="wit")
class Store:
    class Bucket:
        def __init__(self):
            self.values = {}
        def get(self, key): return self.values.get(key)
        def set(self, key, value): self.values[key] = value
        def delete(self, key): self.values.pop(key, None)
        def exists(self, key): return key in self.values
        def keys(self): return list(self.values)

    def open(self, name):
        if not name:
            raise Err(("other", "a bucket has a name"))
        return self.Bucket()
"""


async def test_it_is_exchanged_for_one_that_we_start_on_pipes(tmp_path: Path) -> None:
    (tmp_path / "a.wasm").write_bytes(assemble(GUEST))
    (tmp_path / "store.py").write_text(PYTHON)
    wit = Path(__file__).parent / "interop/kv-wit"
    (tmp_path / "wit").symlink_to(wit)
    text = MANIFEST[: MANIFEST.index("use =")] + 'use = "sidecar:python:store:Store"\ntransport = "stdio"\n'
    (tmp_path / "loop.toml").write_text(text)
    async with loop.Host(cache=None) as host, Workspace(host, load(tmp_path)) as workspace:
        app = await workspace.load("a")
        assert await app.call("run") == len(b"hello")


async def test_nobody_there(tmp_path: Path) -> None:
    (tmp_path / "a.wasm").write_bytes(assemble(GUEST))
    (tmp_path / "loop.toml").write_text(f"""\
[components.a]
path = "a.wasm"
imports."{STORE}" = {{ provider = "kv" }}
[providers.kv]
use = "remote:unix:{tmp_path}/nobody"
handshake = false
""")
    async with loop.Host(cache=None) as host, Workspace(host, load(tmp_path)) as workspace:
        with pytest.raises(LoadError, match=r"provider kv at unix:.*cannot connect to"):
            await workspace.load("a")
