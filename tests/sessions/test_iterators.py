"""Async iterators of a Python provider, as the streams that it gives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from loop_kit import peer, provider

STREAMS = """\
package acme:flow;

interface flow {
  numbers: func(upto: u32) -> stream<u32>;
  within: func(upto: u32) -> future<stream<string>>;
}
"""


class Flow:
    def __init__(self) -> None:
        self.tasks: set[Any] = set()
        self.asked = 0
        self.closed = 0

    async def items(self, upto: int, waits: int) -> AsyncIterator[int]:
        try:
            async with asyncio.timeout(60):  # of one task, or it raises
                for n in range(upto):
                    self.asked += 1
                    self.tasks.add(asyncio.current_task())
                    if n % waits == 0:
                        await asyncio.sleep(0)
                    yield n
        finally:
            self.closed += 1

    def numbers(self, upto: int) -> AsyncIterator[int]:
        return self.items(upto, 100)

    async def within(self, upto: int) -> Any:
        async def texts() -> AsyncIterator[str]:
            async for n in self.items(upto, 3):
                yield str(n)

        async def later() -> AsyncIterator[str]:
            await asyncio.sleep(0)
            return texts()

        return later()


@contextlib.asynccontextmanager
async def flowing(folder: Path) -> AsyncIterator[tuple[Flow, peer.Peer]]:
    (folder / "flow.wit").write_text(STREAMS)
    served = Flow()
    server = await provider.serve(served, on=f"unix:{folder}/s", interfaces="acme:flow/flow", wit=folder)
    async with await peer.connect(server.address, "acme:flow/flow", wit=folder) as session:
        yield served, session
    await server.close()


async def test_one_task_pulls_an_async_iterator(tmp_path: Path) -> None:
    async with flowing(tmp_path) as (served, session):
        assert [n async for n in await session.call("numbers", 50_000)] == list(range(50_000))
        assert len(served.tasks) == served.closed == 1
        texts = await (await session.call("within", 10_000))
        assert [t async for t in texts] == [str(n) for n in range(10_000)]
        assert len(served.tasks) == served.closed == 2


async def test_an_async_iterator_is_closed_when_its_reader_leaves(tmp_path: Path) -> None:
    async with flowing(tmp_path) as (served, session):
        stream = await session.call("numbers", 2**32 - 1)
        assert await anext(stream) == 0
        await stream.aclose()
        while not served.closed:
            await asyncio.sleep(0)
        assert served.asked < 2_000_000
