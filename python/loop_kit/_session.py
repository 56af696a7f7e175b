"""Sessions on an asyncio loop: what happens in one, and the objects that its calls reach."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import secrets
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_kit import _core
from loop_kit.errors import LinkError, LinkProblem, NotGranted, PeerError
from loop_kit.routes import attribute_of, is_async, members, unfit

__all__ = ["Events", "Listener", "targets"]

Target = tuple[Any, bool]


def targets(contract: _core.Contract, provider: Any) -> list[Target]:
    """What answers each function of `contract`, in the order of their numbers, and whether it is a coroutine's.

    Raises:
        LinkError: Members are missing or do not fit; every one is listed.
    """
    made: list[Target] = []
    problems: list[LinkProblem] = []
    for interface in contract.interfaces():
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
    made: dict[int, Any] = field(default_factory=dict)
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
        made = self.make(name, _json(grant), _json(config))
        found = targets(self.contract, made)
        self.made[number] = made
        return found

    def unbind(self, number: int) -> None:
        made = self.made.pop(number, None)
        close = getattr(made, "close", None)
        if callable(close):
            close()

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


async def _answer(jobs: deque[_core.Job]) -> None:
    """Answers calls, one after the other as long as none of them waits; one that does has the task to itself meanwhile.

    A task for each call would cost more than most of them do.
    """
    task = asyncio.current_task()
    assert task is not None
    clean = contextvars.copy_context()
    while jobs:
        job = jobs.popleft()
        try:
            result = await job.begin(task)
        except BaseException as error:
            job.fail(error)
        else:
            job.give(result)
        # what one call has set, and that it was cancelled, is nothing to the next
        if task.cancelling() or contextvars.copy_context() != clean:
            return


_hubs: dict[asyncio.AbstractEventLoop, tuple[_core.Hub, int]] = {}


def take_hub(loop: asyncio.AbstractEventLoop) -> _core.Hub:
    """The loop's hub, shared by its sessions; to be given back."""
    hub, users = _hubs.get(loop) or (_core.Hub.create(loop, _core.Engine()), 0)
    _hubs[loop] = hub, users + 1
    return hub


def give_hub(loop: asyncio.AbstractEventLoop) -> None:
    """Gives the loop's hub back; the last to do so closes it."""
    hub, users = _hubs[loop]
    if users > 1:
        _hubs[loop] = hub, users - 1
        return
    del _hubs[loop]
    hub.close()


def _json(text: str) -> Any:
    return json.loads(text) if text else None


def instance_id() -> str:
    """Names this run of a peer."""
    return secrets.token_hex(8)


class Listener:
    """Listens on a unix socket or TCP port and has each connection made a session.

    Args:
        accept: Gets the descriptor of each connection, which it owns from there on.
        most: Connections at once; those beyond wait in the kernel.
    """

    def __init__(self, server: socket.socket, accept: Callable[[int], None], path: Path | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._accept = accept
        self._path = path
        server.setblocking(False)
        self._loop.add_reader(server.fileno(), self._readable)

    @classmethod
    def unix(cls, path: str, accept: Callable[[int], None]) -> Listener:
        """Raises OSError where the path cannot be used, or another process listens there."""
        where = Path(path)
        _clear(where)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # nobody else may connect, not even between bind and chmod
            mask = os.umask(0o177)
            try:
                server.bind(path)
            finally:
                os.umask(mask)
            server.listen(128)
            return cls(server, accept, where)
        except BaseException:
            server.close()
            raise

    @classmethod
    def tcp(cls, host: str, port: int, accept: Callable[[int], None]) -> Listener:
        """Raises OSError where the address cannot be used."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.socket(family, socket.SOCK_STREAM)
        try:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((host, port))
            server.listen(128)
            return cls(server, accept, None)
        except BaseException:
            server.close()
            raise

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self._server.getsockname()[1])

    def _readable(self) -> None:
        for _ in range(64):
            try:
                connection, _address = self._server.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return  # no descriptors left, or a connection that was gone at once: the next turn tries again
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._accept(connection.detach())

    def close(self) -> None:
        """Listens no longer; a unix socket's file is removed."""
        self._loop.remove_reader(self._server.fileno())
        self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Removes the socket of a listener that is dead."""
    if not path.is_socket():
        return  # nothing there, or something that is not ours to remove: bind says so
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(1)
        probe.connect(str(path))
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except OSError:
        pass
    finally:
        probe.close()


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
