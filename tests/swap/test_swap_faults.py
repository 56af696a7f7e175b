"""Whatever goes wrong while a provider is exchanged: the old one serves on, and nothing is left of the new."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import _remote
from loop_kit._gate import Gate
from loop_kit.errors import LoadError, LoopError, ProviderGone
from loop_kit.manifest import load
from loop_kit.placements._lifecycle import State
from loop_kit.placements._process import Child
from loop_kit.workspace import Workspace
from tests.children import children, descriptors, is_gone, started, until
from tests.swap import places
from tests.swap.places import USES

QUICK = 'start-timeout = "2s"\nstop-timeout = "200ms"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("near", None)  # of another test's folder
    places.workspace(tmp_path)
    with (tmp_path / "loop.toml").open("a") as manifest:
        manifest.write(QUICK)
    return tmp_path


@pytest.fixture
async def space(folder: Path) -> AsyncIterator[Workspace]:
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as space:
        app = await space.load("app")
        # what a process opens once is open after a turn
        for use in (USES["component"], USES["sidecar"]):
            await space.swap("near", use)
        assert await app.call("ask", 1) == 1001
        await settled(space)
        yield space


async def settled(space: Workspace) -> None:
    while space._swaps._retiring:
        await asyncio.sleep(0.01)


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def nobody_notices(space: Workspace) -> AsyncIterator[None]:
    """The first one serves all along, no process or descriptor is left, and the next exchange succeeds."""
    app = await space.load("app")
    pid = started(space, "near").running.child.pid
    processes, opened = children(), len(descriptors())
    over = asyncio.Event()

    async def ask() -> None:
        for times in itertools.count():
            assert await app.call("ask", times) == times + 1000
            if over.is_set():
                return
            await asyncio.sleep(0.001)

    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        over.set()
    await asking
    assert started(space, "near").running.child.pid == pid
    await settled(space)
    await eventually(lambda: children() == processes)
    await eventually(lambda: len(descriptors()) <= opened)
    places.write(space.manifest.folder, 5)
    await space.swap("near", USES["sidecar"])
    assert await app.call("ask", 1) == 5001
    await eventually(lambda: is_gone(pid))


START = f"#!{sys.executable}\nimport os, signal, socket, sys, time\n"
LISTEN = """
where = os.environ["LOOP_PROVIDER_ADDRESS"]
listening = socket.socket(socket.AF_UNIX)
listening.bind(where.removeprefix("unix:"))
listening.listen()
os.write(int(os.environ["LOOP_PROVIDER_READY"]), (where + "\\n").encode())
"""
PROGRAMS = {
    "ends at once": "sys.exit(3)",
    "is killed": "os.kill(os.getpid(), signal.SIGSEGV)",
    "hangs and ignores signals": "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(1000)",
    "is elsewhere": 'os.write(3, b"tcp://127.0.0.1:1\\n")\ntime.sleep(1000)',
    "tells no end": 'os.write(3, b"x" * 60000)\ntime.sleep(1000)',
    "listens and says nothing": f"{LISTEN}\ntime.sleep(1000)",
    "hangs up": f"{LISTEN}\nlistening.accept()[0].close()\ntime.sleep(1000)",
    "ends when it is called": f"{LISTEN}\nlistening.accept()\nsys.exit(1)",
    "speaks another language": f"{LISTEN}\nlistening.accept()[0].send(b'HTTP/1.1 400\\r\\n' * 99)\ntime.sleep(1000)",
    "leaves a process behind": "if os.fork():\n    sys.exit(1)\ntime.sleep(1000)",
}


@pytest.mark.parametrize("fault", PROGRAMS)
async def test_a_program_that_does_not_begin(space: Workspace, fault: str) -> None:
    program = space.manifest.folder / "near"
    program.write_text(START + PROGRAMS[fault])
    program.chmod(0o700)
    async with nobody_notices(space):
        async with asyncio.timeout(15):
            with pytest.raises(LoadError):
                await space.swap("near", "sidecar:./near")


CODES = {
    "cannot be made": ("class Near:", "class Near:\n    def __init__(self, grant=None): 1 / 0\n"),
    "ends as it is made": ("class Near:", "class Near:\n    def __init__(self, grant=None): exit(4)\n"),
    "ends as it is read": ("import asyncio", "exit(4)"),
}
CONTRACTS = {
    "lacks a function": ("  ask: func(n: u32) -> u32;", ""),
    "is of another package": ("test:guest", "test:guests"),
    "has broken WIT": ("interface", "interfaze"),
}


@pytest.mark.parametrize("use", ["sidecar", "python"])
@pytest.mark.parametrize("fault", CODES)
async def test_code_that_fails(space: Workspace, fault: str, use: str) -> None:
    async with nobody_notices(space):
        edit(space.manifest.folder / "near.py", *CODES[fault])
        with pytest.raises(LoadError):
            await space.swap("near", USES[use])


@pytest.mark.parametrize("fault", CONTRACTS)
async def test_a_contract_that_does_not_fit(space: Workspace, fault: str) -> None:
    async with nobody_notices(space):
        wit = space.manifest.folder / "near.wit"
        before = wit.read_text()
        edit(wit, *CONTRACTS[fault])
        with pytest.raises(LoopError):
            await space.swap("near", USES["sidecar"])
        wit.write_text(before)


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process, or of one that it starts, can be written to."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


WRITES = "import asyncio\nfrom pathlib import Path\nPath(__file__).with_name('state').write_text('on')\n"


@pytest.mark.parametrize("use", ["sidecar", "python"])
async def test_a_full_disk(space: Workspace, use: str) -> None:
    async with nobody_notices(space):
        edit(space.manifest.folder / "near.py", "import asyncio\n", WRITES)
        with full_disk(), pytest.raises(LoadError, match="File too large"):
            await space.swap("near", USES[use])


STEPS: dict[str, tuple[Any, str]] = {
    "starts": (Child, "_until_ready"),
    "connects": (_remote, "connect"),
    "links": (_remote.Routes, "bind"),
    "is linked": (Gate, "prepare"),
}


@contextmanager
def reached(monkeypatch: pytest.MonkeyPatch, step: str) -> Iterator[asyncio.Event]:
    """An event that is set whenever a step begins; which then goes on."""
    owner, name = STEPS[step]
    now, loop_ = asyncio.Event(), asyncio.get_running_loop()
    original = getattr(owner, name)

    def told(*args: Any, **kwargs: Any) -> Any:
        loop_.call_soon_threadsafe(now.set)
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, told)
        yield now


@pytest.mark.parametrize("step", STEPS)
async def test_one_that_is_cancelled(space: Workspace, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    places.write(space.manifest.folder, 2)
    async with nobody_notices(space):
        with reached(monkeypatch, step) as now:
            swapping = asyncio.create_task(space.swap("near", USES["sidecar"]))
            await now.wait()
            swapping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await swapping


@pytest.mark.parametrize("step", STEPS)
async def test_a_workspace_that_is_closed_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Nothing starts any more, and whoever waits for it is told."""
    processes = children()
    async with loop.Host(cache=None) as host:
        async with Workspace(host, load(folder)) as space:
            await space.load("app")
            opened = len(descriptors())
            with reached(monkeypatch, step) as now:
                swapping = asyncio.create_task(space.swap("near", USES["sidecar"]))
                waiting = asyncio.create_task(space.swap("near", USES["python"]))
                await now.wait()
                async with asyncio.timeout(5):
                    await space.aclose()
        for task in (swapping, waiting):
            with pytest.raises(LoadError, match="closed"):
                await task
        with pytest.raises(LoadError, match="closed"):
            await space.swap("near", USES["python"])
        await eventually(lambda: children() <= processes)
        await eventually(lambda: len(descriptors()) < opened)


