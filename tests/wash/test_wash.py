"""wash itself, by `loop wash`: what it builds and pushes runs here, and it has what loop-kit packs and pushes.

Its build takes too long for every run of the tests: `make wash` runs these.
"""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from wasmtime import wat2wasm

import loop_kit
from loop_kit.oci import media_types
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Manifest, parse
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.oci.transfer import pull
from loop_kit.oci.wasm import parse_config, wasm_layer
from tests.cli import LOOP
from tests.conformance.cases import wasmtime
from tests.pack.test_component import TOML as PACKED
from tests.pack.test_component import WASM
from tests.registries import PASSWORD, USER, docker, pinned
from tests.test_cli_parity import build
from tests.wash.standin import TOML as SUMS
from tests.wash.standin import workspace

pytestmark = [pytest.mark.wash, pytest.mark.timeout(600)]

HELLO = """
[components.hello]
path = "build/hello_s.wasm"
build = "loop wash build"
pack = { version = "0.1.0" }

[workspace]
name = "by-wash"
"""
WASMCLOUD = """
language = "rust"
type = "component"
name = "hello"
version = "0.1.0"

[component]
wasm_target = "wasm32-wasip2"
"""
CARGO = '[package]\nname = "hello"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n'
MAIN = """
fn main() {
    println!("hello by {}", std::env::args().nth(1).unwrap_or_default());
}
"""
PROVIDER = """
[providers.adder]
use = "sidecar:python:adder:Adder"
pack = { version = "1.0.0" }
"""
ADDER = """
from loop_kit.provider import provider

@provider("acme:sums/adder@0.1.0", wit="wit")
class Adder:
    def add(self, a, b):
        return a + b
"""
# What TinyGo would make of a program, which wash turns into a component of the world that it is told of.
CORE = """(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
  (func (export "acme:sums/adder@0.1.0#add") (param i32 i32) (result i32)
    (i32.add (local.get 0) (local.get 1))))"""


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """wash and loop-kit, each with folders of its own."""
    base = tmp_path_factory.getbasetemp()
    for name in [name for name in os.environ if name.startswith(("WASH_", "WASMCLOUD_", "LOOP_REGISTRY"))]:
        monkeypatch.delenv(name)
    for name in (
        "XDG_DATA_HOME",
        "DOCKER_CONFIG",
        "WASH_KEYS",
        "WASH_CONFIG_DIR",
        "WASH_DATA_DIR",
        "WASH_CACHE_DIR",
    ):
        monkeypatch.setenv(name, str(base / "own" / name.lower()))
    monkeypatch.setenv("CARGO_TARGET_DIR", str(base / "target"))
    monkeypatch.setenv("LOOP_WASH", pinned("wash"))
    monkeypatch.setenv("PATH", f"{Path(LOOP).parent}{os.pathsep}{os.environ['PATH']}")


