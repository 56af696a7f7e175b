"""What hosting a component costs: calls, imports, values, bytes, streams, instances, loading.

loop-kit, wasmtime-py and (where it can do the same) extism run the same guests in one process, pinned to one
core.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter
from timeit import Timer as Timeit
from typing import Any

import extism
import wasmtime
from wasmtime import component as wasmtime_component

import loop_kit as loop

# behind the standard library, which has an `http` too
sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench.report import GUESTS, Bench, Timer

KIB, MIB = 1 << 10, 1 << 20
HOST = "bench:guest/host"
OURS, PEER, PLUGIN = "loop-kit", "wasmtime-py", "extism"
COPY, SWITCH = "bytes(bytearray)", "asyncio task switch"

# Budgets given in absolute time hold for the machine of the reference figures, where these took so long.
# Dividing by them makes ratios, which hold anywhere.
SWITCH_US, INSTANTIATE_US, COPY_GB_S = 1.8, 10.25, 35.0


class Provider:
    """Answers the guests' imports, by plain functions."""

    payload = os.urandom(MIB)

    def add(self, a: int, b: int) -> int:
        return a + b

    def sink(self, data: bytes) -> int:
        return len(data)

    def source(self, size: int) -> bytes:
        return self.payload


class AsyncProvider(Provider):
    """The same, by a coroutine that never has to wait."""

    async def add(self, a: int, b: int) -> int:  # type: ignore[override]
        return a + b


class Waiter(Provider):
    """The same, by a coroutine that waits one turn of the event loop."""

    async def add(self, a: int, b: int) -> int:  # type: ignore[override]
        await asyncio.sleep(0)
        return a + b


class World:
    """The guests, loaded by everyone."""

    def __init__(self, closing: ExitStack) -> None:
        self.values, self.waits, self.streams, self.plugin_wasm = (
            bytes(wasmtime.wat2wasm((GUESTS / f"{name}.wat").read_text()))
            for name in ("values", "waits", "streams", "plugin")
        )
        self.host = closing.enter_context(loop.blocking.Host(cache=None))
        self.runner = closing.enter_context(asyncio.Runner())
        self._async_hosts = AsyncExitStack()
        self.async_host = self.runner.run(self._async_hosts.enter_async_context(loop.Host(cache=None)))
        closing.callback(lambda: self.runner.run(self._async_hosts.aclose()))

        self.engine = wasmtime.Engine()
        self.component = wasmtime_component.Component(self.engine, self.values)
        self.linker = wasmtime_component.Linker(self.engine)
        provider = Provider()
        with self.linker.root() as root, root.add_instance(HOST) as interface:
            for name in ("add", "sink", "source"):
                interface.add_func(name, _without_store(getattr(provider, name)))
        self.store = wasmtime.Store(self.engine)
        self.instance = self.linker.instantiate(self.store, self.component)

    def ours(self, instances: loop.limits.Instances = 1) -> Any:
        """The exports of a loop-kit component, called blocking."""
        limits = loop.Limits(instances=instances)
        return self.host.load(self.values, {HOST: Provider()}, limits=limits).exports[""]

    def awaited(self, wasm: bytes, provider: object | None, instances: loop.limits.Instances = 1) -> Any:
        """The exports of a loop-kit component, called by `await`."""
        imports = {} if provider is None else {HOST: provider}
        loading = self.async_host.load(wasm, imports, limits=loop.Limits(instances=instances))
        return self.runner.run(loading).exports[""]

    def theirs(self, name: str) -> Callable[..., Any]:
        """An export of wasmtime-py's instance."""
        function = self.instance.get_func(self.store, name)
        assert function is not None, name
        return partial(function, self.store)

    def plugin(self) -> extism.Plugin:
        @extism.host_fn(  # type: ignore[untyped-decorator]
            name="add",
            namespace="extism:host/user",
            signature=([extism.ValType.I64, extism.ValType.I64], [extism.ValType.I64]),
        )
        def add(_plugin: Any, params: Any, results: Any) -> None:
            results[0].value = params[0].value + params[1].value

        return extism.Plugin(self.plugin_wasm, functions=[add], wasi=False)

    def timer(self, work: Callable[[int], Awaitable[object]]) -> Timer:
        """Times what `work` awaits n times, without the start of the event loop."""

        async def timed(n: int) -> float:
            start = perf_counter()
            await work(n)
            return perf_counter() - start

        return lambda n: self.runner.run(timed(n))

    def each(self, function: Callable[..., Awaitable[object]], *args: Any) -> Timer:
        """Times awaiting `function` n times, one after the other."""

        async def work(n: int) -> None:
            for _ in range(n):
                await function(*args)

        return self.timer(work)

    def together(self, function: Callable[[], Awaitable[object]], tasks: int) -> Timer:
        """Times awaiting `function` n times, by so many tasks at once."""

        async def share(n: int) -> None:
            for _ in range(n):
                await function()

        async def work(n: int) -> None:
            each, more = divmod(n, tasks)
            await asyncio.gather(*(share(each + (i < more)) for i in range(tasks)))

        return self.timer(work)

    def switch(self) -> Timer:
        return self.each(partial(asyncio.sleep, 0))


