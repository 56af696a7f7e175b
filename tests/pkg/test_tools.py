"""Programs that builds name as `{tool:NAME}`: which are meant, that they come once, as locked, and then stay."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from loop_kit import dev, manifest
from loop_kit.errors import Damaged, LoadError, ManifestError, PackageError
from loop_kit.pkg import TOOLS, NoTool, Platform, Tools, _lock, _tools
from tests.checkout import ROOT
from tests.children import until
from tests.cli import LOOP
from tests.pkg.conftest import Workspace
from tests.pkg.servers import Server, script, tar

COMPONENT = '[components.a]\npath = "a.wasm"\nsources = ["src"]\nbuild = {}\n'


def tools(workspace: Workspace) -> Tools:
    return Tools.of(manifest.load(workspace.folder))


async def locked(workspace: Workspace, *lines: str, more: str = "") -> Tools:
    """The tools of a workspace whose packages are locked, and not installed."""
    workspace.wants(*lines, more=more)
    async with workspace.packages() as packages:
        await packages.lock()
    return tools(workspace)


async def test_which_program_is_meant(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    server.npm("many", "1.0.0", {"bin": {"first": "run.js", "second": "run.js"}})
    found = await locked(workspace, 'mine = "npm:tool"', 'many = "npm:many"', 'esbuild = "npm:tool@1.0.0"')
    (node, script) = await found.command("mine")
    assert script.endswith("/node_modules/tool/run.js")
    assert await found.command("tool") == await found.command("esbuild") == (node, script)
    assert (await found.command("second"))[1].endswith("/node_modules/many/run.js")
    with pytest.raises(PackageError, match="many has more programs than one") as caught:
        await found.command("many")
    assert caught.value.hint == "say which: {tool:first} or {tool:second}"
    assert await found.prepared(("{tool:mine}", "a b")) == (node, script, "a b")
    command = await found.prepared("{tool:mine} 'a b' && echo {tool} {other:x}")
    assert command == f"{node} {script} 'a b' && echo {{tool}} {{other:x}}"
    assert await found.prepared("cp a b") == "cp a b"


async def test_what_is_not_there_is_said_with_what_to_do(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    workspace.wants('tool = "npm:tool"')
    with pytest.raises(PackageError, match=r"tool \(npm:tool\) is not locked") as unlocked:
        await tools(workspace).command("tool")
    assert unlocked.value.hint == "`loop pkg install`, with the network, locks it"
    for name, hint in {
        "componentize-js": "did you mean 'componentize-qjs'? `loop pkg add SOURCE:componentize-js` has another",
        "ripgrep": "`loop pkg add ripgrep` adds it to the workspace",
        "xyz": "`loop pkg add SOURCE:xyz` adds it to the workspace",
    }.items():
        with pytest.raises(NoTool, match=f"there is no tool '{name}'") as unknown:
            await tools(workspace).command(name)
        assert unknown.value.hint == hint
    assert server.asked == []


async def test_members_have_the_tools_of_their_workspace(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    server.npm("tool", "2.0.0")
    await locked(
        workspace,
        'tool = "npm:tool@1"',
        more='[workspace.tasks.t]\nrun = "{tool:tool} > out"\noutputs = ["out"]',
    )
    text = (workspace.folder / "loop.toml").read_text()
    (workspace.folder / "loop.toml").write_text(text.replace("[packages]", 'members = ["*"]\n\n[packages]'))
    for name in ("one", "two"):
        (workspace.folder / name).mkdir()
        (workspace.folder / name / "loop.toml").write_text(f'[workspace]\nname = "{name}"\n')
    two = Workspace(workspace.folder / "two")
    above = await tools(two).command("tool")
    assert above == await tools(workspace).command("tool")
    text = (two.folder / "loop.toml").read_text()
    (two.folder / "loop.toml").write_text(f'{text}[packages]\ntool = "npm:tool@2"\n')
    async with two.packages() as packages:
        await packages.lock()
    assert await tools(two).command("tool") != above
    done = subprocess.run((LOOP, "task", "t"), cwd=workspace.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [(workspace.folder / name / "out").read_text() for name in ("one", "two")]
    assert said == ["tool 1.0.0\n", "tool 2.0.0\n"]


async def test_it_comes_once_and_then_asks_nobody(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    found = await locked(workspace, 'tool = "npm:tool"')
    told: list[str] = []
    command = await found.command("tool", told.append)
    assert told[0] == "installing tool 1.0.0, once …"
    assert re.fullmatch(r"installed tool 1\.0\.0 in [\d.]+ s", told[-1])
    server.asked.clear()
    told.clear()
    assert (await found.command("tool", told.append), told, server.asked) == (command, [], [])
    # nor is anything loaded that could
    code = (
        "import asyncio, sys; from loop_kit import manifest, pkg; "
        "print(asyncio.run(pkg.Tools.of(manifest.load(sys.argv[1])).command('tool'))[1]); "
        "print({'loop_kit.pkg._resolver', 'loop_kit.pkg._fetch'} & {*sys.modules})"
    )
    done = subprocess.run(
        (sys.executable, "-c", code, str(workspace.folder)), capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{command[1]}\nset()\n"


async def test_what_is_damaged_is_named_with_what_to_do(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    found = await locked(workspace, 'tool = "npm:tool"')
    command = await found.command("tool")
    os.unlink(command[1])
    with pytest.raises(PackageError, match=r"the program tool should be run\.js, and is not there") as caught:
        await found.command("tool")
    assert caught.value.hint == f"remove {found.place('tool')}: it is unpacked anew"
    shutil.rmtree(found.place("tool"))
    server.files.clear()
    assert await found.command("tool") == command


def test_of_two_processes_one_installs(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    workspace.wants('tool = "npm:tool"')
    subprocess.run((LOOP, "pkg", "install"), cwd=workspace.folder, check=True, capture_output=True)
    store = workspace.packages().store
    for place in ("tools", "trees"):
        (store.folder / place).rename(store.folder / f"{place}-before")
    (blob,) = store.blobs
    store.blobs.remove(blob)
    path, leave = "/npm/tool/-/tool-1.0.0.tgz", threading.Event()
    data = server.files[path]
    assert isinstance(data, bytes)

    def slow(handler: BaseHTTPRequestHandler) -> None:
        leave.wait(60)
        handler.send_response(200)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    server.files[path] = slow
    server.asked.clear()

    def run() -> subprocess.Popen[str]:
        command = (LOOP, "pkg", "run", "tool")
        return subprocess.Popen(
            command, cwd=workspace.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    first = run()
    try:
        until(lambda: path in server.asked)
        second = run()
        assert second.stderr is not None
        assert second.stderr.readline() == "waiting for another process that installs tool 1.0.0 …\n"
    finally:
        leave.set()
    for process in (first, second):
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "tool 1.0.0\n"), err
    assert server.asked.count(path) == 1


@pytest.mark.parametrize("kind", ["wheel", "tar", "plain"])
async def test_a_lock_of_another_platform(kind: str, server: Server, workspace: Workspace) -> None:
    """There, its programs were looked up in the file for that; here they are called the same."""
    here, other = Platform.here(), "windows" if Platform.here().os != "windows" else "darwin"
    if kind == "wheel":
        machine = {"linux": f"manylinux_2_17_{here.arch}", "darwin": f"macosx_11_0_{here.arch}"}[here.os]
        for tag in (machine, "win_amd64"):
            server.wheel("tool", "1.0", tag=f"py3-none-{tag}")
        workspace.wants('tool = "pypi:tool"')
    else:
        names = {"x86_64": "amd64", "aarch64": "arm64"}
        files: dict[str, bytes] = {}
        for system in (here.os, other):
            for arch in (here.arch, "x86_64"):
                name = f"tool_{system}_{names[arch]}"
                packed = tar({"tool": script("tool 1.0")}, folder=f"{name}/bin/", executable=True)
                files |= (
                    {name: script("tool 1.0").encode()} if kind == "plain" else {f"{name}.tar.gz": packed}
                )
        server.release("acme/tool", "1.0", files)
        workspace.wants('tool = "github:acme/tool"')
    async with workspace.packages() as packages:
        await packages.lock()
    with _lock.changing(workspace.folder / "loop.lock") as table:
        (node,) = table["tool"].nodes
        mine = node.file_for(here)
        assert mine is not None
        assert mine.bins
        (program,) = mine.bins
        there = (program[0], program[1].replace(here.os, other), program[2])
        changed = tuple(
            replace(
                file, bins=None if file == mine else (there,) if other in file.platforms[0] else file.bins
            )
            for file in node.files
        )
        table["tool"] = replace(table["tool"], nodes=(replace(node, files=changed),))
    commands = await workspace.install(locked=True)
    assert subprocess.check_output(commands[program[0]], text=True).strip() == "tool 1.0"
    (named,) = commands
    assert await tools(workspace).command(named) == commands[named]


async def test_what_is_not_as_locked_is_refused(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    found = await locked(workspace, 'tool = "npm:tool"')
    store = workspace.packages().store
    for blob in list(store.blobs):
        store.blobs.remove(blob)
    (store.folder / "trees").rename(store.folder / "before")
    server.files["/npm/tool/-/tool-1.0.0.tgz"] = b"x" * 100
    with pytest.raises(Damaged) as caught:
        await found.command("tool")
    assert "do not use it" in (caught.value.hint or "")
    assert not found.place("tool").exists()


def test_a_manifest_says_what_is_no_name_of_a_tool() -> None:
    text = '[components.a]\npath = "a.wasm"\nbuild = {}\n'
    with pytest.raises(ManifestError, match=r'a.build: "" is no name of a tool \(such as \{tool:esbuild\}\)'):
        manifest.loads(text.format('"{tool:} x"'))
    with pytest.raises(ManifestError, match=r"build\[0\]: in a list, a tool is an argument of its own"):
        manifest.loads(text.format('["nice {tool:componentize-py}"]'))
    assert manifest.loads(text.format('["{tool:componentize-py}", "x"]')).components["a"].build


async def test_builds_tell_of_what_is_installed_for_them(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    await locked(workspace, 'tool = "npm:tool"', more=COMPONENT.format('"{tool:tool} > a.wasm"'))
    (workspace.folder / "src").write_text("1")
    store = workspace.packages().store
    for blob in list(store.blobs):
        store.blobs.remove(blob)
    (store.folder / "trees").rename(store.folder / "before")
    path = "/npm/tool/-/tool-1.0.0.tgz"
    whole = server.files.pop(path)
    told: list[dev.Event] = []
    member = dev.Member("component", "a")
    async with dev.Builder(manifest.load(workspace.folder), told.append) as builder:
        (failed,) = await builder.build(await builder.scan())
        assert isinstance(failed, dev.Failed)
        assert failed.reason.startswith("tool-1.0.0.tgz: ")
        assert "answers 404 (hint: is it within reach" in failed.reason
        server.files[path] = whole
        (workspace.folder / "src").write_text("2")
        (done,) = await builder.build(await builder.changed([workspace.folder / "src"]))
        assert isinstance(done, dev.Done)
        assert builder.output("a").read_text() == "tool 1.0.0\n"
    texts = [event.text for event in told if isinstance(event, dev.Fetching)]
    assert texts[:2] == ["installing tool 1.0.0, once …"] * 2
    assert {event.member for event in told if isinstance(event, dev.Fetching)} == {member}


async def test_builds_say_which_tool_there_is_not(workspace: Workspace) -> None:
    workspace.wants(more=COMPONENT.format('"{tool:rollup} > a.wasm"'))
    (workspace.folder / "src").touch()
    async with dev.Builder(manifest.load(workspace.folder)) as builder:
        (failed,) = await builder.build(await builder.scan())
    assert isinstance(failed, dev.Failed)
    assert failed.reason.startswith("there is no tool 'rollup' (hint: ")


async def test_another_version_of_a_tool_builds_anew(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    await locked(workspace, 'tool = "npm:tool"', more=COMPONENT.format('"{tool:tool} > a.wasm"'))
    (workspace.folder / "src").touch()

    async def scanned() -> int:
        async with dev.Builder(manifest.load(workspace.folder)) as builder:
            members = await builder.scan()
            assert not [one for one in await builder.build(members) if isinstance(one, dev.Failed)]
            return len([member for member in members if member.kind == "component"])

    assert [await scanned(), await scanned()] == [1, 0]
    server.npm("tool", "1.1.0")
    async with workspace.packages() as packages:
        await packages.lock(anew=True)
    assert [await scanned(), await scanned()] == [1, 0]


async def test_a_tool_counts_for_what_tasks_make(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    task = '[tasks.t]\nrun = ["{tool:tool}"]\ninputs = []\n'
    await locked(workspace, 'tool = "npm:tool"', more=task)

    def run(*more: str) -> str:
        done = subprocess.run(
            (LOOP, "task", *more, "t"), cwd=workspace.folder, capture_output=True, text=True, check=True
        )
        return done.stdout + done.stderr

    assert "tool 1.0.0" in run()
    assert "tool 1.0.0" not in run()
    server.npm("tool", "1.1.0")
    async with workspace.packages() as packages:
        await packages.lock(anew=True)
    assert "tool tool has changed" in run("explain")
    assert "tool 1.1.0" in run()
    # its entry counts, not how the rest of the file is
    lock = workspace.folder / "loop.lock"
    lock.write_text(lock.read_text() + '\n[others]\nsaid = "x"\n')
    assert "tool 1.1.0" not in run()


async def test_a_tool_that_comes_while_tasks_run_may_be_read(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    tasks = '[tasks.first]\nrun = ["true"]\ninputs = []\n'
    tasks += '[tasks.t]\nrun = ["{tool:tool}"]\ndeps = ["first"]\ninputs = []\n'
    await locked(workspace, 'tool = "npm:tool"', more=tasks)
    env = {**os.environ, "XDG_DATA_HOME": str(workspace.folder.parent / "other")}
    done = subprocess.run(
        (LOOP, "task", "t"), cwd=workspace.folder, env=env, capture_output=True, text=True, check=True
    )
    assert "tool 1.0.0" in done.stdout + done.stderr


def test_tasks_say_which_tool_there_is_not(workspace: Workspace) -> None:
    workspace.wants(more='[tasks.t]\nrun = ["{tool:esbild}"]\n')
    done = subprocess.run((LOOP, "task", "t"), cwd=workspace.folder, capture_output=True, text=True)
    assert done.stderr.startswith("failed tools:t: there is no tool 'esbild' (did you mean 'esbuild'?")
    assert done.returncode == 1


def test_an_install_has_what_builds_take(workspace: Workspace) -> None:
    workspace.wants(more=COMPONENT.format('"{tool:esbuild} > a.wasm"'))
    done = subprocess.run(
        (LOOP, "pkg", "install", "--offline"), cwd=workspace.folder, capture_output=True, text=True
    )
    assert done.returncode == 4
    assert re.search(r"^error: esbuild: not in the store: .*esbuild-", done.stderr, re.MULTILINE)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", TOOLS)
def test_those_that_come_with_loop_kit_run(name: str, tmp_path: Path) -> None:
    """Into an empty store, from the registries that npm and pip are configured for; then there is no way to one."""
    (tmp_path / "loop.toml").touch()
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    nowhere = {"npm_config_registry": "http://127.0.0.1:9", "PIP_INDEX_URL": "http://127.0.0.1:9"}
    run = (LOOP, "pkg", "run", name, "--", "--help")
    for also, said in (({}, f"installing {name} "), (nowhere, "")):
        done = subprocess.run(
            run, cwd=tmp_path, env={**env, **also}, capture_output=True, text=True, timeout=250
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith(said)
        assert bool(done.stderr) == bool(said)
        assert re.search("usage", done.stdout, re.IGNORECASE)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", TOOLS)
async def test_those_that_come_with_loop_kit_are_held_to_its_lock(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "tools.lock"
    text = _tools.SHIPPED.read_text()
    lock.write_text(re.sub(r"(?<=sha...:)[0-9a-f]{32}", "0" * 32, text))
    monkeypatch.setattr(_tools, "SHIPPED", lock)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    _tools.shipped.cache_clear()
    try:
        with pytest.raises(LoadError) as caught:
            await Tools().command(name)
        assert "do not use it" in (caught.value.hint or ""), str(caught.value)
        assert not Tools().place(name).exists()
    finally:
        _tools.shipped.cache_clear()


def test_the_lock_of_loop_kit_is_for_everybody() -> None:
    text = _tools.SHIPPED.read_text()
    assert "://" not in text
    found = _lock.read(_tools.SHIPPED)
    assert tuple(sorted(found)) == TOOLS
    for one in found.values():
        assert one.python == ""
        keys = {key for node in one.nodes for file in node.files for key in file.platforms}
        assert {"linux-x86_64-gnu", "linux-aarch64-gnu", "darwin-aarch64", "darwin-x86_64"} <= keys
        assert all(file.bins for file in one.nodes[0].files)


def test_tools_are_those_that_examples_and_tests_build_with() -> None:
    package = json.loads((ROOT / "package.json").read_text())
    found = _lock.read(_tools.SHIPPED)
    for name in ("componentize-qjs", "esbuild"):
        assert package["devDependencies"][name] == found[name].version
    pinned = f"\ncomponentize-py=={found['componentize-py'].version}\n"
    assert pinned in (ROOT / "requirements/dev.in").read_text()
