"""What exchanging a provider costs: those who call meanwhile, whoever waits for it, and every call that may be moved.

Two thousand calls a second go over six transports, with streams and resources open, while one provider after the other
is exchanged for one in another placement; not one may fail, be lost or be asked twice.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import loop_kit as loop
from loop_kit import manifest
from loop_kit._gate import Gate
from loop_kit.workspace import Workspace

# behind the standard library, which has an `http` too
sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench.report import Bench, Timer
from tests.checkout import ROOT
from tests.guests import Guest
from tests.swap.lanes import LANES, PLACES, Lane, counted, elsewhere, write
from tests.swap.load import Load, Swapper, Told, percentiles
from tests.wit_types import U32, U64

WHO = "loop-kit"
RATE = 2_000
HOST = "bench:guest/host"
RANDOM = "loop:core/insecure-random@0.1.0"
GOAL_MS = 20.0
DIRECT, GATE = "directly", "through a gate"


async def loaded(seconds: int) -> Told:
    """So long without exchanges, and twice as long with one each second."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        book = write(folder, LANES)
        async with (
            elsewhere(folder, "a") as first,
            elsewhere(folder, "b") as second,
            loop.Host(cache=None) as host,
            Workspace(host, manifest.load(folder)) as space,
        ):
            apps = {lane: await space.load(lane.name) for lane in LANES}
            traffic = Load(apps, rate=RATE, seed=1)
            swapper = Swapper(space, LANES, [first, second], seed=1)
            running = asyncio.create_task(traffic.run())
            await asyncio.sleep(seconds)
            start, traffic.swapping = time.perf_counter(), True
            for number in range(2 * seconds):
                await asyncio.sleep(start + number - time.perf_counter())
                await swapper.swap(traffic.told)
            traffic.end()
            await running
        told, found = traffic.told, counted(book)
        wrong = [*told.failed, *found.lost(told.calls), *found.duplicated()]
        if wrong:
            raise RuntimeError(
                f"{len(wrong)} of {told.calls} calls failed, were lost or asked twice: {wrong[:5]}"
            )
        return told


def load(bench: Bench) -> None:
    """Calls while providers are exchanged."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    calls = 0
    for _ in range(1 if bench.quick else bench.options.rounds):
        told = asyncio.run(loaded(int(bench.seconds)))
        calls += told.calls
        for who, samples in (("before", told.before), ("during exchanges", told.during)):
            for part, ms in percentiles(samples).items():
                times[part, who].append(ms)
    for (part, who), samples in times.items():
        bench.add(f"a call, {part}", who, "ms", samples)
    bench.add("calls that failed, were lost or asked twice", f"of {calls}", "calls", [0])
    bench.compare("a call, p99", "during exchanges", "before", at_most=3)


async def paired(rounds: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of each exchange of one placement for another."""
    found = defaultdict(list)
    lane = Lane("ask", "ask", "unix")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write(folder, [lane])
        async with (
            elsewhere(folder, "a") as far,
            loop.Host(cache=None) as host,
            Workspace(host, manifest.load(folder)) as space,
        ):
            app = await space.load(lane.name)
            for _, (before, after) in itertools.product(range(rounds), itertools.product(PLACES, PLACES)):
                await space.swap(lane.provider, lane.use(before, far, 0))
                await app.call("ask", 1)
                start = time.perf_counter()
                await space.swap(lane.provider, lane.use(after, far, 0))
                found[before, after].append((time.perf_counter() - start) * 1e3)
    return found


def pairs(bench: Bench) -> None:
    """Until another provider serves; one with a process of its own is started meanwhile."""
    found = asyncio.run(paired(2 if bench.quick else bench.options.rounds))
    for (before, after), samples in sorted(found.items(), key=lambda item: item[0][::-1]):
        bench.add(f"{before} to {after}", WHO, "ms", samples)


BUILD = """
import { writeFileSync } from 'node:fs';
import { componentize } from 'componentize-qjs';
const [folder] = process.argv.slice(2);
for (const [name, word] of [['a', 'hello'], ['b', 'good day']]) {
  const jsSource = `export function greet(name) { return '${word}, ' + name; }`;
  const { component } = await componentize({ witPath: `${folder}/wit`, jsSource });
  writeFileSync(`${folder}/${name}.wasm`, component);
}
"""
WORLD = "package bench:js;\n\nworld app {\n  export greet: func(name: string) -> string;\n}\n"


