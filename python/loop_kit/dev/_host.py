"""Runs a workspace: as its components' `run` says, and, where it is to be looked after, with a control plane."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from loop_kit import telemetry
from loop_kit._session import instance_id
from loop_kit.dev._command import prepared
from loop_kit.dev._control import Door
from loop_kit.dev._devserver import Devserver
from loop_kit.dev._log import Log, Streams, Told
from loop_kit.dev._record import Claim, Record, begun, log_of, socket_of
from loop_kit.dev._sources import logged
from loop_kit.errors import LoadError
from loop_kit.host import App, Host
from loop_kit.manifest import Component, Manifest
from loop_kit.pkg import Tools
from loop_kit.workspace import Workspace

__all__ = ["Attending", "Looked", "attended", "run"]

_TAKE = 0.2
"""Seconds between looks at what was written to standard output and error."""

T = TypeVar("T")


class Stopped(Exception):
    """Somebody asked for the end while it was still beginning."""


class Serve(Protocol):
    """Serves components until `stop` is set, and tells `served` of their URLs."""

    def __call__(
        self,
        apps: list[tuple[str, App, str]],
        *,
        on_hangup: Callable[[], Awaitable[None]],
        stop: asyncio.Event,
        served: Callable[[Mapping[str, str]], object],
    ) -> Awaitable[None]: ...


class Attending:
    """Whom a workspace that runs tells how far it is, and who says when it is to end.

    Args:
        doing: Told, in words, what may take a while.

    Attributes:
        stop: Set when the workspace is to end.
    """

    def __init__(self, doing: Callable[[str], object]) -> None:
        self.doing = doing
        self.stop = asyncio.Event()

    def ready(self, served: Mapping[str, str]) -> None:
        """All components are loaded; these are served, at these URLs."""


async def run(
    manifest: Manifest,
    serve: Serve,
    command: Callable[[App], int],
    attend: Callable[[Workspace], AbstractAsyncContextManager[Attending]],
    *,
    audit: bool = False,
) -> int:
    """Runs a workspace until its components have ended, or it is to end; returns the exit code.

    Args:
        manifest: The workspace.
        serve: Serves components.
        command: Runs a component with `run = "run"` to its end.
        attend: Looks after it, from before anything is loaded until everything has ended.
        audit: As in `Workspace`.

    Raises:
        LoadError: A component cannot be built or loaded, or none says what to do with it.
    """
    named = [c for c in manifest.components.values() if c.run or c.watch]
    if not named:
        raise LoadError(f'{manifest.path}: no component says run = "serve", run = "run" or `watch`')
    with telemetry.exporting():
        async with Host() as host:
            workspace = Workspace(host, manifest, audit=audit)
            async with attend(workspace) as attending, workspace:
                try:
                    return await _run(named, workspace, attending, serve, command)
                except Stopped:
                    return 0


async def _run(
    named: list[Component],
    workspace: Workspace,
    attending: Attending,
    serve: Serve,
    command: Callable[[App], int],
) -> int:
    code, served, stays = 0, [], False
    tools = Tools.of(workspace.manifest)
    for component in named:
        if component.build is not None:
            # fetched here, where somebody is told of it
            await _unless(attending.stop, prepared(component, tools, attending.doing))
            attending.doing(f"building {component.name} …")
        app = await _unless(attending.stop, workspace.load(component.name))
        if component.run == "run":
            ran = await _unless(attending.stop, _aside(command, app))
            code = code or ran
        elif component.run == "serve":
            served.append((component.name, app, component.serve.addr))
        stays |= bool(served or component.watch)
    if stays:
        await serve(served, on_hangup=workspace.reload, stop=attending.stop, served=attending.ready)
    return code


async def _aside(command: Callable[[App], int], app: App) -> int:
    """Runs a component on a thread that nobody waits for once this is cancelled: it may never end."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def settle(code: int | None, error: BaseException | None) -> None:
        if ended.done():
            return
        if error is not None:
            ended.set_exception(error)
        elif code is not None:
            ended.set_result(code)

    def work() -> None:
        code, error = None, None
        try:
            code = command(app)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, code, error)

    threading.Thread(target=work, name="loop-run", daemon=True).start()
    return await ended


async def _unless(stop: asyncio.Event, work: Awaitable[T]) -> T:
    """What comes of some work, unless the end is wanted before."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Stopped
    finally:
        for task in (working, stopping):
            if not task.done():
                task.cancel()
                await asyncio.wait({task})


class Looked(Attending):
    """Tells the control plane too.

    Attributes:
        devserver: What the control plane serves; builds and assets are told to its `journal`.
    """

    def __init__(
        self,
        devserver: Devserver,
        doing: Callable[[str], object],
        ready: Callable[[Mapping[str, str]], object],
    ) -> None:
        super().__init__(doing)
        self.devserver = devserver
        self._ready = ready

    def ready(self, served: Mapping[str, str]) -> None:
        self.devserver.served.update(served)
        self._ready(served)


@contextlib.asynccontextmanager
async def attended(
    workspace: Workspace,
    claim: Claim,
    *,
    version: str,
    detached: bool = False,
    lines: Told | None = None,
    doing: Callable[[str], object],
    ready: Callable[[Mapping[str, str]], object],
) -> AsyncIterator[Looked]:
    """Has a workspace looked after by its control plane while it lasts: its record, its socket, its log.

    SIGTERM and SIGINT have it end in good order.

    Args:
        workspace: The workspace.
        claim: That it is this process that runs it; released at the end.
        version: Of loop-kit.
        detached: Whether standard output and error go to the log too.
        lines: Told each line of the log too.
        doing: As in `Attending`.
        ready: As in `Attending`.
    """
    path = workspace.manifest.path.resolve()
    instance, log = instance_id(), Log(log_of(path))
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    devserver = Devserver(workspace, instance=instance, version=version, stop=stop.set)
    looked = Looked(devserver, doing, ready)
    looked.stop = stop
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    told = (log.line, devserver.line) if lines is None else (log.line, devserver.line, lines)
    streams = Streams(log.path, lambda *line: [each(*line) for each in told]) if detached else None
    taking = loop.create_task(_take(streams))
    try:
        with Door(socket_of(path)) as door, logged(*told):
            async with door.open(devserver):
                claim.write(
                    Record(
                        instance,
                        os.getpid(),
                        begun(os.getpid()) or "",
                        door.address,
                        path,
                        workspace.manifest.name,
                        time.time(),
                        log.path,
                        detached,
                        version,
                    )
                )
                yield looked
    finally:
        taking.cancel()
        if streams is not None:
            with contextlib.suppress(OSError):
                streams.take()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        devserver.close()
        claim.release()
        log.close()


async def _take(streams: Streams | None) -> None:
    while streams is not None:
        await asyncio.sleep(_TAKE)
        with contextlib.suppress(OSError):  # the disk is full: what was written waits
            streams.take()
