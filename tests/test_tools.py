"""Tools of builds: fetched once, whole or not at all, by what stands in for npm, and by npm and pip themselves."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loop_kit import dev, manifest, tools
from loop_kit.errors import LoadError, ManifestError
from loop_kit.tools import TOOLS, _store, ensure, place_of, prepared
from tests.checkout import ROOT
from tests.children import is_gone, until
from tests.cli import LOOP

QJS, PY, ESBUILD = TOOLS["componentize-qjs"], TOOLS["componentize-py"], TOOLS["esbuild"]

# Says that it was called, waits for leave where it is to, and makes what npm would.
NPM = """#!/bin/sh
echo "$$ $*" >> "$FAKE/called"
cp package-lock.json "$FAKE/lock"
mkdir -p node_modules/componentize-qjs
echo '{"bin": {"componentize-qjs": "bin/run.js"}}' > node_modules/componentize-qjs/package.json
while [ -e "$FAKE/wait" ]; do sleep 0.02; done
[ -e "$FAKE/fails" ] && { cat "$FAKE/fails"; exit 1; }
exit 0
"""
NODE = '#!/bin/sh\n[ "$1" = --version ] && cat "$FAKE/version" || echo "node runs $*"\n'


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an npm and a node, which are all that PATH has but the shell's own; the cache is empty."""
    folder = tmp_path / "fake"
    folder.mkdir()
    for name, text in {"npm": NPM, "node": NODE}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "version").write_text("v20.1.0")
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    return folder


def calls(fake: Path) -> list[str]:
    return (fake / "called").read_text().splitlines() if (fake / "called").exists() else []


def kept() -> list[str]:
    """What is in the folder of tools, but for its locks."""
    return [path.name for path in place_of(QJS).parent.iterdir() if not path.name.endswith(".lock")]


def fetch() -> subprocess.Popen[str]:
    command = (LOOP, "tool", "fetch", QJS.name)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def test_a_tool_is_fetched_once(fake: Path) -> None:
    told: list[str] = []
    command = await ensure(QJS, told.append)
    script = place_of(QJS) / "node_modules/componentize-qjs/bin/run.js"
    assert command == (str(fake / "node"), str(script))
    assert told[0] == f"fetching {QJS} by npm, once …"
    assert re.fullmatch(rf"fetched {QJS} in [\d.]+ s", told[-1])
    (call,) = calls(fake)
    assert call.split(" ", 1)[1].startswith("ci --ignore-scripts ")
    assert (fake / "lock").read_bytes() == QJS.lock.read_bytes()
    (fake / "npm").unlink()  # nothing but what is there is needed
    told.clear()
    assert (await ensure(QJS, told.append), told) == (command, [])
    assert kept() == [place_of(QJS).name]
    assert place_of(QJS).parent.stat().st_mode & 0o077 == 0


def test_of_two_processes_one_fetches(fake: Path) -> None:
    (fake / "wait").touch()
    first = fetch()
    until(lambda: bool(calls(fake)))
    second = fetch()
    assert second.stderr is not None
    assert second.stderr.readline() == f"waiting for another process that fetches {QJS} …\n"
    (fake / "wait").unlink()
    for process in (first, second):
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, f"{QJS} is in {place_of(QJS)}\n"), err
    assert len(calls(fake)) == 1
    assert kept() == [place_of(QJS).name]


def test_one_that_is_killed_leaves_nothing_that_passes_for_it(fake: Path) -> None:
    (fake / "wait").touch()
    first = fetch()
    until(lambda: bool(calls(fake)))
    npm = int(calls(fake)[0].split()[0])
    first.send_signal(signal.SIGKILL)
    first.communicate()
    until(lambda: is_gone(npm))
    assert not place_of(QJS).exists()
    assert len(kept()) == 1
    (fake / "wait").unlink()
    second = fetch()
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert len(calls(fake)) == 2
    assert kept() == [place_of(QJS).name]


async def test_whoever_gives_up_ends_the_client(fake: Path) -> None:
    (fake / "wait").touch()
    fetching = asyncio.ensure_future(ensure(QJS))
    await asyncio.to_thread(until, lambda: bool(calls(fake)))
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)
    assert is_gone(int(calls(fake)[0].split()[0]))
    assert kept() == []


async def test_a_client_that_does_not_end_is_ended(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake / "wait").touch()
    monkeypatch.setattr(_store, "_LONGEST", 0.5)
    with pytest.raises(LoadError, match=f"npm has not fetched {QJS} within"):
        await ensure(QJS)
    assert all(is_gone(int(call.split()[0])) for call in calls(fake))
    assert kept() == []


