"""A network that takes its time.

`python -m tests.far ADDRESS MILLISECONDS` runs until it is ended, and says where it is reached as providers do.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def far(address: str, seconds: float) -> AsyncIterator[str]:
    """The address of what hands bytes on to `address`, each way so much later."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")

    async def hand_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await source.read(1 << 16):
            loop.call_later(seconds, sink.write, data)

    ends: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        ends.extend((writer, back))
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(hand_on(reader, back), hand_on(there, writer))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        try:
            yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            for end in ends:
                end.close()
            with contextlib.suppress(ConnectionError):
                await asyncio.gather(*(end.wait_closed() for end in ends))


async def main(address: str, milliseconds: str) -> None:
    async with far(address, float(milliseconds) / 1e3) as there:
        with open(int(os.environ["LOOP_PROVIDER_READY"]), "w") as ready:
            print(there, file=ready)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
