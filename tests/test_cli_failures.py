"""What goes wrong with `loop` is told in a line that says what, where and, where that is known, what to do."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from wasmtime import wat2wasm

from tests.checkout import ROOT
from tests.cli import LOOP, loop
from tests.counters import SPIN
from tests.guests import API, Guest
from tests.test_cli_providers import SQUARES, SQUARES_WIT, serving
from tests.wit_types import U32

WORKSPACE = f"""\
[components.a]
path = "a.wasm"
run = "run"
imports."{API}" = {{ provider = "far" }}
[providers.far]
use = "remote:ADDRESS"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "squares.wasm").write_bytes(SQUARES.wasm())
    (tmp_path / "spin.wasm").write_bytes(Guest().exports("spin", [], None, SPIN).wasm())
    asking = (
        Guest()
        .imports("square", [U32], U32, of=API)
        .exports("ask", [U32], U32, "(call $square (local.get 0))")
    )
    (tmp_path / "a.wasm").write_bytes(asking.wasm())
    (tmp_path / "api.wit").write_text(SQUARES_WIT)
    (tmp_path / "other.wit").write_text(SQUARES_WIT.replace("p0: u32", "p0: u64"))
    (tmp_path / "broken.wit").write_text("package a:b;\n\ninterface c {\n  d: fnc();\n}\n")
    (tmp_path / "http.wasm").write_bytes(wat2wasm((ROOT / "bench" / "guests" / "hello.wat").read_text()))
    (tmp_path / "text.wasm").write_text("(module)")
    (tmp_path / "loop.toml").write_text(WORKSPACE.replace("ADDRESS", "unix:nobody.sock"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "loop.toml").write_text("[components.a]\npath = [\n")
    return tmp_path


def failing(folder: Path, code: int, *args: str) -> str:
    """The error of a command: one line, and at most a hint after it."""
    done = loop(*args, cwd=folder)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    first, *more = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert all(line.startswith("hint: ") for line in more), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("command", ["run", "serve", "call", "inspect"])
def test_files_that_are_no_components(folder: Path, command: str) -> None:
    assert "text.wasm: this is no WebAssembly" in failing(folder, 4, command, "text.wasm")
    assert "none.wasm" in failing(folder, 2, command, "none.wasm")
    assert "No such option '--frob'" in failing(folder, 2, command, "--frob", "squares.wasm")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["run", "bad"], 3, r"bad/loop\.toml:3:1: not valid TOML"),
        (["explain", "-m", "bad"], 3, r"bad/loop\.toml:3:1: not valid TOML"),
        (["explain", "-m", "none"], 3, "none: cannot be read"),
        (["explain", "b"], 3, r'loop\.toml:1:2: components: there is no component "b"'),
        (["run", "."], 4, "provider far at unix:.*/nobody.sock: cannot connect to .*: No such file"),
        (
            ["call", "unix:nobody.sock", "square(1)", "--wit", "api.wit"],
            1,
            "cannot connect to unix:nobody.sock",
        ),
        (["call", "unix:nobody.sock", "square(1)"], 2, "--wit FILE or --wit FOLDER"),
        (["call", "unix:s", "d()", "--wit", "broken.wit"], 4, r"broken\.wit:4:6: expected .*, found"),
        (["call", "http://kv:1", "square(1)"], 2, "a provider's address is unix:PATH, nats:"),
        (
            ["call", "nats://kv:sesame@kv/a", "square(1)", "--wit", "api.wit"],
            1,
            "an address of kv is `nats://kv...`: who one is does not stand in it",
        ),
        (["call", "quic://a:1", "f()", "--wit", "api.wit", "--tls-key", "api.wit"], 2, "go together"),
        (["serve", "squares.wasm"], 4, "exports no wasi:http/incoming-handler"),
        (["serve", "squares.wasm", "--interface", API], 2, "--interface goes with --on"),
        (
            ["serve", "squares.wasm", "--on", "unix:s", "--workers", "2"],
            2,
            "--workers is for HTTP, without --on",
        ),
        (["serve", "squares.wasm", "--on", "unix:no/s"], 1, "cannot listen at unix:no/s: No such file"),
        (
            ["serve", "squares.wasm", "--on", "tcp://0.0.0.0:0"],
            1,
            "can be reached from other machines: add tls",
        ),
        (["conform", "unix:nobody.sock"], 1, "cannot connect to unix:nobody.sock"),
        (["conform", "stdio:", "--", "./none"], 4, "cannot start './none': no such program"),
        (["bench", "compare", "loop.toml", "loop.toml"], 2, "loop.toml"),
        (["new", "provider", "--lang", "python", "bad"], 1, "is there already, and not empty: bad"),
    ],
)
def test_failures_say_what_and_where(folder: Path, args: list[str], code: int, said: str) -> None:
    told = failing(folder, code, *args)
    assert re.search(said, told), told
    assert "sesame" not in told


@pytest.mark.parametrize(
    "where", [["--addr", "127.0.0.1:PORT"], ["--on", "tcp://127.0.0.1:PORT"], ["--on", "ws://127.0.0.1:PORT"]]
)
def test_an_address_in_use(folder: Path, where: list[str]) -> None:
    component = "http.wasm" if where[0] == "--addr" else "squares.wasm"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        told = failing(folder, 1, "serve", component, where[0], where[1].replace("127.0.0.1:PORT", address))
    assert re.search(rf"{address}/?: Address already in use", told)
    assert "hint: another program listens there; port 0 takes any that is free" in told


def test_another_contract(folder: Path) -> None:
    with serving(str(folder / "squares.wasm"), "--on", f"unix:{folder / 's'}") as where:
        told = failing(folder, 1, "call", where, "square(1)", "--wit", "other.wit")
        assert f"{API} is offered, which has other types of square: the WIT differs" in told
        assert "hint: give both sides the same WIT" in told
        more = (
            Guest()
            .imports("cube", [U32], U32, of=API)
            .exports("ask", [U32], U32, "(call $cube (local.get 0))")
        )
        (folder / "a.wasm").write_bytes(more.wasm())
        (folder / "loop.toml").write_text(WORKSPACE.replace("ADDRESS", where))
        done = loop("run", ".", cwd=folder)
        assert done.returncode == 4
        assert f"{API}#cube: is not offered by the provider; offered: square\n" in done.stderr


@pytest.mark.parametrize(
    "args", [["call", "spin.wasm", "spin()"], ["serve", "squares.wasm", "--on", "unix:s"]]
)
def test_ctrl_c_ends_without_a_word(folder: Path, args: list[str]) -> None:
    process = subprocess.Popen(
        [LOOP, *args], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if args[0] == "serve":
        assert process.stdout.readline().startswith("squares.wasm at unix:s")
    else:
        # the guest has begun once it takes processor time that is the process's own
        stat = Path(f"/proc/{process.pid}/stat")
        while int(stat.read_text().rpartition(")")[2].split()[11]) < os.sysconf("SC_CLK_TCK"):
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (0 if args[0] == "serve" else 130, "")
