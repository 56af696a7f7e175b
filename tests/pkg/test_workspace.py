"""`loop pkg` in a workspace: what it writes, what it keeps, and how its programs are found."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from loop_kit.pkg import _install
from loop_kit.store import Store
from tests.cli import LOOP, loop
from tests.pkg.conftest import Workspace
from tests.pkg.servers import Server, script, tar


@pytest.fixture
def tools(server: Server, workspace: Workspace) -> Workspace:
    """A workspace that asks for nothing, and a server that has something."""
    for version in ("1.0.0", "1.4.0", "2.0.0"):
        server.npm("tool", version, {"bin": "run.js", "dependencies": {"deep": "1"}})
        server.npm("other", version)
    server.npm("deep", "1.1.0", {})
    workspace.wants()
    (workspace.folder / "loop.toml").write_text('# mine\n[workspace]\nname = "tools" # so\n')
    return workspace


def test_from_adding_to_removing(tools: Workspace, server: Server) -> None:
    at = tools.folder
    added = loop("pkg", "add", "npm:tool@^1", "x=npm:other@1.0.0", cwd=at)
    assert added.returncode == 0, added.stderr
    assert '+tool = "npm:tool@^1"' in added.stdout
    text = (at / "loop.toml").read_text()
    assert text == (
        '# mine\n[workspace]\nname = "tools" # so\n\n[packages]\ntool = "npm:tool@^1"\nx = "npm:other@1.0.0"\n'
    )
    ran = loop("pkg", "run", "tool", "--", "a", "b", cwd=at)
    assert ran.stdout == "tool 1.4.0 a b\n"
    listed = json.loads(loop("pkg", "ls", "--json", cwd=at).stdout)["packages"]
    assert [(row["name"], row["version"], row["state"]) for row in listed] == [
        ("tool", "1.4.0", "installed"), ("x", "1.0.0", "installed")
    ]  # fmt: skip
    assert "loop.toml → tool 1.4.0 → deep 1.1.0" in loop("pkg", "why", "deep", cwd=at).stdout
    which = json.loads(loop("pkg", "which", "other", "--json", cwd=at).stdout)
    assert which["package"] == "x"
    assert os.path.isfile(which["command"][-1])
    outdated = loop("pkg", "outdated", "--json", cwd=at)
    assert outdated.returncode == 1
    assert json.loads(outdated.stdout)["outdated"] == [
        {"name": "tool", "locked": "1.4.0", "fits": "1.4.0", "newest": "2.0.0"},
        {"name": "x", "locked": "1.0.0", "fits": "1.0.0", "newest": "2.0.0"},
    ]
    server.npm("tool", "1.5.0", {"bin": "run.js"})
    assert loop("pkg", "run", "tool", cwd=at).stdout == "tool 1.4.0\n"  # what is locked stays
    updated = loop("pkg", "update", "tool", cwd=at)
    assert "1.4.0 → 1.5.0" in updated.stdout
    removed = loop("pkg", "remove", "tool", cwd=at)
    assert removed.returncode == 0, removed.stderr
    assert "tool" not in (at / "loop.toml").read_text().replace('"tools"', "")
    assert "npm:tool" not in (at / "loop.lock").read_text()
    assert sorted(path.name for path in _install.shims_folder(at).iterdir()) == ["other"]


def test_what_others_have_in_the_lock_stays(tools: Workspace) -> None:
    (tools.folder / "loop.lock").write_text('version = 1\n\n[others]\nsaid = "x"\n')
    assert loop("pkg", "add", "npm:tool", cwd=tools.folder).returncode == 0
    text = (tools.folder / "loop.lock").read_text()
    assert '[others]\nsaid = "x"\n' in text
    assert loop("pkg", "install", "--locked", cwd=tools.folder).returncode == 0
    assert (tools.folder / "loop.lock").read_text() == text


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("add", "nobody-knows"), 4, "nobody knows where 'nobody-knows' is"),
        (("add", "npm:missing"), 4, "there is no package missing"),
        (("add", "npm:tool@^9"), 4, "no version of tool is in ^9; the newest are 2.0.0, 1.4.0, 1.0.0"),
        (("add", "npm:deep"), 4, "deep (npm:deep) has no program"),
        (("add", "ftp:a"), 3, "there is no source 'ftp'"),
        (("run", "nothing"), 2, "no package here has a program 'nothing'"),
        (("which", "nothing"), 2, "no package here has a program 'nothing'"),
        (("why", "nothing"), 2, "nothing that is locked here needs 'nothing'"),
        (("remove", "nothing"), 2, "loop.toml asks for no package 'nothing'"),
        (("env",), 4, "nothing is installed here"),
    ],
)
def test_what_goes_wrong_is_said(args: tuple[str, ...], code: int, said: str, tools: Workspace) -> None:
    before = (tools.folder / "loop.toml").read_text()
    done = loop("pkg", *args, cwd=tools.folder)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode in (code, 4)
    assert (tools.folder / "loop.toml").read_text() == before


def test_two_with_a_program_of_one_name(tools: Workspace) -> None:
    done = loop("pkg", "add", "a=npm:tool@1", "b=npm:tool@2", cwd=tools.folder)
    assert done.returncode == 4
    assert "a and b both have a program tool" in done.stderr


def test_a_range_that_a_file_asks_for(tools: Workspace, server: Server) -> None:
    server.npm("node", "20.1.0")
    server.npm("node", "22.0.0")
    (tools.folder / ".nvmrc").write_text("v20\n")
    assert loop("pkg", "add", "npm:node", cwd=tools.folder).returncode == 0
    assert 'node = "npm:node@20"' in (tools.folder / "loop.toml").read_text()


async def test_offline_and_locked(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    workspace.wants('tool = "npm:tool"')
    refused = loop("pkg", "install", "--locked", cwd=workspace.folder)
    assert refused.returncode == 4
    assert "tool (npm:tool) is not locked" in refused.stderr
    await workspace.install()
    files, server.files = server.files, {}
    server.asked.clear()
    shutil.rmtree(workspace.packages().store.folder)  # all but the files that were fetched
    again = loop("pkg", "install", "--offline", cwd=workspace.folder)
    assert again.returncode == 0, again.stderr
    assert loop("pkg", "run", "tool", cwd=workspace.folder).stdout == "tool 1.0.0\n"
    shutil.rmtree(workspace.folder.parent / "data")
    missing = loop("pkg", "install", "--offline", cwd=workspace.folder)
    assert missing.returncode == 4
    assert "not in the store: tool-1.0.0.tgz" in missing.stderr
    assert server.asked == []
    server.files = files
    # what is there is found by `run` itself
    ran = loop("pkg", "run", "tool", cwd=workspace.folder)
    assert ran.stdout == "tool 1.0.0\n", ran.stderr


async def test_the_store_keeps_what_a_lock_names(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    workspace.wants('tool = "npm:tool"')
    await workspace.install()
    store = workspace.packages().store
    assert Store(store.blobs.folder).gc().blobs == ()
    workspace.wants()
    async with workspace.packages() as packages:
        await packages.lock()
    assert len(Store(store.blobs.folder).gc().blobs) == 1


async def test_a_download_that_broke_off_goes_on(server: Server, workspace: Workspace) -> None:
    from loop_kit.errors import PackageError
    from tests.pkg.servers import sha256

    name = f"tool_{workspace.packages_here.os}_{workspace.packages_here.arch}"
    data = os.urandom(300_000)
    server.release("acme/tool", "1.0", {name: data})
    path = f"/download/acme/tool/1.0/{name}"
    whole = server.files[path]

    def half(handler: object) -> None:
        handler.send_response(200)  # type: ignore[attr-defined]
        handler.send_header("content-length", str(len(data)))  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]
        handler.wfile.write(data[:200_000])  # type: ignore[attr-defined]

    server.files[path] = half
    workspace.wants('tool = "github:acme/tool"')
    with pytest.raises(PackageError, match="cannot be fetched"):
        await workspace.install()
    server.files[path] = whole
    await workspace.install()
    spans = [int(h["range"].removeprefix("bytes=").rstrip("-")) for h in server.headers if "range" in h]
    assert len(spans) == 1
    assert 0 < spans[0] <= 200_000
    assert f"sha256:{sha256(data)}" in list(workspace.packages().store.blobs)


def test_processes_that_are_killed_leave_nothing_half(server: Server, workspace: Workspace) -> None:
    """Killed at any time; what is there afterwards is whole, and what is not is fetched by the next."""
    for name in ("tool", "a", "b", "c"):
        files = {f"file{number}.js": "x" * 20_000 for number in range(40)}
        server.npm(name, "1.0.0", files={**files, "run.js": f"console.log('{name}')"})
    workspace.wants(*(f'{name} = "npm:{name}"' for name in ("tool", "a", "b", "c")))
    store = workspace.packages().store
    for number in range(12):
        command = subprocess.Popen((LOOP, "pkg", "install"), cwd=workspace.folder, stderr=subprocess.DEVNULL)
        time.sleep(
            0.25 + number * 0.06
        )  # somewhere on its way; wherever that is, what is checked below must hold
        command.send_signal(signal.SIGKILL)
        command.wait()
        for digest in store.blobs:
            store.blobs.verify(digest)
        for tree in (store.folder / "trees").glob("*"):
            assert len(list(tree.iterdir())) == 42
        for tool in (store.folder / "tools").glob("*"):
            assert len(list(tool.glob("node_modules/*/*"))) == 42
    done = loop("pkg", "install", cwd=workspace.folder)
    assert done.returncode == 0, done.stderr
    assert list((store.folder / "tmp").iterdir()) == []
    for name in ("tool", "a", "b", "c"):
        assert loop("pkg", "run", name, cwd=workspace.folder).stdout == f"{name}\n"


def test_processes_at_once(tools: Workspace, server: Server) -> None:
    tools.wants('tool = "npm:tool@1"', 'other = "npm:other"')
    running = [
        subprocess.Popen(
            (LOOP, "pkg", "install"), cwd=tools.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for one in running:
        _, err = one.communicate(timeout=60)
        assert one.returncode == 0, err


@pytest.fixture
async def active(server: Server, workspace: Workspace) -> Path:
    """A workspace whose program is installed, in a folder with a strange name."""
    from loop_kit.pkg import Platform

    here = Platform.here()
    program = tar({"hello": script("hello")}, executable=True)
    server.release("acme/hello", "1.0", {f"hello-{here.os}-{here.arch}.tar.gz": program})
    strange = workspace.folder.parent / "a site's $folder"
    strange.mkdir()
    workspace.folder = strange
    workspace.wants('hello = "github:acme/hello"')
    await workspace.install()
    (strange / "sub").mkdir()
    return strange


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_has_programs_by_folder(shell: str, active: Path, tmp_path: Path) -> None:
    if shell != "bash":
        subprocess.run(("tools/system_packages", shell), cwd=Path(__file__).parents[2], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    start = {
        "fish": "loop pkg activate fish | source",
        "bash": 'eval "$(loop pkg activate bash)"',
        "zsh": 'eval "$(loop pkg activate zsh)"',
    }
    prompt = "_loop_pkg_prompt" if shell == "bash" else "true"
    lines = [
        start[shell], 'cd "$SITE/sub"', prompt, "hello in", 'cd "$OUT"', prompt,
        "command -v hello; or echo none" if shell == "fish" else "command -v hello || echo none",
        'cd "$SITE"', prompt, "hello again",
    ]  # fmt: skip
    env = {
        **os.environ, "SITE": str(active), "OUT": str(elsewhere), "HOME": str(tmp_path),
        "PATH": f"{Path(LOOP).parent}:/usr/bin:/bin",
    }  # fmt: skip
    flags = {"zsh": ("-f",), "bash": ("--norc",), "fish": ("--no-config",)}
    done = subprocess.run(
        (shell, *flags[shell], "-c", "\n".join(lines)), env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout == "hello in\nnone\nhello again\n", done.stderr
    assert done.stderr == ""


def test_a_folder_that_came_from_elsewhere_brings_nothing(active: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    shutil.copytree(active, stranger)
    (stranger / "@bin").mkdir()
    (stranger / "@bin/ls").write_text("#!/bin/sh\necho owned\n")
    (stranger / "@bin/ls").chmod(0o755)
    line = 'eval "$(loop pkg activate bash)"; cd "$S"; _loop_pkg; command -v hello || echo none; ls -d @bin'
    env = {**os.environ, "S": str(stranger), "PATH": f"{Path(LOOP).parent}:/usr/bin:/bin"}
    done = subprocess.run(("bash", "--norc", "-c", line), env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "none\n@bin\n"


def test_a_script_is_one_exec(active: Path) -> None:
    """Which is what it costs; `bench/pkg.py` says how much that is."""
    shim = _install.shims_folder(active) / "hello"
    program = json.loads(loop("pkg", "which", "hello", "--json", cwd=active).stdout)["command"]
    assert shim.read_text() == f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n'


def test_env_is_for_scripts(active: Path) -> None:
    env = {**os.environ, "PATH": f"{Path(LOOP).parent}:/usr/bin:/bin"}
    done = subprocess.run(
        ("bash", "-c", 'eval "$(loop pkg env)" && hello there'),
        cwd=active,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "hello there\n"