def run(*args: str, cwd: Path, code: int = 0) -> str:
    """What a command writes to its standard output."""
    done = subprocess.run([LOOP, *args], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def project(folder: Path, registry: str) -> Path:
    """A program in Rust without dependencies, that wash builds and loop-kit packs."""
    toml = f'{HELLO}registry = "{registry}/acme"\n'
    files = {"wasmcloud_toml": WASMCLOUD, "Cargo_toml": CARGO, "src__main_rs": MAIN}
    place = workspace(folder, toml, **files)
    (place / "wit/sums.wit").write_text("package acme:hello@0.1.0;\n\nworld hello {}\n")
    return place


async def fetched(name: str, folder: Path) -> tuple[Blobs, Manifest]:
    reference, blobs = Reference.parse(name), Blobs(folder)
    async with Registry(reference.registry) as registry:
        found = parse(blobs.read((await pull(registry, reference, blobs)).digest))
    assert isinstance(found, Manifest)
    return blobs, found


def test_it_is_the_version_that_is_pinned(tmp_path: Path) -> None:
    said = json.loads(run("wash", "--output", "json", "--version", cwd=tmp_path))
    assert said["wash"] == "v0.43.0"


async def test_what_it_builds_and_pushes_runs_here(docker_registry: str, tmp_path: Path) -> None:
    folder = project(tmp_path / "ws", docker_registry)
    run("wash", "build", cwd=folder)
    built = folder / "build/hello_s.wasm"
    # without a registry: that is the workspace's
    said = json.loads(run("wash", "-o", "json", "push", "hello:0.1.0", str(built), "--insecure", cwd=folder))
    name = f"{docker_registry}/acme/hello:0.1.0"
    assert said["url"] == name
    blobs, manifest = await fetched(name, tmp_path / "blobs")
    assert manifest.config.media_type == media_types.WASM_CONFIG
    assert blobs.read(wasm_layer(manifest).digest) == built.read_bytes()
    config = parse_config(blobs.read(manifest.config.digest), manifest)
    assert config.os == "wasip2"
    assert "wasi:cli/run@" in str(config.exports)
    assert "serves     wasi:cli/run@" in run("inspect", name, cwd=tmp_path)
    assert run("run", f"oci:{name}", "--", "wash", cwd=tmp_path) == "hello by wash\n"
    there = tmp_path / "there"
    there.mkdir()
    (there / "loop.toml").write_text(
        f'[components.hello]\npath = "oci:{name}"\nrun = "run"\nargs = ["lock"]\nwasi = {{ stdio = true }}\n'
    )
    run("pull", cwd=there)
    assert run("run", "--locked", "--offline", ".", cwd=there).endswith("hello by lock\n")
    with_wasmtime = [wasmtime(), "run", str(built), "wasmtime"]
    assert (
        subprocess.run(with_wasmtime, capture_output=True, text=True, check=True).stdout
        == "hello by wasmtime\n"
    )


def test_it_builds_what_is_packed(docker_registry: str, tmp_path: Path) -> None:
    """A component whose `build` is `loop wash build` is built and pushed by loop-kit, and pulled by wash."""
    folder = project(tmp_path / "ws", docker_registry)
    run("push", "hello", cwd=folder)
    run("wash", "pull", "hello:0.1.0", "--insecure", "--destination", "pulled.wasm", cwd=folder)
    assert (folder / "pulled.wasm").read_bytes() == (folder / "build/hello_s.wasm").read_bytes()
    claims = json.loads(run("wash", "-o", "json", "inspect", "pulled.wasm", cwd=folder))
    assert (claims["name"], claims["version"]) == ("hello", "0.1.0")


async def test_the_world_is_the_workspaces(tmp_path: Path) -> None:
    """wasmcloud.toml names neither world nor WIT, and TinyGo is played by a program: wash itself makes the component."""
    (tmp_path / "core.wasm").write_bytes(wat2wasm(CORE))
    tinygo = tmp_path / "tinygo"
    tinygo.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        f"shutil.copy({str(tmp_path / 'core.wasm')!r}, sys.argv[sys.argv.index('-o') + 1])\n"
    )
    tinygo.chmod(0o755)
    toml = f"""
language = "tinygo"
type = "component"
name = "sums"
version = "0.1.0"
[component]
wasm_target = "wasm32-wasip1"
[tinygo]
tinygo_path = "{tinygo}"
disable_go_generate = true
"""
    folder = workspace(
        tmp_path / "ws",
        SUMS.replace("sums.wasm", "sums_s.wasm") + 'bind = { wit = "api", python = "t.py" }\n',
    )
    (folder / "wit").rename(folder / "api")
    (folder / "wasmcloud.toml").write_text(toml)
    alone = [pinned("wash"), "build", "--skip-fetch"]
    without = subprocess.run(alone, cwd=folder, capture_output=True, text=True, timeout=60)
    assert without.returncode != 0
    assert "missing `wit_world`" in without.stderr
    run("wash", "build", "--skip-fetch", cwd=folder)
    async with loop_kit.Host() as host:
        sums = await host.load(folder / "build/sums_s.wasm")
        assert await sums.call("add", 40, 2) == 42


