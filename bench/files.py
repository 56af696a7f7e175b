"""What `loop:fsx` costs: reading, walking, listing and digesting files, and being told of changes.

Beside it stand the programs that do nothing else: cat, fd, b3sum, and in Python os.walk, watchdog and watchfiles. All of
them have the files in the page cache, and each its own time to start. A tree of 50,000 files in 2,000 folders and a
file of 1 GiB are made in a folder that is kept for the next run.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import queue
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import wasmtime
import watchfiles
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

# behind the standard library, which has an `http` too
sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench.report import GUESTS, Bench, Timer

import loop_kit as loop
from loop_kit.testing import client

FOLDERS, FILES, BIG = 2000, 50_000, 1 << 30
GUEST, NATIVE, SCRIPT = "loop:fsx, in a component", "loop:fsx, native", "loop:fsx, in Python"
PROBE = "area20/pkg25/probe.txt"
PATIENCE = 10.0


def made(folder: Path, what: str, make: Callable[[Path], None]) -> Path:
    """A folder that is made once."""
    stamp = folder / "made"
    if not stamp.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        print(f"making {what} in {folder}", file=sys.stderr, flush=True)
        make(folder)
        stamp.touch()
    return folder


def make_tree(folder: Path) -> None:
    seeded = random.Random(7)
    for number in range(FOLDERS):
        below = folder / "tree" / f"area{number // 50:02}" / f"pkg{number % 50:02}"
        below.mkdir(parents=True)
        for file in range(FILES // FOLDERS):
            ending = seeded.choice(("py", "py", "ts", "rs", "json", "md", "txt", "css", "toml", "html"))
            (below / f"file{file:02}.{ending}").write_bytes(seeded.randbytes(seeded.randrange(64, 2048)))


def make_wide(folder: Path) -> None:
    (folder / "wide").mkdir()
    for number in range(FILES):
        (folder / "wide" / f"file{number:05}.txt").touch()


def make_big(folder: Path) -> None:
    block = random.Random(9).randbytes(1 << 22)
    with (folder / "big.bin").open("wb") as file:
        for number in range(BIG >> 22):
            file.write(number.to_bytes(8, "little") + block[8:])


def program(*names: str) -> str:
    """A program, by one of its names."""
    for name in names:
        if found := shutil.which(name):
            return found
    raise RuntimeError(f"{names[0]} is not installed: `tools/system_packages fd-find b3sum`")


def repeated(run: Callable[[], Any]) -> Timer:
    def timer(n: int) -> float:
        start = time.perf_counter()
        for _ in range(n):
            run()
        return time.perf_counter() - start

    return timer


def counted(command: list[str], lines: int) -> Callable[[], None]:
    def run() -> None:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            output = process.stdout
            assert output is not None
            got = 0
            while chunk := output.read(1 << 20):
                got += chunk.count(b"\n")
        assert got == lines, (command[0], got, lines)

    return run


def quiet(*command: str | Path) -> Callable[[], object]:
    return lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


class Driven:
    """A provider without a component, on a loop of its own; used as a context manager."""

    def __init__(self, provider: str, grant: dict[str, Any]) -> None:
        self.runner = asyncio.Runner()
        self._client = client("loop:fsx", provider=provider, grant=grant)

    def __enter__(self) -> Driven:
        async def enter() -> Any:
            fsx = await self._client.__aenter__()
            return fsx, dict(await fsx.files.roots())

        self.fsx, self.roots = self.run(enter())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._client.__aexit__(None, None, None))
        self.runner.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def walk(self, globs: tuple[str, ...] = ()) -> int:
        """Walks the tree; the number of files."""
        options = {"globs": list(globs), "gitignore": False, "hidden": True, "max_depth": None}

        async def walk() -> int:
            stream, _ = await self.fsx.walking.walk(self.roots["tree"], ".", options)
            return sum([len(folder.files) async for folder in stream])

        return int(self.run(walk()))

    def digest(self, algorithm: str) -> bytes:
        """Digests the big file."""
        return bytes(self.run(self.fsx.digests.digest(self.roots["big"], "big.bin", algorithm)))

    def list(self) -> int:
        """Lists the wide folder; the number of entries."""
        return len(self.run(self.roots["wide"].list(".")))

    def read(self) -> int:
        """Reads the big file as a stream; the number of bytes."""

        async def read() -> int:
            stream, _ = await self.fsx.streaming.read_stream(self.roots["big"], "big.bin", 0)
            return sum([len(chunk) async for chunk in stream])

        return int(self.run(read()))


def expected(run: Callable[[], Any], value: Any) -> Timer:
    """Times what must give a value."""

    def checked() -> None:
        got = run()
        assert got == value, (got, value)

    return repeated(checked)


def reading(bench: Bench, native: Driven, big: Path, grant: dict[str, Any]) -> None:
    """Read a file of 1 GiB as a stream."""
    wasm = bytes(wasmtime.wat2wasm((GUESTS / "files.wat").read_text()))
    with loop.blocking.Host(cache=None) as host:
        app = host.load(wasm, imports={"loop:fsx": loop.builtin("fsx", **grant)})
        name = "read 1 GiB"
        timers = {
            GUEST: expected(lambda: app.call("read", "big", "big.bin"), BIG),
            NATIVE: expected(native.read, BIG),
            "cat": repeated(quiet("cat", big)),
        }
        bench.measure(name, timers, size=BIG)
    bench.compare(name, GUEST, "cat", at_least=0.9)
    bench.compare(name, NATIVE, "cat")


def walking(bench: Bench, native: Driven, script: Driven, tree: Path) -> None:
    """Walk 50,000 files in 2,000 folders."""
    fd = program("fd", "fdfind")
    name = "walk 50,000 files"
    timers = {
        NATIVE: expected(native.walk, FILES),
        SCRIPT: expected(script.walk, FILES),
        "os.walk": expected(lambda: sum(len(files) for _, _, files in os.walk(tree)), FILES),
        "fd": repeated(counted([fd, "-uu", "--type", "f", ".", str(tree)], FILES)),
    }
    bench.measure(name, timers)
    bench.compare(name, NATIVE, "os.walk", at_most=1)
    bench.compare(name, NATIVE, "fd", at_most=1)
    bench.compare(name, SCRIPT, "os.walk")
    found = sum(name.endswith(".py") for _, _, files in os.walk(tree) for name in files)
    name = "match **/*.py in them"
    timers = {
        NATIVE: expected(lambda: native.walk(("**/*.py",)), found),
        "fd": repeated(counted([fd, "-uu", "--type", "f", "-e", "py", ".", str(tree)], found)),
    }
    bench.measure(name, timers)
    bench.compare(name, NATIVE, "fd", at_most=1)


def listing(bench: Bench, native: Driven, script: Driven, wide: Path) -> None:
    """List 50,000 files in one folder, with size and time."""

    def scan() -> int:
        with os.scandir(wide) as entries:
            return len(sorted((e.name, e.stat(follow_symlinks=False).st_size) for e in entries))

    name = "list 50,000 files"
    timers = {
        NATIVE: expected(native.list, FILES),
        SCRIPT: expected(script.list, FILES),
        "os.scandir + stat": expected(scan, FILES),
        "ls -l": repeated(quiet("ls", "-ln", wide)),
    }
    bench.measure(name, timers)
    bench.compare(name, NATIVE, "os.scandir + stat", at_most=1)


def digesting(bench: Bench, native: Driven, big: Path) -> None:
    """Digest a file of 1 GiB."""
    b3sum = program("b3sum")
    shown = subprocess.run([b3sum, "--no-names", big], check=True, capture_output=True, text=True).stdout
    name = "BLAKE3 of 1 GiB"
    timers = {
        NATIVE: expected(lambda: native.digest("blake3"), bytes.fromhex(shown.strip())),
        "b3sum": repeated(quiet(b3sum, big)),
    }
    bench.measure(name, timers, size=BIG)
    bench.compare(name, NATIVE, "b3sum", at_least=0.9)

    def hashed() -> bytes:
        with big.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    name = "SHA-256 of 1 GiB"
    timers = {NATIVE: expected(lambda: native.digest("sha256"), hashed()), "hashlib": repeated(hashed)}
    bench.measure(name, timers, size=BIG)
    bench.compare(name, NATIVE, "hashlib")


def watching(bench: Bench, native: Driven, tree: Path) -> None:
    """From a write to the event that tells of it, milliseconds."""
    name = "write to event, p50"
    times = 20 if bench.quick else 50
    probe = tree / PROBE
    probe.write_text("0")
    try:
        for who, latencies in (
            (NATIVE, lambda: native.run(watched(native, probe, times))),
            ("watchdog", lambda: by_watchdog(tree, probe, times)),
            ("watchfiles, step 1 ms", lambda: by_watchfiles(tree, probe, times)),
        ):
            rounds = [statistics.median(latencies()) * 1e3 for _ in range(bench.options.rounds)]
            bench.add(name, who, "ms", rounds)
    finally:
        probe.unlink()
    bench.compare(name, NATIVE, "watchdog")
    bench.compare(name, NATIVE, "watchfiles, step 1 ms")
    bench.add("the same, of 2 ms", "budget", "ms", [2.0] * bench.options.rounds)
    bench.compare(name, NATIVE, "budget", of="the same, of 2 ms", at_most=1)


async def watched(native: Driven, probe: Path, times: int) -> list[float]:
    """Seconds from each write to its event, in the same process."""
    stream, _ = await native.fsx.watching.watch(
        native.roots["tree"], ".", {"recursive": True, "debounce": None}
    )
    found = []
    for number in range(times):
        await asyncio.sleep(0.004 * (1 + random.random()))
        start = time.perf_counter()
        probe.write_text(str(number))  # noqa: ASYNC240 - what is measured
        async with asyncio.timeout(PATIENCE):
            await anext(stream)
        found.append(time.perf_counter() - start)
        await drained(stream)
    return found


async def drained(stream: AsyncIterator[Any]) -> None:
    """Takes what one write is told as beyond its first event."""
    pending = asyncio.ensure_future(anext(stream))
    while (await asyncio.wait([pending], timeout=0.003))[0]:
        pending = asyncio.ensure_future(anext(stream))
    pending.cancel()
    await asyncio.wait([pending])


def by_watchdog(tree: Path, probe: Path, times: int) -> list[float]:
    told: queue.Queue[object] = queue.Queue()

    class Handler(FileSystemEventHandler):  # type: ignore[misc]
        def on_modified(self, event: FileSystemEvent) -> None:
            told.put(event)

    observer = Observer()
    observer.schedule(Handler(), str(tree), recursive=True)
    observer.start()
    try:
        return timed(told, probe, times, 0.02)
    finally:
        observer.stop()
        observer.join()


def by_watchfiles(tree: Path, probe: Path, times: int) -> list[float]:
    told: queue.Queue[object] = queue.Queue()
    halt = threading.Event()
    ready = threading.Event()

    def run() -> None:
        quick = {"step": 1, "debounce": 1, "rust_timeout": 20}
        for changes in watchfiles.watch(
            tree, stop_event=halt, watch_filter=None, yield_on_timeout=True, **quick
        ):
            if changes:
                told.put(changes)
            else:
                ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(PATIENCE)
    try:
        return timed(told, probe, times, 0.03)
    finally:
        halt.set()
        thread.join()


def timed(told: queue.Queue[object], probe: Path, times: int, gap: float) -> list[float]:
    found = []
    for number in range(times):
        time.sleep(gap * (1 + random.random()))
        while not told.empty():
            told.get_nowait()
        start = time.perf_counter()
        probe.write_text(str(number))
        told.get(timeout=PATIENCE)
        found.append(time.perf_counter() - start)
    return found


def main() -> None:
    bench = Bench("files", seconds=1, packages=("loop-kit", "watchdog", "watchfiles"))
    base = Path(tempfile.gettempdir()) / "loop-kit-bench"
    tree = made(base / "files-tree", "a tree of 50,000 files", make_tree) / "tree"
    wide = made(base / "files-wide", "a folder of 50,000 files", make_wide) / "wide"
    big = made(base / "files-big", "a file of 1 GiB", make_big) / "big.bin"
    roots = {"tree": tree, "wide": wide, "big": big.parent}
    grant = {"roots": {name: {"path": str(path)} for name, path in roots.items()}}
    with ExitStack() as closing:
        native = closing.enter_context(Driven("builtin:fsx", grant))
        script = closing.enter_context(Driven("python:loop_kit.capabilities.fsx:Files", grant))
        bench.group(reading, native, big, grant)
        bench.group(walking, native, script, tree)
        bench.group(listing, native, script, wide)
        bench.group(digesting, native, big)
        bench.group(watching, native, tree)
    bench.finish()


if __name__ == "__main__":
    main()
