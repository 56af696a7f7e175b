"""`loop:process` from a component: in both kinds of host, and when either ends in the middle.

What a provider of it must do by itself is in its conformance cases, and what the kernel holds in `crates/native`.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from tests.capabilities.serving import HOSTS, Host, guest
from tests.children import is_gone, nothing_is_left, until
from tests.soaking import Soak

SH = {"path": "/bin/sh", "args": [["-c", "{text}"]], "exec": True, "set": {"PATH": "/usr/bin:/bin"}}


def command(script: str, **rest: Any) -> dict[str, Any]:
    return {"program": "sh", "args": ["-c", script], "env": [], "cwd": None, "timeout": None} | rest


@pytest.fixture(params=HOSTS)
def load(request: pytest.FixtureRequest, hosts: dict[str, Host]) -> Callable[..., Any]:
    def load(grant: dict[str, Any], **limits: Any) -> Callable[..., Any]:
        provider = loop.builtin("process", **grant)
        return hosts[request.param].load(guest("process"), {"loop:process": provider}, loop.Limits(**limits))

    return load


def test_a_component_runs_programs(load: Callable[..., Any]) -> None:
    call = load({"programs": {"sh": SH}})
    assert call("programs") == ["sh"]
    output = call("run", command("cat; echo no >&2; exit 3"), b"in")
    assert (output.stdout, output.stderr) == (b"in", b"no\n")
    assert (output.status.case, output.status.value) == ("exited", 3)


def test_what_is_refused_says_which_key_would_allow_it(load: Callable[..., Any]) -> None:
    call = load({"programs": {"sh": SH}})
    for asked, key in [
        (command("", program="bash"), "no key `grant.programs.bash`"),
        (command("", args=["-x"]), 'no form of `grant.programs.sh.args` takes ["-x"]'),
        (command("", env=[("LANG", "C")]), "`grant.programs.sh.env` does not have `LANG`"),
        (command("", cwd={"root": "work", "path": "."}), "no key `grant.roots.work`"),
    ]:
        with pytest.raises(loop.Err) as caught:
            call("run", asked, b"")
        code: Any = caught.value.value
        assert (code.case, code.value) == ("not-permitted", key)


def test_a_call_that_is_late_leaves_no_program(load: Callable[..., Any], tmp_path: Path) -> None:
    call = load({"programs": {"sh": SH}, "roots": {"r": {"path": tmp_path, "mode": "rw"}}}, deadline=0.3)
    with pytest.raises(loop.LoopError):
        call("run", command("echo $$ > pid; sleep 1000 & wait", cwd={"root": "r", "path": "."}), b"")
    pid = int((tmp_path / "pid").read_text())
    until(lambda: is_gone(pid))


HOST = """
import sys
import loop_kit as loop
grant = {"programs": {"sh": {"path": "/bin/sh", "args": [["-c", "{text}"]], "exec": True,
         "set": {"PATH": "/usr/bin:/bin"}}}, "roots": {"r": {"path": sys.argv[2], "mode": "rw"}}}
script = "(trap '' HUP INT TERM; sleep 1000) & echo $$ $! > pids.new; mv pids.new pids; wait"
command = {"program": "sh", "args": ["-c", script], "env": [], "cwd": {"root": "r", "path": "."}, "timeout": None}
with loop.blocking.Host() as host:
    wasm = open(sys.argv[1], "rb").read()
    app = host.load(wasm, imports={"loop:process": loop.builtin("process", **grant)})
    app.call("run", command, b"")
"""


def kill_a_host(end: signal.Signals, wasm: Path, folder: Path) -> None:
    """Ends a host whose component runs a program, and waits until nothing of that is left."""
    folder.mkdir()
    told = folder / "pids"
    with subprocess.Popen([sys.executable, "-c", HOST, str(wasm), str(folder)]) as host:
        until(lambda: told.exists() or host.poll() is not None)
        pids = [int(pid) for pid in told.read_text().split()]
        assert [is_gone(pid) for pid in pids] == [False, False]
        os.kill(host.pid, end)
        host.wait(20)
    until(lambda: all(is_gone(pid) for pid in pids))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_nothing_outlives_a_host_that_is_killed(end: signal.Signals, tmp_path: Path, soak: Soak) -> None:
    rounds = soak(1, 100)
    wasm = tmp_path / "guest.wasm"
    wasm.write_bytes(guest("process"))
    for number in range(rounds):
        kill_a_host(end, wasm, tmp_path / str(number))
    soak.note(hosts=rounds)


def run_programs(folder: Path, count: int) -> None:
    """Has a component run programs, each of which leaves one behind, and closes its host."""
    with loop.blocking.Host(cache=folder) as host:
        provider = loop.builtin("process", programs={"sh": SH})
        app = host.load(guest("process"), imports={"loop:process": provider})
        for _ in range(count):
            assert app.call("run", command("sleep 1000 & echo $!"), b"").status.case == "exited"


@pytest.mark.timeout(1800)
def test_a_closed_host_leaves_nothing(tmp_path: Path, soak: Soak) -> None:
    programs = soak(50, 5000)
    run_programs(tmp_path, 1)  # what the first host of a process opens for all of them
    with nothing_is_left():
        run_programs(tmp_path, programs)
    soak.note(programs=programs)
