"""A look at a workspace's tasks, and a run of some of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from loop_kit.task import _fresh
from loop_kit.task._cache import Cache
from loop_kit.task._clean import daily
from loop_kit.task._graph import closure, edges, find, order
from loop_kit.task._job import Ended
from loop_kit.task._looks import Looks
from loop_kit.task._plan import Plan, plan
from loop_kit.task._run import Runner
from loop_kit.task._stat import clock
from loop_kit.task._state import ANEW, State, alone

__all__ = ["Session", "Verdict", "opened"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What would be done for a task.

    Attributes:
        task: Its id.
        how: `fresh`: nothing; `cached`: it would be restored; `run`.
        reasons: Why it is not fresh.
    """

    task: str
    how: Literal["fresh", "cached", "run"]
    reasons: tuple[str, ...] = ()


class Session:
    """The tasks of a workspace, which nobody else runs meanwhile. Made by `opened`.

    Attributes:
        plan: The tasks.
        before: What comes before each.
    """

    def __init__(self, root: str, member: str, version: str, cache: Cache | None = None) -> None:
        self._version = version
        self._member = member
        self._cache = Cache() if cache is None else cache
        self.state = State(root, version)
        self.plan: Plan = plan(root, self.state.plan, clock(self.state.mark))
        self.before = edges(self.plan)
        self.state.plan = self.plan.parsed
        if self.state.trust != self.plan.trust:
            for last in self.state.last.values():
                last.key = ANEW  # what is there may have come from whom nobody trusts now
            self.state.trust = self.plan.trust
        self.looks = Looks(self.plan, self.state.mark, self.state.looks)

    def close(self) -> None:
        """Lets go of the files."""
        self.looks.close()

    def find(self, names: Iterable[str]) -> list[str]:
        """The tasks that names mean.

        Raises:
            LoopError: There is none of a name.
        """
        return find(self.plan, names, self._member)

    def run(
        self,
        wanted: list[str],
        *,
        asked: Iterable[str] | None = None,
        jobs: int | None = None,
        keep_going: bool = False,
        force: bool = False,
        began: Callable[[str], object] = lambda task: None,
        said: Callable[[str, str], object] = lambda task, line: None,
        tell: Callable[[str], object] = lambda text: None,
        progress: Callable[[int, int], object] = lambda done, of: None,
    ) -> Generator[Ended]:
        """Runs tasks, and what comes before them; tells of each as it ends.

        Args:
            wanted: The tasks.
            asked: What somebody has asked for by which these were found, for `_fresh`; None: it is not remembered.
            jobs: How many run at once; as many as there are processors by default.
            keep_going: Whether what does not need one that failed is still begun.
            force: Whether they run even if nothing has changed.
            began: Told of each task that begins to run.
            said: Told of each line that a task writes.
            tell: Told what is wrong with what is not needed, on any thread.
            progress: Told now and then, after all tasks, how many results others have, and of how many.
        """
        self.looks.begin()
        with self._remote(tell) as remote:
            more = {"began": began, "said": said, "remote": remote}
            runner = Runner(self.plan, self.before, self.state, self.looks, self._cache, **more)
            well = True
            try:
                running = runner.run(
                    wanted, jobs=jobs or os.cpu_count() or 1, keep_going=keep_going, force=force
                )
                with contextlib.closing(running):
                    for ended in running:
                        well = well and ended.how not in ("failed", "skipped")
                        yield ended
            finally:
                self.save(wanted)
            if remote is not None:
                remote.finish(progress)
        if well and asked is not None:
            self._remember(runner, wanted, asked)
        daily(self._cache)

    @contextlib.contextmanager
    def _remote(self, tell: Callable[[str], object]) -> Iterator[Any]:
        """The repository of results, if the manifest names one."""
        if self.plan.results is None:
            yield None
            return
        from loop_kit.task._remote import Remote
        from loop_kit.task._signed import Signed

        signed = Signed.of(self.plan.root, policy=self.plan.trust is not None)
        remote = Remote(self.plan.results, self._cache, signed, tell)
        try:
            yield remote
        finally:
            remote.close()

    def save(self, wanted: Iterable[str]) -> None:
        """Keeps what is known for the next time."""
        whole = len(closure(self.before, wanted)) == len(self.plan.tasks)
        self.state.looks = self.looks.keep(whole=whole)
        self.state.save()

    def _remember(self, runner: Runner, wanted: list[str], asked: Iterable[str]) -> None:
        self.looks.begin()
        found = runner.settled(wanted)
        if found is not None:
            tasks = order(self.before, closure(self.before, wanted))
            told = {"tasks": [task for task in tasks if self.plan.tasks[task].run is not None]}
            _fresh.write(self.plan.root, asked, self._version, **found, told=told)

    def judge(
        self, wanted: Iterable[str], *, ask: bool = True, tell: Callable[[str], object] = lambda text: None
    ) -> list[Verdict]:
        """What `run` would do, and why, without doing it. What another task is yet to write is taken as it is.

        Args:
            wanted: The tasks.
            ask: Whether the repository of results is asked, too.
            tell: Told why it cannot be.
        """
        self.looks.begin()
        with self._remote(tell) if ask else contextlib.nullcontext() as remote:
            return self._judged(wanted, remote)

    def _judged(self, wanted: Iterable[str], remote: Any) -> list[Verdict]:
        runner = Runner(self.plan, self.before, self.state, self.looks, self._cache, remote=remote)
        found: list[Verdict] = []
        due: set[str] = set()
        for name in order(self.before, closure(self.before, wanted)):
            task = self.plan.tasks[name]
            _, key = runner.look(task)
            waits = [dep for dep in self.before[name] if dep in due]
            if task.run is None:
                due.update([name] if waits else [])
                continue
            if not task.cache:
                found.append(Verdict(name, "run", ("its result is not kept: cache = false",)))
            elif runner.is_fresh(task, key) and not waits:
                found.append(Verdict(name, "fresh"))
                continue
            elif not waits and runner.restorable(task, key) is not None:
                found.append(Verdict(name, "cached", tuple(runner.why(task))))
                continue
            else:
                reasons = [why for why in runner.why(task) if not why.startswith("task before it ")]
                reasons += [f"{dep} runs before it" for dep in waits]
                if remote is not None and key in remote.refused:
                    reasons.append(remote.refused[key])
                found.append(Verdict(name, "run", tuple(reasons or runner.why(task))))
            if task.cache:
                due.add(name)
        return found

    def affected(self, changed: Iterable[str]) -> set[str]:
        """The tasks of which files, from the workspace's folder, are inputs or manifests, and all that come after."""
        found: set[str] = set()
        files = set(changed)
        manifests = {
            os.path.normpath(os.path.join(at, "loop.toml")): name for name, at in self.plan.members.items()
        }
        touched = {manifests[path] for path in files & manifests.keys()}
        whole = "loop.toml" in files
        for name in order(self.before, self.plan.tasks):
            task = self.plan.tasks[name]
            own = whole or task.member in touched or any(self.looks.takes(task, path) for path in files)
            if own or not found.isdisjoint(self.before[name]):
                found.add(name)
        return found

    def log(self, task: str) -> str:
        """What a task wrote when its present result was made."""
        last = self.state.last.get(task)
        found = (
            self._cache.find(last.key, self.plan.tasks[task].at) if last is not None and last.key else None
        )
        return "" if found is None else found.log

    def shown(self, wanted: Iterable[str]) -> dict[str, list[str]]:
        """Tasks and what comes before them, for pictures: the edges by task."""
        names = order(self.before, closure(self.before, wanted))
        return {name: list(self.before[name]) for name in names}


@contextlib.contextmanager
def opened(
    root: str,
    member: str,
    version: str,
    *,
    waiting: Callable[[], object] = lambda: None,
    cache: Cache | None = None,
) -> Iterator[Session]:
    """Opens a workspace for this process alone.

    Args:
        root: The workspace's folder.
        member: The folder of the member that is meant, from there; "" for all.
        version: Of loop-kit.
        waiting: Called where another process has it, which is waited for.
        cache: Where results are kept.

    Raises:
        ManifestError: A manifest is wrong.
        LoopError: Nothing can be kept, or a task of the workspace itself asks.
    """
    with alone(root, waiting):
        session = Session(root, member, version, cache)
        try:
            yield session
        finally:
            session.close()
