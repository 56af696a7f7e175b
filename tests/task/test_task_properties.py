"""Random changes: what runs is what a runner that looks at everything each time would run, and nothing is stale."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from tests.task.workspaces import Workspace

MEMBERS = 6
STEPS = 40


class Naive:
    """Reads all files each time, and remembers whatever has been made."""

    def __init__(self, made: Workspace, deps: dict[int, list[int]]) -> None:
        self.made, self.deps = made, deps
        self.known: set[str] = set()
        self.last: dict[int, str] = {}

    def content(self, i: int) -> list[tuple[str, str, bool]]:
        folder = self.made.root / f"packages/p{i}"
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "dist" not in path.parts]
        return [
            (str(path.relative_to(folder)), path.read_text(), os.access(path, os.X_OK))
            for path in files
            if path.name != "loop.toml" and not path.name.endswith(".log")
        ]

    def expected(self) -> dict[str, str]:
        """What must come of each task."""
        keys: dict[int, str] = {}
        found = {}
        for i, needs in self.deps.items():
            key = keys[i] = repr((i, self.content(i), [keys[k] for k in needs]))
            there = (self.made.root / f"packages/p{i}/dist/out").exists()
            if key == self.last.get(i) and there:
                found[f"p{i}:build"] = "fresh"
            else:
                found[f"p{i}:build"] = "cached" if key in self.known else "ran"
            self.known.add(key)
            self.last[i] = key
        return found

    def output(self, i: int) -> str:
        """What a task must have made."""
        folder = self.made.root / f"packages/p{i}/src"
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log")
        own = "".join(f"{path.relative_to(folder)}={path.read_text()};" for path in files)
        return own + "".join(self.output(k) for k in self.deps[i])


BUILD = """
cd src
find . -type f ! -name '*.log' | LC_ALL=C sort | sed 's#^\\./##' | while read -r f; do
  printf '%s=' "$f"; cat "$f"; printf ';'
done > ../dist/out
cd ..
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(4))
def test_random_changes(seed: int, tmp_path: Path) -> None:
    rnd = random.Random(seed)
    made = Workspace(tmp_path)
    (made.root / ".git").mkdir()
    made.write(".gitignore", "*.log\n")
    made.write(
        "loop.toml",
        '[workspace]\nname = "top"\nmembers = ["packages/*"]\n[workspace.tasks.build]\nrun = ["sh", "build.sh"]\n'
        'deps = ["^build"]\noutputs = ["dist/**"]\n'
        + ('inputs = ["src/**", "build.sh"]\n' if seed % 2 else ""),
    )
    deps = {i: sorted(rnd.sample(range(i), min(i, rnd.randrange(3)))) for i in range(MEMBERS)}
    for i, needs in deps.items():
        names = ", ".join(f'"p{k}"' for k in needs)
        made.write(f"packages/p{i}/loop.toml", f'[workspace]\nname = "p{i}"\ndepends = [{names}]\n')
        outs = " ".join(f"../p{k}/dist/out" for k in needs)
        made.write(f"packages/p{i}/build.sh", BUILD + (f"cat {outs} >> dist/out\n" if outs else ""))
        made.write(f"packages/p{i}/src/f0", "0")
    naive = Naive(made, deps)
    for step in range(STEPS):
        for _ in range(rnd.choice((0, 1, 1, 2, 4)) if step else 0):
            change(rnd, made)
        expected = naive.expected()
        assert made.run("build", jobs=3) == expected, f"step {step}"
        for i in deps:
            assert made.read(f"packages/p{i}/dist/out") == naive.output(i), f"step {step}: p{i}"


def change(rnd: random.Random, made: Workspace) -> None:
    folder = made.root / f"packages/p{rnd.randrange(MEMBERS)}"
    src = folder / "src"
    files = sorted(path for path in src.rglob("*") if path.is_file())
    some = rnd.choice(files) if files else None
    match rnd.randrange(10):
        case 0 | 1 if some is not None:  # of the same size, and with its old time
            before = some.stat()
            some.write_text(str(rnd.randrange(3)))
            if rnd.random() < 0.5:
                os.utime(some, ns=(before.st_atime_ns, before.st_mtime_ns))
        case 2 if some is not None:
            os.utime(some)
        case 3 if some is not None:
            some.unlink()
        case 4 if some is not None:
            some.rename(src / f"f{rnd.randrange(4)}")
        case 5:
            (src / "deep").mkdir(exist_ok=True)
            (src / "deep" / f"g{rnd.randrange(3)}").write_text("g")
        case 6 if some is not None:
            some.chmod(rnd.choice((0o644, 0o755)))
        case 7:
            shutil.rmtree(folder / "dist", ignore_errors=True)
        case 8:
            (src / "x.log").write_text(str(rnd.random()))
        case 9 if (src / "deep").is_dir():
            shutil.rmtree(src / "deep")
        case _:
            src.mkdir(exist_ok=True)
            (src / f"f{rnd.randrange(4)}").write_text(str(rnd.randrange(3)))
