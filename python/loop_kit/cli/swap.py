"""`loop swap`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._hosts import ask, complete_member, running
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong
from loop_kit.cli._workspace import manifest_option
from loop_kit.errors import LoopError

if TYPE_CHECKING:
    from loop_kit.dev._record import Record
    from loop_kit.peer import Peer

_QUIET = 1.0
"""Seconds before it says what it waits for."""
_PATHS = ("component:", "sidecar:node:", "sidecar:", "remote:unix:")
"""What a path may follow in a `use`."""


@click.command(
    epilog=examples(
        ("loop swap files --to sidecar:builtin:fsx", "move the provider `files` into a process of its own"),
        ("loop swap files --to sidecar:./files.py", "… or have a program serve in its place"),
        ("loop swap files --to builtin:fsx --dry-run", "only show what would change"),
        ("loop swap files", "the same provider, its code read anew"),
        ("loop swap site", "a component, as its file is now"),
    )
)
@manifest_option
@click.option("--to", "use", metavar="USE", help="What the provider is to be, as a `use` of the manifest.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option(
    "--drain",
    metavar="TIME",
    default="10s",
    show_default=True,
    help="How long what has begun may go on in the old one: 500ms, 10s, 2m.",
)
@json_option
@click.argument("member", shell_complete=complete_member)
def swap(
    manifest_path: Path | None, use: str | None, dry_run: bool, drain: str, as_json: bool, member: str
) -> None:
    """Exchange a provider or component while calls go on.

    The new one is started and linked before it serves; then it takes all new calls at once. Calls that have begun,
    and the resources and streams of the old one, end there, within --drain. Where the new one does not start, or does
    not serve what the components import, the old one goes on, nobody notices, and the exit code is 1.

    A path in --to is from this folder, if there is such a file, and from the manifest's else. The manifest stays as it
    is: the next `loop up` does what it says. Grants, config and links are the manifest's, too.
    """
    milliseconds = _milliseconds(drain)
    record = running(manifest_path)
    if use is not None:
        use = anchored(use, record.manifest.parent)
    changes = ask(record, lambda peer: _swap(peer, record, member, use, dry_run, milliseconds))
    if as_json:
        print_json({"member": member, "dry-run": dry_run, "changes": changes})
    elif not changes:
        click.echo(f"{strong(member)} is what its code says already")
    else:
        for change in changes:
            click.echo(_shown(change))
        if dry_run:
            click.echo(dim("nothing was changed; all grants would stay as they are"))
        else:
            click.echo(f"{strong(member)} {good('was swapped')}; all grants are as they were")


def anchored(use: str, folder: Path) -> str:
    """A `use` whose path, if it is of a file that is there from the current folder, is from the manifest's."""
    prefix = next((prefix for prefix in _PATHS if use.startswith(prefix)), None)
    target = use.removeprefix(prefix or "")
    if prefix is None or "/" not in target or os.path.isabs(target) or not os.path.exists(target):
        return use
    path = os.path.relpath(os.path.abspath(target), folder)
    return f"{prefix}{path if path.startswith('..') else f'./{path}'}"


def _milliseconds(drain: str) -> int:
    from loop_kit._units import parse_duration

    try:
        seconds = parse_duration(drain)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--drain") from None
    if seconds > 86400:
        raise click.BadParameter("a day is the most", param_hint="--drain")
    return max(1, round(seconds * 1000))


def _shown(change: dict[str, str]) -> str:
    before, after = change["before"], change["after"]
    end = "the same, its code read anew" if before == after else after
    return f"{strong(change['member'])}  {before} → {end}"


async def _swap(
    peer: Peer, record: Record, member: str, use: str | None, dry_run: bool, drain: int
) -> list[dict[str, str]]:
    from loop_kit import Err

    asked = asyncio.ensure_future(peer.call("loop:devserver/workspace#swap", member, use, dry_run, drain))
    done, _ = await asyncio.wait([asked], timeout=_QUIET)
    if not done:
        click.echo(f"waiting until {use or member} is ready …", err=True)
    try:
        changes: Any = await asked
    except Err as error:
        failure: Any = error.value
        if failure.case == "unknown":
            unknown = LoopError(f"there is no member {member!r}")
            unknown.hint = f"did you mean {failure.value[0]!r}?" if failure.value else "`loop ps` shows all"
            raise unknown from None
        why, _, hint = failure.value.partition("\nhint: ")
        refused = LoopError(f"{member} was not swapped, and goes on as before: {why}")
        refused.hint = hint or None
        raise refused from None
    return [{"member": one.member, "before": one.before, "after": one.after} for one in changes]
