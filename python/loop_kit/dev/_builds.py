"""Builds what has really changed, once for each change."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from loop_kit.dev._bindings import Declared, declared
from loop_kit.dev._command import Ran, prepared, run
from loop_kit.dev._events import Begun, Cancelled, Done, Event, Failed, Fetching, Member
from loop_kit.dev._files import Files, combined
from loop_kit.dev._imports import Imports
from loop_kit.dev._inputs import inputs_of
from loop_kit.dev._jobs import Job, Run, marked, pause, since
from loop_kit.dev._places import places
from loop_kit.dev._state import OWN, Built, State
from loop_kit.dev._tree import Tree, changes
from loop_kit.dev._watch import Batch
from loop_kit.dev.engine._maker import Makers, in_development
from loop_kit.errors import LoadError, LoopError
from loop_kit.manifest import Component, Manifest
from loop_kit.pkg import Tools

__all__ = ["Builder"]

SETTLE = 0.015
"""Seconds without a change before a command is started: an editor that saves in several steps is let finish. For each
file of a change there is a millisecond more, to a hundred."""

SOON = 0.003
"""The same, before code is bundled for an engine, which is done anew in no time."""


class Builder:
    """Knows what each member of a workspace was made of, and makes it anew when that has changed.

        async with dev.Watcher(manifest) as watcher, dev.Builder(manifest, print) as builder:
            await builder.build(await builder.scan())
            async for batch in watcher:
                members = await builder.changed(batch)
                tasks.create_task(builder.build(members))

    What counts is what files hold: a file that is written as it was, touched, or moved and moved back changes nothing. A
    build whose inputs change while it runs is ended, and its whole process group with it, and begins again. What a build
    makes is kept aside by its digest; one that fails leaves the last good output in its place.

    A build may write into its own inputs: the manifest's `path` never counts; a file of which nothing says so is found
    out, once, by a few more builds, and is remembered.

    Args:
        manifest: The manifest.
        tell: Is told of what happens, at once and on the event loop.
        jobs: How many commands run at once; as many as there are processors by default.
    """

    def __init__(
        self,
        manifest: Manifest,
        tell: Callable[[Event], object] = lambda event: None,
        *,
        jobs: int | None = None,
    ) -> None:
        self.manifest, self._tools = in_development(manifest), Tools.of(manifest)
        self._makers = Makers(manifest.folder)
        self._tell = tell
        self._room = asyncio.Semaphore(jobs or os.cpu_count() or 1)
        self._state = State(manifest.folder)
        self._files = Files(manifest.folder, self._state.files)
        self._imports = Imports(manifest.folder, self._state.imports)
        self._tree = Tree(self._files, self._imports)
        self._seen: dict[Member, str] = {}
        self._jobs: dict[Member, Job] = {}
        self._bound: dict[Member, Declared] = {}
        self._held: dict[Member, set[Member]] = {}
        self._later: set[Member] = set()
        self._looking = asyncio.Lock()

    async def __aenter__(self) -> Builder:
        """Raises LoadError where `.loop` cannot be written."""
        try:
            self._state.prepare()
        except OSError as e:
            where = e.filename or self._state.folder
            raise LoadError(f"cannot keep what is built: {where}: {e.strerror}") from None
        await self._files.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends what runs, and keeps what is known for the next time. Again is harmless."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None and not job.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._makers.aclose()
        await self._files.__aexit__()
        self._save()

    @property
    def members(self) -> tuple[Member, ...]:
        """All that can change, once `scan` has looked."""
        return tuple(self._tree.inputs)

    def digest(self, member: Member) -> str:
        """What is there: of a component the digest of its file, or of its last good build; else of all inputs.

        "" for a component that was never built, or is not there.
        """
        component = self._component(member)
        if component is None:
            return self._tree.digest(member)
        if component.build is None:
            return self._tree.named(member).get(str(component.path)) or ""
        return self._state.built(str(member)).output

    def output(self, name: str) -> Path:
        """The file to load a component from: the copy of its last good build, which no build writes to.

        Where there is none, the manifest's `path`.
        """
        built = self._state.built(str(Member("component", name)))
        if self.manifest.components[name].build is not None and built.output:
            kept = self._state.output(built.output)
            if kept.is_file():
                return kept
        return self.manifest.components[name].path

    def files(self, member: Member) -> frozenset[Path]:
        """The files that a member is made of now."""
        paths = self._tree.snapshot(member).keys() | self._tree.named(member).keys()
        return frozenset(map(Path, paths))

    async def scan(self) -> frozenset[Member]:
        """Looks at everything; returns what must be built, or has changed since the last look."""
        async with self._looking:
            return await self._scan()

    async def replace(self, manifest: Manifest) -> frozenset[Member]:
        """Goes on with another manifest of the same folder; returns what has changed, or must be built."""
        async with self._looking:
            self.manifest, self._tools = in_development(manifest), Tools.of(manifest)
            await self._makers.replace(self.manifest)
            return await self._scan()

    async def changed(self, batch: Batch | Iterable[str | os.PathLike[str]]) -> frozenset[Member]:
        """Looks at what may have changed; returns the members that really have.

        Builds of them that run are ended; `build` begins them again.
        """
        async with self._looking:
            if isinstance(batch, Batch):
                if batch.everything:
                    return await self._scan()
                paths = set(map(str, batch.paths))
            else:
                paths = {os.path.abspath(path) for path in batch}
            self._files.begin(self._state.mark)
            found, self._later = self._later, set()
            return self._react(await self._tree.update(paths)) | (found & self._tree.inputs.keys())

    async def build(self, members: Iterable[Member]) -> list[Done | Failed]:
        """Makes members what their inputs say; returns once all of them are, or have failed, in the same order.

        Members that are not there any more are left out. One whose types of WIT cannot be made has failed with them.

        What is made already, or is being made, is not made twice. Members without anything to run are done at once.
        Giving up waiting ends nothing: `changed` and `aclose` do.
        """
        order = ("bind", "manifest", "provider", "component")
        wanted = [member for member in members if member in self._tree.inputs]
        tasks = {member: self._start(member) for member in sorted(wanted, key=lambda m: order.index(m.kind))}
        waiting = asyncio.gather(*tasks.values(), return_exceptions=True)
        await asyncio.shield(waiting)
        return [tasks[member].result() for member in wanted if not tasks[member].cancelled()]

    # ---- what has changed

    async def _scan(self) -> frozenset[Member]:
        first = not self._tree.inputs
        self._files.begin(self._state.mark)
        found = await self._tree.look()
        self._bound = {Member("bind", made.name): made for made in declared(self.manifest)}
        inputs = inputs_of(self.manifest)
        gone = self._tree.inputs.keys() - inputs.keys()
        self._tree.define(inputs)
        for member in gone:
            self._seen.pop(member, None)
            if (job := self._jobs.pop(member, None)) and job.task is not None:
                job.task.cancel()
        changed = set(self._react(await self._tree.scan(found), everything=True))
        if first:
            changed.clear()
        for member in inputs:
            if first and self._has_task(member) and await self._must_build(member):
                changed.add(member)
        if first:
            self._state.prune(copies=True)
        self._save()
        return frozenset(changed)

    def _react(self, told: dict[Member, set[str]], *, everything: bool = False) -> frozenset[Member]:
        now, changed = time.monotonic(), set()
        for member in self._tree.inputs if everything else told:
            digest, paths = self._tree.digest(member), told.get(member, set())
            if digest == self._seen.get(member):
                continue
            job = self._jobs.setdefault(member, Job())
            if job.run is not None and not self._supersede(job.run, member):
                if paths.isdisjoint(self._tree.named(member)):
                    continue  # it is looked at when the run has ended
            elif job.run is None:
                job.touched |= paths
                job.changed.set()
                if member in self._seen:
                    self._unlearn(member, paths)
            job.at = now + min(len(paths), 100) / 1000  # many files are the work of a tool that may go on
            self._seen[member] = digest
            if job.waits:
                continue  # it looks at its files, or is held back, when it has what it waits for
            changed |= {member, *self._held.pop(member, ())}
        return frozenset(changed) & self._tree.inputs.keys()

    def _supersede(self, running: Run, member: Member) -> bool:
        """Ends a run whose inputs have changed; False if what has may be its own work."""
        different = changes(running.snapshot, self._tree.snapshot(member)) - self._own(member)
        # what is new may be made by the build itself: that is found out when it has ended
        cause = {path for path in different if path in running.snapshot and path not in running.patient}
        if running.inputs != self._tree.inputs[member]:
            cause.add("")
        if cause and not running.cause:
            running.cause = different | {""}
            running.command.cancel()
        return bool(cause)

    def _own(self, member: Member) -> set[str]:
        """What a member's build writes among its inputs, and those that are made of the same files."""
        return {path for peer in self._tree.peers(member) for path in self._state.built(str(peer)).own}

    def _unlearn(self, member: Member, paths: set[str]) -> None:
        """What changes while nothing runs is rather nobody's output."""
        if member.kind == "component":
            built = self._state.built(str(member))
            for path in paths & built.writes.keys():
                built.wrote(path, -OWN)

    def _component(self, member: Member) -> Component | None:
        return self.manifest.components.get(member.name) if member.kind == "component" else None

    def _has_task(self, member: Member) -> bool:
        component = self._component(member)
        return member.kind == "bind" or (component is not None and component.build is not None)

    async def _must_build(self, member: Member) -> bool:
        """Whether what is there is not what the inputs say; puts an output back that is only not in its place."""
        built, component = self._state.built(str(member)), self._component(member)
        snapshot = self._tree.snapshot(member)
        last = {path for path, (digest, _) in built.writes.items() if snapshot.get(path) != digest}
        self._unlearn(member, last)
        inputs = self._tree.sources(member, snapshot, self._own(member))
        if built.running or built.inputs != inputs:
            return True
        if component is None:
            if built.output != await self._made(self._bound[member]):
                built.inputs = ""
            return not built.inputs
        kept, there = self._state.output(built.output), await self._files.digest(str(component.path))
        if (
            not built.output
            or await self._files.digest(str(kept)) != built.output
            or there not in (None, built.output)
        ):
            built.inputs = ""
            return True
        if there is None:
            await self._restore(built, component)
        return False

    async def _restore(self, built: Built, component: Component) -> None:
        """Has the last good output where builds write theirs."""
        if built.output and await self._files.digest(str(component.path), anew=True) != built.output:
            with contextlib.suppress(OSError):
                self._state.restore(built.output, component.path)

    def _save(self) -> None:
        self._state.files, self._state.imports = self._files.keep(), self._imports.keep()
        with contextlib.suppress(OSError):
            self._state.save_files()
        self._note()

    # ---- making it so

    def _start(self, member: Member) -> asyncio.Task[Done | Failed]:
        job = self._jobs.setdefault(member, Job())
        if job.task is None or job.task.done():
            job.task = asyncio.create_task(self._make(member, job), name=f"build {member}")
        return job.task

    async def _make(self, member: Member, job: Job) -> Done | Failed:
        if member.kind == "bind":
            return await self._bind(member, job)
        if (failed := await self._bindings(member, job)) is not None:
            return failed
        built = self._state.built(str(member)) if self._has_task(member) else Built()
        if not self._has_task(member) or self._is_made(member, built):
            job.failed = None
            return self._same(member)
        patient: frozenset[str] = frozenset()
        rounds, ended = 0, True
        last: Done | Failed | None = None
        try:
            while (component := self._component(member)) is not None and component.build is not None:
                await self._settled(member, job)
                if (failed := await self._bindings(member, job)) is not None:
                    last = failed
                    break
                async with self._room:
                    snapshot = await self._look(member)
                    job.touched.clear()
                    job.changed.clear()
                    made_of = self._tree.inputs[member]
                    inputs = self._tree.sources(member, snapshot, self._own(member))
                    kept = self._state.output(built.output).is_file()
                    if inputs == built.inputs and kept and not built.running:
                        job.failed = None
                        break
                    if job.failed is not None and job.failed[0] == inputs:
                        last = job.failed[1]
                        break
                    before = {path: marked(path) for path in patient}
                    started = time.monotonic()
                    self._tell(Begun(member))
                    built.running, ended = True, False
                    self._note()
                    ran, cause = await self._run(component, job, snapshot, patient)
                    took = round((time.monotonic() - started) * 1000)
                    if ran is None:
                        job.run = None
                        self._tell(Cancelled(member))
                        built.running = False
                        patient, rounds = frozenset(cause), 0
                        continue
                    after = await self._look(member)
                    job.run = None  # not before: what it wrote last is told only now
                    different = changes(snapshot, after)
                    different -= self._own(member)
                    wrote = {path for path, mark in before.items() if marked(path) not in (None, mark)}
                    self._learn(built, snapshot, after, wrote, rounds)
                    last, ended = await self._ended(component, built, ran, took), True
                    built.running = False
                    if made_of == self._tree.inputs[member]:
                        inputs = self._tree.sources(member, snapshot, self._own(member))
                        built.inputs = inputs if isinstance(last, Done) else built.inputs
                        job.failed = None if isinstance(last, Done) else (inputs, last)
                    self._note()
                    self._tell(last)
                patient = frozenset(different)
                if not different or any(path in snapshot and path not in before for path in different):
                    rounds = 0
                elif await self._touched(job, different, pause(rounds, took)):
                    patient, rounds = frozenset(), 0
                else:
                    rounds += 1
        finally:
            job.run = None
            if component is not None and not ended:
                await self._restore(built, component)
                built.running = False
        return last or self._same(member)

    def _is_made(self, member: Member, built: Built) -> bool:
        """Whether what is there is what the inputs say that are known: what changes meanwhile is told yet."""
        inputs = self._tree.sources(member, self._tree.snapshot(member), self._own(member))
        return inputs == built.inputs and not built.running and self._state.output(built.output).is_file()

    def _learn(
        self,
        built: Built,
        old: dict[str, str | None],
        new: dict[str, str | None],
        wrote: set[str],
        rounds: int,
    ) -> None:
        """Notes what a build may have written among its inputs: see `OWN`.

        Args:
            built: What is known of it.
            old: Its inputs when it began.
            new: Its inputs when it had ended.
            wrote: Those that were suspected, and were written meanwhile.
            rounds: How many builds there were in a row since somebody else has changed anything.
        """
        for path in new.keys() - old.keys():
            built.wrote(path, 2)
        for path in wrote:
            if old.get(path) == new.get(path) or rounds > 1:
                built.wrote(path, 1)
        built.writes = {path: (new.get(path), sure) for path, (_, sure) in sorted(built.writes.items())}

    async def _look(self, member: Member) -> dict[str, str | None]:
        """The files of a member as they are now; what this tells of others is told with the next change."""
        async with self._looking:
            self._files.begin(self._state.mark)
            told = await self._tree.refresh(member)
            self._seen[member] = self._tree.digest(member)
            told.pop(member, None)
            self._later |= self._react(told)
        return self._tree.snapshot(member)

    def _note(self) -> None:
        # what is not kept is only built anew next time
        with contextlib.suppress(OSError):
            self._state.save_builds()

    async def _settled(self, member: Member, job: Job) -> None:
        """Waits until files have come to rest."""
        component = self._component(member)
        settle = SETTLE if component is None or component.dev is None else SOON
        while (left := job.at + settle - time.monotonic()) > 0:  # noqa: ASYNC110 # it is time that is waited for
            await asyncio.sleep(left)

    async def _touched(self, job: Job, paths: set[str], seconds: float) -> bool:
        """Whether any of these files changes within a time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while job.touched.isdisjoint(paths):
                    await job.changed.wait()
                    job.changed.clear()
        return not job.touched.isdisjoint(paths)

    async def _run(
        self, component: Component, job: Job, snapshot: dict[str, str | None], patient: frozenset[str]
    ) -> tuple[Ran | OSError | LoadError | None, set[str]]:
        """Runs a build; None with what changed, if it was ended for that."""
        member = Member("component", component.name)
        command = asyncio.create_task(self._command(component, member, snapshot))
        running = job.run = Run(self._tree.inputs[member], snapshot, patient, command)
        try:
            await asyncio.wait([command])
        except asyncio.CancelledError:
            command.cancel()
            await asyncio.wait([command])
            raise
        if command.cancelled():
            return None, running.cause
        error = command.exception()
        if error is not None and not isinstance(error, OSError | LoadError):
            raise error
        return error or command.result(), running.cause

    async def _command(self, component: Component, member: Member, snapshot: dict[str, str | None]) -> Ran:
        def tell(text: str) -> None:
            self._tell(Fetching(member, text))

        if component.dev is not None:
            return await self._makers.make(component, snapshot, self._tools, tell)
        command = await prepared(component, self._tools, tell)
        return await run(command, self.manifest.folder)

    async def _ended(
        self, component: Component, built: Built, ran: Ran | OSError | LoadError, took: int
    ) -> Done | Failed:
        """Keeps what a build made, or puts back what the last good one did."""
        member = Member("component", component.name)
        build = component.build
        shown = build if isinstance(build, str) else shlex.join(build or ())
        if isinstance(ran, OSError):
            output, reason = "", f"`{shown}` cannot be started: {ran.strerror or ran}"
        elif isinstance(ran, LoadError):
            reason, _, output = str(ran).partition("\n")
            reason += f" (hint: {ran.hint})" if ran.hint else ""
        elif not ran.ok:
            output, reason = ran.output, f"`{shown}` {ran.exit.reason}"
        else:
            output = ran.output
            try:
                copy = self._state.keep(component.path)
                if copy.stat().st_size:
                    before = built.output
                    built.output = str(await self._files.digest(str(copy), anew=True))
                    self._state.name(copy, built.output)
                    self._state.prune([before])
                    return Done(member, built.output, took, output)
                copy.unlink()
                reason = f"`{shown}` left {component.path} empty"
            except FileNotFoundError:
                reason = f"`{shown}` did not make {component.path}"
            except OSError as e:
                reason = f"what `{shown}` made cannot be kept: {e.strerror or e}"
        await self._restore(built, component)
        return Failed(member, took, reason, output, places(output, self.manifest.folder))

    def _same(self, member: Member) -> Done:
        return Done(member, self.digest(member), fresh=False)

    # ---- types of WIT

    async def _bindings(self, member: Member, job: Job) -> Failed | None:
        """Has the types made that a member is made of, or its own; how that failed, if it did."""
        for other, made in self._bound.items():
            if other not in self._bound:
                continue  # another manifest came meanwhile
            if made.owner != member and not any(
                self._tree.takes(member, str(file)) for _, file in made.files
            ):
                continue
            if self._state.built(str(other)).inputs == self._tree.digest(other):
                continue
            job.waits = True
            try:
                [ended] = await asyncio.shield(asyncio.gather(self._start(other), return_exceptions=True))
            finally:
                job.waits = False
            if isinstance(ended, Failed):
                self._held.setdefault(other, set()).add(member)
                return ended
        return None

    async def _bind(self, member: Member, job: Job) -> Done | Failed:
        built = self._state.built(str(member))
        last: Done | Failed | None = None
        while (made := self._bound.get(member)) is not None:
            await self._settled(member, job)
            async with self._room:
                snapshot = await self._look(member)
                inputs = self._tree.digest(member)
                if built.inputs == inputs:
                    job.failed = None
                    break
                if job.failed is not None and job.failed[0] == inputs:
                    return job.failed[1]
                started = time.monotonic()
                self._tell(Begun(member))
                try:
                    wrote = await asyncio.to_thread(made.write)
                except (LoopError, OSError) as error:
                    text = str(error)
                    reason, found = text.partition("\n")[0], places(text, self.manifest.folder)
                    last = Failed(member, since(started), reason, text, found)
                    job.failed = inputs, last
                else:
                    job.failed, built.inputs, built.output = None, inputs, await self._made(made)
                    await self._written([str(file) for file, anew in wrote.items() if anew])
                    last = Done(member, inputs, since(started))
                self._note()
                self._tell(last)
                if changes(snapshot, await self._look(member)):
                    continue
                break
        return last or self._same(member)

    async def _made(self, made: Declared) -> str:
        """The digest of the files of types."""
        files = [str(file) for _, file in made.files]
        return combined([(file, await self._files.digest(file, anew=True)) for file in files])

    async def _written(self, files: list[str]) -> None:
        """Takes up what was made of WIT before anybody goes on who waits for it."""
        async with self._looking:
            self._files.begin(self._state.mark)
            told = await self._tree.update(files)
            self._later |= self._react(told)
