"""`loop pkg import`: what npm has pinned is what is locked."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loop_kit.errors import Damaged, PackageError
from loop_kit.pkg import Platform, _npm_lock
from tests.cli import loop
from tests.pkg.conftest import Workspace
from tests.pkg.servers import Server
from tests.pkg.test_sources import said

HERE = Platform.here()
ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(server: Server, workspace: Workspace) -> Path:
    """A project of npm's, locked by npm itself: two versions of one, one by another name, one for each system."""
    os, cpu = HERE.os, {"x86_64": "x64", "aarch64": "arm64"}[HERE.arch]
    server.npm("deep", "1.4.0", {}, {"index.js": "module.exports = 'deep 1.4.0'"})
    server.npm("deep", "2.1.0", {}, {"index.js": "module.exports = 'deep 2.1.0'"})
    mid = {"dependencies": {"deep": "^1.2"}}
    server.npm("mid", "1.0.0", mid, {"index.js": "module.exports = require('deep')"})
    here = {"os": [os], "cpu": [cpu]}
    server.npm("@acme/native-here", "1.0.0", here, {"index.js": "module.exports = 'here'"})
    server.npm("@acme/native-mac", "1.0.0", {"os": ["darwin"], "cpu": ["arm64"]}, {})
    described = {
        "bin": "cli.js",
        "dependencies": {"mid": "~1.0", "deep": "2.x", "alias": "npm:deep@1"},
        "optionalDependencies": {f"@acme/native-{name}": "1.0.0" for name in ("here", "mac")},
    }
    code = "console.log(['mid', 'deep', 'alias', '@acme/native-here'].map((name) => require(name)).join())"
    server.npm("@acme/tool", "3.0.0", described, {"cli.js": code})
    folder = workspace.folder.parent / "project"
    folder.mkdir()
    wanted = {"@acme/tool": "^3.0.0", "mid": "1"}
    (folder / "package.json").write_text(json.dumps({"name": "project", "devDependencies": wanted}))
    command = ["npm", "install", "--package-lock-only", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    server.npm("@acme/tool", "3.9.0", described, {"cli.js": code})  # which the lock does not know
    workspace.wants()
    return folder / "package-lock.json"


async def test_what_npm_has_pinned_is_locked(project: Path, server: Server, workspace: Workspace) -> None:
    server.asked.clear()
    done = loop("pkg", "import", str(project), cwd=workspace.folder)
    assert done.returncode == 0, done.stderr
    assert "tool  3.0.0, with 6 that it needs" in done.stdout
    assert "they have no program: mid" in done.stdout
    assert server.asked == []
    assert 'tool = "npm:@acme/tool@^3.0.0"' in (workspace.folder / "loop.toml").read_text()
    locked = workspace.packages().locked()["tool"]
    pinned = json.loads(project.read_text())["packages"]
    assert {node.at for node in locked.nodes} == {at for at in pinned if at}
    assert [node.name for node in locked.nodes if node.optional] == ["@acme/native-here", "@acme/native-mac"]
    commands = await workspace.install()
    assert said(commands["tool"]) == "deep 1.4.0,deep 2.1.0,deep 1.4.0,here"
    assert workspace.packages().locked()["tool"] == locked


async def test_it_is_as_loop_pkg_locks_it_itself(project: Path, workspace: Workspace) -> None:
    tools, _ = _npm_lock.read(project)
    workspace.wants('tool = "npm:@acme/tool@3.0.0"')
    async with workspace.packages() as packages:
        own = (await packages.lock())["tool"]

    def known(nodes: Any) -> set[tuple[Any, ...]]:
        return {
            (node.name, node.version, file.digest, file.file, file.platforms)
            for node in nodes
            for file in node.files
        }

    assert known(tools["tool"].nodes) == known(own.nodes)
    assert tools["tool"].nodes[0].files[0].bins == own.nodes[0].files[0].bins


async def test_what_comes_is_held_to_the_integrity(
    project: Path, server: Server, workspace: Workspace
) -> None:
    loop("pkg", "import", str(project), cwd=workspace.folder)
    server.npm("deep", "2.1.0", {}, {"index.js": "module.exports = 'evil'"})
    with pytest.raises(Damaged):
        await workspace.install(locked=True)
    shutil.rmtree(workspace.folder.parent / "data")


def test_the_lock_of_this_repository() -> None:
    tools, left = _npm_lock.read(ROOT / "package-lock.json", ["esbuild"])
    assert left == []
    esbuild = tools["esbuild"]
    pinned = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert esbuild.version == pinned["node_modules/esbuild"]["version"]
    assert esbuild.here(HERE)
    assert any(node.name == "@esbuild/darwin-arm64" and node.optional for node in esbuild.nodes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"integrity": None}, "tool 1.0.0 has no integrity by SHA-512"),
        ({"integrity": "sha1-AAAA"}, "tool 1.0.0 has no integrity by SHA-512"),
        ({"integrity": "sha512-***"}, "tool 1.0.0 has no integrity by SHA-512"),
        ({"integrity": "sha512-AAAA"}, "tool 1.0.0 has no integrity by SHA-512"),
        (
            {"resolved": "git+ssh://git@example.com/a.git#1"},
            r"tool comes from git\+ssh, which is no registry",
        ),
        ({"resolved": "https://example.com/.."}, "is no name of a file"),
        ({"version": None}, "has no version"),
        ({"dependencies": {"deep": "1"}}, "needs deep, which it does not have"),
        ({"bin": {"tool": "../../x"}}, "leads out of the folder"),
        ({"bin": {"../x": "x"}}, "is no name of a file"),
        ({"os": ["aix"]}, "for none of the platforms"),
        ({"name": "a@b c\n"}, "is no name of a file"),
        ({"name": "a@b c\n", "resolved": "https://example.com/a.tgz"}, "is no package"),
    ],
)
def test_what_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    entry = {"version": "1.0.0", "bin": {"tool": "x.js"}, "integrity": "sha512-" + "A" * 86 + "==", **change}
    entry = {key: value for key, value in entry.items() if value is not None}
    packages = {"": {"dependencies": {"tool": "1"}}, "node_modules/tool": entry}
    file = tmp_path / "package-lock.json"
    file.write_text(json.dumps({"lockfileVersion": 3, "packages": packages}))
    with pytest.raises(PackageError, match=words) as caught:
        _npm_lock.read(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("range_", "asked"),
    [
        ("^1", "npm:@acme/tool@^1"),
        ("npm:@acme/tool@^1", "npm:@acme/tool@^1"),
        ("npm:@acme/tool", "npm:@acme/tool"),
    ],
)
def test_what_is_asked_for_by_another_name(range_: str, asked: str, tmp_path: Path) -> None:
    entry = {
        "name": "@acme/tool",
        "version": "1.0.0",
        "bin": {"tool": "x.js"},
        "integrity": f"sha512-{'A' * 86}==",
    }
    packages = {"": {"dependencies": {"called": range_}}, "node_modules/called": entry}
    file = tmp_path / "package-lock.json"
    file.write_text(json.dumps({"lockfileVersion": 3, "packages": packages}))
    tools, _ = _npm_lock.read(file)
    assert {alias: str(one.asked) for alias, one in tools.items()} == {"called": asked}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no package-lock.json"),
        ("[" * 100_000, "is no package-lock.json"),
        ('{"packages": []}', "is no package-lock.json"),
        ('{"lockfileVersion": 1, "dependencies": {}}', "is of lockfileVersion 1"),
        ('{"packages": {"": {}}}', "does not depend on x"),
    ],
)
def test_what_is_no_such_file(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "package-lock.json"
    file.write_text(text)
    with pytest.raises(PackageError, match=words):
        _npm_lock.read(file, ["x"])
