"""What `loop:netx` costs a component beside what aiohttp and PyPI's websockets cost a program.

Requests go to `loop serve` with a pool of instances, in a process of its own; they are made in turn, and by 32 at
once. A WebSocket's echo is between two processes that run the same library, with one message on its way and with 32.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path

import aiohttp
import wasmtime
from websockets.asyncio.client import connect

sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench.http import Server
from bench.report import GUESTS, Bench

import loop_kit as loop

OURS, AIOHTTP, WEBSOCKETS = "component, loop:netx", "aiohttp", "websockets"
AT_ONCE = 32
BATCH = 50

# Does something so many times.
Work = Callable[[int], Awaitable[object]]


def guest(name: str) -> bytes:
    return bytes(wasmtime.wat2wasm((GUESTS / f"{name}.wat").read_text()))


ECHO = {
    OURS: """
import asyncio, sys
import loop_kit as loop
from bench.netx import guest

async def main():
    netx = loop.builtin("netx", listen={"echo": {"address": f"127.0.0.1:{sys.argv[1]}"}})
    async with loop.Host(cache=None) as host:
        app = await host.load(guest("echoes"), {"loop:netx": netx}, limits=loop.Limits(deadline=None))
        await app.call("serve", "echo")

asyncio.run(main())
""",
    WEBSOCKETS: """
import asyncio, sys
from websockets.asyncio.server import serve

async def echo(socket):
    async for message in socket:
        await socket.send(message)

async def main():
    async with serve(echo, "127.0.0.1", int(sys.argv[1]), compression=None):
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
""",
}


async def rate(work: Work, at_once: int, seconds: float) -> float:
    """How often a second the work is done, by so many at once."""
    done = 0
    end = time.perf_counter() + seconds

    async def one() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await work(BATCH)
            done += BATCH

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
    netx = loop.builtin("netx", allow=[f"http://127.0.0.1:{port}"])
    limits = loop.Limits(instances=AT_ONCE, deadline=None)
    async with loop.Host(cache=None) as host, aiohttp.ClientSession() as session:
        app = await host.load(guest("fetches"), {"loop:netx": netx}, limits=limits)

        async def theirs(n: int) -> None:
            for _ in range(n):
                async with session.get(url) as response:
                    if response.status != 200:
                        raise RuntimeError(f"the server said {response.status}")
                    await response.read()

        works: dict[str, Work] = {OURS: lambda n: app.call("fetch", url, n), AIOHTTP: theirs}
        for at_once in (1, AT_ONCE):
            await compare(bench, f"GET, {at_once} at once", works, at_once, "req/s", AIOHTTP)


async def echoing(bench: Bench, ports: dict[str, int]) -> None:
    url = f"ws://127.0.0.1:{ports[OURS]}/"
    netx = loop.builtin("netx", allow=[f"ws://127.0.0.1:{ports[OURS]}"])
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(loop.Host(cache=None))
        app = await host.load(guest("echoes"), {"loop:netx": netx}, limits=loop.Limits(deadline=None))
        peer = await stack.enter_async_context(
            connect(f"ws://127.0.0.1:{ports[WEBSOCKETS]}/", compression=None)
        )
        for size in (64, 64 << 10):
            message = b"x" * size
            for at_once in (1, AT_ONCE):

                async def theirs(turns: int, message: bytes = message, n: int = at_once) -> None:
                    for _ in range(turns):
                        for _ in range(n):
                            await peer.send(message)
                        for _ in range(n):
                            await peer.recv()

                # ours opens a connection for each of these, which is counted in
                works: dict[str, Work] = {
                    OURS: partial(
                        lambda n, k, size: app.call("turns", url, n, k, size), k=at_once, size=size
                    ),
                    WEBSOCKETS: theirs,
                }
                name = f"echo of {size} bytes, {at_once} on their way"
                await compare(bench, name, works, 1, "turns/s", WEBSOCKETS)


def client(bench: Bench, core: int) -> None:
    """Requests."""
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        (folder / "hello.wasm").write_bytes(guest("hello"))
        program = Path(sys.executable).parent / "loop"
        command = (program, "serve", "hello.wasm", "--addr", "127.0.0.1:PORT", "--instances", "32")
        server = closing.enter_context(Server("loop serve", command, folder, core))
        asyncio.run(fetching(bench, server.port))


def websocket(bench: Bench, core: int) -> None:
    """WebSockets."""
    with ExitStack() as closing:
        ports: dict[str, int] = {}
        for who, program in ECHO.items():
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                ports[who] = free.getsockname()[1]
            process = closing.enter_context(
                subprocess.Popen(
                    [sys.executable, "-P", "-c", program, str(ports[who])],
                    env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
                    preexec_fn=partial(os.sched_setaffinity, 0, {core}),
                )
            )
            closing.callback(process.terminate)
            listening(who, ports[who], process)
        asyncio.run(echoing(bench, ports))


def listening(who: str, port: int, process: subprocess.Popen[bytes]) -> None:
    """Waits until somebody listens there."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"{who} ended with {process.returncode}") from None
            time.sleep(0.02)


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    # clients have a core to themselves as servers have; before any thread is started, so that all are pinned
    os.sched_setaffinity(0, {cores[0]})
    bench = Bench("netx", seconds=2, packages=("loop-kit", "aiohttp", "websockets"))
    for group in (client, websocket):
        bench.group(group, cores[-1])
    bench.finish()


if __name__ == "__main__":
    main()
