"""Runs tasks: what is as it should be is left alone, what is known is restored, and the rest runs."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import signal
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from loop_kit.errors import LoadError, LoopError, PackageError
from loop_kit.task._cache import Cache, Output, Result
from loop_kit.task._graph import closure, order
from loop_kit.task._job import Asked, Ended, How, Job, Scratches
from loop_kit.task._key import Parts, differences, environment, packages, program, told, tools_of
from loop_kit.task._looks import Looks
from loop_kit.task._outputs import left, undeclared, written
from loop_kit.task._plan import Plan, Task
from loop_kit.task._state import ANEW, ROOT_VARIABLE, Last, State

if TYPE_CHECKING:
    from loop_kit.pkg import Tools
    from loop_kit.task._remote import Remote

__all__ = ["Runner"]

_ATTEMPTS = 3
"""Times that a task runs whose inputs change meanwhile."""
_GRACE = 5.0
"""Seconds from SIGTERM to SIGKILL."""
_SHOWN = 5
_LINE = 1 << 20
"""Bytes of a line at which it is told as if it ended there."""


class Runner:
    """Runs the tasks of a workspace, some at a time.

    Args:
        plan: The tasks.
        before: What comes before each.
        state: What is known of them.
        looks: The files.
        cache: Results.
        began: Told of each task that begins to run.
        said: Told of what a task writes, a line at a time.
        remote: Results of others, or None.
    """

    def __init__(
        self,
        plan: Plan,
        before: dict[str, tuple[str, ...]],
        state: State,
        looks: Looks,
        cache: Cache,
        *,
        began: Callable[[str], object] = lambda task: None,
        said: Callable[[str, str], object] = lambda task, line: None,
        remote: Remote | None = None,
    ) -> None:
        self.plan, self.before, self.state, self.looks, self.cache = plan, before, state, looks, cache
        self._began, self._said, self._remote = began, said, remote
        self.keys: dict[str, str] = {}
        """Keys of the tasks that are as they should be."""
        self.parts: dict[str, Parts] = {}
        self._tools: dict[tuple[str, str, bool], tuple[str, str]] = {}
        self._packages: dict[str, Tools] = {}
        self._events: queue.SimpleQueue[tuple[Job | Asked, str | None]] = queue.SimpleQueue()
        self._answers: dict[str, Result | None] = {}
        self._allowed: Any = None
        self._watchdog: Any = None
        self._stopped = False
        self._scratches = Scratches()
        for gone in state.last.keys() - plan.tasks.keys():
            del state.last[gone]
        self._owners = {output.path: task for task, last in state.last.items() for output in last.outputs}

    # ---- what is to be done

    def look(self, task: Task) -> tuple[Parts, str]:
        """What a task depends on now; what comes before it must be as it should be."""
        deps = {dep: self.keys[dep] for dep in self.before[task.id]}
        parts = told(self.looks, task, deps, {name: self.tool(task, name)[1] for name in tools_of(task)})
        key = parts.key()
        self.keys[task.id], self.parts[task.id] = key, parts
        return parts, key

    def packages(self, task: Task) -> Tools:
        """What `{tool:NAME}` means for a task."""
        if task.at not in self._packages:
            self._packages[task.at] = packages(self.plan, task.at)
        return self._packages[task.at]

    def tool(self, task: Task, name: str) -> tuple[str, str]:
        """See `program`."""
        named = name not in task.tools
        # all members that have no packages of their own have the same
        at = (task.at if task.at in self.plan.packages else "", name, named)
        if at not in self._tools:
            self._tools[at] = program(self.looks, self.packages(task), name, installed=named)
        return self._tools[at]

    def is_fresh(self, task: Task, key: str) -> bool:
        """Whether a task's outputs are those of its key, and where they should be."""
        last = self.state.last.get(task.id)
        if last is None or last.key != key or self.state.broken_off(task.id) is not None:
            return False
        return all(map(self._in_place, last.outputs))

    def _in_place(self, output: Output) -> bool:
        path = os.path.join(self.plan.root, output.path)
        try:
            found = os.lstat(path)
            if output.is_link:
                return stat.S_ISLNK(found.st_mode) and os.readlink(path) == output.digest
        except OSError:
            return False
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o777 != output.mode:
            return False
        return (self.looks.digest(output.path) or "").removesuffix("+x") == output.digest

    def why(self, task: Task) -> list[str]:
        """Why a task that `look` has looked at is not fresh: what is another than when it ran last."""
        last, parts = self.state.last.get(task.id), self.state.parts(task.id)
        if last is None:
            parts = None
        found = list(differences(parts, self.parts[task.id].json()))
        if last is not None and last.key in ("", ANEW):
            was = "[trust] is another" if last.key else "it failed, or was ended, the last time"
            found.append(was)
        if not found and last is not None:
            found += [
                f"output {output.path} is not as it was"
                for output in last.outputs
                if not self._in_place(output)
            ]
        return found

    def restorable(self, task: Task, key: str) -> Result | None:
        """A result that is kept, here or in the repository, if there is one."""
        if not task.cache:
            return None
        found = self._kept(task, key)
        return self._remote.ask(key, task.at) if found is None and self._remote is not None else found

    def _kept(self, task: Task, key: str) -> Result | None:
        """A result that is in the cache; under a policy one that was made here, since others are judged anew."""
        found = self.cache.find(key, task.at)
        return None if found is not None and found.origin and self.plan.trust is not None else found

    # ---- doing it

    def run(
        self, wanted: Iterable[str], *, jobs: int, keep_going: bool = False, force: bool = False
    ) -> Generator[Ended]:
        """Does what must be done for tasks, and what comes before them; tells of each as it ends.

        Args:
            wanted: The tasks.
            jobs: How many run at once.
            keep_going: Whether what does not need one that failed is still begun.
            force: Whether those that are wanted run in any case.

        Raises:
            KeyboardInterrupt: After all that ran has ended.
        """
        wanted = list(wanted)
        forced = set(wanted) if force else set()
        waiting = order(self.before, closure(self.before, wanted))
        left = {task: set(self.before[task]) for task in waiting}
        after: dict[str, list[str]] = {task: [] for task in waiting}
        for name in waiting:
            for dep in self.before[name]:
                after[dep].append(name)

        def done(name: str) -> None:
            for other in after[name]:
                left[other].discard(name)

        running: dict[str, Job] = {}
        asked: set[str] = set()
        bad: set[str] = set()
        try:
            while waiting or running or asked:
                ready = [] if bad and not keep_going else [t for t in waiting if not left[t]]
                for name in ready:
                    if len(running) >= jobs and (self._remote is None or self._answers.get(name, 0) is None):
                        continue
                    waiting.remove(name)
                    task = self.plan.tasks[name]
                    if bad & set(self.before[name]):
                        bad.add(name)
                        yield self._skipped(name, bad)
                        done(name)
                        continue
                    ended = self._begin(task, running, 1, force=name in forced, room=len(running) < jobs)
                    if isinstance(ended, Asked):
                        asked.add(name)
                    elif ended is not None:
                        bad.update([name] if ended.how == "failed" else [])
                        yield ended
                        done(name)
                if running or asked:
                    job, line = self._events.get()
                    if isinstance(job, Asked):
                        asked.discard(job.task)
                        self._answers[job.task] = job.found
                        waiting.insert(0, job.task)
                        continue
                    if line is not None:
                        self._said(job.task.id, line)
                        continue
                    del running[job.task.id]
                    ended = self._finish(job, running)
                    if ended is not None:
                        bad.update([job.task.id] if ended.how == "failed" else [])
                        yield ended
                        done(job.task.id)
                elif waiting and bad and not keep_going:
                    break
        except BaseException:
            self._end_all(running)
            raise
        finally:
            if self._watchdog is not None:
                self._watchdog.release()
                self._watchdog = None
            if self._allowed is not None:
                self._allowed.close()
                self._allowed = None
            self._scratches.close()
        for name in waiting:
            yield self._skipped(name, bad)

    def _skipped(self, name: str, bad: set[str]) -> Ended:
        cause = next((dep for dep in self.before[name] if dep in bad), None)
        return Ended(name, "skipped", reason=f"{cause} failed" if cause else "another task failed")

    def _begin(
        self, task: Task, running: dict[str, Job], attempt: int, *, force: bool, room: bool = True
    ) -> Ended | Asked | None:
        """Looks at a task, and starts it where it must run and there is room for it.

        Returns what came of it where it need not, or that it must wait until something is known.
        """
        try:
            parts, key = self.look(task)
            if task.run is None:
                return Ended(task.id, "fresh")
            notes: list[str] = []
            if task.cache and not force and (spared := self._spared(task, parts, key, notes)) is not None:
                return spared
            if not room:
                waits = Asked(task.id)
                self._events.put((waits, None))
                return waits
            self._clear(task)
            job = Job(task, parts, key, time.monotonic(), attempt, self.state.began(task.id), notes=notes)
            running[task.id] = job  # before it starts, so that whatever comes now ends it
            self._start(job)
        except (OSError, LoopError) as error:
            running.pop(task.id, None)
            if isinstance(error, OSError):
                where = f": {error.filename}" if error.filename is not None else ""
                return Ended(task.id, "failed", reason=f"{error.strerror or error}{where}")
            return Ended(task.id, "failed", reason=f"{error}" + (f" ({error.hint})" if error.hint else ""))
        return None

    def _spared(self, task: Task, parts: Parts, key: str, notes: list[str]) -> Ended | Asked | None:
        if self.is_fresh(task, key):
            return Ended(task.id, "fresh")
        result = self._kept(task, key)
        if result is None and (answer := self._answers.get(task.id)) is not None and answer.key == key:
            result = answer
        if result is not None:
            return self._restored(task, parts, key, result, notes)
        if self._remote is None or task.id in self._answers:
            return None

        def answered(found: Result | None) -> None:
            self._events.put((Asked(task.id, found), None))

        self._remote.fetch(key, task.at, answered)
        return Asked(task.id)

    def _restored(self, task: Task, parts: Parts, key: str, result: Result, notes: list[str]) -> Ended | None:
        missing = [output for output in result.outputs if not self._in_place(output)]
        kept = {output.path for output in result.outputs}
        made = list(self._made(task))
        try:
            self._own(task, result.outputs)
            self.cache.restore(self.plan.root, missing, self.state.scratch)
        except PackageError as error:
            notes.append(f"what is kept of it cannot be used: {error}")
            self.cache.forget(key, result)
            return None
        for output in made:
            if output.path not in kept:
                self._remove(output)
        self._record(task, parts, key, result.outputs)
        how: How = "fresh" if result.outputs and not missing else "cached"
        return Ended(task.id, how, result.seconds, result.log)

    def _clear(self, task: Task) -> None:
        """Removes what the task has written before, so that what it finds is its inputs alone."""
        for output in self._made(task):
            self._remove(output)
        if (last := self.state.last.get(task.id)) is not None:
            last.key = ""
        outputs = self.looks.globs(task)[1]
        for base in outputs.bases:
            folder = os.path.dirname(base) if base in outputs.literals else base
            os.makedirs(os.path.join(self.plan.root, folder), exist_ok=True)

    def _made(self, task: Task) -> Iterator[Output]:
        """What is there of a task, as far as it is known, also of one that was killed."""
        if (last := self.state.last.get(task.id)) is not None:
            yield from last.outputs
        if (since := self.state.broken_off(task.id)) is not None:
            yield from left(self.looks, task, since)

    def _remove(self, output: Output) -> None:
        path = os.path.join(self.plan.root, output.path)
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.lstat(path).st_mode):
                return
            os.unlink(path)

    def _own(self, task: Task, outputs: Iterable[Output]) -> None:
        for output in outputs:
            other = self._owners.get(output.path, task.id)
            if other != task.id:
                error = LoadError(f"{output.path} is an output of {other} too")
                error.hint = "give each task a folder of its own for what it writes"
                raise error

    def _record(self, task: Task, parts: Parts, key: str, outputs: tuple[Output, ...]) -> None:
        last = self.state.last.get(task.id)
        for output in last.outputs if last is not None else ():
            self._owners.pop(output.path, None)
        self._owners.update({output.path: task.id for output in outputs})
        told = "" if last is None else last.told
        self.state.last[task.id] = Last(key, outputs, told)
        self.state.ended(task.id)
        if told != parts.key():
            self.state.save_parts(task.id, parts.key(), parts.json())
        self.looks.begin()  # what it wrote may be an input of others

    # ---- a command

    def _argv(self, task: Task) -> list[str]:
        assert task.run is not None
        if "{tool:" in str(task.run):
            import asyncio

            tools = self.packages(task)
            run = asyncio.run(tools.prepared(task.run, lambda text: self._said(task.id, text)))
        else:
            run = task.run
        return ["/bin/sh", "-c", run] if isinstance(run, str) else list(run)

    def _start(self, job: Job) -> None:
        from loop_kit.placements._watchdog import Watchdog

        if self._watchdog is None:
            self._watchdog = Watchdog.acquire()
        argv = self._argv(job.task)
        self._began(job.task.id)
        ruleset = self._ruleset(job.task)
        job.thread = threading.Thread(
            target=self._work, args=(job, argv, ruleset), name=f"task {job.task.id}", daemon=True
        )
        job.thread.start()

    def _ruleset(self, task: Task) -> int | None:
        from loop_kit.task import _sandbox

        if not task.sandbox or not _sandbox.available():
            return None
        if self._allowed is None:
            self._allowed = _sandbox.Allowed(self.plan.root)
        before = closure(self.before, [task.id])
        folders = [base for name in before for base in self._written_to(self.plan.tasks[name])]
        at = task.at
        while True:
            folders += [os.path.join(at, name) for name in ("node_modules", ".venv", "venv")]
            if not at:
                break
            at = os.path.dirname(at)
        files = [*self.looks.inputs(task)]
        for name in before - {task.id}:
            last = self.state.last.get(name)
            files += [output.path for output in last.outputs] if last is not None else []
        full = [[os.path.join(self.plan.root, path) for path in paths] for paths in (files, folders)]
        found: int = self._allowed.ruleset(*full)
        return found

    def _written_to(self, task: Task) -> list[str]:
        """Folders that hold nothing but what a task writes."""
        outputs = self.looks.globs(task)[1]
        return [base for base in outputs.bases if base not in (".", task.at, *outputs.literals)]

    def _work(self, job: Job, argv: list[str], ruleset: int | None) -> None:
        """On a thread of its own."""
        from loop_kit.task._command import Running

        task, rest = job.task, bytearray()

        def said(data: bytes) -> None:
            rest.extend(data)
            *lines, last = rest.split(b"\n")
            rest[:] = last
            for line in lines:
                self._events.put((job, line.decode("utf-8", "replace")))
            if len(rest) >= _LINE:
                self._events.put((job, rest.decode("utf-8", "replace")))
                rest.clear()

        try:
            with contextlib.ExitStack() as stack:
                if ruleset is not None:
                    stack.callback(os.close, ruleset)
                scratch = stack.enter_context(self._scratches.one())
                env = environment(task, scratch) | {ROOT_VARIABLE: self.plan.root}
                folder = os.path.join(self.plan.root, task.at)
                held = self._also(ruleset, scratch)
                running = Running(argv, folder, env, held, self._watchdog.fileno(), said)
                job.stop = running.stop
                if self._stopped:
                    running.stop(signal.SIGKILL)
                ended, job.log = running.wait()
                if rest:
                    self._events.put((job, rest.decode("utf-8", "replace")))
                job.seconds = time.monotonic() - job.began
                job.reason = ended.reason
                if ended.code == 0:
                    job.outputs = tuple(written(self.looks, self.cache, task))
                    job.notes += undeclared(self.looks, task, job.since)
                    job.ok = True
        except FileNotFoundError as error:
            job.reason = f"there is no program {error.filename!r}"
        except (OSError, LoopError) as error:
            job.reason = str(error)
        finally:
            self._events.put((job, None))

    @staticmethod
    def _also(ruleset: int | None, scratch: str) -> int | None:
        """Lets a task read its own temporary files."""
        if ruleset is not None:
            from loop_kit.task import _sandbox

            _sandbox.allow(ruleset, scratch)
        return ruleset

    def _finish(self, job: Job, running: dict[str, Job]) -> Ended | None:
        """Keeps a result; returns None where the task has begun again."""
        task = job.task
        self.looks.begin()
        last = self.state.last.get(task.id)
        told = "" if last is None else last.told
        if not job.ok:
            self.state.last[task.id] = Last("", left(self.looks, task, job.since), told)
            self.state.ended(task.id)
            hint = self._hint(task, job.log)
            return Ended(task.id, "failed", job.seconds, job.log, job.reason, (*job.notes, *hint))
        try:
            self._own(task, job.outputs)
        except LoadError as error:
            others = {path for path, owner in self._owners.items() if owner != task.id}
            mine = tuple(output for output in job.outputs if output.path not in others)
            self.state.last[task.id] = Last("", mine, told)
            self.state.ended(task.id)
            return Ended(task.id, "failed", job.seconds, job.log, f"{error} ({error.hint})", tuple(job.notes))
        now, key = self.look(task)
        if key != job.key:
            changed = "; ".join(list(differences(job.parts.json(), now.json()))[:_SHOWN])
            self.state.last[task.id] = Last("", job.outputs, told)
            self.state.ended(task.id)
            if job.attempt < _ATTEMPTS:
                again = self._begin(task, running, job.attempt + 1, force=True)
                assert not isinstance(again, Asked)  # there is room, and nobody is asked
                return again
            # nobody knows what it is of: whatever is made of it is of something else each time
            self.keys[task.id] = secrets.token_hex(32)
            note = f"it is not kept: while it ran, {changed}"
            return Ended(task.id, "ran", job.seconds, job.log, notes=(*job.notes, note))
        if task.cache:
            result = Result(key, job.outputs, job.log, job.seconds)
            try:
                if self.cache.keep(result) and self._remote is not None:
                    self._remote.keep(result)
            except OSError as error:
                job.notes.append(f"its result is not kept: {error.strerror or error}: {error.filename}")
        self._record(task, job.parts, key if task.cache else "", job.outputs)
        return Ended(task.id, "ran", job.seconds, job.log, notes=tuple(job.notes))

    def _hint(self, task: Task, log: str) -> list[str]:
        from loop_kit.task import _sandbox

        words = ("permission denied", "eacces", "permissionerror")
        if task.sandbox and _sandbox.available() and any(word in log.lower() for word in words):
            return [
                "it may read its inputs alone: is a file not among `inputs`? `sandbox = false` lets it read all"
            ]
        return []

    def _end_all(self, running: dict[str, Job]) -> None:
        """Ends all that runs, first kindly, and waits for it."""
        self._stopped = True
        try:
            for job in running.values():
                job.stop(signal.SIGTERM)
            end = time.monotonic() + _GRACE
            for job in running.values():
                _join(job, max(0.0, end - time.monotonic()))
        finally:
            for job in running.values():
                job.stop(signal.SIGKILL)
            for job in running.values():
                _join(job, _GRACE)

    def settled(self, wanted: Iterable[str]) -> dict[str, Any] | None:
        """What decides whether tasks are fresh, as `_fresh.write` takes it; None where signatures do not tell it yet."""
        from loop_kit.task._key import installed

        paths, env, written = set(self.plan.watch), {"LOOP_TRUST"}, set[str]()
        tools: dict[str, str] = {}
        locks = set[str]()
        for name in closure(self.before, wanted):
            task = self.plan.tasks[name]
            if task.run is None:
                continue
            last = self.state.last.get(name)
            if not task.cache or last is None or last.key != self.keys.get(name):
                return None
            paths.update(self.parts[name].inputs, self.looks.watch(task), installed(self.looks, task))
            written.update(output.path for output in last.outputs)
            env.update(task.env)
            for tool in tools_of(task):
                path = self.tool(task, tool)[0]
                if path:
                    tools[tool] = path
                else:
                    locks.update(
                        os.path.relpath(scope.lock, self.plan.root) for scope in self.packages(task).scopes
                    )
        # those that were just written first: they are most likely to be too new
        if not all(map(self.looks.settled, (*written, *tools.values(), *locks, *paths))):
            return None
        return {"paths": paths | written | locks | set(tools.values()), "env": env, "tools": tools}


def _join(job: Job, seconds: float) -> None:
    if job.thread is not None and job.thread.ident is not None:
        job.thread.join(seconds)