async def test_what_is_damaged_is_named_with_what_to_do(fake: Path) -> None:
    await ensure(QJS)
    (place_of(QJS) / "node_modules/componentize-qjs/package.json").unlink()
    with pytest.raises(LoadError, match=f"{QJS} is damaged") as caught:
        await ensure(QJS)
    assert caught.value.hint == f"remove {place_of(QJS)}: it is fetched again"


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("npm error code ENOTFOUND", "is the registry within reach that `npm config list` shows?"),
        ("npm error code EINTEGRITY", "do not use it"),
    ],
)
async def test_a_client_that_fails_is_quoted(said: str, hint: str, fake: Path) -> None:
    (fake / "fails").write_text("\n".join([*map(str, range(99)), said]))
    with pytest.raises(LoadError, match=rf"npm cannot fetch {QJS}: it exited with 1\n") as caught:
        await ensure(QJS)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) < 20
    assert hint in (caught.value.hint or "")
    assert kept() == []
    (fake / "fails").unlink()
    await ensure(QJS)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda fake: (fake / "npm").unlink(), "is fetched by npm, and there is none in PATH"),
        (lambda fake: (fake / "node").unlink(), "runs in Node.js, and there is no `node` in PATH"),
        (
            lambda fake: (fake / "version").write_text("v16.2.0"),
            r"needs Node.js 18 or newer; .*node is v16.2.0",
        ),
    ],
)
async def test_what_is_missing_is_named(
    change: object, text: str, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(change)
    change(fake)
    for name in ("sh", "cat"):
        (fake / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(fake))
    with pytest.raises(LoadError, match=text) as caught:
        await ensure(QJS)
    assert (caught.value.hint or "").startswith("install Node.js")


async def test_a_cache_that_cannot_be_written_is_named(
    fake: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(LoadError, match=r"cannot be kept in .*file/loop-kit/tools: Not a directory"):
        await ensure(QJS)


async def test_a_build_has_programs_in_the_place_of_tools(fake: Path) -> None:
    node, script = await ensure(QJS)
    assert await prepared(("{tool:componentize-qjs}", "--wit", "a b")) == (node, script, "--wit", "a b")
    command = await prepared("{tool:componentize-qjs} 'a b' && echo {tool} {other:x}")
    assert command == f"{node} '{script}' 'a b' && echo {{tool}} {{other:x}}"
    assert await prepared("cp a b") == "cp a b"
    with pytest.raises(LoadError, match="there is no tool 'componentize-js'") as caught:
        await prepared("{tool:componentize-js}")
    assert caught.value.hint == "did you mean 'componentize-qjs'?"


def test_a_manifest_says_which_tool_there_is_not() -> None:
    text = '[components.a]\npath = "a.wasm"\nbuild = {}\n'
    with pytest.raises(ManifestError) as caught:
        manifest.loads(text.format('"{tool:componentize-js} x"'))
    assert str(caught.value) == (
        "loop.toml:3:9: components.a.build: there is no tool \"componentize-js\" (did you mean 'componentize-qjs'?)"
    )
    with pytest.raises(
        ManifestError, match=r"build\[1\]: there is no tool \"rollup\" \(there are componentize-py, "
    ):
        manifest.loads(text.format('["nice", "{tool:rollup}"]'))
    with pytest.raises(ManifestError, match=r"build\[0\]: in a list, a tool is an argument of its own"):
        manifest.loads(text.format('["nice {tool:componentize-py}"]'))
    assert manifest.loads(text.format('["{tool:componentize-py}", "x"]')).components["a"].build


async def test_builds_tell_of_what_is_fetched_for_them(fake: Path, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "loop.toml").write_text(
        '[components.a]\npath = "out/of/a.wasm"\nsources = ["src"]\n'
        'build = "{tool:componentize-qjs} x > out/of/a.wasm"\n'
    )
    (folder / "src").write_text("1")
    (fake / "fails").write_text("no way there")
    told: list[dev.Event] = []
    member = dev.Member("component", "a")
    async with dev.Builder(manifest.load(folder), told.append) as builder:
        (failed,) = await builder.build(await builder.scan())
        assert isinstance(failed, dev.Failed)
        assert failed.reason.startswith(f"npm cannot fetch {QJS}: it exited with 1 (hint: is the")
        assert failed.output == "no way there"
        (fake / "fails").unlink()
        (folder / "src").write_text("2")
        (done,) = await builder.build(await builder.changed([folder / "src"]))
        assert isinstance(done, dev.Done)
        assert builder.output("a").read_text().startswith("node runs ")
    texts = [event.text for event in told if isinstance(event, dev.Fetching)]
    assert texts[:2] == [f"fetching {QJS} by npm, once …"] * 2
    assert {event.member for event in told if isinstance(event, dev.Fetching)} == {member}


async def test_another_version_of_a_tool_builds_anew(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    build = '"{tool:componentize-qjs} x > a.wasm"\nsources = ["src"]'
    (folder / "loop.toml").write_text(f'[components.a]\npath = "a.wasm"\nbuild = {build}\n')

    async def scanned() -> int:
        async with dev.Builder(manifest.load(folder)) as builder:
            members = await builder.scan()
            await builder.build(members)
            return len(members)

    assert [await scanned(), await scanned()] == [1, 0]
    newer = _store.Tool(QJS.name, "npm", "")
    newer.__dict__["version"] = "9.9.9"
    monkeypatch.setitem(tools.TOOLS, QJS.name, newer)
    assert [await scanned(), await scanned()] == [1, 0]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("tool", TOOLS.values(), ids=str)
def test_the_real_ones_run(tool: _store.Tool, tmp_path: Path) -> None:
    """Fetched into an empty cache, by npm and pip as they are configured here; then there is no way to a registry."""
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    there = subprocess.run(
        (LOOP, "tool", "fetch", tool.name, "--json"), env=env, capture_output=True, text=True, timeout=250
    )
    assert there.returncode == 0, there.stderr
    said = json.loads(there.stdout)
    assert (said["name"], said["version"]) == (tool.name, tool.version)
    assert Path(said["place"]).is_relative_to(tmp_path)
    nowhere = {"npm_config_registry": "http://127.0.0.1:9", "PIP_INDEX_URL": "http://127.0.0.1:9"}
    run = (LOOP, "tool", "run", tool.name, "--", "--help")
    done = subprocess.run(run, env={**env, **nowhere}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search("usage", done.stdout, re.IGNORECASE)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("tool", TOOLS.values(), ids=str)
async def test_what_has_another_digest_is_refused(
    tool: _store.Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = tmp_path / "locks"
    shutil.copytree(tool.lock.parent, locks / tool.name)
    monkeypatch.setattr(_store, "_LOCKS", locks)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    changed = _store.Tool(tool.name, tool.client, tool.makes)
    text = changed.lock.read_text()
    zeros = "sha512-" + "A" * 86 + "=="
    text = (
        re.sub(r"sha512-[\w+/=]+", zeros, text)
        if tool.client == "npm"
        else re.sub("(?<=sha256:)[0-9a-f]+", "0" * 64, text)
    )
    changed.lock.write_text(text)
    with pytest.raises(LoadError, match="cannot fetch") as caught:
        await ensure(changed)
    assert "do not use it" in (caught.value.hint or ""), str(caught.value)
    assert not place_of(changed).exists()


def test_locks_pin_all_by_digest_and_leave_the_registry_to_its_user() -> None:
    for tool in (QJS, ESBUILD):
        lock = json.loads(tool.lock.read_text())
        packages = [package for path, package in lock["packages"].items() if path]
        assert all(package["integrity"].startswith("sha512-") for package in packages)
        assert not [package for package in packages if "resolved" in package]
    entries = re.findall(r"^[\w.-]+==.*(?:\n    .*)*", PY.lock.read_text(), re.MULTILINE)
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)


def test_tools_are_those_that_examples_and_tests_build_with() -> None:
    package = json.loads((ROOT / "package.json").read_text())
    assert package["devDependencies"][QJS.name] == QJS.version
    assert package["devDependencies"][ESBUILD.name] == ESBUILD.version
    assert f"\n{PY.name}=={PY.version}\n" in (ROOT / "requirements/dev.in").read_text()


def test_the_command_lists_them(fake: Path) -> None:
    def listed() -> dict[str, str | None]:
        done = subprocess.run((LOOP, "tool", "list", "--json"), capture_output=True, text=True, check=True)
        return {tool["name"]: tool["place"] for tool in json.loads(done.stdout)["tools"]}

    assert listed() == {PY.name: None, QJS.name: None, ESBUILD.name: None}
    assert "is in" in fetch().communicate(timeout=60)[0]
    assert listed() == {PY.name: None, QJS.name: str(place_of(QJS)), ESBUILD.name: None}
    done = subprocess.run((LOOP, "tool", "fetch", "esbuilt"), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        4,
        "error: there is no tool 'esbuilt'\nhint: did you mean 'esbuild'?\n",
    )
    run = (sys.executable, "-m", "loop_kit.cli", "tool", "run", QJS.name, "--", "-x")
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.stdout == f"node runs {place_of(QJS)}/node_modules/componentize-qjs/bin/run.js -x\n"
