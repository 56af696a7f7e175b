"""What a key-value store costs: a component's values in SQLite, next to the same statements by Python's sqlite3.

Both write 100 bytes under a key of 8 letters, each write a transaction of its own in a file of its own with a
write-ahead log, under both policies: on the disk before it is answered, and with the system.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import wasmtime

sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench.report import GUESTS, Bench, Timer

import loop_kit as loop

OURS, PEER = "component, builtin:keyvalue", "sqlite3"
LEAST = 0.7
VALUE = bytes(100)
LETTERS = [chr(97 + n) for n in range(16)]


def key(n: int) -> str:
    """As the guest makes it."""
    return "".join(LETTERS[n >> shift & 15] for shift in range(28, -4, -4))


class Direct:
    """The same table by Python's sqlite3."""

    def __init__(self, path: Path, durability: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = wal")
        self.connection.execute(f"PRAGMA synchronous = {durability}")
        self.connection.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
        self.last = 0

    def set(self, n: int) -> float:
        keys = [key(i) for i in range(self.last, self.last + n)]
        self.last += n
        run, sql = (
            self.connection.execute,
            (
                "INSERT INTO kv (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
            ),
        )
        start = time.perf_counter()
        for each in keys:
            run(sql, (each, VALUE))
        return time.perf_counter() - start

    def get(self, n: int) -> float:
        keys = [key(i % 1000) for i in range(n)]
        run = self.connection.execute
        start = time.perf_counter()
        for each in keys:
            (value,) = run("SELECT value FROM kv WHERE key = ?", (each,)).fetchone()
            assert len(value) == 100
        return time.perf_counter() - start


class Component:
    """A guest that sets and gets by itself, so that no call from Python is in what is measured."""

    def __init__(self, host: loop.blocking.Host, path: Path, durability: str) -> None:
        wasm = wasmtime.wat2wasm((GUESTS / "keyvalue.wat").read_text())
        config = {"path": str(path), "durability": durability}
        provider = loop.builtin("keyvalue", config=config, buckets={"b": {"mode": "rw"}})
        self.app = host.load(
            bytes(wasm), {"wasi:keyvalue": provider}, limits=loop.Limits(deadline=600, cpu=600)
        )
        self.last = 0

    def set(self, n: int) -> float:
        start = time.perf_counter()
        self.app.call("set", self.last, n)
        self.last += n
        return time.perf_counter() - start

    def get(self, n: int) -> float:
        start = time.perf_counter()
        self.app.call("get", n)
        return time.perf_counter() - start


def rates(bench: Bench, name: str, timers: dict[str, Timer]) -> None:
    """Measures operations a second, in turns."""
    counts = {who: bench._fit(timer) for who, timer in timers.items()}
    samples: dict[str, list[float]] = {who: [] for who in timers}
    for _ in range(bench.options.rounds):
        for who, timer in timers.items():
            samples[who].append(counts[who] / timer(counts[who]))
    for who in timers:
        bench.add(name, who, "ops/s", samples[who])
    bench.compare(name, OURS, PEER, at_least=LEAST)


def full(bench: Bench) -> None:
    """Writes that are on the disk before they are answered."""
    pair(bench, "full", reads=False)


def normal(bench: Bench) -> None:
    """Writes that the system has before they are answered, and reads."""
    pair(bench, "normal", reads=True)


def pair(bench: Bench, durability: str, *, reads: bool) -> None:
    with ExitStack() as stack:
        # not in /tmp, which may be memory: a disk is measured
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd())))
        host = stack.enter_context(loop.blocking.Host())
        ours = Component(host, folder / "ours.db", durability)
        peer = Direct(folder / "peer.db", durability)
        stack.enter_context(closing(peer.connection))
        rates(bench, f"set, {durability}", {OURS: ours.set, PEER: peer.set})
        if reads:
            for each in (ours, peer):
                each.last = 0
                each.set(1000)
            rates(bench, "get", {OURS: ours.get, PEER: peer.get})


def main() -> None:
    bench = Bench("keyvalue", seconds=1.0, packages=("loop-kit",))
    bench.versions |= {"sqlite3": sqlite3.sqlite_version}
    for group in (full, normal):
        bench.group(group)
    bench.finish()


if __name__ == "__main__":
    main()
