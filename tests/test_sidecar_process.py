"""A sidecar's process: what it is given, how it becomes ready, how it ends, and that nothing of it stays."""

import asyncio
import json
import logging
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loop_kit import _core
from loop_kit.errors import LoadError
from loop_kit.placements._process import INHERITED, Child, Command
from loop_kit.placements._watchdog import _SCRIPT, Watchdog
from tests.children import READY, is_gone, nothing_is_left, python, shell, until, words_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Watchdog, "_current", None)  # sidecars of other tests may have one
    with nothing_is_left():
        yield


async def test_it_is_given_only_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP_TEST_SECRET", "hunter2")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("TZ", "UTC")
    (text,) = await words_of(
        "import json; print(json.dumps(dict(os.environ)), file=sys.stderr)", env={"MINE": "1", "HOME": "/h"}
    )
    env = json.loads(text)
    ours = {"LOOP_PROVIDER_ADDRESS", "LOOP_PROVIDER_READY", "LOOP_PROVIDER_GATEWAY"}
    # LC_CTYPE may be set by Python itself
    assert set(env) - {"LC_CTYPE"} == (
        {k for k in INHERITED if k in os.environ} | {"MINE", "HOME"} | ours
    ) - {"LC_CTYPE"}
    assert (env["MINE"], env["HOME"], env["TZ"]) == ("1", "/h", "UTC")
    assert "hunter2" not in text


async def test_it_has_no_descriptor_of_the_host() -> None:
    with socket.socket() as leak, open(os.devnull) as other:
        os.set_inheritable(leak.fileno(), True)
        high = os.dup2(other.fileno(), 200, inheritable=True)
        try:
            lines = await words_of(
                "print(sorted(map(int, os.listdir('/proc/self/fd'))), file=sys.stderr)\n"
                "print(os.readlink('/proc/self/fd/0'), file=sys.stderr)"
            )
        finally:
            os.close(high)
    assert lines == ["[0, 1, 2, 3, 4]", "/dev/null"]  # 4 is what lists them


# What a supervisor may leave ignored: also 32, of which the C library says that nobody can set it.
RT_SIGACTION = {"x86_64": 13, "aarch64": 134}
HOST_THAT_IGNORES = """
import asyncio, ctypes, signal, sys
from pathlib import Path
from loop_kit.placements._process import Child, Command
ignore = (ctypes.c_ulong * 8)(1)
for number in (signal.SIGUSR2, 32, 33, 64):
    assert ctypes.CDLL(None).syscall(int(sys.argv[1]), number, ignore, None, 8) == 0
async def main():
    argv = "sh", "-c", "echo $LOOP_PROVIDER_ADDRESS >&3; exec sleep 1000"
    child = await Child.start(Command("kv", argv, Path("/")))
    print(Path(f"/proc/{child.pid}/status").read_text())
    await child.stop()
asyncio.run(main())
"""


def test_no_signal_is_ignored_or_held_back() -> None:
    argv = [sys.executable, "-c", HOST_THAT_IGNORES, str(RT_SIGACTION[platform.machine()])]
    status = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout
    masks = dict(line.split(":\t") for line in status.splitlines() if line)
    assert int(masks["SigBlk"] + masks["SigIgn"], 16) == 0


async def test_it_has_a_session_of_its_own() -> None:
    child = await Child.start(shell())
    assert os.getpgid(child.pid) == os.getsid(child.pid) == child.pid
    await child.stop()


async def test_it_runs_in_the_folder_and_with_the_arguments_given(tmp_path: Path) -> None:
    odd = ["", "a b", "'\"$x", "é\n", "{address}"]
    script = "ready()\nprint(ascii([os.getcwd(), *sys.argv[1:]]), file=sys.stderr)"
    argv = (sys.executable, "-Sc", READY + script, *odd)
    child = await Child.start(Command("kv", argv, tmp_path))
    end = await child.stopped()
    assert end.lines == (ascii([str(tmp_path), *odd[:-1], child.address]),)


async def test_a_socket_of_its_own_in_a_private_folder() -> None:
    child = await Child.start(shell())
    path = Path(child.address.removeprefix("unix:"))
    assert path.parent.stat().st_mode & 0o777 == path.parent.parent.stat().st_mode & 0o777 == 0o700
    assert child.token is None
    other = await Child.start(shell())
    assert other.address != child.address
    await asyncio.gather(child.stop(), other.stop())
    assert not path.parent.exists()
    assert not path.parent.parent.exists()


LISTEN = """
import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
os.write(3, f"tcp://127.0.0.1:{s.getsockname()[1]}\\nmore".encode())
print(len(os.environ["LOOP_PROVIDER_TOKEN"]), os.environ["LOOP_PROVIDER_ADDRESS"], file=sys.stderr)
s.accept()
"""


async def test_it_tells_where_it_listens() -> None:
    child = await Child.start(python(LISTEN, transport="tcp"))
    port = int(child.address.removeprefix("tcp://127.0.0.1:"))
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    assert (await child.stopped()).lines == ("32 tcp://127.0.0.1:0",)
    assert child.token is not None
    writer.close()