async def test_many_at_once(space: Workspace) -> None:
    """One after the other, in the order in which they were asked for."""
    app = await space.load("app")
    opened, processes = len(descriptors()), len(children())
    uses = [USES["python"], USES["sidecar"], USES["component"], USES["sidecar"]]
    await asyncio.gather(*(space.swap("near", use) for use in uses))
    assert await app.call("ask", 1) == 1001
    [only] = [m for m in space.members() if m.name == "near"]
    assert (only.source, only.phase, only.generation) == (USES["sidecar"], State.READY, 7)
    await settled(space)
    await eventually(lambda: len(children()) == processes)
    await eventually(lambda: len(descriptors()) <= opened)


@pytest.mark.parametrize("step", STEPS)
async def test_a_component_that_is_loaded_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It is linked to what serves in the end."""
    with (folder / "loop.toml").open("a") as manifest:
        manifest.write(places.MANIFEST.partition("[components.other]")[0].replace(".app]", ".late]"))
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as space:
        await space.load("app")
        pid = started(space, "near").running.child.pid
        places.write(folder, 2)
        with reached(monkeypatch, step) as now:
            swapping = asyncio.create_task(space.swap("near", USES["sidecar"]))
            await now.wait()
            late = await space.load("late")
        await swapping
        await eventually(lambda: is_gone(pid))
        assert await late.call("ask", 1) == 2001
        places.write(folder, 3)
        await asyncio.gather(space.swap("near", USES["python"]), space.load("other"))
        assert await late.call("ask", 1) == 3001


async def test_one_that_dies_once_it_is_linked(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    bind, prepare_ = _remote.Routes.bind, Gate.prepare
    sessions: list[Any] = []

    async def linked(routes: _remote.Routes, *args: Any, **kwargs: Any) -> Any:
        sessions.append(routes._session)
        return await bind(routes, *args, **kwargs)

    def prepare(gate: Gate, served: Any) -> Any:
        commit = prepare_(gate, served)
        [killed] = children() - before
        os.kill(killed, signal.SIGKILL)
        until(lambda: sessions[0].remote.over())
        return commit

    async with nobody_notices(space):
        before = children()
        with monkeypatch.context() as patch:
            patch.setattr(_remote.Routes, "bind", linked)
            patch.setattr(Gate, "prepare", prepare)
            with pytest.raises(LoadError, match="ended before it served"):
                await space.swap("near", USES["sidecar"])


STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nimport asyncio"


async def test_a_drain_that_never_ends(space: Workspace) -> None:
    """What does not end by itself in time is ended, also one that does not want to."""
    app = await space.load("app")
    edit(space.manifest.folder / "near.py", "import asyncio", STUBBORN)
    await space.swap("near", USES["sidecar"])
    pid = started(space, "near").running.child.pid
    begun = [asyncio.ensure_future(app.call("wait", 3_600_000)) for _ in range(3)]
    await asyncio.sleep(0.05)
    await space.swap("near", USES["component"], drain=0.05)
    for call in begun:
        with pytest.raises(ProviderGone):
            await call
    assert await app.call("ask", 1) == 1001
    await eventually(lambda: is_gone(pid))


async def test_a_provider_that_is_killed_while_it_is_exchanged(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls fail typed, and the next one is answered by what takes its place."""
    app = await space.load("app")
    pid = started(space, "near").running.child.pid
    begun = [asyncio.ensure_future(app.call("wait", 3_600_000)) for _ in range(8)]
    await asyncio.sleep(0.05)
    places.write(space.manifest.folder, 2)
    with reached(monkeypatch, "connects") as now:
        swapping = asyncio.create_task(space.swap("near", USES["sidecar"]))
        await now.wait()
        os.kill(pid, signal.SIGKILL)
        for call in begun:
            with pytest.raises(ProviderGone):
                await call
        await swapping
    assert await app.call("ask", 1) == 2001
    await settled(space)
    assert len(started(space, "near").running.child._output.last) == 0


