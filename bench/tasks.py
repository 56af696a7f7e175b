"""What `loop task` costs over a workspace of 200 packages, beside other task runners over the same one.

The workspace is that of the peers: 200 packages of ten files, each with a script that makes one file of them and of what
those before it made. Measured are a first run, one where nothing has changed, one whose outputs are lost, and one of a
changed package; each is checked by what has really run. `--peers FILE` is a script that measures others in the same run
and prints their figures as JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# behind the standard library, which has an `http` too
sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench.report import Bench, Ratio, say

WHO = "loop task"
SOURCES, JOBS = 10, 2
LOOP = Path(sys.executable).with_name("loop")
RULED = {"turbo": 1.0, "moon": 1.0, "nx": 1.0}
"""Peers that it must not be slower than where nothing has changed, by the beginnings of their names."""


def graph(packages: int) -> dict[int, list[int]]:
    """What each package depends on; as the peers' script has it."""
    rnd = random.Random(5)
    return {
        i: sorted(rnd.sample(range(max(0, i - 30), i), min(i, rnd.randrange(0, 3)))) for i in range(packages)
    }


def after(deps: dict[int, list[int]], start: int) -> set[int]:
    """A package and all that need it."""
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        at = waiting.pop()
        if at not in seen:
            seen.add(at)
            waiting += [other for other, needs in deps.items() if at in needs]
    return seen


def name(i: int) -> str:
    return f"pkg{i:03d}"


def write(root: Path, deps: dict[int, list[int]]) -> None:
    """Makes the workspace, with git."""
    rnd = random.Random(6)
    for i, needs in deps.items():
        folder = root / "packages" / name(i)
        (folder / "src").mkdir(parents=True)
        for j in range(SOURCES):
            (folder / "src" / f"f{j}.txt").write_text(rnd.randbytes(500).hex())
        outs = " ".join(f"../{name(k)}/dist/out.txt" for k in needs)
        (folder / "build.sh").write_text(
            f"mkdir -p dist\ncat src/*.txt {outs} | cksum > dist/out.txt\necho {name(i)} >> ../../ran.log\n"
        )
        depends = json.dumps([name(k) for k in needs])
        (folder / "loop.toml").write_text(f'[workspace]\nname = "{name(i)}"\ndepends = {depends}\n')
    (root / ".gitignore").write_text("dist\nran.log\n.loop\n")
    (root / "loop.toml").write_text(
        '[workspace]\nname = "mono"\nmembers = ["packages/*"]\n\n'
        '[workspace.tasks.build]\nrun = ["sh", "build.sh"]\ndeps = ["^build"]\n'
        'inputs = ["src/**", "build.sh"]\noutputs = ["dist/**"]\n'
    )
    git = ["git", "-C", str(root), "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for args in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "tree"]):
        subprocess.run([*git, *args], check=True)


class Workspace:
    """A workspace of packages, and runs of it."""

    def __init__(self, root: Path, home: Path, packages: int) -> None:
        self.root, self.home = root, home
        self.deps = graph(packages)
        self.changed = min(self.deps, key=lambda i: (abs(len(after(self.deps, i)) - 8), i))
        write(root, self.deps)

    def run(self, ran: set[int] | None = None) -> float:
        """Milliseconds of `loop task build`; `ran` are the packages that must have run."""
        log = self.root / "ran.log"
        log.write_text("")
        env = {**os.environ, "LOOP_TASK_CACHE": str(self.home)}
        command = [str(LOOP), "task", "build", "--jobs", str(JOBS)]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        assert done.returncode == 0, done.stderr
        found = log.read_text().split()
        if ran is not None:
            assert sorted(found) == sorted(name(i) for i in ran), (len(found), len(ran))
        for i in self.deps:
            assert (self.root / "packages" / name(i) / "dist/out.txt").exists()
        return seconds * 1e3

    def lose(self, *, cache: bool) -> None:
        """Removes all outputs, and with `cache` all that is known."""
        for i in self.deps:
            shutil.rmtree(self.root / "packages" / name(i) / "dist", ignore_errors=True)
        if cache:
            shutil.rmtree(self.root / ".loop", ignore_errors=True)
            shutil.rmtree(self.home, ignore_errors=True)


def runs(bench: Bench, packages: int) -> None:
    """All packages."""
    with tempfile.TemporaryDirectory(prefix="loop-tasks-") as text:
        root, home = Path(text).resolve() / "mono", Path(text).resolve() / "home"
        root.mkdir()
        found = Workspace(root, home, packages)
        every, rounds = set(found.deps), range(bench.options.rounds)
        few = after(found.deps, found.changed)
        found.run(every)
        cold = []
        for _ in rounds:
            found.lose(cache=True)
            cold.append(found.run(every))
        bench.add(f"{packages} packages, cold", WHO, "ms", cold)
        found.run(set())
        bench.add(f"{packages} packages, nothing changed", WHO, "ms", [found.run(set()) for _ in rounds])
        lost = []
        for _ in rounds:
            found.lose(cache=False)
            lost.append(found.run(set()))
        bench.add(f"{packages} packages, outputs lost, all from the cache", WHO, "ms", lost)
        changed = []
        file = root / "packages" / name(found.changed) / "src/f0.txt"
        for number in rounds:
            file.write_text(f"changed {number} {time.monotonic_ns()}")
            changed.append(found.run(few))
        bench.add(f"{packages} packages, one changed ({len(few)} tasks)", WHO, "ms", changed)


def peers(bench: Bench, script: Path) -> None:
    """The peers."""
    command = [sys.executable, str(script), "--rounds", str(bench.options.rounds)]
    command += ["--quick"] if bench.quick else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    for figure in said["figures"]:
        # their medians: of each round only the extremes are told
        bench.add(
            figure["name"], figure["peer"], figure["unit"], [figure["min"], figure["value"], figure["max"]]
        )
        if not figure["name"].endswith("nothing changed"):
            continue
        for start, most in RULED.items():
            if figure["peer"].startswith(start):
                compare(bench, figure["name"], figure["peer"], most)
    for skipped in said["skipped"]:
        say(f"  not measured: {skipped['peer']}: {skipped['why']}")


def compare(bench: Bench, name: str, peer: str, most: float) -> None:
    """Adds a ratio of medians, since the rounds of the peer are not known one by one."""
    ours, theirs = bench.samples(name, WHO), bench.samples(name, peer)
    ratio = statistics.median(ours) / theirs[1]
    ends = min(ours) / theirs[-1], max(ours) / theirs[0]
    bench.ratios.append(Ratio(name, WHO, peer, ratio, *ends, most, None, "of medians"))


def main() -> None:
    bench = Bench(
        "tasks",
        seconds=1,
        packages=("loop-kit",),
        paths={"peers": "a script that measures other task runners over the same packages"},
    )
    bench.group(runs, 40 if bench.quick else 200)
    if bench.options.peers is not None:
        bench.group(peers, bench.options.peers)
    bench.finish()


if __name__ == "__main__":
    main()