@pytest.mark.parametrize("registry", ["docker_registry", "crane_registry"])
def test_it_has_what_was_pushed_here(registry: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    host = request.getfixturevalue(registry)
    folder = workspace(tmp_path / "ws", PACKED)
    (folder / "app.wasm").write_bytes(WASM)
    name = f"{host}/acme/app:1.0.0"
    digest = json.loads(run("push", "app", name, "--json", cwd=folder))["digest"]
    pulling = ("wash", "pull", name, "--insecure", "--destination", "out.wasm")
    run(*pulling, "--digest", digest, cwd=folder)
    assert (folder / "out.wasm").read_bytes() == WASM
    wit = run("wash", "inspect", name, "--insecure", "--wit", "--no-cache", cwd=folder)
    assert "import acme:text/filter;" in wit
    assert "export acme:text/api;" in wit
    wrong = run(*pulling, "--digest", f"sha256:{'0' * 64}", cwd=folder, code=1)
    assert "digest did not match" in wrong


def test_of_wasi_0_3_it_has_the_bytes_alone(docker_registry: str, tmp_path: Path) -> None:
    """This version of wash cannot read what is `async`: it pulls such a component, and neither shows nor pushes it."""
    folder = workspace(tmp_path / "ws", PACKED)
    (folder / "app.wasm").write_bytes(build("command-0.3", tmp_path))
    name = f"{docker_registry}/acme/async:1.0.0"
    run("push", "app", name, cwd=folder)
    run("wash", "pull", name, "--insecure", "--destination", "out.wasm", cwd=folder)
    assert (folder / "out.wasm").read_bytes() == (folder / "app.wasm").read_bytes()
    pushing = ("wash", "push", f"{name}-again", "out.wasm", "--insecure")
    assert "Unsupported artifact type" in run(*pushing, cwd=folder, code=1)


def test_providers_are_of_other_kinds(docker_registry: str, tmp_path: Path) -> None:
    """Each says that the other's is none: wasmCloud's are archives of programs that speak to its lattice."""
    folder = workspace(tmp_path / "ws", PROVIDER, adder_py=ADDER)
    ours, theirs = f"{docker_registry}/acme/adder:1.0.0", f"{docker_registry}/acme/archive:1.0.0"
    run("push", "adder", ours, cwd=folder)
    assert "Incompatible layer media type" in run("wash", "pull", ours, "--insecure", cwd=folder, code=1)
    program = ("--arch", "x86_64-linux", "--binary", "loop.toml", "--name", "kv", "--vendor", "acme")
    run("wash", "par", "create", *program, "--destination", "kv.par.gz", "--compress", cwd=folder)
    run("wash", "push", theirs, "kv.par.gz", "--insecure", cwd=folder)
    for command in (("inspect", theirs), ("run", f"oci:{theirs}")):
        assert "provider.archive.config: neither a component nor a provider" in run(
            *command, cwd=folder, code=4
        )
    run("copy", theirs, "oci-layout:dist", cwd=folder)  # which takes whatever there is


def test_it_wants_to_hear_where_a_manifest_is(crane_registry: str, tmp_path: Path) -> None:
    """go-containerregistry's registry does not say so; wkg, by the same library, has the same to say."""
    (tmp_path / "app.wasm").write_bytes(WASM)
    pushing = ("wash", "push", f"{crane_registry}/acme/by-wash:1.0.0", "app.wasm", "--insecure")
    assert "did not return a location header" in run(*pushing, cwd=tmp_path, code=1)


async def test_what_it_signs_is_a_component_still(tmp_path: Path) -> None:
    """wash puts its claims into the component, as a section that nobody else reads."""
    folder = workspace(tmp_path / "ws", PACKED)
    (folder / "app.wasm").write_bytes(WASM)
    assert "No capabilities discovered" in run("wash", "inspect", "app.wasm", cwd=folder, code=1)
    named = ("--name", "app", "--ver", "1.0.0", "--rev", "1")
    run("wash", "claims", "sign", "app.wasm", *named, "--destination", "signed.wasm", cwd=folder)
    assert json.loads(run("wash", "-o", "json", "inspect", "signed.wasm", cwd=folder))["name"] == "app"

    class Filter:
        def echo(self, text: str) -> str:
            return text.upper()

    async with loop_kit.Host() as host:
        app = await host.load(folder / "signed.wasm", imports={"acme:text/filter": Filter()})
        assert await app.call("echo", "abc") == "ABC"


def test_it_logs_in_as_docker_does(tmp_path: Path) -> None:
    folder = workspace(tmp_path / "ws", PACKED)
    (folder / "app.wasm").write_bytes(WASM)
    with docker(tmp_path / "registry", login=True) as host:
        name = f"{host}/acme/app:1.0.0"
        push = ("wash", "push", name, "app.wasm", "--insecure")
        assert "authorized" in run(*push, cwd=folder, code=1).lower()
        config = Path(os.environ["DOCKER_CONFIG"])
        config.mkdir(parents=True, exist_ok=True)
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (config / "config.json").write_text(json.dumps({"auths": {host: {"auth": login}}}))
        try:
            said = run(*push, cwd=folder)
            assert not {PASSWORD, login} & {*said.split("\n"), *said.split()}
            assert "exports    acme:text/api" in run("inspect", name, cwd=folder).replace(
                "serves ", "exports"
            )
        finally:
            (config / "config.json").unlink()