async def test_pipes() -> None:
    child = await Child.start(shell("cat; echo end >&2", transport="stdio"))
    reader, writer = child.take_pipes()
    with pytest.raises(RuntimeError, match="kv has no pipes"):
        child.take_pipes()
    assert child.address == "stdio:"
    os.write(writer, b"\0\n\xff")
    assert os.read(reader, 9) == b"\0\n\xff"
    os.close(writer)
    end = await child.stopped()
    assert os.read(reader, 9) == b""
    os.close(reader)
    assert (end.reason, end.lines) == ("exited with 0", ("end",))


async def test_pipes_that_nobody_took_are_closed() -> None:
    child = await Child.start(shell("echo oh >&2; exit 3", transport="stdio"))
    await child.stopped()
    with pytest.raises(LoadError, match=r"^sidecar kv: exited with 3\n  oh$"):
        child.take_pipes()


@pytest.mark.parametrize("transport", ["tcp", "unix", "quic"])
async def test_a_program_that_knows_nothing_of_us(transport: str) -> None:
    script = """
import socket
kind = socket.SOCK_DGRAM if sys.argv[1] == "quic" else socket.SOCK_STREAM
time.sleep(0.05)
if sys.argv[1] == "unix":
    s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[2])
else:
    s = socket.socket(type=kind); host, port = sys.argv[2].split(":"); s.bind((host, int(port)))
if kind == socket.SOCK_STREAM:
    s.listen()
time.sleep(1000)
"""
    words = "{path}" if transport == "unix" else "{host}:{port}"
    child = await Child.start(python(script, transport, words, transport=transport, handshake=False))
    assert child.address.startswith(f"{transport}:")
    assert not child.address.endswith(":0")
    await child.stop()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo oh >&2; exit 3", "sidecar kv: exited with 3 before it was ready\n  oh"),
        ("kill -9 $$", "sidecar kv: killed by SIGKILL before it was ready"),
        ("exec 3>&-; sleep 1000", "was not ready within 0.2 s"),
        ("sleep 1000", "sidecar kv: was not ready within 0.2 s"),
        ("echo tcp://127.0.0.1:80 >&3; sleep 1000", "said that it listens on 'tcp://127.0.0.1:80', not unix"),
        ("echo '\033[31m' >&3; sleep 1000", r"said that it listens on '\x1b[31m', not unix"),
    ],
)
async def test_what_does_not_become_ready(script: str, expected: str) -> None:
    limit = 0.2 if "0.2" in expected else 20
    with pytest.raises(LoadError) as caught:
        await Child.start(shell(script, start_timeout=limit))
    assert expected in str(caught.value)


async def test_an_address_without_an_end_is_refused() -> None:
    with pytest.raises(LoadError, match=r"was not ready|listens on"):
        await Child.start(shell("yes | tr -d '\\n' >&3; sleep 1000", start_timeout=1))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"argv": ("no-such-program",)}, "sidecar kv: cannot start 'no-such-program': no such program"),
        ({"argv": ("/etc/passwd",)}, "cannot start '/etc/passwd': no such program"),
        ({"cwd": Path("/nowhere")}, "cannot start 'sh': No such file or directory"),
    ],
)
async def test_what_cannot_be_started(change: dict[str, Any], expected: str) -> None:
    values: dict[str, Any] = {"name": "kv", "argv": ("sh",), "cwd": Path("/")} | change
    with pytest.raises(LoadError) as caught:
        await Child.start(Command(**values))
    assert expected in str(caught.value)