@pytest.mark.parametrize("often", [1, 6], ids=["in back-off", "in a crash loop"])
async def test_one_that_fails_is_healed(space: Workspace, often: int) -> None:
    app = await space.load("app")
    failing = started(space, "near")
    edit(space.manifest.folder / "near.py", "import asyncio", "exit(9)")
    os.kill(failing.running.child.pid, signal.SIGKILL)
    life = failing.lifecycle
    await eventually(lambda: life.state is State.FAILED and len(life._failures) >= often)
    with pytest.raises(ProviderGone):
        await app.call("ask", 1)
    places.write(space.manifest.folder, 4)
    await space.swap("near", USES["sidecar"])
    assert await app.call("ask", 1) == 4001
    assert [m.phase for m in space.members() if m.name == "near"] == [State.READY]
    assert not started(space, "near").lifecycle.crash_loop
    await settled(space)
    assert failing._task is None


async def test_the_second_of_two_processes_that_fails(folder: Path) -> None:
    """Where each link has a process, all begin or none."""
    with (folder / "loop.toml").open("a") as manifest:
        manifest.write("isolate = true\n")
        manifest.write(places.MANIFEST.partition("[components.other]")[0].replace(".app]", ".late]"))
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as space:
        apps = [await space.load("app"), await space.load("late")]
        await space.swap("near", USES["sidecar"])
        await settled(space)
        processes, opened = children(), len(descriptors())
        old = [member.pid for member in space.members() if member.pid is not None]
        assert len(old) == 2
        edit(folder / "near.py", "import asyncio", f"open({str(folder / 'one')!r}, 'x')\nimport asyncio")
        with pytest.raises(LoadError, match="File exists"):
            await space.swap("near", USES["sidecar"])
        assert [await app.call("ask", 1) for app in apps] == [1001] * 2
        await eventually(lambda: children() == processes)
        await eventually(lambda: len(descriptors()) <= opened)
        places.write(folder, 2)
        await space.swap("near", USES["sidecar"])
        assert [await app.call("ask", 1) for app in apps] == [2001] * 2
        await eventually(lambda: all(is_gone(pid) for pid in old) and len(children()) == len(processes))
