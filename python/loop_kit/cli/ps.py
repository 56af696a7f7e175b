"""`loop ps`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._hosts import ended, host_of, session, span
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong, warn
from loop_kit.cli._workspace import manifest_option
from loop_kit.errors import LoopError

if TYPE_CHECKING:
    from loop_kit.dev._record import Record

# with the room for the longest number of a process, so that the columns stay where they are
_COLUMNS = (
    "MEMBER", "KIND", "PHASE", "GEN", "DIGEST", "PLACEMENT", "TRANSPORT", "PID    ", "SINCE", "RESTARTS", "REASON",
)  # fmt: skip
_LONGEST = 60


@click.command(
    epilog=examples(
        ("loop ps", "the members of the nearest workspace"),
        ("loop ps --all", "of all workspaces that this user runs"),
        ("loop ps --json", "for programs, with whole digests and reasons"),
    )
)
@manifest_option
@click.option("-a", "--all", "everything", is_flag=True, help="All workspaces of this user.")
@json_option
def ps(manifest_path: Path | None, everything: bool, as_json: bool) -> None:
    """Show the members of a workspace that runs.

    Each with what it is about, how often it was started, the digest of the code that serves, where it runs, since when
    it is as it is, how often it was restarted after a failure, and why it failed last. A host that was killed is shown
    as gone until `loop up` starts the workspace again, or `loop down` tidies up.
    """
    from loop_kit.dev import _record

    if everything:
        found = [record for record in _record.records() if not _forgotten(record)]
    else:
        file, record = host_of(manifest_path)
        found = [] if record is None else [record]
    told = asyncio.run(_all(found))
    if as_json:
        print_json({"workspaces": told})
        return
    if not told:
        where = "no workspace runs" if everything else f"{file.parent}: the workspace does not run"
        click.echo(f"{where}; `loop up` starts it" if not everything else where, err=True)
    for number, workspace in enumerate(told):
        if number:
            click.echo()
        _show(workspace)


def _forgotten(record: Record) -> bool:
    """Whether what is left of a host is of a workspace that is gone too; it is removed then."""
    from loop_kit.dev import _record

    return not record.manifest.exists() and not _record.alive(record) and _record.forget(record)


async def _all(records: list[Record]) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*map(_of, records)))


async def _of(record: Record) -> dict[str, Any]:
    from loop_kit.dev import _record

    told: dict[str, Any] = {
        "name": record.name,
        "folder": record.manifest.parent,
        "state": "up",
        "pid": record.pid,
        "instance": record.instance,
        "since": int(record.since * 1000),
        "detached": record.detached,
        "log": record.log,
        "version": record.version,
        "served": {},
        "reason": "",
        "members": [],
    }
    if not _record.alive(record):
        return told | {"state": "killed", "reason": ended(record)}
    try:
        async with session(record) as peer:
            about = await peer.call("loop:devserver/workspace#about", deadline=5.0)
            members = await peer.call("loop:devserver/workspace#members", deadline=5.0)
    except LoopError as error:
        return told | {"state": "unknown", "reason": str(error)}
    return told | {"served": dict(about.served), "members": [_member(member) for member in members]}


def _member(member: Any) -> dict[str, Any]:
    return {
        "name": member.name,
        "kind": member.kind.name.lower(),
        "phase": member.phase.name.lower(),
        "generation": member.generation,
        "digest": member.digest,
        "placement": member.placement.name.lower(),
        "transport": member.transport,
        "source": member.source,
        "pid": member.pid,
        "since": member.since,
        "restarts": member.restarts,
        "reason": member.reason,
        "crash_loop": member.crash_loop,
    }


def _show(workspace: dict[str, Any]) -> None:
    now = time.time()
    name, state = strong(workspace["name"]), workspace["state"]
    if state == "killed":
        click.echo(f"{name} {warn('is gone')}: {workspace['reason']}; `loop up` starts it again")
        return
    if state == "unknown":
        click.echo(f"{warn('no answer')}: {workspace['reason']}")
        return
    since, folder = span(now - workspace["since"] / 1000), workspace["folder"]
    pid = workspace["pid"]
    click.echo(f"{name} {good('up')} {dim(f'for {since} (process {pid}, {folder})')}")
    for component, url in workspace["served"].items():
        click.echo(f"{component} at {url}")
    rows = [_row(member, now) for member in workspace["members"]]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    click.echo(dim(_line(_COLUMNS, widths)))
    for row, member in zip(rows, workspace["members"], strict=True):
        line = _line(row, widths)
        dull, bad = member["phase"] == "stopped", member["phase"] == "failed"
        click.echo(click.style(line, fg="red") if bad else dim(line) if dull else line)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _row(member: dict[str, Any], now: float) -> tuple[str, ...]:
    digest = (member["digest"] or "").partition(":")[2][:12]
    reason = member["reason"].partition("\n")[0]
    reason = reason if len(reason) <= _LONGEST else f"{reason[: _LONGEST - 1]}…"
    return (
        member["name"],
        member["kind"],
        "crash loop" if member["crash_loop"] else member["phase"],
        str(member["generation"]),
        digest or "-",
        member["placement"],
        member["transport"] or "-",
        str(member["pid"] or "-"),
        span(now - member["since"] / 1000) if member["since"] else "-",
        str(member["restarts"]),
        reason,
    )
