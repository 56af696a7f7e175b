"""What a call to another process costs, over unix sockets and pipes: sessions, plain wRPC, and what others do.

Every server is a process of its own. Who calls runs on the first core, servers on the same (`one core`) or on the
last (`two cores`): where nothing is pinned, a call takes several times as long from one run to the next. Rust calls
the providers in Rust, Python and Node.js; the peers in Python are called as they come, by Python.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import wasmtime

import loop_kit as loop
from loop_kit import _remote

# behind the standard library, which has an `http` too
sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench import rpc_peers
from bench.report import GUESTS, Bench

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).parent / "wire"
SMALL, MIB = 64, 1 << 20
PATIENCE = 20.0
CORES = sorted(os.sched_getaffinity(0))

BARE, SESSION, WRPC = "bare tokio echo", "session, Rust ends", "plain wRPC, official crates"
DEF, ASYNC = "Python provider, def", "Python provider, async def"
NODE, NODE_UNIX, JSON_LINES = (
    "Node.js provider, stdio",
    "Node.js provider, unix",
    "JSON-RPC lines, stdio, Node.js",
)
GUEST, HOSTED = "guest's import, host in Rust", "guest's import, host in Python"
MULTIPROCESSING = "multiprocessing"

# What the peers made where the budgets in calls a second were set: dividing by it makes ratios, which hold anywhere.
MULTIPROCESSING_KCALLS = 297

Round = tuple[float, float | None]


class Process:
    """A process that is ended with the benchmark; `ready` is the line that says it can be called."""

    def __init__(
        self, closing: ExitStack, *command: str | Path, cwd: Path = HERE, ready: str = "ready"
    ) -> None:
        pipe = subprocess.PIPE
        self.popen = subprocess.Popen([str(part) for part in command], cwd=cwd, stdin=pipe, stdout=pipe)
        closing.callback(self._end)
        if ready and self.line().strip() != ready:
            raise RuntimeError(f"{command[0]} did not begin")

    def line(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().decode()

    def ask(self, line: str) -> str:
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{line}\n".encode())
        self.popen.stdin.flush()
        return self.line()

    def pids(self) -> list[int]:
        """The process and its children."""
        children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text().split()
        return [self.popen.pid, *map(int, children)]

    def _end(self) -> None:
        for stream in (self.popen.stdin, self.popen.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        self.popen.terminate()
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


@dataclass
class Contestant:
    """Somebody who answers calls.

    Attributes:
        run: Makes so many calls of a function with so many bytes, so many at once; the seconds that all of them took,
            and the microseconds that half of them took at most, where they were made one at a time.
        server: The process that answers.
        client: The process that calls; None: this one.
    """

    name: str
    run: Callable[[str, int, int, int], Round]
    server: int
    client: int | None = None

    def place(self, apart: bool) -> None:
        """Pins both ends, on one core or on two."""
        pin(self.client or os.getpid(), CORES[0])
        pin(self.server, CORES[-1 if apart else 0])

    def cpu(self) -> float:
        """Seconds that the server has worked."""
        fields = Path(f"/proc/{self.server}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pin(pid: int, core: int) -> None:
    for task in os.listdir(f"/proc/{pid}/task"):
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task), {core})


class World:
    """All contestants, running."""

    def __init__(self, closing: ExitStack, peer: Path, copy: Path, wrpc: Path, guest: Path) -> None:
        self._closing = closing
        self.folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        python = sys.executable
        rust = Process(closing, peer, "serve", self.folder)
        official = self.folder / "wrpc"
        official.mkdir()
        plain = Process(closing, wrpc, "serve", official)
        self.all = {
            BARE: self._driven(BARE, rust, peer, "drive", f"echo:{self.folder}/echo"),
            SESSION: self._driven(SESSION, rust, peer, "drive", f"unix:{self.folder}/session"),
            WRPC: self._driven(WRPC, plain, wrpc, "drive", "official", official),
        }
        for name, cls in ((DEF, "Echo"), (ASYNC, "AsyncEcho")):
            command = (python, "-m", "loop_kit.serve", f"echo:{cls}", "--on", f"unix:{self.folder}/{cls}")
            provider = self._serving(self.folder / cls, *command)
            self.all[name] = self._driven(name, provider, peer, "drive", f"unix:{self.folder}/{cls}")
        node = self._serving(self.folder / "node", "node", "echo.mjs", f"unix:{self.folder}/node")
        self.all[NODE_UNIX] = self._driven(NODE_UNIX, node, peer, "drive", f"unix:{self.folder}/node")
        driver = Process(closing, peer, "drive", "stdio:", "node", HERE / "echo.mjs")
        self.all[NODE] = Contestant(NODE, partial(_driven, driver), driver.pids()[1], driver.popen.pid)
        lines = Process(closing, "node", "-e", rpc_peers.JSON_RPC, ready="")
        self.all[JSON_LINES] = Contestant(
            JSON_LINES, partial(_python, rpc_peers.json_rpc(lines.popen)), lines.popen.pid
        )
        for name, client in rpc_peers.CLIENTS.items():
            path = self.folder / name
            server = Process(closing, python, ROOT / "bench" / "rpc_peers.py", name, path)
            run = client(str(path), closing)
            self.all[name] = Contestant(name, partial(_python, run), server.popen.pid)
        wasm = self.folder / "echo.wasm"
        wasm.write_bytes(wasmtime.wat2wasm((GUESTS / "echo.wat").read_text()))
        self.all[GUEST] = self._driven(GUEST, rust, guest, f"unix:{self.folder}/session", wasm)
        self.copying = (
            Process(closing, copy, "serve", self.folder),
            Process(closing, copy, "drive", self.folder),
        )
        self.all[HOSTED] = self._hosted(rust, wasm)

    def _serving(self, socket: Path, *command: str | Path) -> Process:
        process = Process(self._closing, *command, ready="")
        begun = time.monotonic()
        while not socket.exists():
            if process.popen.poll() is not None or time.monotonic() - begun > PATIENCE:
                raise RuntimeError(f"{command} did not begin")
            time.sleep(0.02)
        return process

    def _driven(self, name: str, server: Process, *command: str | Path) -> Contestant:
        driver = Process(self._closing, *command)
        return Contestant(name, partial(_driven, driver), server.popen.pid, driver.popen.pid)

    def _hosted(self, rust: Process, wasm: Path) -> Contestant:
        """The component in this process, on the event loop."""
        runner = self._closing.enter_context(asyncio.Runner())

        async def load() -> Any:
            host = loop.Host(cache=None)
            session = await _remote.connect(
                host._engine, f"unix:{self.folder}/session", name="echo", handshake=True, token=None, tls=None
            )
            routes = _remote.Routes()
            await routes.move(session)
            route = await routes.bind("bench/echo", grant={}, config={}, budget=None)
            app = await host.load(wasm, {"bench:wire/echo": route}, limits=loop.Limits(deadline=60))

            async def end() -> None:
                await host.aclose()
                await routes.aclose()

            self._closing.callback(lambda: runner.run(end()))
            return app

        app = runner.run(load())

        def run(function: str, _size: int, _window: int, calls: int) -> Round:
            async def timed() -> float:
                begun = time.perf_counter()
                await app.call(f"repeat-{function}", calls)
                return time.perf_counter() - begun

            return runner.run(timed()), None

        return Contestant(HOSTED, run, rust.popen.pid)


def _driven(driver: Process, function: str, size: int, window: int, calls: int) -> Round:
    """A round by a process that takes lines."""
    answer = driver.ask(f"{function} {size} {window} {calls}")
    if not answer:
        raise RuntimeError("the driver ended")
    said = json.loads(answer)
    return said["seconds"], said.get("p50")


def _python(run: rpc_peers.Run, _function: str, size: int, window: int, calls: int) -> Round:
    """A round by a peer that Python calls; a small call is one of 64 bytes there."""
    seconds, each = run(b"\1" * (size or SMALL), window, calls)
    return seconds, statistics.median(each) * 1e6


def measure(
    bench: Bench, world: World, name: str, names: Sequence[str], work: tuple[str, int, int], *, apart: bool
) -> None:
    """Measures one workload (function, bytes, calls at once) by each, in turns.

    One at a time gives `NAME, p50` and `NAME, mean`; several give `NAME, rate` and the processor time of the server.
    """
    several = work[2] > 1
    count: dict[str, int] = {}
    for who in names:
        it = world.all[who]
        it.place(apart)
        calls, seconds = 32, 0.0
        while seconds < bench.seconds / 4:
            calls *= 4
            seconds, _ = it.run(*work, calls)
        count[who] = int(calls * bench.seconds / seconds)
    rounds: dict[str, list[tuple[Round, float]]] = {who: [] for who in names}
    for _ in range(bench.options.rounds):
        for who in names:
            it = world.all[who]
            it.place(apart)  # threads may have come since
            worked = it.cpu()
            done = it.run(*work, count[who])
            rounds[who].append((done, it.cpu() - worked))
    for who in names:
        took = [seconds / count[who] for (seconds, _), _ in rounds[who]]
        if several:
            bench.add(f"{name}, rate", who, "call/s", [1 / t for t in took])
            bench.add(f"{name}, server's cpu", who, "us", [s / count[who] * 1e6 for _, s in rounds[who]])
        else:
            bench.add(f"{name}, mean", who, "us", [t * 1e6 for t in took])
            if None not in (halves := [p50 for (_, p50), _ in rounds[who]]):
                bench.add(f"{name}, p50", who, "us", [p50 for p50 in halves if p50 is not None])


ALONE = (BARE, SESSION, WRPC, DEF, ASYNC, MULTIPROCESSING, "pyzmq", "grpcio", "asyncio", GUEST, HOSTED)


def one_core(bench: Bench, world: World) -> None:
    """Small calls one at a time, on one core."""
    _small(bench, world, "small call, one core", apart=False, floor=1.5)


def two_cores(bench: Bench, world: World) -> None:
    """Small calls one at a time, across two cores."""
    _small(bench, world, "small call, two cores", apart=True, floor=1.3)


def _small(bench: Bench, world: World, name: str, *, apart: bool, floor: float) -> None:
    measure(bench, world, name, ALONE, ("add", 0, 1), apart=apart)
    bench.compare(f"{name}, p50", SESSION, BARE, at_most=floor)
    bench.compare(f"{name}, p50", SESSION, WRPC, at_most=1 / 2)
    bench.compare(f"{name}, p50", DEF, MULTIPROCESSING, at_most=1.5)
    bench.compare(f"{name}, mean", GUEST, SESSION, at_most=1.3)
    bench.compare(f"{name}, mean", HOSTED, SESSION)


def in_flight(bench: Bench, world: World) -> None:
    """Small calls, 32 in flight, across two cores."""
    names = (SESSION, WRPC, DEF, ASYNC, MULTIPROCESSING, "pyzmq", "grpcio", "asyncio")
    _in_flight(bench, world, "small call, 32 in flight", names, apart=True)


def in_flight_one_core(bench: Bench, world: World) -> None:
    """Small calls, 32 in flight, on one core."""
    names = (SESSION, WRPC, DEF, ASYNC, MULTIPROCESSING)
    _in_flight(bench, world, "small call, 32 in flight, one core", names, apart=False)


def _in_flight(bench: Bench, world: World, name: str, names: Sequence[str], *, apart: bool) -> None:
    measure(bench, world, name, names, ("add", 0, 32), apart=apart)
    name += ", rate"
    bench.compare(name, SESSION, WRPC, at_least=15)
    for who, kcalls in ((DEF, 500), (ASYNC, 150)):
        note = f"{kcalls} k where it makes {MULTIPROCESSING_KCALLS} k"
        at_least = kcalls / MULTIPROCESSING_KCALLS
        bench.compare(name, who, MULTIPROCESSING, at_least=at_least, note=note)
    for peer in (MULTIPROCESSING, "pyzmq", "grpcio"):
        if peer in names:
            bench.compare(name, DEF, peer, at_least=1)


def node(bench: Bench, world: World) -> None:
    """A provider in Node.js, 32 small calls in flight, across two cores."""
    name = "small call, 32 in flight"
    measure(bench, world, name, (NODE, NODE_UNIX, JSON_LINES), ("add", 0, 32), apart=True)
    bench.compare(f"{name}, rate", NODE, JSON_LINES, at_least=1 / 2)
    bench.compare(f"{name}, rate", NODE_UNIX, JSON_LINES)


def large(bench: Bench, world: World) -> None:
    """1 MiB each way, one call at a time, across two cores and on one."""
    for place, apart in (("two cores", True), ("one core", False)):
        name = f"1 MiB each way, {place}"
        measure(
            bench, world, name, (BARE, SESSION, WRPC, DEF, MULTIPROCESSING), ("echo", MIB, 1), apart=apart
        )
        bench.compare(f"{name}, p50", SESSION, BARE, at_most=1.5)
        bench.compare(f"{name}, p50", DEF, BARE, at_most=3)
        bench.compare(f"{name}, p50", SESSION, WRPC)


def shared_memory(bench: Bench, world: World) -> None:
    """16 MiB to a provider by shared memory, across two cores."""
    name, two = "16 MiB to the provider", "two copies"
    size = 16 * MIB
    rows = []
    for _ in range(bench.options.rounds):
        for end, core in ((world.copying[0], CORES[-1]), (world.copying[1], CORES[0])):
            pin(end.popen.pid, core)
        rows.append(json.loads(world.copying[1].ask(str(size))))
    for who in (two, "unix take", "shm take"):
        bench.add(name, who, "us", [row[who] for row in rows])
    bench.compare(name, "shm take", two, at_most=1)
    bench.compare(name, "unix take", "shm take", at_least=3)


def built(*arguments: str, name: str) -> Path:
    """Builds a Rust program; where it is."""
    command = ("cargo", "build", "--release", "--locked", "--message-format=json", *arguments)
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        said = json.loads(line)
        if said.get("executable") and said["target"]["name"] == name:
            return Path(said["executable"])
    raise RuntimeError(f"cargo built no {name}")


def main() -> None:
    bench = Bench("wire", seconds=0.5, packages=("loop-kit", "wasmtime", "pyzmq", "grpcio"))
    bench.versions["node"] = subprocess.check_output(["node", "--version"], text=True).strip()
    peer = built("-p", "loop-wire", "--example", "peer", name="peer")
    copy = built("-p", "loop-wire", "--example", "copy", name="copy")
    interop = ("--manifest-path", "tests/interop/Cargo.toml", "--bin", "wrpc-bench")
    wrpc = built(*interop, name="wrpc-bench")
    # with the core, so that both are built of the same features
    guest = built("-p", "loop-py", "-p", "loop-remote", "--example", "guest", name="guest")
    with ExitStack() as closing:
        world = World(closing, peer, copy, wrpc, guest)
        groups = (one_core, two_cores, in_flight, in_flight_one_core, node, large, shared_memory)
        for group in groups:
            bench.group(group, world)
    bench.finish()


if __name__ == "__main__":
    main()
