"""`loop x`: in the host where the workspace runs, here where it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop_kit import shipped
from loop_kit.dev._registry import BUILT_IN, SHIPPED
from tests.cli import loop
from tests.commands.workspaces import MANIFEST, NAMES, guest
from tests.dev.test_loop import developing
from tests.running import MANIFEST as SHOP
from tests.running import Shop
from tests.test_cli_basics import complete

TABLES = MANIFEST[MANIFEST.index("[components") :]
ALL = [*BUILT_IN, *SHIPPED, *sorted(NAMES)]


def test_without_a_host_the_component_is_loaded_here(folder: Path) -> None:
    done = loop("x", "echo", "--help", "a b", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "said 2: --help|a b\n", "")
    done = loop("x", "fail", cwd=folder)
    assert (done.returncode, done.stdout) == (3, "it did not work\n")
    done = loop("x", "--json", "fail", "now", cwd=folder)
    assert done.returncode == 3
    assert json.loads(done.stdout) == {
        "command": "fail",
        "args": ["now"],
        "code": 3,
        "output": "it did not work\n",
    }
    done = loop("x", "refuse", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: refuse is not for today\n")
    assert loop("x", "trap", cwd=folder).returncode == 134
    done = loop("x", "hang", cwd=folder)
    assert (done.returncode, done.stdout) == (
        124,
        "hang of tools was ended: the call ran past its deadline of 2 s\n",
    )


def test_the_list_builds_nothing_and_says_what_is_missing(folder: Path) -> None:
    done = loop("x", "--json", cwd=folder)
    assert [one["name"] for one in json.loads(done.stdout)["commands"]] == ALL
    lines = loop("x", cwd=folder).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ALL
    assert any(
        line.startswith("echo [WORD]... ") and line.endswith("  Say what it is given.") for line in lines
    )
    (folder / "loop.toml").write_text(MANIFEST.replace('wasm"\n', 'wasm"\nbuild = "touch built"\n', 1))
    (folder / "tools.wasm").unlink()
    done = loop("x", cwd=folder)
    assert "tools cannot be loaded: component tools: there is no" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()] == ALL
    assert (done.stderr, (folder / "built").exists()) == ("", False)
    done = loop("x", "echo", cwd=folder)
    assert (done.returncode, (folder / "built").exists()) == (1, True)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("ecco",), "there is no command 'ecco' (did you mean 'echo'?)"),
        (("zzz",), "there is no command 'zzz'; there are ps, logs, "),
        (("--jsn", "echo"), "No such option '--jsn'"),
    ],
)
def test_a_typo_is_answered_by_near_names(folder: Path, args: tuple[str, ...], words: str) -> None:
    done = loop("x", *args, cwd=folder)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_commands_of_loop_are_commands_of_the_workspace(folder: Path) -> None:
    assert "\n  makes `loop x echo`, `loop x fail`, " in loop("explain", cwd=folder).stdout
    assert loop("x", "explain", cwd=folder).stdout == loop("explain", cwd=folder).stdout
    assert loop("x", "--json", "explain", cwd=folder).stdout == loop("explain", "--json", cwd=folder).stdout
    elsewhere = loop("x", "-m", str(folder), "ps", cwd=folder.parent)
    assert elsewhere.stderr.endswith("the workspace does not run; `loop up` starts it\n")
    assert loop("x", "restart", "--help", cwd=folder).stdout.startswith("Usage: loop restart ")


def test_names_are_completed_from_the_manifest_alone(folder: Path) -> None:
    (folder / "tools.wasm").unlink()  # whoever loaded it would fail
    assert complete("loop x ", folder) == ALL
    assert complete("loop x tr", folder) == ["tree", "traffic", "trap"]
    assert complete(f"loop x -m {folder} ec", folder.parent) == ["echo"]
    assert complete("loop x restart to", folder) == ["tools"]
    assert complete("loop x echo to", folder) == []
    program = "import sys, loop_kit.cli._app as a; c = a.app.get_command(None, 'x')\n"
    program += "from click.shell_completion import ShellComplete as S\n"
    program += (
        "print(len(S(a.app, {}, 'loop', '_').get_completions(['x'], 't')), 'loop_kit.host' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "3 False\n", done.stderr
    (folder / "loop.toml").write_text("not [TOML")
    assert complete("loop x t", folder) == ["tree", "traffic"]


def test_a_component_of_the_workspace_takes_the_place_of_a_shipped_command(folder: Path) -> None:
    assert loop("x", "tree", cwd=folder).stdout == f"shop  {folder}\n└─ tools  component, stopped\n"
    (folder / "loop.toml").write_text(MANIFEST + 'tree = "tools"\n')
    assert loop("x", "tree", cwd=folder).stdout == "said a tree of its own\n"
    told = json.loads(loop("x", "--json", cwd=folder).stdout)["commands"]
    assert [one["summary"] for one in told if one["name"] == "tree"] == [""]


@pytest.fixture
def shop(tmp_path: Path, tools: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "shop", tmp_path / "home", SHOP + TABLES)
    (made.folder / "tools.wasm").write_bytes(tools.read_bytes())
    with made.up():
        yield made


def test_commands_run_in_the_host_of_a_workspace_that_runs(shop: Shop) -> None:
    assert shop.member("tools")["phase"] == "stopped"
    done = shop.loop("x", "echo", "a", "b")
    assert (done.returncode, done.stdout) == (0, "said 2: a|b\n")
    assert shop.member("tools")["phase"] == "ready"  # it is the host that loaded it
    assert shop.loop("x", "fail").returncode == 3
    done = shop.loop("x", "refuse")
    assert (done.returncode, done.stderr) == (1, "error: refuse is not for today\n")
    done = shop.loop("x")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ALL

    assert shop.get() == 200
    done = shop.loop("x", "tree")
    assert done.stdout.splitlines() == [
        f"shop  {shop.folder}",
        "├─ site  component, ready",
        "│  └─ near  sidecar by unix, ready  for acme:near/near",
        "├─ tools  component, ready",
        "└─ idle  sidecar by unix, stopped  used by nobody",
    ]
    done = shop.loop("x", "tree", "--grants", "near")
    assert done.stdout == "near  sidecar by unix, ready\n"
    done = shop.loop("x", "tree", "--grants", "site")
    assert done.stdout.splitlines()[-1] == "   └─ may use acme:near by sidecar:python:near:Near"
    assert shop.loop("x", "tree", "nobody").returncode == 1
    assert shop.loop("x", "tree", "--grunts").returncode == 2

    done = shop.loop("x", "traffic")
    head, row = done.stdout.splitlines()
    assert head.split() == ["IMPORTER", "INTERFACE", "PROVIDER", "CALLS", "ERRORS", "MEAN", "IN", "ALL"]
    assert row.split()[:5] == ["site", "acme:near/near", "near", "1", "0"]
    assert shop.get() == 200  # measured from when somebody asked
    head, row = shop.loop("x", "traffic", "--where", "near").stdout.splitlines()
    assert row.split()[3] == "2"
    assert len([cell for cell in row.split() if cell in ("µs", "ms")]) >= 5, row
    assert "no component that is loaded has links" in shop.loop("x", "traffic", "tools").stdout


async def test_an_edit_is_live_at_the_next_run(tmp_path: Path, tools: Path) -> None:
    folder = tmp_path / "ws"
    folder.mkdir()
    build = 'wasm"\nbuild = "cp tools.part tools.wasm"\nsources = ["tools.part"]\n'
    app = '[components.app]\npath = "app.wasm"\n'
    (folder / "loop.toml").write_text(
        MANIFEST.replace('wasm"\n', build, 1).replace("[commands]", f"{app}[commands]")
    )
    (folder / "tools.part").write_bytes(tools.read_bytes())
    async with developing(folder) as made:
        devserver = made.looked.devserver
        assert await devserver.run("echo", []) == (0, "said 0: ")
        (folder / "tools.part").write_bytes(guest(tmp_path, "sings").read_bytes())
        await made.live("tools")
        assert await devserver.run("echo", []) == (0, "sings 0: ")
        # what the manifest names from now on is there from now on
        (folder / "loop.toml").write_text((folder / "loop.toml").read_text() + 'undeclared = "tools"\n')
        await made.live("loop.toml")
        assert "undeclared" in [one["name"] for one in await devserver.commands()]


def test_a_component_of_the_user_looks_at_its_workspace_by_link(folder: Path) -> None:
    """The shipped component, as one of the workspace: nothing of it is known but what the manifest says."""
    (folder / "mine.wasm").write_bytes(shipped("devserver/tree").path.read_bytes())
    own = '[components.mine]\npath = "mine.wasm"\n'
    linked = own + 'imports."loop:devserver" = { provider = "host" }\n'
    host = '[providers.host]\nuse = "builtin:devserver"\n'
    for declared, code, words in (
        (own, 1, "error: mine cannot be loaded: the component's imports are not satisfied"),
        (
            linked + host,
            0,
            "├─ mine  component, ready\n│  └─ host  builtin, ready  for loop:devserver/workspace",
        ),
        (linked + host + "config = { x = 1 }\n", 1, "providers.host: builtin:devserver takes no config"),
    ):
        (folder / "loop.toml").write_text(f'{declared}{TABLES}tree = "mine"\n')
        done = loop("x", "tree", cwd=folder)
        assert (done.returncode, words in done.stdout + done.stderr) == (code, True), done
    (folder / "loop.toml").write_text(linked + 'run = "run"\n' + host)
    done = loop("run", str(folder), cwd=folder)
    assert done.returncode == 4
    assert "is there where a workspace is looked after: by `loop dev`, `loop up` or `loop x`" in done.stderr


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('use = "sidecar:builtin:devserver"', 'there is no builtin "devserver" for a sidecar'),
        ('use = "builtin:devserve"', 'did you mean "devserver"?'),
        ('use = "builtin:devserver"\n[links]\n"loop:devserver" = { provider = "host", grant = { allow = ["swop"] } }',
         'did you mean "swap"?'),
    ],
)  # fmt: skip
def test_what_a_manifest_may_not_say_of_the_workspace(folder: Path, keys: str, words: str) -> None:
    (folder / "loop.toml").write_text(f"[providers.host]\n{keys}\n")
    done = loop("x", cwd=folder)
    assert (done.returncode, words in done.stderr) == (3, True), done.stderr
