"""What ends or breaks in the middle: processes that are killed, networks that fail, and everything at once.

Each round is told by its number alone; `make soak` makes rounds for as long as it is told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from loop_kit import errors, peer, provider
from tests.checkout import ROOT
from tests.children import descriptors, nothing_is_left
from tests.sessions.kv import store
from tests.soaking import Soak

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

WIT = Path(store.__file__).parent / "wit"
WAYS = ["unix", "shm", "tcp", "stdio"]
# Long enough for shared memory.
LONG = 200_000
# A host that begins calls at what its arguments name, says so, and waits to be killed. Descriptors 3 and 4 are the
# pipes of a provider that is reached by those.
HOST = """
import asyncio, sys
from tests.sessions.test_soak import host
asyncio.run(host(*sys.argv[1:]))
"""


def address(way: str, folder: Path) -> str:
    return "tcp://127.0.0.1:0" if way == "tcp" else "stdio:" if way == "stdio" else f"{way}:{folder / 's'}"


def arenas() -> int:
    """Mappings of memory that is shared with another process."""
    return Path("/proc/self/maps").read_text().count("memfd:loop-arena")


async def until(condition: Callable[[], object]) -> None:
    """Waits; errors keep what they came through until they are collected."""
    async with asyncio.timeout(30):
        while not condition():
            gc.collect()
            await asyncio.sleep(0.005)


class Flight:
    """Calls in flight over a session: one that waits, streams both ways that go on, long payloads."""

    def __init__(self, kv: peer.Peer, dice: random.Random) -> None:
        self._kv = kv
        self._dice = dice
        self.tasks: list[asyncio.Task[Any]] = []
        self._moved = asyncio.Event()
        self._steps = 0

    def _step(self) -> None:
        self._steps += 1
        self._moved.set()

    async def _numbers(self) -> AsyncIterator[int]:
        for i in range(1 << 30):
            self._step()
            yield i
            await asyncio.sleep(0)

    async def _read(self) -> None:
        async for _ in await self._kv.call("bytes", 1 << 20, self._dice.choice([10, 5000, LONG])):
            self._step()

    async def _echo(self) -> None:
        data = self._dice.randbytes(LONG)
        while True:
            assert await self._kv.call("echo", data) == data
            self._step()

    async def begin(self) -> None:
        """Begins them all; returns in the middle of them."""
        works: list[Callable[[], Awaitable[Any]]] = [
            lambda: self._kv.call("wait", "never"),
            lambda: self._kv.call("total", self._numbers()),
            self._read,
            self._echo,
        ]
        self._dice.shuffle(works)

        async def run(work: Callable[[], Awaitable[Any]]) -> Any:
            return await work()

        self.tasks = [asyncio.ensure_future(run(work)) for work in works]
        enough = self._dice.randrange(4, 60)
        while self._steps < enough:
            self._moved.clear()
            moved = asyncio.ensure_future(self._moved.wait())
            done, _ = await asyncio.wait(
                [moved, *self.tasks], timeout=30, return_when=asyncio.FIRST_COMPLETED
            )
            assert done == {moved}, done

    async def lost(self) -> None:
        """Each has failed as what has lost its provider."""
        for outcome in await asyncio.wait_for(asyncio.gather(*self.tasks, return_exceptions=True), 30):
            assert isinstance(outcome, errors.ProviderGone), outcome


async def host(url: str, seed: str) -> None:
    async with await peer.connect((3, 4) if url == "stdio:" else url, wit=WIT) as kv:
        await Flight(kv, random.Random(int(seed))).begin()
        print("ready", flush=True)
        await asyncio.Event().wait()


async def provide(way: str, folder: Path) -> tuple[asyncio.subprocess.Process, str | tuple[int, int]]:
    """A provider in a process of its own, and how it is reached."""
    reader, writer = os.pipe()
    pipes = [os.pipe(), os.pipe()] if way == "stdio" else []
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "loop_kit.serve",
            "tests.sessions.kv.store:Store",
            "--on",
            address(way, folder),
        ),
        cwd=ROOT,
        env={**os.environ, "LOOP_PROVIDER_READY": str(writer)},
        stdin=pipes[0][0] if pipes else asyncio.subprocess.DEVNULL,
        stdout=pipes[1][1] if pipes else None,
        pass_fds=[writer],
    )
    os.close(writer)
    with open(reader) as ready:
        said = (await asyncio.to_thread(ready.readline)).strip()
    if not pipes:
        return process, said
    os.close(pipes[0][0])
    os.close(pipes[1][1])
    return process, (pipes[1][0], pipes[0][1])


@contextlib.asynccontextmanager
async def serving(on: str) -> AsyncIterator[provider.Server]:
    server = await provider.serve(store.Store, on=on)
    try:
        yield server
    finally:
        await server.close()


@pytest.fixture
async def nothing_stays(tmp_path: Path) -> AsyncIterator[None]:
    """Neither processes, descriptors, mappings nor sockets in `tmp_path`."""
    # what a process has once, it has from its first session and its first child on
    async with serving(f"unix:{tmp_path / 'first'}") as server, await peer.connect(server.address, wit=WIT):
        await (await asyncio.create_subprocess_exec("true")).wait()
    with nothing_is_left():
        yield
        gc.collect()
    assert not arenas()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("nothing_stays")
@pytest.mark.parametrize("way", WAYS)
async def test_a_provider_is_killed(way: str, tmp_path: Path, soak: Soak) -> None:
    open_before = len(descriptors())
    for number in soak.rounds(2):
        dice = random.Random(number)
        # where the one before was killed its socket is left, and taken over
        process, at = await provide(way, tmp_path)
        async with await peer.connect(at, wit=WIT) as kv:
            flight = Flight(kv, dice)
            await flight.begin()
            process.kill()
            await flight.lost()
            assert isinstance(await kv.closed(), errors.ProviderGone)
        del kv, flight
        assert await process.wait() == -signal.SIGKILL
        await until(lambda: not arenas() and len(descriptors()) <= open_before)
    # one that ends as it should removes it
    process, at = await provide(way, tmp_path)
    async with await peer.connect(at, wit=WIT) as kv:
        assert await kv.call("add", 1, 2) == 3
    if way != "stdio":
        process.terminate()
    assert await asyncio.wait_for(process.wait(), 30) == 0


@pytest.mark.usefixtures("nothing_stays")
@pytest.mark.parametrize("way", WAYS)
async def test_a_host_is_killed(way: str, tmp_path: Path, soak: Soak) -> None:
    served = store.Store()
    server = None
    if way != "stdio":
        server = await provider.serve(served, on=address(way, tmp_path))
    open_before = len(descriptors())
    for number in soak.rounds(2):
        process, at = None, server.address if server else "stdio:"
        pipes: tuple[int, ...] = ()
        if server is None:
            process, reached = await provide(way, tmp_path)
            assert isinstance(reached, tuple)
            pipes = reached
        command = HOST if server else f"import os; os.dup2({pipes[0]}, 3); os.dup2({pipes[1]}, 4)\n{HOST}"
        calling = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", command, at, str(number)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=pipes,
        )
        for fd in pipes:
            os.close(fd)
        assert calling.stdout is not None
        assert await asyncio.wait_for(calling.stdout.readline(), 30) == b"ready\n"
        calling.kill()
        assert await calling.wait() == -signal.SIGKILL
        await calling.communicate()
        if process is not None:
            # its input has ended, and so does it
            assert await asyncio.wait_for(process.wait(), 30) == 0
        elif server is not None:
            await until(lambda: not server._sessions)
            # what waited was told
            assert served.gave_up == number + 1
        await until(lambda: not arenas() and len(descriptors()) <= open_before)
    if server is not None:
        async with await peer.connect(server.address, wit=WIT) as kv:
            assert await kv.call("add", 1, 2) == 3
        await server.close()


class Chaos:
    """A way to `port` on which pieces are cut as they are, come late, and end in the middle."""

    def __init__(self, port: int, dice: random.Random) -> None:
        self._port, self._dice = port, dice
        self.cuts = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def _hand_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, left: int) -> None:
        while left > 0 and (data := await source.read(self._dice.choice([1, 7, 1000, 1 << 16]))):
            sink.write(data[:left])
            left -= len(data)
            if self._dice.random() < 0.05:
                await asyncio.sleep(self._dice.random() / 500)
            await sink.drain()
        self.cuts += left <= 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        ways = [(reader, back), (there, writer)]
        with contextlib.suppress(ConnectionError):
            tasks = [
                asyncio.ensure_future(self._hand_on(*way, self._dice.randrange(100, 3_000_000)))
                for way in ways
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for end in (writer, back):
            # what breaks is reset at times, and closed at others
            if self._dice.random() < 0.5:
                end.transport.abort()
            end.close()
            with contextlib.suppress(ConnectionError):
                await end.wait_closed()


async def some_call(kv: peer.Peer, dice: random.Random) -> None:
    """A call of any kind, left in any way; an answer is the right one."""
    kind = dice.randrange(7)
    if kind == 0:
        a, b = dice.randrange(1 << 31), dice.randrange(1 << 31)
        assert await kv.call("add", a, b) == a + b
    elif kind == 1:
        data = dice.randbytes(dice.choice([0, 10, 70_000, 600_000]))
        assert await kv.call("echo", data) == data
    elif kind == 2:
        n = dice.randrange(2000)
        assert await kv.call("total", range(n)) == n * (n - 1) // 2
    elif kind == 3:
        # the reader may leave early
        upto, enough = dice.randrange(1, 5000), dice.randrange(1, 5000)
        expected = 0
        async with contextlib.aclosing(await kv.call("count", upto)) as numbers:
            async for got in numbers:
                assert got == expected
                expected += 1
                if expected == enough:
                    break
        assert expected == min(upto, enough)
    elif kind == 4:
        with pytest.raises((errors.DeadlineExceeded, errors.ProviderGone)):
            await kv.call("wait", "never", deadline=dice.random() / 50)
    elif kind == 5:

        async def wait() -> None:
            await kv.call("wait", "never")

        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(dice.random() / 100)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError, errors.ProviderGone):
            await waiting
    else:
        n = dice.randrange(400)

        async def items() -> AsyncIterator[Any]:
            for i in range(n):
                text = asyncio.get_running_loop().create_future()
                text.set_result(f"a{i}")
                yield text

        async with contextlib.aclosing(await kv.call("nested", items())) as words:
            assert [word async for word in words] == [f"A{i}" for i in range(n)]


@pytest.mark.usefixtures("nothing_stays")
async def test_a_network_fails(soak: Soak) -> None:
    answered = lost = cuts = 0
    async with serving("tcp://127.0.0.1:0") as server:
        port = int(server.address.rpartition(":")[2])
        for number in soak.rounds(20):
            dice = random.Random(number)
            chaos = Chaos(port, dice)
            async with await asyncio.start_server(chaos.connected, "127.0.0.1", 0) as network:
                url = f"tcp://127.0.0.1:{network.sockets[0].getsockname()[1]}"
                # it may break within the handshake too
                with contextlib.suppress(errors.PeerError, errors.ProviderGone):
                    async with await peer.connect(url, wit=WIT) as kv:
                        works = (some_call(kv, random.Random(dice.random())) for _ in range(12))
                        done = await asyncio.wait_for(asyncio.gather(*works, return_exceptions=True), 60)
                        gone = [one for one in done if one is not None]
                        assert all(isinstance(one, errors.ProviderGone) for one in gone), gone
                        lost += len(gone)
                        answered += len(done) - len(gone)
            cuts += chaos.cuts
            await until(lambda: not server._sessions)
    assert answered
    assert lost
    soak.note(answered=answered, lost=lost, cuts=cuts)


@pytest.mark.usefixtures("nothing_stays")
@pytest.mark.parametrize("way", ["unix", "shm", "tcp"])
async def test_everything_at_once(way: str, tmp_path: Path, soak: Soak) -> None:
    """Calls, streams, deadlines and cancelling at once, on sessions that are closed in the middle."""
    answered = lost = 0
    async with serving(address(way, tmp_path)) as server:
        for number in soak.rounds(12):
            dice = random.Random(number)
            async with await peer.connect(server.address, wit=WIT) as kv:
                works = [
                    asyncio.ensure_future(some_call(kv, random.Random(dice.random()))) for _ in range(60)
                ]
                if number % 3:
                    await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
                    for _ in range(dice.randrange(40)):
                        await asyncio.sleep(0)
                    await kv.close()
                done = await asyncio.wait_for(asyncio.gather(*works, return_exceptions=True), 60)
                gone = [one for one in done if one is not None]
                assert number % 3 or not gone, gone
                assert all(isinstance(one, errors.ProviderGone) for one in gone), gone
                lost += len(gone)
                answered += len(done) - len(gone)
            await until(lambda: not server._sessions)
            del kv, works, done, gone
            await until(lambda: not arenas())
    soak.note(answered=answered, lost=lost)
