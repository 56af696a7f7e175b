"""Small programs that sidecars are made of, and what is left of them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from loop_kit.placements._process import Child, Command
from loop_kit.placements._supervisor import Supervisor
from loop_kit.placements._watchdog import Watchdog
from loop_kit.workspace import Workspace

# Ready at once, and then there until it is told to end.
SHELL = 'echo "$LOOP_PROVIDER_ADDRESS" >&3; exec sleep 1000'
READY = """
import os, signal, subprocess, sys, time
def ready():
    os.write(3, (os.environ["LOOP_PROVIDER_ADDRESS"] + "\\n").encode())
"""


def started(workspace: Workspace, provider: str) -> Supervisor[Any]:
    """What keeps a provider's sidecar, or its session, running."""
    [only] = workspace._parts[provider].supervised.values()
    return only


def shell(script: str = SHELL, **rest: Any) -> Command:
    return Command("kv", ("sh", "-c", script), Path("/"), **rest)


def python(program: str, *args: str, **rest: Any) -> Command:
    return Command("kv", (sys.executable, "-Sc", READY + program, *args), Path("/"), **rest)


def killed(program: str, *args: object, after: int, delay: float) -> int:
    """Kills a Python program `delay` seconds after it has printed `after` lines, each a number; the last that is whole.

    What has no end of its line may have been printed too, but that is not known.
    """
    said = b""
    argv = [sys.executable, "-c", program, *map(str, args)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        pipe = child.stdout.fileno()
        while said.count(b"\n") < after:
            more = os.read(pipe, 1 << 16)
            assert more, "the program ended by itself"
            said += more
        select.select([], [], [], delay)  # the moment is not to be that of a line
        os.kill(child.pid, signal.SIGKILL)
        while more := os.read(pipe, 1 << 16):
            said += more
    return int(said.split(b"\n")[-2])


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    """Whether a process is no more; a zombie of somebody else's is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def children() -> set[int]:
    """Processes whose parent this is, zombies too."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@contextmanager
def nothing_is_left() -> Iterator[None]:
    """Neither processes nor descriptors; the threads that reap need a moment.

    What a failed test left is ended, so that the failure is one test's.
    """
    processes, open_before = children(), descriptors()
    try:
        yield
        until(lambda: children() <= processes)
        until(lambda: len(descriptors()) <= len(open_before))
    except BaseException:
        for pid in children() - processes:
            os.kill(pid, signal.SIGKILL)
        if Watchdog._current is not None:
            Watchdog._current._socket.close()
            Watchdog._current = None
        raise


async def words_of(program: str, **rest: Any) -> list[str]:
    """What a Python program that ends by itself wrote after it was ready."""
    child = await Child.start(python(f"ready()\n{program}", **rest))
    end = await child.stopped()
    assert end.code == 0, str(end)
    return list(end.lines)
