"""Sessions on an asyncio loop: what happens in one, and the objects that its calls reach."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import json
import secrets
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loop_kit import _asking, _core
from loop_kit._invocation import at_work
from loop_kit.errors import LinkError, LinkProblem, NotGranted, PeerError
from loop_kit.routes import attribute_of, is_async, members, unfit

__all__ = ["LIFECYCLE", "Events", "aclose_of", "all_closed", "targets"]

Target = tuple[Any, bool]

LIFECYCLE = "loop:core/lifecycle"
"""How a provider hands on what it knows, in any version."""


def targets(contract: _core.Contract, provider: Any) -> list[Target]:
    """What answers each function of `contract`, in the order of their numbers, and whether it is a coroutine's.

    Raises:
        LinkError: Members are missing or do not fit; every one is listed.
    """
    own = getattr(provider, "_loop_targets", None)
    return targets_of(contract, lambda _: provider) if own is None else own(contract)


def targets_of(contract: _core.Contract, served: Callable[[str], Any]) -> list[Target]:
    """The same where each interface may be served by an object of its own."""
    made: list[Target] = []
    problems: list[LinkProblem] = []
    for interface in contract.interfaces():
        provider = served(interface.name)
        for function in interface.functions:
            owner, attribute = attribute_of(function.name)
            holder = provider if owner is None else getattr(provider, owner, None)
            if owner is not None and function.name.startswith("[method]"):
                method = getattr(holder, attribute, None)
                made.append((attribute, method is not None and is_async(method)))
                continue
            name = attribute if owner is None else f"{owner}.{attribute}" if attribute else owner
            target = holder if not attribute else getattr(holder, attribute, None)
            if target is None or not callable(target):
                message = (
                    "is not callable" if target is not None else f"is missing; needed for {function.wit}"
                )
                problems.append(LinkProblem(interface.name, name, message, members(provider)))
                continue
            complaint = None if not attribute else unfit(target, function, owner is not None)
            if complaint:
                problems.append(LinkProblem(interface.name, name, complaint, ()))
            made.append((target, is_async(target)))
    if problems:
        raise LinkError(problems)
    return made


@dataclass
class Events:
    """Told what happens in a session.

    Attributes:
        make: Makes what a link's calls reach from its name, grant and config; None: nothing is served under a grant.
        contract: What is exported.
        on_reload: Reads code anew; raises where it cannot.
        made: What serves each link, by its number, with the name, grant and config that it was made for.
    """

    contract: _core.Contract | None = None
    make: Callable[[str, Any, Any], Any] | None = None
    on_reload: Callable[[], None] | None = None
    on_closed: Callable[[Exception], None] | None = None
    opened: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    over: asyncio.Future[Exception] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    wire: _core.Wire | None = None
    made: dict[int, tuple[Any, tuple[str, Any, Any]]] = field(default_factory=dict)
    retired: list[Any] = field(default_factory=list)
    jobs: deque[_core.Job] = field(default_factory=deque)

    def ready(self, software: str, identity: str, instance: str, generation: int) -> None:
        if not self.opened.done():
            self.opened.set_result(None)

    def closed(self, error: Exception) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # whoever waits is told; without anyone it is no mistake
        if not self.over.done():
            self.over.set_result(error)
        while self.jobs:
            self.jobs.popleft().close()
        for number in list(self.made):
            self.unbind(number)
        while self.retired:
            _close(self.retired.pop())
        if self.on_closed is not None:
            self.on_closed(error)

    def leaving(self, error: Exception) -> None:
        pass

    def work(self, jobs: list[_core.Job]) -> None:
        self.jobs.extend(jobs)
        self._work()

    def _work(self) -> None:
        if self.jobs:
            loop = asyncio.get_running_loop()
            loop.create_task(_answer(self.jobs))  # noqa: RUF006 - the session keeps it while it waits
            # those that are left when one of them waits
            loop.call_soon(self._work)

    def bind(self, number: int, name: str, grant: str, config: str) -> list[Target]:
        if self.make is None or self.contract is None:
            raise NotGranted(f"{name}: nothing here is served under a grant", name)
        asked = name, _json(grant), _json(config)
        made = self.make(*asked)
        found = targets(self.contract, made)
        self.made[number] = made, asked
        _asking.note(made, asking(self))
        return found

    def unbind(self, number: int) -> None:
        made, _ = self.made.pop(number, (None, None))
        _asking.forget(made)
        _close(made)

    def remade(self, make: Callable[[str, Any, Any], Any]) -> Callable[[], None]:
        """Makes every link's object anew, and returns what puts them in their places.

        Raises whatever making one raises, and LinkError where it does not fit; then all stays as it was.
        """
        assert self.contract is not None
        made = {number: (make(*asked), asked) for number, (_, asked) in self.made.items()}
        found = {number: targets(self.contract, new) for number, (new, _) in made.items()}

        def commit() -> None:
            assert self.wire is not None
            # calls that have begun end in the old objects, which are closed with the session
            self.retired += [old for old, _ in self.made.values()]
            self.make, self.made = make, made
            for new, _ in made.values():
                _asking.note(new, asking(self))
            for number, functions in found.items():
                self.wire.serve(number, functions)

        return commit

    def reload(self, number: int) -> None:
        assert self.wire is not None
        try:
            if self.on_reload is None:
                raise PeerError("this provider cannot reload")
            self.on_reload()
        except Exception as error:
            self.wire.reloaded(number, error)
        else:
            self.wire.reloaded(number)


def asking(*all_: Events) -> Callable[[], Coroutine[Any, Any, None]]:
    """Asks whoever is connected to exchange what is served in these sessions."""
    known = [weakref.ref(events) for events in all_]

    async def ask() -> None:
        there = [events.wire for each in known if (events := each()) is not None and events.wire is not None]
        if not there:
            raise PeerError("nobody is connected who could exchange it")
        for wire in there:
            await wire.reload(0)

    return ask


_closing: set[asyncio.Task[None]] = set()


def _close(made: Any) -> None:
    """Has an object that served a link let go of what it holds."""
    aclose, close = aclose_of(made), getattr(made, "close", None)
    if aclose is not None:
        task = asyncio.get_running_loop().create_task(aclose())
        _closing.add(task)
        task.add_done_callback(_closing.discard)
    elif callable(close):
        close()


def aclose_of(made: Any) -> Callable[[], Coroutine[Any, Any, None]] | None:
    """The `aclose()` of an object, or None: its class has none. Whatever answers to any name does not count."""
    aclose = getattr(type(made), "aclose", None)
    return functools.partial(aclose, made) if inspect.iscoroutinefunction(aclose) else None


async def all_closed(patience: float) -> None:
    """Waits for what `aclose()` of objects does that served links on this loop, for at most `patience` seconds."""
    loop = asyncio.get_running_loop()
    if closing := [task for task in _closing if task.get_loop() is loop]:
        await asyncio.wait(closing, timeout=patience)


async def _answer(jobs: deque[_core.Job]) -> None:
    """Answers calls, one after the other as long as none of them waits; one that does has the task to itself meanwhile.

    A task for each call would cost more than most of them do.
    """
    task = asyncio.current_task()
    assert task is not None
    clean = contextvars.copy_context()
    try:
        while jobs:
            at_work[task] = job = jobs.popleft()
            try:
                result = await job.begin(task)
            except BaseException as error:
                job.fail(error)
            else:
                job.give(result)
            # what one call has set, and that it was cancelled, is nothing to the next
            if task.cancelling() or contextvars.copy_context() != clean:
                return
    finally:
        at_work.pop(task, None)


@dataclass
class _Shared:
    hub: _core.Hub
    engine: _core.Engine  # whose threads the hub's connections need
    users: int = 0


_hubs: dict[asyncio.AbstractEventLoop, _Shared] = {}


def take_hub(loop: asyncio.AbstractEventLoop) -> _core.Hub:
    """The loop's hub, shared by its sessions; to be given back."""
    shared = _hubs.get(loop)
    if shared is None:
        engine = _core.Engine()
        shared = _hubs[loop] = _Shared(_core.Hub.create(loop, engine), engine)
    shared.users += 1
    return shared.hub


