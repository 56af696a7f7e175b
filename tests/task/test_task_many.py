"""Two hundred packages: one change runs exactly what comes after it, and nothing is run where nothing has changed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from bench.tasks import Workspace, after, name


@pytest.mark.timeout(600)
def test_one_change_of_two_hundred_packages_runs_exactly_what_it_affects(tmp_path: Path) -> None:
    root, home = tmp_path / "mono", tmp_path / "home"
    root.mkdir()
    made = Workspace(root, home, 200)
    made.run(set(made.deps))
    made.run(set())
    rnd = random.Random(1)
    for number, package in enumerate(rnd.sample(range(200), 4)):
        affected = after(made.deps, package)
        file = root / "packages" / name(package) / "src" / f"f{number}.txt"
        file.write_text(f"changed {number}")
        made.run(affected)
        made.run(set())
    made.lose(cache=False)
    made.run(set())
    some = {rnd.randrange(200) for _ in range(3)}
    for package in some:
        (root / "packages" / name(package) / "src" / "new.txt").write_text("new")
    made.run(set().union(*(after(made.deps, package) for package in some)))
