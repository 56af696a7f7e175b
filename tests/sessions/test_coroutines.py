"""Calls that coroutines answer: several to a task, and none the wiser."""

import asyncio
import contextvars
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from loop_kit import peer, provider
from loop_kit.bench import providers
from loop_kit.errors import DeadlineExceeded

WIT = Path(providers.__file__).parent / "wit"
ECHO = "loop:bench/echo@0.1.0"
SEEN: contextvars.ContextVar[int] = contextvars.ContextVar("SEEN", default=0)


class Waiting:
    """`small(a, b)`: `a` says what to do."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.tasks: list[Any] = []

    async def small(self, a: int, b: int) -> int:
        self.tasks.append(asyncio.current_task())
        if a == 1:
            await self.go.wait()
        elif a == 2:
            before = SEEN.get()
            SEEN.set(b)
            return before
        elif a == 3:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(60)
            except TimeoutError:
                return 3
        return b

    async def echo(self, data: bytes) -> bytes:
        return data

    async def typed(self, value: Any) -> Any:
        return value


@asynccontextmanager
async def calling(served: Any, folder: Path) -> AsyncIterator[peer.Peer]:
    server = await provider.serve(served, on=f"unix:{folder}/s", interfaces=ECHO, wit=WIT)
    try:
        async with await peer.connect(server.address, ECHO, wit=WIT) as session:
            yield session
    finally:
        await server.close(0.1)


def together(session: peer.Peer, *calls: tuple[int, int]) -> list[asyncio.Future[Any]]:
    """Calls that arrive in one read."""
    return [asyncio.ensure_future(session.call("small", a, b)) for a, b in calls]


async def test_those_that_do_not_wait_share_a_task(tmp_path: Path) -> None:
    served = Waiting()
    async with calling(served, tmp_path) as session:
        assert await asyncio.gather(*together(session, *((0, n) for n in range(50)))) == list(range(50))
    assert None not in served.tasks
    assert len(set(served.tasks)) < 25


async def test_one_that_waits_holds_up_no_other(tmp_path: Path) -> None:
    served = Waiting()
    async with calling(served, tmp_path) as session:
        calls = together(session, *((n % 2, n) for n in range(100)))
        quick, waiting = calls[::2], calls[1::2]
        assert await asyncio.gather(*quick) == list(range(0, 100, 2))
        assert not any(call.done() for call in waiting)
        served.go.set()
        assert await asyncio.gather(*waiting) == list(range(1, 100, 2))


async def test_what_one_sets_in_its_context_is_nothing_to_the_next(tmp_path: Path) -> None:
    async with calling(Waiting(), tmp_path) as session:
        assert await asyncio.gather(*together(session, *((2, n) for n in range(1, 20)))) == [0] * 19


async def test_timeouts_are_those_of_one_call(tmp_path: Path) -> None:
    async with calling(Waiting(), tmp_path) as session:
        assert await asyncio.gather(*together(session, (0, 7), (3, 0), (0, 8), (3, 0))) == [7, 3, 8, 3]


async def test_a_cancelled_call_leaves_the_others_alone(tmp_path: Path) -> None:
    served = Waiting()
    async with calling(served, tmp_path) as session:
        gone, stays, quick = together(session, (1, 1), (1, 2), (0, 3))
        assert await quick == 3
        gone.cancel()
        await asyncio.wait([gone])
        assert await asyncio.gather(*together(session, (0, 4), (0, 5))) == [4, 5]
        served.go.set()
        assert await stays == 2


async def test_a_late_call_is_ended_and_its_task_takes_no_other(tmp_path: Path) -> None:
    served = Waiting()
    async with calling(served, tmp_path) as session:
        with pytest.raises(DeadlineExceeded):
            await session.call("small", 1, 1, deadline=0.02)
        late = served.tasks[0]
        assert await session.call("small", 0, 2) == 2
        assert late.cancelled() or late.done()
        assert served.tasks[1] is not late


async def test_calls_that_had_not_begun_are_given_up_with_the_session(tmp_path: Path) -> None:
    """Their coroutines are closed: Python warns of those that never ran."""
    served = Waiting()
    async with calling(served, tmp_path) as session:
        calls = together(session, *((1, n) for n in range(200)))
        await asyncio.sleep(0)
        await session.close()
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_memory_of_large_values_is_kept(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    command = [sys.executable, "-m", "loop_kit.serve", "loop_kit.bench.providers:Bench", "--on", address]
    reader, writer = os.pipe()
    with subprocess.Popen(
        command, env={**os.environ, "LOOP_PROVIDER_READY": str(writer)}, pass_fds=[writer]
    ) as server:
        os.close(writer)
        with open(reader) as ready:
            assert ready.readline().strip() == address

        def faults() -> int:
            stat = Path(f"/proc/{server.pid}/stat").read_text()
            return int(stat.rpartition(")")[2].split()[7])

        async with await peer.connect(address, ECHO, wit=WIT) as session:
            data, calls = bytes(1 << 20), 20
            for _ in range(calls):
                await session.call("echo", data)
            before = faults()
            for _ in range(calls):
                await session.call("echo", data)
            # one value alone is 256 pages
            assert (faults() - before) / calls < 128
        server.terminate()
