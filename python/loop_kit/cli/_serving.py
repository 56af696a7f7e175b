"""Serving until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import click

from loop_kit.cli._output import dim, strong
from loop_kit.errors import LoopError

__all__ = ["serve_until_stopped"]

# Requests in flight may end after Ctrl-C; a second one does not wait for them.
GRACE = 1.5


async def serve_until_stopped(
    apps: Sequence[tuple[str, Any, str]],
    workers: int | None = None,
    on_hangup: Callable[[], Awaitable[None]] | None = None,
    stop: asyncio.Event | None = None,
    served: Callable[[Mapping[str, str]], object] = lambda _: None,
) -> None:
    """Serves each app (name, app, address), prints the URLs, and returns when a signal, or `stop`, asked for it.

    `served` is told of the URLs by name. On SIGHUP `on_hangup` is awaited, unless its cause is that the terminal was
    closed; what it raises is printed.

    Raises:
        OSError: An address cannot be used.
        LoadError: An app serves no HTTP.
    """
    loop = asyncio.get_running_loop()
    stop, now = stop or asyncio.Event(), asyncio.Event()

    def asked() -> None:
        (now if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    reloads: set[asyncio.Task[None]] = set()
    if on_hangup is not None:
        terminal = os.isatty(2)

        def hung_up() -> None:
            if terminal and not os.isatty(2):
                asked()  # it was closed, and nobody is there any more
                return
            task = loop.create_task(_told(on_hangup))
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, hung_up)
    servers, urls = [], {}
    try:
        for name, app, address in apps:
            server = app.serve(address, on_error=_report, workers=workers)
            servers.append(server)
            urls[name] = f"http://{server.address}/"
            click.echo(f"{strong(name)} at {urls[name]}  {dim('(Ctrl-C stops)')}")
        served(urls)
        await stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
        grace = 0.0 if now.is_set() else GRACE
        await asyncio.gather(*(asyncio.to_thread(server.shutdown, grace) for server in servers))


def _report(request: str, text: str) -> None:
    click.echo(f"{click.style('error:', fg='red')} {request}: {text}", err=True)


async def _told(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except* LoopError as failed:
        for error in failed.exceptions:
            click.echo(f"{click.style('error:', fg='red')} {error}", err=True)
    else:
        click.echo(dim("reloaded"), err=True)
