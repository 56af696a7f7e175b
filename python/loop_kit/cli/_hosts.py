"""What commands share that look after running workspaces."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from loop_kit.cli._workspace import manifest_file
from loop_kit.errors import LoopError

if TYPE_CHECKING:
    from loop_kit.dev._host import Looked
    from loop_kit.dev._record import Record
    from loop_kit.manifest import Manifest
    from loop_kit.peer import Peer

__all__ = [
    "ask",
    "claimed",
    "complete_member",
    "ended",
    "host_of",
    "moment",
    "running",
    "session",
    "span",
    "unknown",
]

PATIENCE = 5.0
"""Seconds in which a host must answer."""

T = TypeVar("T")


def host_of(path: Path | None) -> tuple[Path, Record | None]:
    """The manifest that `--manifest` names, or the nearest one, and what is known of a host that runs it, or did.

    Raises:
        ManifestError: There is none.
    """
    from loop_kit.dev import _record

    file = manifest_file(path).resolve()
    return file, _record.find(file)


def running(path: Path | None) -> Record:
    """The host that runs the workspace.

    Raises:
        LoopError: None does.
    """
    from loop_kit.dev import _record

    file, record = host_of(path)
    if record is None:
        raise _hinted(f"{file.parent}: the workspace does not run")
    if not _record.alive(record):
        raise _hinted(f"{file.parent}: {ended(record)}")
    return record


def _hinted(text: str) -> LoopError:
    error = LoopError(text)
    error.hint = "`loop up` starts it"
    return error


def unknown(member: str, near: Sequence[str]) -> LoopError:
    """The error for a name that no member has. `near`: those that come near it."""
    error = LoopError(f"there is no member {member!r}")
    error.hint = f"did you mean {near[0]!r}?" if near else "`loop ps` shows all"
    return error


@contextlib.contextmanager
def claimed(manifest: Manifest) -> Iterator[Callable[..., AbstractAsyncContextManager[Looked]]]:
    """The right to run a workspace, as what has it looked after: `attended`, but for the claim and the version.

    Says so where the host before ended without a word.

    Raises:
        LoopError: Another runs it.
    """
    from loop_kit.cli._version import version_line
    from loop_kit.dev import _host, _record

    left = _record.find(manifest.path)
    claim = _record.claim(manifest.path)
    try:
        if left is not None:
            click.echo(f"before this, {ended(left)}; nothing of it runs", err=True)
        yield functools.partial(_host.attended, claim=claim, version=version_line().split()[1])
    finally:
        claim.release()


def ended(record: Record) -> str:
    """How a host ended that left its record behind."""
    return f"its host, process {record.pid}, ended without a word: it was killed, or the system was"


@contextlib.asynccontextmanager
async def session(record: Record) -> AsyncIterator[Peer]:
    """A session with a host, which is the one that the record is of.

    Raises:
        LoopError: It does not answer, or is another.
    """
    from loop_kit.dev import _control

    who = f"{record.name}: its host, process {record.pid},"
    try:
        peer = await _control.dial(record.address, PATIENCE)
    except LoopError as error:
        raise LoopError(f"{who} does not answer: {error}") from None
    async with peer:
        try:
            about = await peer.call("loop:devserver/workspace#about", deadline=PATIENCE)
        except LoopError as error:
            raise LoopError(f"{who} does not answer: {error}") from None
        if about.instance != record.instance:
            raise LoopError(f"{record.name}: at {record.address} answers another host, {about.instance}")
        yield peer


def ask(record: Record, work: Callable[[Peer], Awaitable[T]]) -> T:
    """What comes of some work in a session with a host.

    Raises:
        LoopError: It does not answer.
    """

    async def main() -> T:
        async with session(record) as peer:
            return await work(peer)

    return asyncio.run(main())


def complete_member(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Completes the name of a component or provider of the manifest, for `click.argument(shell_complete=...)`."""
    import tomllib

    try:
        found: dict[str, Any] = tomllib.loads(
            manifest_file(ctx.params.get("manifest_path")).read_text("utf-8")
        )
    except Exception:
        return []  # the shell has nowhere to show an error
    names = [*found.get("components", {}), *found.get("providers", {})]
    return sorted({name for name in names if name.startswith(incomplete)})


def span(seconds: float) -> str:
    """A length of time as people say it: `3s`, `4m`, `5h`, `6d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def moment(milliseconds: int) -> str:
    """A time of day, of the date where that is another."""
    at = time.localtime(milliseconds / 1000)
    today = at[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", at)
