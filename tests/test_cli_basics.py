"""`loop` itself: how it starts, fails, completes, and the commands that need no component."""

import errno
import importlib
import importlib.metadata
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from loop_kit.cli import exit_codes, main
from loop_kit.cli._app import COMMANDS, app
from loop_kit.errors import LoopError, ManifestError, Problem
from tests.checkout import ROOT
from tests.cli import LOOP as PROGRAM

LOOP = [sys.executable, "-m", "loop_kit.cli"]
Loop = Callable[..., tuple[int, str, str]]


@pytest.fixture
def loop(capsys: pytest.CaptureFixture[str]) -> Loop:
    """Runs `loop` in this process: the exit code, stdout and stderr."""

    def run(*args: str) -> tuple[int, str, str]:
        code = main(args)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Adds a command `probe` that calls a function."""

    def add(function: Callable[[], Any]) -> None:
        module = types.ModuleType("loop_kit.cli.probe")
        module.probe = click.command("probe")(function)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(COMMANDS, "probe", "Probe.")

    return add


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


def loaded_by(*args: str) -> set[str]:
    code = f"import sys; from loop_kit.cli import main; main({args!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_version_starts_fast() -> None:
    def fastest(command: Sequence[str]) -> float:
        times = []
        for _ in range(10):
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        return min(times)

    bare = fastest([sys.executable, "-c", "pass"])
    assert fastest([*LOOP, "--version"]) <= max(0.080, 6 * bare)  # 80 ms, where an empty program takes 13


def test_version_and_help_load_nothing_heavy() -> None:
    heavy = {"asyncio", "loop_kit._core", "loop_kit.manifest", "subprocess"}
    assert loaded_by("--version") & (heavy | {"click"}) == set()
    loaded = loaded_by("--help")
    assert loaded & heavy == set()
    assert loaded & {f"loop_kit.cli.{name}" for name in COMMANDS} == set()


def test_version(loop: Loop) -> None:
    code, out, err = loop("--version")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"loop (\S+|\(not installed\)) \(Python 3\.\d+\.\S+\)\n", out)
    with pytest.raises(click.exceptions.Exit), app.make_context("loop", ["--version"]):
        pass


def test_version_agrees_with_the_installed_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.import_module("loop_kit.cli._version")
    package = tmp_path / "loop_kit" / "cli"
    package.mkdir(parents=True)
    monkeypatch.setattr(version, "__file__", str(package / "_version.py"))
    elsewhere = version.version_line()
    (tmp_path / "loop_kit-1.2.3.dist-info").mkdir()
    (tmp_path / "loop_kit_other-9.dist-info").mkdir()
    assert version.version_line().startswith("loop 1.2.3 (Python ")
    try:
        installed = importlib.metadata.version("loop-kit")
    except importlib.metadata.PackageNotFoundError:
        installed = "(not installed)"
    assert elsewhere.startswith(f"loop {installed} (Python ")


def test_help_teaches(loop: Loop) -> None:
    code, out, _ = loop("--help")
    assert code == 0
    for name, summary in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", out, re.MULTILINE)
        code, text, _ = loop(name, "--help")
        assert code == 0
        assert re.match(rf"Usage: loop {name} ", text)
        assert f"\n\n  {summary}\n\n" in text, "the summary in COMMANDS is the first line of the docstring"
        assert "\n  Examples:\n    " in text
        assert "loop " + name in text.partition("Examples:")[2]
    code, out, err = loop()
    assert (code, out) == (exit_codes.USAGE, "")
    assert "Commands:" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["explian"], "error: there is no command 'explian' (did you mean 'explain'?)\n"),
        (["zzz"], "error: there is no command 'zzz'\n"),
        (["explain", "--jsn"], "error: No such option"),
        (["completion", "csh"], "error: Invalid value for '{bash|zsh|fish}': 'csh' is not one of"),
    ],
)
def test_usage_errors(loop: Loop, args: list[str], message: str) -> None:
    code, out, err = loop(*args)
    assert (code, out) == (exit_codes.USAGE, "")
    assert err.startswith(message)
    assert re.search(r"^hint: `loop.* --help` shows how to use it$", err, re.MULTILINE)


class NearError(LoopError):
    hint = "come closer"


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (LoopError("it broke"), 1, ["error: it broke"]),
        (NearError("too far"), 1, ["error: too far", "hint: come closer"]),
        (
            ManifestError([Problem("f", 1, 2, "k", "bad", "fix"), Problem("f", 3, 4, "", "worse")]),
            3,
            ["error: f:1:2: k: bad (fix)", "error: f:3:4: worse"],
        ),
        (ExceptionGroup("g", [ExceptionGroup("h", [LoopError("inside")])]), 1, ["error: inside"]),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.wasm"), 1, ["error: No such file: x.wasm"]),
        (TimeoutError(), 1, ["error: TimeoutError"]),
        (
            ValueError("odd"),
            1,
            [
                "error: unexpected ValueError: odd",
                "hint: this is a fault in loop-kit; LOOP_TRACEBACK=1 shows where",
            ],
        ),
        (KeyboardInterrupt(), 130, []),
        (click.Abort(), 130, []),
        (SystemExit(7), 7, []),
        (SystemExit(None), 0, []),
        (click.exceptions.Exit(9), 9, []),
        (click.ClickException("plain"), 1, ["error: plain"]),
    ],
)
def test_errors_become_lines_and_a_code(
    loop: Loop,
    command: Callable[..., None],
    error: BaseException,
    code: int,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LOOP_TRACEBACK", raising=False)
    command(raising(error))
    got, out, err = loop("probe")
    assert (got, out, err.splitlines()) == (code, "", lines)


def test_a_traceback_on_request(
    loop: Loop, command: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_TRACEBACK", "1")
    command(raising(LoopError("it broke")))
    _, _, err = loop("probe")
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith("\nerror: it broke\n")


def test_a_reader_that_goes_away_is_no_error() -> None:
    for args in (["--help"], ["--version"], ["completion", "bash"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([*LOOP, *args], stdout=writer, stderr=subprocess.PIPE, check=False)
        os.close(writer)
        assert (done.returncode, done.stderr) == (exit_codes.BROKEN_PIPE, b"")


@pytest.mark.parametrize("no_color", [True, False])
def test_no_color(no_color: bool) -> None:
    terminal, end = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    subprocess.run([*LOOP, "zzz"], stderr=end, env=env | ({"NO_COLOR": "1"} if no_color else {}), check=False)
    os.close(end)
    assert (b"\x1b[31m" not in os.read(terminal, 4096)) == no_color
    os.close(terminal)


def test_every_exit_code_is_documented() -> None:
    table = re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "cli.md").read_text("utf-8"), re.MULTILINE)
    codes = {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
    assert sorted(map(int, table)) == sorted(codes)


def complete(line: str, folder: Path, kind: str = "plain") -> list[str]:
    words = line.split(" ")
    env = os.environ | {
        "_LOOP_COMPLETE": "bash_complete",
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(LOOP, env=env, cwd=folder, capture_output=True, text=True, check=True)
    return [item.partition(",")[2] for item in done.stdout.split() if item.startswith(f"{kind},")]


def test_completion(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").write_text(
        "[components.site]\n[components.store]\n[components.api]\nwrong = 1\n"
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "loop.toml").write_text("[components.sun]\n")
    assert complete("loop exp", tmp_path) == ["explain"]
    assert complete("loop explain s", tmp_path) == ["site", "store"]
    assert complete("loop explain -m other s", tmp_path) == ["sun"]
    assert complete("loop explain --js", tmp_path) == ["--json"]
    assert complete("loop conform --only str", tmp_path) == ["streams"]
    (tmp_path / "loop.toml").write_text("[components.site]\n[providers.store]\n[providers.sun]\n")
    assert (
        complete("loop restart s", tmp_path)
        == complete("loop swap s", tmp_path)
        == complete("loop logs site s", tmp_path)
        == ["site", "store", "sun"]
    )
    for command in ("run", "serve", "call", "inspect"):
        assert complete(f"loop {command} o", tmp_path, kind="file") == [
            "o"
        ]  # the shell's own completion of files
    (tmp_path / "loop.toml").write_text("[")
    assert complete("loop explain s", tmp_path) == []


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete"), ("zsh", "compdef"), ("fish", "complete")])
def test_completion_scripts(loop: Loop, shell: str, word: str) -> None:
    code, out, _ = loop("completion", shell)
    assert code == 0
    assert f"_LOOP_COMPLETE={shell}_complete" in out
    assert word in out


def test_bash_takes_the_script(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "loop.bash").write_text(loop("completion", "bash")[1])
    show = ". ./loop.bash && complete -p loop"
    done = subprocess.run(["bash", "-c", show], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "complete -o nosort -F _loop_completion loop\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["oci-layout", ":", "di"], ["dist", "distant"]),  # as bash breaks them
        (["oci-layout", ":"], ["dist", "distant", "other"]),
        (["oci-layout", ":", "dist/in"], ["dist/inner"]),
        (["oci-layout:di"], ["dist", "distant"]),  # where the user has taken the colon out
        (["oci-l"], ["oci-layout:"]),
        (["oci-layout", ":", "dist", "oci-layout", ":", "o"], ["other"]),
    ],
)
def test_bash_completes_behind_colons(
    words: list[str], expected: list[str], loop: Loop, tmp_path: Path
) -> None:
    for name in ("dist/inner", "distant", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "loop.bash").write_text(loop("completion", "bash")[1])
    said = " ".join(map(shlex.quote, ["loop", "copy", *words]))
    ask = f"COMP_WORDS=({said}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _loop_completion {PROGRAM}"
    script = f'. ./loop.bash; {ask}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected, done.stderr


def test_doctor_finds_what_is_there(loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "loop_kit._core", types.ModuleType("loop_kit._core"))
    for name, says in {"node": "v20.1.0", "npm": "10.0.0", "componentize-py": "componentize-py 0.1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / name).chmod(0o755)
    tool = tmp_path / "node_modules" / ".bin" / "componentize-qjs"
    tool.parent.mkdir(parents=True)
    tool.touch(0o755)
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, _ = loop("doctor", "--json")
    report = json.loads(out)
    found = {check["name"]: check["found"] for check in report["checks"]}
    assert (code, report["ok"]) == (0, True)
    assert (found["node"], found["npm"]) == ("v20.1.0", "10.0.0")
    assert found["componentize-qjs"] == str(tool)
    assert found["componentize-py"]
    (tmp_path / "node").write_text("#!/bin/sh\necho v16.0.0\n")
    (tmp_path / "npm").write_text("#!/bin/sh\nexit 1\n")
    code, out, _ = loop("doctor")
    assert code == 0, "only Python and the core are needed to run components"
    assert re.search(r"^missing  node .*version 18 or newer\); run: \w+", out, re.MULTILINE)
    assert re.search(r"^missing  npm .*; run: \w+", out, re.MULTILINE)
    assert re.search(r"^ok       compiled core ", out, re.MULTILINE)


def test_doctor_says_what_mends_it(loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "loop_kit._core", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    code, out, _ = loop("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert code == exit_codes.FAILED
    assert checks["compiled core"]["required"]
    assert checks["compiled core"]["found"] is None
    assert checks["componentize-qjs"]["fix"] == "loop pkg run componentize-qjs -- --help"
    assert all(check["fix"] for check in checks.values())


def test_doctor_asks_more_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = importlib.import_module("loop_kit.cli._checks")
    (tmp_path / "Cargo.toml").write_text('[workspace.package]\nrust-version = "1.95"\n')
    cargo = tmp_path / "cargo"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(checks, "_checkout", lambda: tmp_path)
    for version, usable in {"1.94.9": False, "1.95.0": True, "2.0.0-nightly": True}.items():
        cargo.write_text(f"#!/bin/sh\necho 'cargo {version} (abc 2026-01-01)'\n")
        cargo.chmod(0o755)
        found = {check.name: check.found for check in checks.run_checks()}
        assert (found["cargo"] is not None) == usable, version
        assert "chromium" in found
