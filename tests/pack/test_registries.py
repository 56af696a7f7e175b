"""From `loop push` over a real registry to a call, for each kind; and what `loop inspect` says on the way."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loop_kit.lock import read as read_lock
from loop_kit.manifest import Manifest
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor, Platform
from loop_kit.oci.platform import this_platform
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.oci.transfer import pull
from loop_kit.pack import unpack
from tests.cli import LOOP, loop
from tests.pack.test_native import AMD, ARM64, HERE
from tests.pack.test_native import TOML as NATIVE
from tests.pack.test_node import project, sdk
from tests.pack.test_python import INNER, TWICE, wheels
from tests.pack.test_python import TOML as PYTHON_TOML
from tests.pack.workspaces import PYTHON, WIT, called, wheel, written
from tests.store.packed import hello
from tests.store.test_offline import off

__all__ = ["sdk", "wheels"]  # fixtures


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture(params=["docker_registry", "crane_registry"])
def registry(request: pytest.FixtureRequest) -> str:
    host: str = request.getfixturevalue(request.param)
    return host


def pushed(manifest: Manifest, name: str, reference: str, *more: str) -> str:
    command = (LOOP, "push", name, reference, "--json", *more)
    # a program is built, which takes its time
    done = subprocess.run(command, cwd=manifest.folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    digest: str = json.loads(done.stdout)["digest"]
    return digest


async def fetched(reference: str, folder: Path) -> tuple[Blobs, Descriptor]:
    """The part for this machine, as `loop pull` fetches it."""
    blobs, name = Blobs(folder), Reference.parse(reference)
    async with Registry(name.registry) as registry:
        return blobs, await pull(registry, name, blobs)


def in_python(folder: Path, wheels: Path) -> Manifest:
    """A workspace whose provider in Python needs a package, which needs another one."""
    lock = wheel(wheels, "acme_pair", TWICE) + wheel(wheels, "acme_pair_inner", INNER)
    files: dict[str, str | bytes] = {
        "loop.toml": PYTHON_TOML,
        "text.py": PYTHON,
        "wit/text.wit": WIT,
        "requirements.txt": lock,
    }
    return written(folder, files)


async def test_a_python_provider(registry: str, tmp_path: Path, wheels: Path) -> None:
    manifest = in_python(tmp_path / "ws", wheels)
    # its version is the tag
    digest = pushed(manifest, "text", f"{registry}/acme/text-py")
    shutil.rmtree(wheels)
    blobs, found = await fetched(f"{registry}/acme/text-py:1.2.0", tmp_path / "pulled")
    assert found.digest == digest
    assert await called(manifest, unpack(blobs, found, tmp_path / "place")) == "abc-abc"
    by_digest, again = await fetched(f"{registry}/acme/text-py@{digest}", tmp_path / "again")
    assert (
        unpack(by_digest, again, tmp_path / "place-2").config
        == unpack(blobs, found, tmp_path / "place").config
    )


@pytest.mark.parametrize("registry", ["docker_registry", "crane_registry", "loop_registry"], indirect=True)
async def test_a_node_provider(registry: str, tmp_path: Path, sdk: Path) -> None:
    manifest = project(tmp_path / "ws", sdk)
    pushed(manifest, "text", f"{registry}/acme/text-js:1")
    blobs, found = await fetched(f"{registry}/acme/text-js:1", tmp_path / "pulled")
    assert await called(manifest, unpack(blobs, found, tmp_path / "place")) == "cba"


async def test_a_component(registry: str, tmp_path: Path) -> None:
    toml = '[components.app]\npath = "app.wasm"\npack = { version = "0.1.0" }\n'
    manifest = written(tmp_path / "ws", {"loop.toml": toml})
    pushed(manifest, "app", f"{registry}/acme/app:1")
    blobs, found = await fetched(f"{registry}/acme/app:1", tmp_path / "pulled")
    wasm = unpack(blobs, found, tmp_path / "place").wasm
    assert wasm is not None
    assert wasm.read_bytes() == (manifest.folder / "app.wasm").read_bytes()
    said = loop("inspect", f"{registry}/acme/app:1", "--wit", cwd=tmp_path)
    assert "import acme:text/filter;" in said.stdout


async def test_it_goes_to_the_registry_of_the_workspace(registry: str, tmp_path: Path) -> None:
    toml = f'''
[workspace]
registry = "{registry}/acme"

[components.whither]
path = "app.wasm"
pack = {{ version = "0.1.0" }}
'''
    manifest = written(tmp_path / "ws", {"loop.toml": toml})
    done = loop("push", "whither", cwd=manifest.folder)
    assert (done.returncode, f"{registry}/acme/whither:0.1.0" in done.stdout) == (0, True), done.stderr
    _, found = await fetched(f"{registry}/acme/whither:0.1.0", tmp_path / "pulled")
    assert found.digest in done.stdout


async def test_of_a_native_program_the_part_for_the_machine(registry: str, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "out/linux-amd64": AMD,
        "out/linux-arm64": ARM64,
        "loop.toml": NATIVE,
        "wit/text.wit": WIT,
        "data/x": "",
    }
    manifest = written(tmp_path / "ws", files)
    targets = ("--target", "x86_64-unknown-linux-gnu", "--target", "aarch64-unknown-linux-gnu")
    name = f"{registry}/acme/text-native:1"
    pushed(manifest, "text", name, *targets)
    for machine, program in (("amd64", AMD), ("arm64", ARM64)):
        blobs, reference, platform = (
            Blobs(tmp_path / machine),
            Reference.parse(name),
            Platform(machine, "linux"),
        )
        async with Registry(reference.registry) as opened:
            part = await pull(opened, reference, blobs, platform=platform)
        place = unpack(blobs, part, tmp_path / f"place-{machine}", platform=platform)
        assert (place.tree / f"bin/linux-{machine}").read_bytes() == program
        # of the other one nothing was fetched: index, manifest, config, tree, SBOM
        assert len(list(blobs)) == 5
    said = loop("inspect", name, "--platform", "linux/arm64", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "runs on    linux/amd64, linux/arm64 (shown: linux/arm64)" in said.stdout
    none = loop("inspect", name, "--platform", "darwin/arm64", cwd=tmp_path)
    assert (none.returncode, "has nothing for darwin/arm64" in none.stderr) == (4, True)


def test_what_is_there_is_said(registry: str, tmp_path: Path, wheels: Path) -> None:
    manifest = in_python(tmp_path / "ws", wheels)
    name = f"{registry}/acme/said:1"
    pushed(manifest, "text", name)
    assert loop("pack", "text", "-o", "oci-layout:out:1", cwd=manifest.folder).returncode == 0
    shown = [
        loop("inspect", each, cwd=manifest.folder)
        for each in (name, f"oci:{name}", "oci-layout:out:1", "text", "ws/text")
    ]
    assert {done.returncode for done in shown} == {0}, [done.stderr for done in shown]
    assert len({done.stdout for done in shown}) == 1
    for line in (
        "text 1.2.0  python, ", "  is         Says all twice", "  licence    MIT", "  runs in    python >=3.11",
        "  serves     acme:text/filter", "  needs to   use acme:text under { most = 3 }",
        "  contains   acme_pair_inner 1.0",
    ):  # fmt: skip
        assert line in shown[0].stdout
    assert loop("inspect", "text", "--wit", cwd=tmp_path).stdout == f"// text.wit\n{WIT}"
    document = json.loads(loop("inspect", name, "--json", cwd=tmp_path).stdout)
    assert document["grants"] == {"acme:text": {"most": 3}}
    assert document["packages"] == [["acme_pair", "1.0"], ["acme_pair_inner", "1.0"]]


def test_what_does_not_do_is_said(tmp_path: Path) -> None:
    manifest = written(tmp_path / "ws", {"loop.toml": '[components.app]\npath = "app.wasm"\n'})
    for arguments, code, said in (
        (["push", "app"], 2, "give [workspace] a `registry`"),
        (["push", "app", "127.0.0.1:1/app"], 2, "say a tag"),
        (["push", "app", "127.0.0.1:1/app:1"], 4, "127.0.0.1:1"),
        (["push", "app", "app"], 4, "names no artifact"),
        (["push", "app", f"127.0.0.1:1/app@sha256:{'0' * 64}"], 2, "a digest cannot be chosen"),
        (["inspect", "nothing.wasm"], 2, "there is no file nothing.wasm"),
        (["inspect", "nothing"], 4, "is no file, and nothing in the store"),
        (["inspect", "oci-layout:none:1"], 4, "none"),
    ):
        done = loop(*arguments, cwd=manifest.folder)
        assert (done.returncode, said in done.stderr) == (code, True), (
            arguments,
            done.returncode,
            done.stderr,
        )
        assert "Traceback" not in done.stderr


TESTED = """
import asyncio

