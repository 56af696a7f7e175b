"""Node.js providers: packed with what `npm ci` installs, and run without npm."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from loop_kit.errors import PackageError
from loop_kit.manifest import Manifest
from loop_kit.oci import model
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Index, Platform
from loop_kit.pack import describe, pack, part_of, unpack
from tests.checkout import ROOT
from tests.pack.workspaces import WIT, called, loop_toml, written

TOML = loop_toml("""
use = "sidecar:./node_modules/.bin/loop-provider-node"
args = ["src/provider.js", "--wit", "wit"]
sources = ["src/**", "wit/**"]
""")
CODE = "export default { 'acme:text/filter': () => ({ echo: (text) => [...text].reverse().join('') }) };\n"


@pytest.fixture(scope="session")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SDK as it is published: the archive that `npm pack` makes."""
    folder = tmp_path_factory.mktemp("sdk")
    run(
        "npm",
        "pack",
        "--ignore-scripts",
        "--silent",
        "--pack-destination",
        str(folder),
        cwd=ROOT / "sdk/node",
    )
    (archive,) = folder.iterdir()
    return archive


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def other_digest(folder: Path) -> None:
    lock = folder / "package-lock.json"
    text = lock.read_text()
    at = text.index("sha512-") + 7
    lock.write_text(text[:at] + "A" * 86 + text[at + 86 :])


def project(folder: Path, sdk: Path, **dependencies: str) -> Manifest:
    """A provider that depends on the SDK, with its lock."""
    package = {
        "name": "text",
        "version": "2.0.0",
        "license": "ISC",
        "description": "Turns text around",
        "type": "module",
        "engines": {"node": ">=20.1"},
        "dependencies": {"@loop-kit/provider": f"file:{sdk.name}", **dependencies},
    }
    files = {
        "loop.toml": TOML,
        "package.json": json.dumps(package),
        "src/provider.js": CODE,
        "wit/text.wit": WIT,
    }
    manifest = written(folder, files)
    shutil.copy(sdk, folder)
    run("npm", "install", "--package-lock-only", "--offline", "--ignore-scripts", "--silent", cwd=folder)
    return manifest


async def test_it_runs_without_npm(tmp_path: Path, sdk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = project(tmp_path / "ws", sdk)
    blobs = Blobs(tmp_path / "blobs")
    packed = await pack(manifest, "text", blobs)
    assert not (manifest.folder / "node_modules").exists()
    runnable = unpack(blobs, packed, tmp_path / "place")
    for path in manifest.folder.iterdir():
        if path.name not in ("app.wasm", "loop.toml"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    monkeypatch.setenv("PATH", str(Path(shutil.which("node") or "").parent))
    assert await called(manifest, runnable) == "cba"
    said = describe(blobs, packed)
    assert (said.kind, said.version, said.licenses, said.runtime) == ("node", "2.0.0", "ISC", "node >=20.1")
    assert said.entry == "node_modules/@loop-kit/provider/dist/cli.js src/provider.js --wit wit"
    assert (said.exports, said.platforms) == (("acme:text/filter",), ())
    assert said.packages == (
        ("@loop-kit/provider", json.loads((ROOT / "sdk/node/package.json").read_text())["version"]),
    )
    files = {path.relative_to(runnable.tree).as_posix() for path in runnable.tree.iterdir()}
    assert files == {"src", "wit", "package.json", "node_modules"}
    # npm's own list would name the registry that was asked
    assert not (runnable.tree / "node_modules/.package-lock.json").exists()


async def test_the_same_makes_the_same(tmp_path: Path, sdk: Path) -> None:
    manifest = project(tmp_path / "ws", sdk)
    first = await pack(manifest, "text", Blobs(tmp_path / "one"))
    assert await pack(project(tmp_path / "other", sdk), "text", Blobs(tmp_path / "two")) == first


async def test_a_file_of_its_own(tmp_path: Path, sdk: Path) -> None:
    """`node:FILE`: what it imports comes along."""
    manifest = project(tmp_path / "ws", sdk)
    (manifest.folder / "src/main.js").write_text(
        "import { serve } from '@loop-kit/provider';\nimport provides from './provider.js';\n"
        "await serve({ wit: new URL('../wit', import.meta.url).pathname, provides });\n"
    )
    toml = loop_toml('use = "sidecar:node:src/main.js"')
    (manifest.folder / "loop.toml").write_text(toml)
    (manifest.folder / "src/other.js").write_text("")
    from loop_kit import manifest as manifests

    manifest = manifests.load(manifest.folder)
    blobs = Blobs(tmp_path / "blobs")
    runnable = unpack(blobs, await pack(manifest, "text", blobs), tmp_path / "place")
    assert sorted(path.name for path in (runnable.tree / "src").iterdir()) == ["main.js", "provider.js"]
    assert await called(manifest, runnable) == "cba"


async def test_packages_for_one_machine_make_a_part_for_each(tmp_path: Path, sdk: Path) -> None:
    for cpu in ("x64", "arm64"):
        made = tmp_path / cpu
        made.mkdir()
        said = {"name": f"fast-{cpu}", "version": "1.0.0", "os": ["linux"], "cpu": [cpu]}
        (made / "package.json").write_text(json.dumps(said))
        run("npm", "pack", "--silent", "--pack-destination", str(tmp_path), cwd=made)
    ws = tmp_path / "ws"
    ws.mkdir()
    for cpu in ("x64", "arm64"):
        shutil.copy(tmp_path / f"fast-{cpu}-1.0.0.tgz", ws)
    manifest = project(ws, sdk)
    said = json.loads((ws / "package.json").read_text())
    said["optionalDependencies"] = {f"fast-{cpu}": f"file:fast-{cpu}-1.0.0.tgz" for cpu in ("x64", "arm64")}
    (ws / "package.json").write_text(json.dumps(said))
    run("npm", "install", "--package-lock-only", "--offline", "--ignore-scripts", "--silent", cwd=ws)
    blobs = Blobs(tmp_path / "blobs")
    packed = await pack(
        manifest, "text", blobs, targets=("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")
    )
    index = model.parse(blobs.read(packed.digest))
    assert isinstance(index, Index)
    for machine, cpu in (("amd64", "x64"), ("arm64", "arm64")):
        part, _ = part_of(blobs, packed, Platform(machine, "linux"))
        assert [name for name, _ in describe(blobs, part).packages if name.startswith("fast")] == [
            f"fast-{cpu}"
        ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ws: (ws / "package-lock.json").unlink(), "there is no package-lock.json"),
        (lambda ws: (ws / "package-lock.json").write_text('{"lockfileVersion": 1}'), "is of an old form"),
        (lambda ws: (ws / "package.json").write_text("{"), "cannot be read"),
        (other_digest, r"npm(.|\n)*EINTEGRITY"),
        (lambda ws: next(ws.glob("*.tgz")).unlink(), "is no file of"),
        (lambda ws: shutil.rmtree(ws / "wit"), r"there is no .*/wit"),
    ],
)
async def test_what_does_not_hold_is_said(change: object, said: str, tmp_path: Path, sdk: Path) -> None:
    manifest = project(tmp_path / "ws", sdk)
    change(manifest.folder)  # type: ignore[operator]
    with pytest.raises(PackageError, match=said):
        await pack(manifest, "text", Blobs(tmp_path / "blobs"))
