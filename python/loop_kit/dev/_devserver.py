"""`loop:devserver` of a running workspace."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import difflib
import functools
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, get_args

from loop_kit import manifest as manifests
from loop_kit._core import Route
from loop_kit._diff import Change
from loop_kit._members import Key, Linked, Member
from loop_kit._swaps import DRAIN
from loop_kit._types import Err
from loop_kit.dev._commands import Commands
from loop_kit.dev._journal import Journal, Subscriber, Topic
from loop_kit.dev._measured import Measured, processes
from loop_kit.dev._sources import SpanSource, member_of, refusal_of
from loop_kit.dev._view import View
from loop_kit.errors import LoopError
from loop_kit.manifest._match import ImportName
from loop_kit.manifest.sentences import of_link
from loop_kit.workspace import Workspace

__all__ = ["Devserver"]

_TOPICS: tuple[Topic, ...] = get_args(Topic)
MOST_HISTORY = 10_000
"""Events that a subscriber gets of the past at most."""
SUBSCRIPTIONS = 8
"""Of one session; the next takes the place of the oldest."""
FORGOTTEN = 30.0
"""Seconds after which the times of calls are no longer measured when nobody asks for them."""

_log = logging.getLogger("loop_kit.workspace")


class Devserver:
    """Serves `loop:devserver/workspace`, `loader`, `events`, `metrics` and `command` for one workspace.

    Everything runs on the workspace's event loop, but `line` may be called from any thread.

    Args:
        workspace: The workspace.
        instance: Names this run.
        version: Of loop-kit.
        stop: Called when somebody asks for the end.
        journal: Where what happens is told; others may tell it too, as builds and assets.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        instance: str,
        version: str,
        stop: Callable[[], object],
        journal: Journal | None = None,
    ) -> None:
        self.journal = journal or Journal()
        self.served: dict[str, str] = {}
        self._workspace = workspace
        self._summary = {
            "name": workspace.manifest.name,
            "folder": str(workspace.manifest.folder),
            "pid": os.getpid(),
            "instance": instance,
            "started": int(time.time() * 1000),
            "version": version,
        }
        self._stop = stop
        self._spans = SpanSource(self.journal)
        self._traffic = _Traffic()
        self._measured = Measured()
        self._known_phases: dict[tuple[str, str], tuple[str, int]] = {}
        self._subscribers: list[Subscriber] = []
        self._commands = Commands(workspace, self)
        workspace.shown = functools.partial(View, self)
        self._unlisten = workspace.listen(self._changed)

    def close(self) -> None:
        """Listens no longer to the workspace."""
        self._unlisten()
        self._traffic.close()
        self._measured.close()

    def visit(self) -> Devserver:
        """The same for one session, whose subscriptions end by `leave`."""
        visit = copy.copy(self)
        visit._subscribers = []
        return visit

    def leave(self) -> None:
        """The session is over."""
        for subscriber in [*self._subscribers]:
            subscriber.close()
        self._subscribers.clear()

    def line(self, line: dict[str, Any], refusal: bool) -> None:
        """Tells a line of the log, as `logged` does."""
        size = len(line["message"]) + sum(len(key) + len(value) for key, value in line["fields"])
        self.journal.tell("lines", ("line", line), size)
        if refusal:
            self.journal.tell("refusals", ("refusal", refusal_of(line)), size)

    def _changed(self, member: Member) -> None:
        told = member_of(member)
        self.journal.tell("members", ("member", told), len(member.reason))
        key, now = (member.kind, member.name), (member.phase, member.generation)
        if self._known_phases.get(key) == now:
            return
        self._known_phases[key] = now
        extra = {"component": member.name}
        if member.phase == "failed":
            end = "; it failed so often that it is not started again" if member.crash_loop else ""
            _log.error("failed: %s%s", told["reason"], end, extra=extra)
        else:
            _log.info("is %s (generation %d)", member.phase, member.generation, extra=extra)

    # loop:devserver/workspace

    def about(self) -> dict[str, Any]:
        """What the workspace is."""
        return {**self._summary, "served": [*self.served.items()]}

    def members(self) -> list[dict[str, Any]]:
        """All members."""
        return [member_of(member) for member in self._workspace.members()]

    def links(self) -> list[dict[str, Any]]:
        """All links of what is loaded."""
        spent, tallies = self._traffic.read(self._workspace.routes()), self._workspace.tallies()
        return [self._link(link, tallies, spent) for link in self._workspace.links()]

    def _link(
        self,
        linked: Linked,
        tallies: Mapping[tuple[Key, str], tuple[int, int, int]],
        spent: Mapping[str, Any],
    ) -> dict[str, Any]:
        manifest = self._workspace.manifest
        package = ImportName.parse(linked.interface).package
        traffic = None
        if (tally := tallies.get((linked.importer, linked.interface))) is not None:
            calls, errors, busy = tally
            within = spent.get(f"{linked.importer.name}/{linked.interface}")
            traffic = {"calls": calls, "errors": errors, "busy": busy, "spent": within}
        return {
            "importer": linked.importer.name,
            "interface": linked.interface,
            "provider": linked.provider.name,
            "grants": of_link(manifest, package, linked.link),
            "traffic": traffic,
        }

    async def restart(self, member: str) -> None:
        """Ends a member in good order and starts it again."""
        self._known(member)
        with _refused(member):
            await self._workspace.restart(member)

    async def swap(
        self, member: str, use: str | None, dry_run: bool, drain: int | None
    ) -> list[dict[str, str]]:
        """Has another provider serve in the place of one, or a member's code read anew."""
        self._known(member)
        workspace, seconds = self._workspace, _seconds(drain)
        # one of several processes of a provider goes with the others
        name = member.partition(" ")[0]
        with _refused(member):
            if name in workspace.manifest.providers:
                changes = await workspace.swap(name, use, dry_run=dry_run, drain=seconds)
            elif use is None:
                changes = await workspace.replace(name, dry_run=dry_run, drain=seconds)
            else:
                raise Err(("refused", f"{name} is a component; what it is stands in its `path`"))
        return _told(changes)

    async def apply(self, dry_run: bool, drain: int | None) -> list[dict[str, str]]:
        """Has the workspace be what its manifest says now."""
        with _refused("the workspace"):
            manifest = await asyncio.to_thread(manifests.load, self._workspace.manifest.path)
            changes = await self._workspace.apply(manifest, dry_run=dry_run, drain=_seconds(drain))
        return _told(changes)

    async def stop(self) -> None:
        """Has the workspace end in good order."""
        _log.info("asked to end")
        self._stop()

    def _known(self, name: str) -> None:
        names = [member.name for member in self._workspace.members()]
        if name not in names:
            raise Err(("unknown", difflib.get_close_matches(name, names, 3)))

    # loop:devserver/loader

    async def load(self, component: str) -> None:
        """Builds and loads a component of the manifest."""
        if component not in self._workspace.manifest.components:
            near = difflib.get_close_matches(component, self._workspace.manifest.components, 3)
            raise Err(("unknown", near))
        with _refused(component):
            await self._workspace.load(component)

    # loop:devserver/events

    async def subscribe(self, topics: Any, history: int) -> AsyncIterator[Any]:
        """What was kept, and what happens."""
        bits = int(getattr(topics, "value", topics))
        wanted = [topic for bit, topic in enumerate(_TOPICS) if bits >> bit & 1]
        # whoever stops to read is not noticed before there is something to tell
        while len(self._subscribers) >= SUBSCRIPTIONS:
            self._subscribers.pop(0).close()
        subscriber = self.journal.subscribe(wanted, min(history, MOST_HISTORY))
        self._subscribers.append(subscriber)

        async def told() -> AsyncIterator[Any]:
            try:
                with self._spans.wanted() if "spans" in wanted else contextlib.nullcontext():
                    async for event in subscriber.events():
                        yield event
            finally:
                if subscriber in self._subscribers:
                    self._subscribers.remove(subscriber)

        return told()

    # loop:devserver/metrics

    def measured(self) -> dict[str, Any]:
        """What components measure, and what the system says of the processes."""
        series, lost = self._measured.read()
        members = {
            (member.name, member.pid) for member in self._workspace.members() if member.pid is not None
        }
        own = processes([("", os.getpid()), *sorted(members)])
        return {"series": [*own, *series], "lost": lost}

    # loop:devserver/command

    async def commands(self) -> list[dict[str, str]]:
        """The commands that the workspace offers."""
        return await self._commands.all()

    async def run(self, name: str, args: list[str]) -> tuple[int, str]:
        """Runs a command."""
        return await self._commands.run(name, args)


