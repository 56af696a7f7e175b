"""`loop wash`: what is passed through, and what wash is given of a workspace; a program in its place tells it."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loop_kit.cli.wash import TESTED
from loop_kit.manifest import ManifestError, loads
from tests.checkout import ROOT
from tests.cli import LOOP
from tests.wash.standin import TOML, environ, standin, told, workspace

GIVEN = ("WASMCLOUD_WIT", "WASMCLOUD_COMPONENT.WIT_WORLD", "WASH_REG_URL")
TWO_WORLDS = "package acme:two@0.1.0;\nworld one {}\nworld two {}\n"


class Wash:
    """Runs `loop wash` in a folder, with the program in PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = standin(folder / "bin")

    def __call__(
        self, *args: str, cwd: Path, stdin: str = "", **env: str
    ) -> subprocess.CompletedProcess[str]:
        (self.folder / "told.json").unlink(missing_ok=True)
        path = f"{self.program.parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [LOOP, "wash", *args],
            cwd=cwd,
            env=environ(self.folder, **({"PATH": path} | env)),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def given(self, *args: str, cwd: Path, **env: str) -> dict[str, str]:
        """What the program was given of those variables that are ours to give."""
        done = self(*args, "app", cwd=cwd, **env)
        assert done.returncode == 0, done.stderr
        found = told(self.folder)["env"]
        return {name: found[name] for name in GIVEN if name in found}


@pytest.fixture
def wash(tmp_path: Path) -> Wash:
    return Wash(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return workspace(tmp_path / "ws")


# ---- what is passed through


def test_arguments_streams_and_the_exit_code_are_its_own(wash: Wash, folder: Path) -> None:
    args = ("-o", "json", "push", "a b", "--help", "--", "--manifest", "ü", "fail")
    done = wash(*args, cwd=folder, stdin="given")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out of wash\n", "words of wash\n")
    said = told(wash.folder)
    assert (said["args"], said["stdin"], said["cwd"]) == (list(args), "given", str(folder))


@pytest.mark.parametrize("args", [("--version",), ("-V",), ("--output", "json", "build"), ("help",)])
def test_options_that_are_not_ours_are_its_own(args: tuple[str, ...], wash: Wash, folder: Path) -> None:
    assert wash(*args, cwd=folder).returncode == 0
    assert told(wash.folder)["args"] == list(args)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 42), (signal.SIGTERM, 41)])