def hub_and_engine(loop: asyncio.AbstractEventLoop) -> tuple[_core.Hub, _core.Engine]:
    """The loop's hub, which somebody has taken and not yet given back, and its engine."""
    shared = _hubs[loop]
    return shared.hub, shared.engine


def give_hub(loop: asyncio.AbstractEventLoop) -> None:
    """Gives the loop's hub back; the last to do so closes it."""
    shared = _hubs[loop]
    shared.users -= 1
    if not shared.users:
        del _hubs[loop]
        shared.hub.close()


def _json(text: str) -> Any:
    return json.loads(text) if text else None


def instance_id() -> str:
    """Names this run of a peer."""
    return secrets.token_hex(8)


@functools.lru_cache(maxsize=64)
def functions(contract: _core.Contract) -> Mapping[str, int]:
    """Numbers of functions by their paths, and by bare names where only one interface has them."""
    found: dict[str, int] = {}
    twice: set[str] = set()
    number = 0
    for interface in contract.interfaces():
        for function in interface.functions:
            bare = interface.name.partition("@")[0]
            found[f"{interface.name}#{function.name}"] = number
            found[f"{bare}#{function.name}"] = number
            if function.name in found:
                twice.add(function.name)
            found[function.name] = number
            number += 1
    return {path: n for path, n in found.items() if path not in twice}


def names(wanted: Sequence[str] | str | None) -> list[str]:
    """One interface or several as a list."""
    if wanted is None:
        return []
    return [wanted] if isinstance(wanted, str) else list(wanted)
