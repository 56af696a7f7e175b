"""Serving until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import Any

import click

from loop_kit.cli._output import dim, strong

__all__ = ["serve_until_stopped"]

# Requests in flight may end after Ctrl-C; a second one does not wait for them.
GRACE = 1.5


async def serve_until_stopped(apps: Sequence[tuple[str, Any, str]], workers: int | None = None) -> None:
    """Serves each app (name, app, address), prints the URLs, and returns when a signal asked to stop.

    Raises:
        OSError: An address cannot be used.
        LoadError: An app serves no HTTP.
    """
    loop = asyncio.get_running_loop()
    stop, now = asyncio.Event(), asyncio.Event()

    def asked() -> None:
        (now if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    servers = []
    try:
        for name, app, address in apps:
            server = app.serve(address, on_error=_report, workers=workers)
            servers.append(server)
            click.echo(f"{strong(name)} at http://{server.address}/  {dim('(Ctrl-C stops)')}")
        await stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        grace = 0.0 if now.is_set() else GRACE
        await asyncio.gather(*(asyncio.to_thread(server.shutdown, grace) for server in servers))


def _report(request: str, text: str) -> None:
    click.echo(f"{click.style('error:', fg='red')} {request}: {text}", err=True)