def _seconds(drain: int | None) -> float:
    return DRAIN if drain is None else drain / 1000


def _told(changes: Iterable[Change]) -> list[dict[str, str]]:
    return [{"member": item.member, "before": item.before, "after": item.after} for item in changes]


@contextlib.contextmanager
def _refused(member: str) -> Any:
    try:
        yield
    except KeyError:
        raise Err(("refused", f"{member} is not running: nothing has needed it yet")) from None
    except LoopError as error:
        hint = f"\nhint: {error.hint}" if error.hint and error.hint not in str(error) else ""
        raise Err(("refused", f"{error}{hint}")) from None


class _Traffic:
    """Sums the times of calls over routes, which keep a bounded number of them until they are asked."""

    def __init__(self) -> None:
        self._sums: dict[str, list[int]] = {}
        self._watched: list[Route] = []
        self._end: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Measures no longer."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        for route in self._watched:
            route.watch(False)
        self._watched.clear()

    def read(self, routes: Mapping[str, Route]) -> dict[str, Any]:
        """Where the time of calls over each route went, since it was first asked for, by the routes' names."""
        if self._end is not None:
            self._end.cancel()
        self._end = asyncio.get_running_loop().call_later(FORGOTTEN, self.close)
        self._watched = [*routes.values()]
        told = {}
        for name, route in routes.items():
            sums = self._sums.setdefault(name, [0] * 6)
            for encode, session, decode, theirs in route.times():
                queue, undone, provider, done = theirs or (0, 0, 0, 0)
                within = min(session, queue + undone + provider + done)
                parts = (1, encode, session - within, queue, undone + provider + done, decode)
                sums[:] = [old + new for old, new in zip(sums, parts, strict=True)]
            route.watch(True)
            names = ("calls", "encode", "session", "queue", "provider", "decode")
            told[name] = dict(zip(names, sums, strict=True))
        return told
