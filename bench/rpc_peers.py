"""What `wire.py` compares with: an echo of messages by each, served from a process of its own.

    python bench/rpc_peers.py KIND PATH

serves one on a unix socket and prints `ready`. `CLIENTS` has what drives them: `client(path)` gives `send(data)` and
`receive()`, whose answers come in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Client, Listener
from time import perf_counter
from typing import Any

import grpc
import zmq

LARGEST = 64 << 20
GRPC_OPTIONS = [("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", LARGEST)]
METHOD = "Echo"
SERVICE = "bench.Echo"

# Seconds that a round took, and each of its calls.
Taken = tuple[float, list[float]]
# `run(data, window, calls)`: so many calls, so many of them in flight.
Run = Callable[[bytes, int, int], Taken]


def in_order(send: Callable[[bytes], object], receive: Callable[[], object]) -> Run:
    """Drives a connection on which answers come in the order of the calls."""

    def run(data: bytes, window: int, calls: int) -> Taken:
        each: list[float] = []
        sent: deque[float] = deque()
        begun, count = perf_counter(), 0
        while len(each) < calls:
            while count < calls and len(sent) < window:
                sent.append(perf_counter())
                send(data)
                count += 1
            receive()
            each.append(perf_counter() - sent.popleft())
        return perf_counter() - begun, each

    return run


async def _together(
    call: Callable[[bytes], Awaitable[object]], data: bytes, window: int, calls: int
) -> Taken:
    each: list[float] = []
    left = calls

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            begun = perf_counter()
            await call(data)
            each.append(perf_counter() - begun)

    begun = perf_counter()
    await asyncio.gather(*(worker() for _ in range(window)))
    return perf_counter() - begun, each


# --- multiprocessing.connection ---


def serve_multiprocessing(path: str) -> None:
    listener = Listener(path)
    _ready()

    def echo(connection: Any) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                connection.send_bytes(connection.recv_bytes())

    while True:
        threading.Thread(target=echo, args=(listener.accept(),), daemon=True).start()


def multiprocessing(path: str, closing: contextlib.ExitStack) -> Run:
    connection = closing.enter_context(Client(path))
    return in_order(connection.send_bytes, connection.recv_bytes)


# --- pyzmq ---


def serve_zmq(path: str) -> None:
    socket = zmq.Context().socket(zmq.ROUTER)
    socket.bind(f"ipc://{path}")
    _ready()
    while True:
        socket.send_multipart(socket.recv_multipart(copy=False), copy=False)


def pyzmq(path: str, closing: contextlib.ExitStack) -> Run:
    context = closing.enter_context(zmq.Context())
    socket = closing.enter_context(context.socket(zmq.DEALER))
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(f"ipc://{path}")
    return in_order(socket.send, socket.recv)


# --- asyncio streams ---


async def _echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack("<I", head)[0])
            writer.write(head + body)
            await writer.drain()
    writer.close()


def serve_asyncio(path: str) -> None:
    async def main() -> None:
        server = await asyncio.start_unix_server(_echo_stream, path, limit=4 << 20)
        _ready()
        await server.serve_forever()

    asyncio.run(main())


def asyncio_streams(path: str, closing: contextlib.ExitStack) -> Run:
    runner = closing.enter_context(asyncio.Runner())
    waiting: deque[asyncio.Future[bytes]] = deque()

    async def dial() -> tuple[asyncio.StreamWriter, asyncio.Task[None]]:
        reader, writer = await asyncio.open_unix_connection(path, limit=4 << 20)

        async def pump() -> None:
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    size = struct.unpack("<I", await reader.readexactly(4))[0]
                    waiting.popleft().set_result(await reader.readexactly(size))

        return writer, asyncio.ensure_future(pump())

    writer, pump = runner.run(dial())

    async def hang_up() -> None:
        writer.close()
        await pump

    closing.callback(lambda: runner.run(hang_up()))

    def call(data: bytes) -> Awaitable[bytes]:
        future = runner.get_loop().create_future()
        waiting.append(future)
        writer.write(struct.pack("<I", len(data)) + data)
        return future

    return lambda data, window, calls: runner.run(_together(call, data, window, calls))


# --- grpcio ---


def serve_grpc(path: str) -> None:
    server = grpc.server(ThreadPoolExecutor(8), options=GRPC_OPTIONS)
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    _ready()
    server.wait_for_termination()


def grpcio(path: str, closing: contextlib.ExitStack) -> Run:
    channel = closing.enter_context(grpc.insecure_channel(f"unix:{path}", options=GRPC_OPTIONS))
    call = channel.unary_unary(f"/{SERVICE}/{METHOD}")
    alone = in_order_of(call)
    answers: deque[Any] = deque()
    many = in_order(lambda data: answers.append(call.future(data)), lambda: answers.popleft().result())
    return lambda data, window, calls: (alone if window == 1 else many)(data, window, calls)


def in_order_of(call: Callable[[bytes], object]) -> Run:
    """Drives what blocks until it has its answer."""
    asked: deque[bytes] = deque()
    return in_order(asked.append, lambda: call(asked.popleft()))


# --- JSON-RPC, a line each way, over the pipes of a Node.js process ---

JSON_RPC = r"""
const lines = require('readline').createInterface({ input: process.stdin, crlfDelay: Infinity })
lines.on('line', (line) => {
  const call = JSON.parse(line)
  process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id: call.id, result: call.params }) + '\n')
})
"""


def json_rpc(process: subprocess.Popen[bytes]) -> Run:
    """Drives a process that runs `JSON_RPC`; what is sent is text of the bytes' length."""
    import json

    source, sink = process.stdin, process.stdout
    assert source is not None
    assert sink is not None
    number = 0

    def send(data: bytes) -> None:
        nonlocal number
        number += 1
        call = {"jsonrpc": "2.0", "id": number, "method": "echo", "params": {"x": "x" * len(data)}}
        source.write(json.dumps(call).encode() + b"\n")
        source.flush()

    return in_order(send, lambda: json.loads(sink.readline()))


def _ready() -> None:
    print("ready", flush=True)


SERVERS: dict[str, Callable[[str], None]] = {
    "multiprocessing": serve_multiprocessing,
    "pyzmq": serve_zmq,
    "asyncio": serve_asyncio,
    "grpcio": serve_grpc,
}
CLIENTS: dict[str, Callable[[str, contextlib.ExitStack], Run]] = {
    "multiprocessing": multiprocessing,
    "pyzmq": pyzmq,
    "asyncio": asyncio_streams,
    "grpcio": grpcio,
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](sys.argv[2])
