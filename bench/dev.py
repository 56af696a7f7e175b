"""What `loop dev` costs in a workspace of 200 members: components, providers in Python, sidecars, of a dozen files each.

How long until it is ready from when it is started, what it takes while nothing happens, and how much memory it has; and
how long until an edit is told, known and built. The builds do next to nothing: what is measured is what comes around
them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

# behind the standard library, which has an `http` too
sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench import members
from bench.report import Bench

from loop_kit import dev, manifest
from loop_kit.manifest import Manifest

WHO, GOAL = "loop dev", "goal"
READY_MS, IDLE = 3000.0, 1.0
"""What there must be at most: milliseconds until it is ready with a warm cache, percent of a processor at rest."""
SETTLED = 5.0
"""Seconds after it is ready that do not count as rest."""


def start(bench: Bench, folder: Path, home: Path) -> None:
    """From when `loop dev` is started until all components serve, and then at rest."""
    with members.running_dev(folder, home) as run:
        bench.add("ready, nothing built or compiled yet", WHO, "ms", [run.seconds * 1e3])
    ready, idle, idle_host, own, others = [], [], [], [], []
    for _ in range(bench.options.rounds):
        with members.running_dev(folder, home) as run:
            ready.append(run.seconds * 1e3)
            with urllib.request.urlopen(f"{run.url}n") as answer:
                assert answer.status == 200
            time.sleep(SETTLED)
            before, since = run.cpu(), time.perf_counter()
            time.sleep(bench.seconds)
            after, seconds = run.cpu(), time.perf_counter() - since
            idle.append((sum(after) - sum(before)) / seconds * 100)
            idle_host.append((after[0] - before[0]) / seconds * 100)
            host, rest = run.memory()
            own.append(host)
            others.append(rest)
    for name, unit, samples, goal in (
        ("ready", "ms", ready, READY_MS),
        ("at rest, all its processes", "% CPU", idle, IDLE),
    ):
        bench.add(name, WHO, unit, samples)
        bench.add(name, GOAL, unit, [goal] * len(samples))
        bench.compare(name, WHO, GOAL, at_most=1, note=f"{goal:g} {unit}")
    bench.add("at rest, the host", WHO, "% CPU", idle_host)
    bench.add("memory of the host", WHO, "MiB", own)
    bench.add(f"memory of {members.SIDECARS} sidecars", WHO, "MiB", others)


async def edit(found: Manifest, file: str, times: int) -> dict[str, list[float]]:
    """Milliseconds until an edit is told, known, and built, from when it was made."""
    steps: dict[str, list[float]] = {"told": [], "known": [], "built": []}
    path = found.folder / file
    async with dev.Watcher(found) as watcher, dev.Builder(found) as builder:
        await builder.build(await builder.scan())
        for number in range(times):
            start = time.perf_counter()
            path.write_text(f"x = {number + time.time()}\n")
            built = False
            while not built:
                batch = await anext(watcher)
                told = time.perf_counter()
                changed = await builder.changed(batch)
                known = time.perf_counter()
                await builder.build(changed)
                built = bool(changed)
            for step, end in (("told", told), ("known", known), ("built", time.perf_counter())):
                steps[step].append((end - start) * 1e3)
    return steps


def edits(bench: Bench, folder: Path) -> None:
    """From an edit to what follows."""
    found, times = manifest.load(folder), 5 if bench.quick else 20
    for what, file in (
        ("a provider", "members/near7/words.py"),
        ("a component", "members/site7/src/d0/f0.js"),
    ):
        for step, samples in asyncio.run(edit(found, file, times)).items():
            bench.add(f"edit of {what}, {step}", "loop_kit.dev", "ms", samples)


def main() -> None:
    bench = Bench("dev", seconds=20, packages=("loop-kit",))
    assert members.MEMBERS == 200
    with tempfile.TemporaryDirectory() as text:
        folder, home = (Path(text).resolve() / name for name in ("workspace", "home"))
        for path in (folder, home):
            path.mkdir()
        members.write(folder)
        bench.group(start, folder, home)
        bench.group(edits, folder)
    bench.finish()


if __name__ == "__main__":
    main()