async def test_a_text_file_is_no_program(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("\x7fno")
    program.chmod(0o755)
    with pytest.raises(LoadError, match="Exec format error"):
        await Child.start(Command("kv", (str(program),), tmp_path))


async def test_it_may_end_by_itself_when_it_is_asked_to() -> None:
    child = await Child.start(shell("trap 'echo bye >&2; exit 0' TERM; echo $LOOP_PROVIDER_ADDRESS >&3;"
                                    " while :; do sleep 0.01; done", stop_timeout=20))  # fmt: skip
    end = await child.stop()
    assert (end.reason, end.lines[-1]) == ("exited with 0", "bye")  # the shell may tell of `sleep` too
    assert await child.stop() == end == child.exit


async def test_it_is_killed_when_it_does_not_end() -> None:
    child = await Child.start(shell("trap '' TERM; echo $LOOP_PROVIDER_ADDRESS >&3; while :; do sleep 1; done",
                                    stop_timeout=0.1))  # fmt: skip
    assert (await child.stop()).reason == "killed by SIGKILL"


async def test_what_it_started_ends_with_it() -> None:
    script = """
grand = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
print(grand.pid, file=sys.stderr, flush=True)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
ready()
time.sleep(1000)
"""
    child = await Child.start(python(script))
    end = await child.stop()
    assert end.code == 0
    until(lambda: is_gone(int(end.lines[0])))


async def test_why_it_was_killed_is_known() -> None:
    child = await Child.start(shell("echo last words >&2; echo $LOOP_PROVIDER_ADDRESS >&3; exec sleep 1000"))
    waiting = asyncio.create_task(child.stopped())
    os.kill(child.pid, signal.SIGKILL)
    end = await waiting
    assert (end.code, end.signal, end.reason) == (None, 9, "killed by SIGKILL")
    assert str(end) == "killed by SIGKILL\n  last words"
    child.kill()  # harmless


async def test_cancelled_before_it_is_ready() -> None:
    starting = asyncio.create_task(Child.start(shell("sleep 1000", start_timeout=100)))
    await asyncio.sleep(0.05)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_lines_become_records(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1, "loop_kit.provider.kv")
    said = {"level": "warn", "target": "db", "message": "slow", "fields": {"ms": 7}}
    await words_of(f"print('plain\\x1b[0m'); print({json.dumps(said)!r}, file=sys.stderr)")
    records = [r for r in caplog.records if r.name == "loop_kit.provider.kv"]
    found = {(r.levelno, r.getMessage(), vars(r)["target"]) for r in records}
    assert found == {(logging.INFO, "plain\\x1b[0m", ""), (logging.WARNING, "slow ms=7", "db")}


async def test_hundreds_of_rounds() -> None:
    for _ in range(40):
        started = await asyncio.gather(*(Child.start(shell()) for _ in range(5)))
        await asyncio.gather(*(child.stop() for child in started))


async def test_a_watchdog_that_somebody_killed_is_replaced() -> None:
    first = await Child.start(shell())
    os.kill(first._watchdog.pid, signal.SIGKILL)
    until(lambda: first._watchdog._process.exit() is not None)
    second = await Child.start(shell())
    assert second._watchdog is not first._watchdog
    assert first._watchdog.folder.exists()
    folders = first._watchdog.folder, second._watchdog.folder
    await asyncio.gather(first.stop(), second.stop())
    assert not any(folder.exists() for folder in folders)


async def test_a_fork_starts_none() -> None:
    child = await Child.start(shell())
    pid = os.fork()
    if pid == 0:
        try:
            _core.Child.spawn("/bin/true", ["true"], [], "/", [])
        except Exception as e:
            os._exit(0 if type(e).__name__ == "ForkError" else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    await child.stop()


HOST = """
import asyncio, os, sys
from pathlib import Path
from loop_kit.placements._process import Child, Command
SCRIPT = "sleep 1000 & echo $! >&2; trap '' TERM; echo $LOOP_PROVIDER_ADDRESS >&3; exec sleep 1000"
async def main():
    started = [await Child.start(Command("kv", ("sh", "-c", SCRIPT), Path("/"))) for _ in range(3)]
    for child in started:
        while not child._output.last:
            await asyncio.sleep(0.01)
        Path(child.address[5:]).touch()
        print(child.pid, *child._output.last)
    print(started[0]._watchdog.pid)
    print(started[0]._watchdog.folder, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    exec(sys.argv[1])
asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["SIGKILL", "os._exit(0)", "sys.exit()", "os.abort()", "os.kill(0, 15)"])
def test_nothing_survives_the_host(end: str) -> None:
    argv = [sys.executable, "-c", HOST, end]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
    ) as host:
        assert host.stdout is not None
        lines = [host.stdout.readline().decode() for _ in range(5)]
        pids = [int(word) for line in lines[:4] for word in line.split()]
        folder = Path(lines[4].strip())
        assert len(pids) == 7
        assert not any(map(is_gone, pids))
        assert len(list(folder.glob("*/socket"))) == 3
        if end == "SIGKILL":
            host.kill()
        host.communicate()
    until(lambda: all(map(is_gone, pids)))
    until(lambda: not folder.exists())


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_watchdog_in_every_shell(shell: str, tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    (folder / "c").mkdir(parents=True)
    groups = [subprocess.Popen(["sleep", "1000"], process_group=0) for _ in range(3)]
    gone, kept, other = (group.pid for group in groups)
    told = f"+ {gone}\n+ {kept}\n- {other}\n+ {other}\n- {kept}\n- {kept}\n? {kept}\n"
    argv = [shell, "-c", _SCRIPT, "loop-watchdog", str(folder)]
    subprocess.run(argv, input=told, text=True, check=True)
    until(lambda: is_gone(gone) and is_gone(other))
    assert not is_gone(kept)
    assert not folder.exists()
    for group in groups:
        group.kill()
        group.wait()


async def test_without_a_shell_there_is_no_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loop_kit.placements._watchdog._SHELL", "/no/sh")
    with pytest.raises(
        LoadError, match=r"the watchdog, /no/sh, cannot be started: No such file or directory$"
    ):
        await Child.start(shell())


async def test_a_stop_that_is_cancelled_as_the_process_ends() -> None:
    """Whoever cancelled it may wait for its end, and must be told."""
    child = await Child.start(shell())
    stopping = asyncio.create_task(child.stop())
    child._ended.add_done_callback(lambda _: stopping.cancel())
    with pytest.raises(asyncio.CancelledError):
        await stopping