import loop_kit
from loop_kit import manifest
from loop_kit.workspace import Workspace


def test_what_it_answers():
    async def asked():
        async with loop_kit.Host() as host, Workspace(host, manifest.load(".")) as workspace:
            return await (await workspace.load("app")).call("echo", "abc")

    assert asyncio.run(asked()) == {answer!r}
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["python", "node", "native"])
async def test_a_workspace_of_packages_runs_by_their_digests(
    kind: str, registry: str, tmp_path: Path, sdk: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed and pushed here, pulled there by their digests: a command and a component, and a provider of each kind.

    Then nothing of what they came from is left, nor is there a network: the workspace runs, and its own tests do.
    """
    folder = tmp_path / "ws"
    match kind:
        case "python":
            lock = wheel(wheels, "acme_pair", TWICE) + wheel(wheels, "acme_pair_inner", INNER)
            files = {
                "loop.toml": PYTHON_TOML,
                "text.py": PYTHON,
                "wit/text.wit": WIT,
                "requirements.txt": lock,
            }
            manifest, answer = written(folder, files), "abc-abc"
        case "node":
            manifest, answer = project(folder, sdk), "cba"
        case _:
            monkeypatch.setenv("GOFLAGS", "-mod=mod -buildvcs=false")
            go: dict[str, str | bytes] = {path.name: path.read_bytes() for path in (HERE / "go").iterdir()}
            manifest, answer = (
                written(folder, {**go, "wit/text.wit": WIT}),
                f"ABC by Go on {this_platform().architecture}",
            )
    (folder / "hello.wasm").write_bytes(hello())
    with (folder / "loop.toml").open("a") as toml:
        toml.write('\n[components.hello]\npath = "hello.wasm"\n')
    names = {name: f"{registry}/acme/{kind}-{name}:1" for name in ("app", "hello", "text")}
    digests = {name: pushed(manifest, name, there) for name, there in names.items()}
    shutil.rmtree(folder)
    shutil.rmtree(wheels)
    shutil.rmtree(tmp_path / "data")
    there = tmp_path / "there"
    there.mkdir()
    (there / "loop.toml").write_text(f"""
[components.app]
path = "oci:{names["app"]}@{digests["app"]}"
imports."acme:text/filter" = {{ provider = "text" }}

[providers.text]
use = "oci:{names["text"]}@{digests["text"]}"

[components.hello]
path = "oci:{names["hello"]}@{digests["hello"]}"
run = "run"
wasi = {{ stdio = true }}
""")
    (there / "test_site.py").write_text(TESTED.format(answer=answer))
    done = loop("pull", cwd=there)
    assert done.returncode == 0, done.stderr
    for command, said in (
        ((LOOP, "run", "--locked", "--offline", "."), "hello from a guest\n"),
        ((sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"), "1 passed"),
    ):
        ran = subprocess.run([*off(), *command], cwd=there, capture_output=True, text=True, timeout=100)
        assert (ran.returncode, said in ran.stdout) == (0, True), ran.stdout + ran.stderr
    assert {one.digest for one in read_lock(there / "loop.lock").components.values()} == {
        digests["app"],
        digests["hello"],
    }
