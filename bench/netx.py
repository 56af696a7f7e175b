"""What `loop:netx` costs beside aiohttp and PyPI's websockets, all driven from one event loop.

Requests go to `loop serve` with a pool of instances, in a process of its own; a WebSocket's echo is between two
processes that run the same library, with one message on its way and with 32.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import wasmtime
from websockets.asyncio.client import connect

sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench.http import Server
from bench.report import GUESTS, Bench

from loop_kit import testing

OURS, AIOHTTP, WEBSOCKETS = "loop:netx", "aiohttp", "websockets"
AT_ONCE = 32

Work = Callable[[], Awaitable[None]]

ECHO = {
    OURS: """
import asyncio
from loop_kit import Err, testing

async def main():
    grant = {"listen": {"echo": {"address": "127.0.0.1:0"}}}
    async with testing.client("loop:netx", grant=grant) as netx:
        listener = await netx.http_server.listen("echo", [])
        print((await listener.address()).rpartition(":")[2], flush=True)
        while True:
            socket = await (await listener.accept()).upgrade(None, [])
            try:
                while True:
                    message = await socket.receive()
                    await socket.send((message.case, message.value))
            except Err:
                pass

asyncio.run(main())
""",
    WEBSOCKETS: """
import asyncio
from websockets.asyncio.server import serve

async def echo(socket):
    async for message in socket:
        await socket.send(message)

async def main():
    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
""",
}


async def rate(work: Work, at_once: int, seconds: float) -> float:
    """How often a second the work is done, so many at once."""
    done = 0
    end = time.perf_counter() + seconds

    async def one() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await work()
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(at_once)))
    return done / (time.perf_counter() - began)


async def compare(bench: Bench, name: str, works: dict[str, Work], at_once: int, unit: str, to: str) -> None:
    """Measures the works in turns, and compares ours with the peer's."""
    samples: dict[str, list[float]] = {who: [] for who in works}
    for work in works.values():
        await rate(work, at_once, 0.3)  # warms up
    for _ in range(bench.options.rounds):
        for who, work in works.items():
            samples[who].append(await rate(work, at_once, bench.seconds))
    for who, measured in samples.items():
        bench.add(name, who, unit, measured)
    bench.compare(name, OURS, to, at_least=3)


async def fetching(bench: Bench, port: int) -> None:
    url = f"http://127.0.0.1:{port}/"
    request: dict[str, Any] = {"method": "GET", "url": url, "headers": [], "options": None}
    grant = {"allow": [f"http://127.0.0.1:{port}"]}
    async with testing.client("loop:netx", grant=grant) as netx, aiohttp.ClientSession() as session:
        fetch = netx.http_client.fetch

        async def ours() -> None:
            if (await fetch(request, None)).status != 200:
                raise RuntimeError("no answer")

        async def theirs() -> None:
            async with session.get(url) as response:
                await response.read()

        works: dict[str, Work] = {OURS: ours, AIOHTTP: theirs}
        for at_once in (1, AT_ONCE):
            await compare(bench, f"GET, {at_once} at once", works, at_once, "req/s", AIOHTTP)


async def echoing(bench: Bench, ports: dict[str, int]) -> None:
    async with AsyncExitStack() as stack:
        netx = await stack.enter_async_context(
            testing.client("loop:netx", grant={"allow": [f"ws://127.0.0.1:{ports[OURS]}"]})
        )
        mine = await netx.websocket.connect(f"ws://127.0.0.1:{ports[OURS]}/", [], [], None)
        peer = await stack.enter_async_context(
            connect(f"ws://127.0.0.1:{ports[WEBSOCKETS]}/", compression=None)
        )
        for size in (64, 64 << 10):
            message = b"x" * size
            for at_once in (1, AT_ONCE):

                async def ours(message: bytes = message, n: int = at_once) -> None:
                    for _ in range(n):
                        await mine.send(("binary", message))
                    for _ in range(n):
                        await mine.receive()

                async def theirs(message: bytes = message, n: int = at_once) -> None:
                    for _ in range(n):
                        await peer.send(message)
                    for _ in range(n):
                        await peer.recv()

                works: dict[str, Work] = {OURS: ours, WEBSOCKETS: theirs}
                name = f"echo of {size} bytes, {at_once} on their way"
                await compare(bench, name, works, 1, "turns/s", WEBSOCKETS)


def client(bench: Bench, core: int) -> None:
    """Requests."""
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        (folder / "hello.wasm").write_bytes(wasmtime.wat2wasm((GUESTS / "hello.wat").read_text()))
        program = Path(sys.executable).parent / "loop"
        command = (program, "serve", "hello.wasm", "--addr", "127.0.0.1:PORT", "--instances", "32")
        server = closing.enter_context(Server("loop serve", command, folder, core))
        asyncio.run(fetching(bench, server.port))


def websocket(bench: Bench, core: int) -> None:
    """WebSockets."""
    with ExitStack() as closing:
        ports: dict[str, Any] = {}
        for who, program in ECHO.items():
            process = closing.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program],
                    stdout=subprocess.PIPE,
                    preexec_fn=partial(os.sched_setaffinity, 0, {core}),
                )
            )
            closing.callback(process.terminate)
            if process.stdout is None:
                raise RuntimeError(f"{who} has no output")
            ports[who] = int(process.stdout.readline())
        asyncio.run(echoing(bench, ports))


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    bench = Bench("netx", seconds=2, packages=("loop-kit", "aiohttp", "websockets"))
    for group in (client, websocket):
        bench.group(group, cores[-1])
    bench.finish()


if __name__ == "__main__":
    main()
