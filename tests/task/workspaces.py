"""Small workspaces with tasks, and runs of them in this process."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loop_kit.task._cache import Cache
from loop_kit.task._job import Ended
from loop_kit.task._session import Session, Verdict, opened

VERSION = "test"

PAIR = """
[workspace]
name = "top"
members = ["packages/*"]

[workspace.tasks.build]
run = ["sh", "build.sh"]
deps = ["^build"]
inputs = ["src/**", "build.sh"]
outputs = ["dist/**"]
"""


class Workspace:
    """A folder with a `loop.toml`, and a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "workspace"
        self.root.mkdir(parents=True)
        self.cache = Cache(folder / "cache")
        self.lines: list[str] = []
        self.ended: dict[str, Ended] = {}

    def write(self, path: str, text: str, mode: int = 0o644) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        file.chmod(mode)
        return file

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def session(self, member: str = "") -> Any:
        return opened(str(self.root), member, VERSION, cache=self.cache)

    def run(self, *names: str, member: str = "", **options: Any) -> dict[str, str]:
        """Runs tasks by name; what came of each."""
        with self.session(member) as session:
            return self.run_in(session, names, **options)

    def run_in(self, session: Session, names: Iterable[str], **options: Any) -> dict[str, str]:
        self.lines = []
        going = session.run(
            session.find(names), said=lambda task, line: self.lines.append(f"{task}: {line}"), **options
        )
        self.ended = {ended.task: ended for ended in going}
        return {task: ended.how for task, ended in self.ended.items()}

    def judge(self, *names: str) -> dict[str, Verdict]:
        with self.session() as session:
            return {verdict.task: verdict for verdict in session.judge(session.find(names))}

    def notes(self, task: str) -> str:
        return "\n".join(self.ended[task].notes)


def pair(folder: Path) -> Workspace:
    """Two members, of which `b` depends on `a`."""
    made = Workspace(folder)
    made.write("loop.toml", PAIR)
    made.write("packages/a/loop.toml", '[workspace]\nname = "a"\n')
    made.write("packages/b/loop.toml", '[workspace]\nname = "b"\ndepends = ["a"]\n')
    made.write("packages/a/build.sh", "cat src/* > dist/out\necho made a\n")
    made.write("packages/b/build.sh", "cat src/* ../a/dist/out > dist/out\n")
    made.write("packages/a/src/x", "one ")
    made.write("packages/b/src/x", "two ")
    return made
