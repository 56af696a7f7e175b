"""`loop down`."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._hosts import ask, ended, host_of
from loop_kit.cli._output import examples, good, json_option, print_json, strong, warn
from loop_kit.cli._workspace import manifest_option
from loop_kit.errors import LoopError

if TYPE_CHECKING:
    from loop_kit.dev._record import Record
    from loop_kit.peer import Peer

_AT_ONCE = 5.0
"""Seconds that the system has to end a process that was killed."""


@click.command(
    epilog=examples(
        ("loop down", "the nearest workspace, within 30 s"),
        ("loop down --timeout 5", "… and by force after 5 s"),
    )
)
@manifest_option
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Seconds before it is killed.",
)
@json_option
def down(manifest_path: Path | None, timeout: float, as_json: bool) -> None:
    """End a workspace that runs.

    Its components end first, then what they use: nobody is called whose providers have gone. What is in flight may end.
    A host that has not ended when the time is over is killed, with all its sidecars, and the exit code is 1. Where the
    workspace does not run there is nothing to do; what a host that was killed has left is removed.
    """
    from loop_kit.dev import _record

    file, record = host_of(manifest_path)
    handle = None if record is None else _handle(record)
    if record is None:
        was, said = "down", f"{file.parent}: the workspace does not run"
    elif handle is None:
        _record.forget(record)
        was, said = "killed", f"{strong(record.name)}: {ended(record)}; what it left is removed"
    else:
        try:
            _end(record, handle, timeout)
        finally:
            os.close(handle)
        was, said = "up", f"{strong(record.name)} {good('down')}"
    if as_json:
        print_json({"folder": file.parent, "state": "down", "was": was})
    else:
        click.echo(said)


def _handle(record: Record) -> int | None:
    """A descriptor of the host's process, by which no later process of the same number can be meant."""
    from loop_kit.dev import _record

    try:
        handle = os.pidfd_open(record.pid)
    except OSError:
        return None
    if _record.alive(record):
        return handle
    os.close(handle)
    return None


def _end(record: Record, handle: int, timeout: float) -> None:
    end = time.monotonic() + timeout
    try:
        ask(record, _stop)
    except LoopError as error:
        click.echo(f"{warn('warning:')} {error}; it is told by SIGTERM", err=True)
        _signal(handle, signal.SIGTERM)
    said = 0
    while not _gone(handle, min(1.0, max(0.0, end - time.monotonic()))):
        left = end - time.monotonic()
        if left <= 0:
            _kill(record, handle, timeout)
            return
        if not said:
            click.echo(f"waiting for {record.name} to end …", err=True)
            said = 1


def _kill(record: Record, handle: int, timeout: float) -> None:
    from loop_kit.dev import _record

    _signal(handle, signal.SIGKILL)
    if not _gone(handle, _AT_ONCE):
        raise LoopError(f"{record.name}: process {record.pid} was killed and does not end")
    _record.forget(record)
    raise LoopError(f"{record.name}: did not end within {timeout:g} s, and was killed, with all its sidecars")


async def _stop(peer: Peer) -> Any:
    return await peer.call("loop:devserver/workspace#stop", deadline=5.0)


def _signal(handle: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return  # it has just ended


def _gone(handle: int, seconds: float) -> bool:
    """Whether the process ends within so many seconds."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
