"""What watching and building a workspace costs: 200 components and 200 providers in Python, of twelve files each.

How long until all is watched and known when nothing has changed, how long until an edit is told, known and built, and
what it takes while nothing happens. The builds do next to nothing: what is measured is what comes around them.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path

# behind the standard library, which has an `http` too
sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench.report import Bench

from loop_kit import dev, manifest
from loop_kit.manifest import Manifest

MEMBERS, FILES = 200, 9
WHO = "loop_kit.dev"


def workspace(folder: Path) -> Manifest:
    text = []
    for number in range(MEMBERS):
        name = f"m{number}"
        at = folder / "members" / name
        for file in range(FILES):
            path = at / f"src/d{file % 3}/f{file}.js"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"// {number} {file}\n" * 30)
        (at / "wit").mkdir()
        (at / "wit/world.wit").write_text("package a:b;")
        (at / "provider.py").write_text(f"import json\nfrom members.{name} import words\n" + "x = 1\n" * 50)
        (at / "words.py").write_text("x = 1\n" * 40)
        build = f"cd members/{name} && mkdir -p build && cat src/d0/* > build/out.wasm"
        text.append(f'[components.{name}]\npath = "members/{name}/build/out.wasm"\nbuild = "{build}"')
        use = f"python:members.{name}.provider:Provider"
        text.append(f'[providers.{name}]\nuse = "{use}"\ntrusted = true\n')
    (folder / "loop.toml").write_text("\n".join(text))
    return manifest.load(folder)


async def begin(found: Manifest) -> float:
    """Seconds until all is watched and looked at, and what is missing is built."""
    start = time.perf_counter()
    async with dev.Watcher(found), dev.Builder(found) as builder:
        await builder.build(await builder.scan())
        return time.perf_counter() - start


def ready(bench: Bench, found: Manifest) -> None:
    """Until all is watched and known."""
    bench.add("nothing is built yet", WHO, "ms", [asyncio.run(begin(found)) * 1e3])
    samples = [asyncio.run(begin(found)) * 1e3 for _ in range(bench.options.rounds)]
    bench.add("nothing has changed", WHO, "ms", samples)


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
                members = await builder.changed(batch)
                known = time.perf_counter()
                await builder.build(members)
                built = bool(members)
            for step, end in (("told", told), ("known", known), ("built", time.perf_counter())):
                steps[step].append((end - start) * 1e3)
    return steps


def edits(bench: Bench, found: Manifest) -> None:
    """From an edit to what follows."""
    times = 5 if bench.quick else 20
    for what, file in (("a provider", "members/m7/words.py"), ("a component", "members/m7/src/d0/f0.js")):
        for step, samples in asyncio.run(edit(found, file, times)).items():
            bench.add(f"edit of {what}, {step}", WHO, "ms", samples)


async def rest(found: Manifest, seconds: float) -> float:
    """Percent of a processor that watching takes while nothing happens."""
    async with dev.Watcher(found), dev.Builder(found) as builder:
        await builder.build(await builder.scan())
        before = time.process_time()
        await asyncio.sleep(seconds)
        return (time.process_time() - before) / seconds * 100


def idle(bench: Bench, found: Manifest) -> None:
    """While nothing happens."""
    bench.add("idle", WHO, "% CPU", [asyncio.run(rest(found, bench.seconds))])
    bench.add(
        "memory of the whole process", WHO, "MiB", [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]
    )


def main() -> None:
    bench = Bench("dev", seconds=10, packages=("loop-kit",))
    with tempfile.TemporaryDirectory() as folder:
        found = workspace(Path(folder).resolve())
        for group in (ready, edits, idle):
            bench.group(group, found)
    bench.finish()


if __name__ == "__main__":
    main()