async def replaced(folder: Path, rounds: int) -> list[float]:
    """Milliseconds until what was built serves, its compiled code being in the cache."""
    codes = [(folder / f"{name}.wasm").read_bytes() for name in "ab"]
    found = []
    (folder / "app.wasm").write_bytes(codes[0])
    (folder / "loop.toml").write_text('[components.app]\npath = "app.wasm"\n')
    async with loop.Host(cache=folder / "cache") as host, Workspace(host, manifest.load(folder)) as space:
        await host.load(codes[1], {}, wasi=loop.Wasi())
        app = await space.load("app")
        for number in range(1, rounds + 1):
            (folder / "app.wasm").write_bytes(codes[number % 2])
            start = time.perf_counter()
            assert await space.replace("app")
            found.append((time.perf_counter() - start) * 1e3)
            assert await app.call("greet", "you") == f"{('hello', 'good day')[number % 2]}, you"
    return found


def javascript(bench: Bench) -> None:
    """From a component in JavaScript that was built until it serves."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text).resolve()
        (folder / "wit").mkdir()
        (folder / "wit/world.wit").write_text(WORLD)
        (folder / "build.mjs").write_text(BUILD)
        (folder / "node_modules").symlink_to(ROOT / "node_modules")
        subprocess.run(["node", "build.mjs", str(folder)], cwd=folder, check=True)
        samples = asyncio.run(replaced(folder, 20))
    bench.add("replace a component in JavaScript", WHO, "ms", samples)
    bench.add("replace a component in JavaScript", "goal", "ms", [GOAL_MS] * len(samples))
    bench.compare("replace a component in JavaScript", WHO, "goal", at_most=1, note="20 ms")


class Provider:
    def next(self) -> int:
        return 1


class AsyncProvider:
    async def next(self) -> int:
        return 1


def repeating(of: str, name: str, result: Any) -> bytes:
    """`repeat(n)` calls the import so often."""
    guest = Guest().imports(name, [], result, of=of)
    body = f"""(local $i i32)
      (loop $more (drop (call ${name}))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $i) (local.get 0))))
      (local.get $i)"""
    return guest.exports("repeat", [U32], U32, body).wasm()


def gates(bench: Bench) -> None:
    """An import that does nothing."""
    with asyncio.Runner() as runner:

        async def opened() -> tuple[AsyncExitStack, dict[str, dict[str, Timer]]]:
            stack = AsyncExitStack()
            host = await stack.enter_async_context(loop.Host(cache=None))
            wasm = Guest().exports("next", [], U32, "(i32.const 1)", of=HOST).wasm()
            served = await host.load(wasm, {}, limits=loop.Limits(instances=1))
            name = "insecure-u64"
            mine, native = repeating(HOST, "next", U32), repeating(RANDOM, name, U64)
            core = loop.builtin("core")
            what = {
                "def": (mine, HOST, Provider()),
                "async def": (mine, HOST, AsyncProvider()),
                "native": (native, RANDOM, core),
                "component": (mine, HOST, served),
            }
            made: dict[str, dict[str, Timer]] = {}
            for kind, (wasm, interface, provider) in what.items():
                made[kind] = {}
                for who, linked in ((DIRECT, provider), (GATE, Gate(host._attach(), provider))):
                    app = await host.load(wasm, {interface: linked}, limits=loop.Limits(instances=1))
                    made[kind][who] = timer(runner, app)
            return stack, made

        stack, made = runner.run(opened())
        for kind, timers in made.items():
            bench.measure(f"import, {kind}", timers)
            bench.compare(f"import, {kind}", GATE, DIRECT)
        runner.run(stack.aclose())


def timer(runner: asyncio.Runner, app: loop.App) -> Timer:
    async def work(n: int) -> float:
        start = time.perf_counter()
        assert await app.call("repeat", n) == n
        return time.perf_counter() - start

    return lambda n: runner.run(work(n))


def main() -> None:
    bench = Bench("exchanging providers", seconds=20, packages=("loop-kit",))
    for group in (load, pairs, javascript):
        bench.group(group)
    bench.seconds = 0.05 if bench.quick else 0.2
    bench.group(gates)
    bench.finish()


if __name__ == "__main__":
    main()