def _without_store(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _store, *args: function(*args)


def _each(function: Callable[..., object], *args: Any) -> Timer:
    """Times calling `function` n times."""
    return Timeit(partial(function, *args)).timeit


def _per(count: int, timer: Timer) -> Timer:
    """Times one of the `count` things that each turn of `timer` does."""
    return lambda n: timer(n) / count


def _times(count: int, timer: Timer) -> Timer:
    """Times `count` turns of `timer` as one."""
    return lambda n: timer(n * count)


def calls(bench: Bench, world: World) -> None:
    """Calls of a function that does nothing, and instances."""
    plugin = world.plugin()
    fresh = partial(world.linker.instantiate, component=world.component)
    bench.measure(
        "no-op call",
        {
            f"{OURS}, pooled": _each(world.ours(1).noop),
            f"{OURS}, shared": _each(world.ours("shared").noop),
            f"{OURS}, per call": _each(world.ours("per-call").noop),
            PEER: _each(world.theirs("noop")),
            PLUGIN: _each(plugin.call, "noop", b""),
            "Python function": _each(lambda: None),
            f"{PEER}, new instance": _each(lambda: fresh(wasmtime.Store(world.engine))),
        },
    )
    for instances in ("pooled", "shared"):
        bench.compare("no-op call", f"{OURS}, {instances}", PEER, at_most=1 / 8)
    bench.compare("no-op call", f"{OURS}, pooled", PLUGIN)
    # What an instance costs is what a call costs more when it makes one.
    per_call, pooled = (bench.samples("no-op call", f"{OURS}, {i}") for i in ("per call", "pooled"))
    bench.add(
        "instantiate",
        f"{OURS}: per call - pooled",
        "us",
        [a - b for a, b in zip(per_call, pooled, strict=True)],
    )
    bench.compare(
        "instantiate",
        f"{OURS}: per call - pooled",
        f"{PEER}, new instance",
        of="no-op call",
        at_most=5 / INSTANTIATE_US,
        note=f"5 us where it takes {INSTANTIATE_US}",
    )


def imports(bench: Bench, world: World) -> None:
    """Imports answered by Python, of a guest that calls them in a loop."""
    n = 1000
    plugin = world.plugin()
    name = "import, (u32, u32) -> u32"
    waiting, blocked = "async func, awaited", "async func, guest blocks"
    by_coroutine = world.awaited(world.waits, AsyncProvider())
    timers = {
        "def": _each(world.ours().repeat_add, n),
        "def, host awaits": world.each(world.awaited(world.values, Provider()).repeat_add, n),
        "async def": world.each(world.awaited(world.values, AsyncProvider()).repeat_add, n),
        waiting: world.each(by_coroutine.await_add, n),
        blocked: world.each(by_coroutine.repeat_add, n),
        "async def, sleep(0)": world.each(world.awaited(world.values, Waiter()).repeat_add, n),
        "async func, sleep(0)": world.each(world.awaited(world.waits, Waiter()).await_add, n),
        PEER: _each(world.theirs("repeat-add"), n),
        PLUGIN: _each(plugin.call, "repeat_add", n.to_bytes(8, "little")),
    }
    bench.measure(name, {who: _per(n, timer) for who, timer in timers.items()} | {SWITCH: world.switch()})
    bench.compare(name, "def", PEER, at_most=1 / 15)
    bench.compare(name, "def", PLUGIN)
    for who, budget in (("async def", 1), (waiting, 2), (blocked, 2)):
        note = f"{budget} us where it takes {SWITCH_US}"
        bench.compare(name, who, SWITCH, at_most=budget / SWITCH_US, note=note)
    for who in ("async def, sleep(0)", "async func, sleep(0)"):
        bench.compare(name, who, SWITCH)


def values(bench: Bench, world: World) -> None:
    """Typed values, to the guest and back."""

    def theirs(i: int, name: str) -> wasmtime_component.Record:
        made = wasmtime_component.Record()
        made.name, made.id = name, i  # type: ignore[attr-defined]
        return made

    ours = world.ours()
    items = [ours.Item(f"item {i}", i) for i in range(1000)]
    peer_items = [theirs(i, f"item {i}") for i in range(1000)]
    shape = ours.Shape
    shapes = [(shape.Number(i), shape.Text(f"text {i}"), shape.Nothing())[i % 3] for i in range(1000)]
    # wasmtime-py tells the cases by the types of their payloads
    peer_shapes = [(i, f"text {i}", None)[i % 3] for i in range(1000)]
    assert ours.echo_records(items) == items
    assert ours.echo_variants(shapes) == shapes
    assert world.theirs("echo-records")(peer_items) == peer_items
    assert world.theirs("echo-variants")(peer_shapes) == peer_shapes
    for name, export, sent, peer_sent in (
        ("record {string, u32}", "echo-record", items[7], peer_items[7]),
        ("list of 1000 records", "echo-records", items, peer_items),
        ("list of 1000 variants", "echo-variants", shapes, peer_shapes),
    ):
        mine = getattr(ours, export.replace("-", "_"))
        bench.measure(name, {OURS: _each(mine, sent), PEER: _each(world.theirs(export), peer_sent)})
        bench.compare(name, OURS, PEER, at_most=1 / 10)


def payloads(bench: Bench, world: World) -> None:
    """1 MiB as list<u8> in each direction, against one copy of it in Python."""
    data = os.urandom(MIB)
    ours, plugin = world.ours(), world.plugin()
    # Fills the memory that `give` gives and `repeat-sink` passes on, which would else be one page of zeros.
    assert ours.take(data) == world.theirs("take")(data) == MIB
    assert ours.give(MIB) == bytes(world.theirs("give")(MIB)) == data
    assert ours.repeat_source(1, MIB) == MIB
    copy = _each(bytes, bytearray(data))
    times = 4
    for name, mine, peer, extism_call in (
        (
            "1 MiB, parameter of an export",
            _each(ours.take, data),
            _each(world.theirs("take"), data),
            ("take", data),
        ),
        (
            "1 MiB, result of an export",
            _each(ours.give, MIB),
            _each(world.theirs("give"), MIB),
            ("give", MIB.to_bytes(8, "little")),
        ),
        (
            "1 MiB, parameter of an import",
            _per(times, _each(ours.repeat_sink, times, MIB)),
            _each(world.theirs("repeat-sink"), 1, MIB),
            None,
        ),
        (
            "1 MiB, result of an import",
            _per(times, _each(ours.repeat_source, times, MIB)),
            _each(world.theirs("repeat-source"), 1, MIB),
            None,
        ),
    ):
        timers = {OURS: mine, COPY: copy, PEER: peer}
        if extism_call:
            timers[PLUGIN] = _each(plugin.call, *extism_call)
        bench.measure(name, timers)
        bench.compare(name, OURS, COPY, at_most=1.5)
        bench.compare(name, OURS, PEER, at_most=1 / 1000)
        if extism_call:
            bench.compare(name, OURS, PLUGIN)


def numbers(bench: Bench, world: World) -> None:
    """1 MiB as list<f64>, in one block or number by number."""
    block = array("d", map(float, range(MIB // 8)))
    each = block.tolist()
    ours = world.ours()
    assert ours.take_f64(block) == ours.take_f64(each) == len(block)
    assert ours.give_f64(len(block)) == block
    copy = _each(bytes, bytearray(block.tobytes()))
    name = "list<f64> 1 MiB, parameter"
    bench.measure(
        name,
        {
            f"{OURS}, array": _each(ours.take_f64, block),
            f"{OURS}, list": _each(ours.take_f64, each),
            COPY: copy,
            PEER: _each(world.theirs("take-f64"), each),
        },
    )
    for who in ("array", "list"):
        bench.compare(name, f"{OURS}, {who}", PEER)
    bench.compare(name, f"{OURS}, array", COPY)
    name = "list<f64> 1 MiB, result"
    bench.measure(
        name,
        {
            f"{OURS}, Numbers": _each(ours.give_f64, len(block)),
            f"{OURS}, Numbers.tolist()": _each(lambda: ours.give_f64(len(block)).tolist()),
            COPY: copy,
            PEER: _each(world.theirs("give-f64"), len(block)),
        },
    )
    bench.compare(name, f"{OURS}, Numbers", PEER)
    bench.compare(name, f"{OURS}, Numbers", COPY)


def streams(bench: Bench, world: World) -> None:
    """stream<u8> between a guest and Python, in pieces of 64 KiB."""
    size = 16 * MIB
    piece = os.urandom(64 * KIB)
    exports = world.awaited(world.streams, None)

    def pieces() -> Iterator[bytes]:
        return iter([piece] * (size // len(piece)))

    async def generate() -> AsyncIterator[bytes]:
        for p in pieces():
            yield p

    async def take(source: Callable[[], object]) -> None:
        assert await exports.take(source()) == size

    async def give() -> None:
        got = 0
        async for chunk in await exports.give(size):
            got += len(chunk)
        assert got == size

    name = "stream<u8> in pieces of 64 KiB"
    bench.measure(
        name,
        {
            "guest to Python": world.each(give),
            "Python's iterator to guest": world.each(take, pieces),
            "async generator to guest": world.each(take, generate),
            COPY: _times(size // MIB, _each(bytes, bytearray(os.urandom(MIB)))),
        },
        size=size,
    )
    for who in ("guest to Python", "Python's iterator to guest", "async generator to guest"):
        note = f"4 GB/s where it has {COPY_GB_S:g}"
        bench.compare(name, who, COPY, at_least=4 / COPY_GB_S, note=note)


def awaits(bench: Bench, world: World) -> None:
    """`await` of a function that does nothing, against one switch of asyncio's."""
    name = "await of a no-op call"
    plain = {i: world.awaited(world.values, Provider(), i).noop for i in (1, "per-call", "shared")}
    waits = {i: world.awaited(world.waits, AsyncProvider(), i).noop for i in (1, "per-call", "shared")}
    bench.measure(
        name,
        {
            "func, pooled": world.each(plain[1]),
            "func, per call": world.each(plain["per-call"]),
            "func, shared": world.each(plain["shared"]),
            "func, shared, 32 in flight": world.together(plain["shared"], 32),
            "async func, pooled": world.each(waits[1]),
            "async func, per call": world.each(waits["per-call"]),
            "async func, shared": world.each(waits["shared"]),
            "async func, shared, 32 in flight": world.together(waits["shared"], 32),
            SWITCH: world.switch(),
        },
    )
    shared = 3.5 / SWITCH_US
    note = f"3.5 us where it takes {SWITCH_US}"
    for kind in ("func", "async func"):
        bench.compare(name, f"{kind}, pooled", SWITCH, at_most=1)
        bench.compare(name, f"{kind}, per call", SWITCH, at_most=3)
        bench.compare(name, f"{kind}, shared, 32 in flight", SWITCH, at_most=shared, note=note)


def loading(bench: Bench, world: World) -> None:
    """Loading a component: compiled anew, and from a cache."""
    provider = {HOST: Provider()}
    with tempfile.TemporaryDirectory() as folder, loop.blocking.Host(cache=folder) as cached:
        cached.load(world.values, provider)
        compiled = world.component.serialize()
        bench.measure(
            "compile and link",
            {
                OURS: _each(world.host.load, world.values, provider),
                f"{PEER}, compile only": _each(wasmtime_component.Component, world.engine, world.values),
            },
        )
        bench.measure(
            "load from cache and link",
            {
                OURS: _each(cached.load, world.values, provider),
                f"{PEER}, deserialize only": _each(
                    wasmtime_component.Component.deserialize, world.engine, compiled
                ),
            },
        )
    bench.compare("compile and link", OURS, f"{PEER}, compile only")
    bench.compare("load from cache and link", OURS, f"{PEER}, deserialize only")


def main() -> None:
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})  # before any thread is started, so that all are pinned
    bench = Bench("hosting", seconds=0.2, packages=("loop-kit", "wasmtime", "extism", "extism-sys"))
    with ExitStack() as closing:
        world = World(closing)
        for group in (calls, imports, values, payloads, numbers, streams, awaits, loading):
            bench.group(group, world)
    bench.finish()


if __name__ == "__main__":
    main()