def test_signals_reach_it(number: signal.Signals, code: int, wash: Wash, folder: Path) -> None:
    with subprocess.Popen(
        [LOOP, "wash", "--wash", str(wash.program), "wait"],
        cwd=folder,
        env=environ(wash.folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        process.send_signal(number)
        assert process.wait(timeout=10) == code


def test_no_signal_is_ignored_that_was_not(wash: Wash, folder: Path) -> None:
    """What is ignored stays so in the program that a process becomes; Python ignores SIGPIPE."""
    bare = subprocess.run(
        [str(wash.program)], cwd=folder, env=environ(wash.folder), stdin=subprocess.DEVNULL, check=True
    )
    assert bare.returncode == 0
    without = told(wash.folder)["ignored"]
    wash("app", cwd=folder)
    assert told(wash.folder)["ignored"] == without


def test_a_login_for_one_registry_is_kept_back(wash: Wash, folder: Path) -> None:
    """wash would show it to whichever registry is named."""
    env = {
        "LOOP_REGISTRY": "registry.example",
        "LOOP_REGISTRY_USER": "ada",
        "LOOP_REGISTRY_PASSWORD": "s3cr3t word",
    }
    done = wash("app", cwd=folder, **env, WASH_REG_PASSWORD="its own")
    found = told(wash.folder)["env"]
    assert "s3cr3t word" not in found.values()
    assert {name for name in found if name.startswith("LOOP_REGISTRY")} == {"LOOP_REGISTRY"}
    assert found["WASH_REG_PASSWORD"] == "its own"
    shown = wash("--json", cwd=folder, **env).stdout + wash(cwd=folder, **env).stdout
    assert not {"s3cr3t word", "its own"} & set(re.findall(r"[\w ]+", done.stdout + done.stderr + shown))


# ---- what it is given


def test_it_is_given_the_world_and_the_registry(wash: Wash, folder: Path) -> None:
    whole = {
        "WASMCLOUD_WIT": str(folder / "wit"),
        "WASMCLOUD_COMPONENT.WIT_WORLD": "sums",
        "WASH_REG_URL": "registry.example/acme",
    }
    assert wash.given(cwd=folder) == whole
    deep = folder / "src" / "deep"
    deep.mkdir(parents=True)
    assert wash.given(cwd=deep) == whole
    assert wash.given("-m", str(folder), cwd=folder.parent) == whole


def test_what_is_set_stays(wash: Wash, folder: Path) -> None:
    own = {"WASH_REG_URL": "mine.example", "WASMCLOUD_WIT": "elsewhere"}
    found = wash.given(cwd=folder, **own)
    assert found == {**own, "WASMCLOUD_COMPONENT.WIT_WORLD": "sums"}
    shown = json.loads(wash("--json", cwd=folder, **own).stdout)
    assert (shown["yours"], list(shown["given"])) == (["WASH_REG_URL", "WASMCLOUD_WIT"], [GIVEN[1]])
    assert "mine.example" not in wash(cwd=folder, **own).stdout


def test_without_a_workspace_it_is_given_nothing(wash: Wash, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    assert wash.given(cwd=tmp_path / "bare") == {}
    shown = wash(cwd=tmp_path / "bare")
    assert shown.stdout == f"{wash.program}\n  no world is given: there is no loop.toml\n"


def test_bind_says_which_wit_and_world(wash: Wash, tmp_path: Path) -> None:
    toml = TOML + 'bind = { wit = "api", world = "two", typescript = "t.d.ts" }\n'
    folder = workspace(tmp_path / "ws", toml, api__two_wit=TWO_WORLDS)
    found = wash.given(cwd=folder)
    assert found["WASMCLOUD_WIT"] == str(folder / "api")
    assert found["WASMCLOUD_COMPONENT.WIT_WORLD"] == "two"


def test_the_component_is_the_one_whose_folder_it_is(wash: Wash, tmp_path: Path) -> None:
    toml = """
[components.one]
path = "one/x.wasm"
build = "cd one && make"
[components.two]
path = "two/x.wasm"
build = "cd two && make"
"""
    worlds = {
        f"{one}__wit__x_wit": f"package acme:{one}@0.1.0;\nworld {one} {{}}\n" for one in ("one", "two")
    }
    folder = workspace(tmp_path / "ws", toml, **worlds, kv__wit__kv_wit=TWO_WORLDS, kv__src__x="")
    for name in ("one", "two"):
        assert wash.given(cwd=folder / name)["WASMCLOUD_COMPONENT.WIT_WORLD"] == name
        assert wash.given("--component", name, cwd=folder)["WASMCLOUD_WIT"] == str(folder / name / "wit")
    for place, why in (
        (folder, f"the WIT in {folder} is no component's"),
        (folder / "kv/src", f"the WIT in {folder}/kv is no component's"),
    ):
        assert wash.given(cwd=place) == {}
        assert json.loads(wash("--json", cwd=place).stdout)["why"] == why
    (folder / "wit" / "sums.wit").unlink()
    (folder / "wit").rmdir()
    assert json.loads(wash("--json", cwd=folder).stdout)["why"] == "--component says whose it is: one, two"


@pytest.mark.parametrize(
    ("wit", "why"),
    [
        (TWO_WORLDS, "which world is meant? WIT has one, two: `bind.world` says it"),
        ("package acme:none@0.1.0;\n", "which world is meant? WIT has none: `bind.world` says it"),
        ("world {", "sums.wit"),
        ("world x { import loop:fsx/files@0.1.0; }", None),  # what is not there is for wash to look for
    ],
)
def test_which_world_is_not_guessed(wit: str, why: str | None, wash: Wash, folder: Path) -> None:
    (folder / "wit/sums.wit").write_text(wit)
    shown = json.loads(wash("--json", cwd=folder).stdout)
    assert shown["given"]["WASMCLOUD_WIT"] == str(folder / "wit")
    if why is None:
        assert (shown["given"][GIVEN[1]], shown["why"]) == ("x", None)
    else:
        assert why in shown["why"].replace(str(folder / "wit"), "WIT", 1)
        assert GIVEN[1] not in shown["given"]


def test_it_says_what_it_gives(wash: Wash, folder: Path) -> None:
    assert wash(cwd=folder).stdout.splitlines() == [
        str(wash.program),
        "  WASH_REG_URL                   registry.example/acme",
        f"  WASMCLOUD_WIT                  {folder}/wit",
        "  WASMCLOUD_COMPONENT.WIT_WORLD  sums",
    ]
    assert not (wash.folder / "told.json").exists(), "it was not run"


# ---- what is wrong


def test_without_wash_it_says_how_to_get_it(folder: Path, tmp_path: Path) -> None:
    env = environ(tmp_path, PATH="/nowhere")
    for args, said in (
        (["build"], "there is no `wash` in PATH"),
        (["--wash", "./no", "build"], "no program './no'"),
    ):
        done = subprocess.run(
            [LOOP, "wash", *args], cwd=folder, env=env, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (1, "")
        error, hint = done.stderr.splitlines()
        assert said in error
        assert f"`cargo install --locked wash@{TESTED}`" in hint
        assert "LOOP_WASH" in hint


def test_the_version_that_it_names_is_the_one_of_the_tests() -> None:
    assert f"\nWASH={TESTED}\n" in (ROOT / "tools/pinned").read_text()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--component", "sum", "build"], 2, "there is no component 'sum'; there are: sums"),
        (["--json", "build"], 2, "--json shows what wash is given"),
        (["-m", "nowhere", "build"], 3, "cannot be read"),
    ],
)
def test_what_does_not_do_is_said(args: list[str], code: int, said: str, wash: Wash, folder: Path) -> None:
    done = wash(*args, cwd=folder)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not (wash.folder / "told.json").exists()


def test_a_manifest_that_is_wrong_is_said(wash: Wash, folder: Path) -> None:
    (folder / "loop.toml").write_text('[workspace]\nregistry = "https://registry.example"\n')
    done = wash("build", cwd=folder)
    assert (done.returncode, "loop.toml:2:12: workspace.registry: expected a registry" in done.stderr) == (
        3,
        True,
    )


@pytest.mark.parametrize("registry", ["registry.example", "localhost:5000/a/b", "[::1]:5000/x"])
def test_a_registry_of_a_workspace(registry: str) -> None:
    assert loads(f'[workspace]\nregistry = "{registry}"').registry == registry
    assert loads("").registry is None


@pytest.mark.parametrize(
    "registry", ["", "user:word@registry.example", "registry.example/acme:1", "oci://x", "a b"]
)
def test_what_is_no_registry(registry: str) -> None:
    with pytest.raises(ManifestError, match="expected a registry"):
        loads(f'[workspace]\nregistry = "{registry}"')


def test_components_are_completed(folder: Path) -> None:
    words = ["loop", "wash", "--component", "s"]
    env: dict[str, Any] = os.environ | {
        "_LOOP_COMPLETE": "bash_complete",
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run([LOOP], env=env, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "plain,sums\n"
