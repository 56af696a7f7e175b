"""`loop swap`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from loop_kit.cli._hosts import ask, complete_member, running, session, unknown
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong, warn
from loop_kit.cli._workspace import manifest_option
from loop_kit.errors import LoopError

if TYPE_CHECKING:
    from loop_kit.dev._record import Record
    from loop_kit.peer import Peer

_QUIET = 1.0
"""Seconds before it says what it waits for."""
_PATHS = ("component:", "sidecar:node:", "sidecar:", "remote:unix:")
"""What a path may follow in a `use`."""


class _Refused(LoopError):
    """The host did not do it; what was there goes on."""


@click.command(
    epilog=examples(
        ("loop swap files --to sidecar:builtin:fsx", "move the provider `files` into a process of its own"),
        ("loop swap files --to sidecar:./files.py", "… or have a program serve in its place"),
        ("loop swap files --to builtin:fsx --dry-run", "only show what would change"),
        ("loop swap files", "the same provider, its code read anew"),
        ("loop swap site", "a component, as its file is now"),
        ("loop swap files --watch", "… and again whenever its code has changed"),
        ("loop swap --all --dry-run", "what loop.toml says otherwise than what runs"),
        ("loop swap --all", "… and go over to it: to all of it, or to nothing"),
    )
)
@manifest_option
@click.option("--to", "use", metavar="USE", help="What the provider is to be, as a `use` of the manifest.")
@click.option("--all", "whole", is_flag=True, help="All that the manifest says otherwise, as one exchange.")
@click.option(
    "--watch", is_flag=True, help="Swap again whenever the member's code has changed, until Ctrl-C."
)
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option(
    "--drain",
    metavar="TIME",
    default="10s",
    show_default=True,
    help="How long what has begun may go on in the old one: 500ms, 10s, 2m.",
)
@json_option
@click.argument("member", shell_complete=complete_member, required=False)
def swap(
    manifest_path: Path | None,
    use: str | None,
    whole: bool,
    watch: bool,
    dry_run: bool,
    drain: str,
    as_json: bool,
    member: str | None,
) -> None:
    """Exchange a provider or component while calls go on.

    The new one is started and linked before it serves; then it takes all new calls at once. Calls that have begun,
    and the resources and streams of the old one, end there, within --drain. Where the new one does not start, or does
    not serve what the components import, the old one goes on, nobody notices, and the exit code is 1.

    A path in --to is from this folder, if there is such a file, and from the manifest's else. Without --all the manifest
    stays as it is: the next `loop up` does what it says. Grants, config and links are the manifest's, too.
    """
    if whole == (member is not None) or (whole and use is not None):
        raise click.UsageError("name a member, or say --all, which takes no --to")
    if watch and (whole or dry_run or as_json):
        raise click.UsageError("--watch is of one member, and goes without --dry-run and --json")
    milliseconds = _milliseconds(drain)
    record = running(manifest_path)
    if use is not None:
        use = anchored(use, record.manifest.parent)
    if watch:
        asyncio.run(_watch(record, member or "", use, milliseconds))
        return
    if member is None:
        changes = ask(record, lambda peer: _apply(peer, record.name, dry_run, milliseconds))
    else:
        changes = ask(record, lambda peer: _swap(peer, member, use, dry_run, milliseconds))
    if as_json:
        print_json({"member": member, "dry-run": dry_run, "changes": changes})
        return
    _show(changes)
    name, grants = strong(member or record.name), "" if whole else "; all grants are as they were"
    if not changes:
        click.echo(f"{name} is what its {'manifest' if whole else 'code'} says already")
    elif dry_run:
        click.echo(dim(f"nothing was changed{'' if whole else '; all grants would stay as they are'}"))
    else:
        click.echo(f"{name} {good('was swapped')}{grants}")


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


def _show(changes: list[dict[str, str]]) -> None:
    for change in changes:
        click.echo(_shown(change))


def _shown(change: dict[str, str]) -> str:
    before, after = change["before"], change["after"]
    if not before:
        return f"{strong(change['member'])}  {good('new')}: {after}"
    if not after:
        return f"{strong(change['member'])}  {warn('gone')}: {before}"
    end = "the same, its code read anew" if before == after else after
    return f"{strong(change['member'])}  {before} → {end}"


async def _swap(peer: Peer, member: str, use: str | None, dry_run: bool, drain: int) -> list[dict[str, str]]:
    call = peer.call("loop:devserver/workspace#swap", member, use, dry_run, drain)
    return await _told(call, member, use or member)


async def _apply(peer: Peer, name: str, dry_run: bool, drain: int) -> list[dict[str, str]]:
    return await _told(peer.call("loop:devserver/workspace#apply", dry_run, drain), name, name)


async def _told(call: Awaitable[Any], name: str, coming: str) -> list[dict[str, str]]:
    """What changes, or why nothing does."""
    from loop_kit import Err

    asked = asyncio.ensure_future(call)
    done, _ = await asyncio.wait([asked], timeout=_QUIET)
    if not done:
        click.echo(f"waiting until {coming} is ready …", err=True)
    try:
        changes = await asked
    except Err as error:
        failure: Any = error.value
        if failure.case == "unknown":
            raise unknown(name, failure.value) from None
        why, _, hint = failure.value.partition("\nhint: ")
        refused = _Refused(f"{name} was not swapped, and goes on as before: {why}")
        refused.hint = hint or None
        raise refused from None
    return [{"member": one.member, "before": one.before, "after": one.after} for one in changes]


async def _watch(record: Record, name: str, use: str | None, drain: int) -> None:
    """Swaps a member, and again whenever its code has changed; ends with the host."""
    from loop_kit import dev
    from loop_kit import manifest as manifests
    from loop_kit.cli.dev import fail, show

    async def swap(use: str | None) -> None:
        async with session(record) as peer:
            try:
                changes = await _swap(peer, name, use, False, drain)
            except _Refused as error:
                fail(name, str(error).removeprefix(f"{name} "))
                return
        _show(changes)
        if changes:
            click.echo(f"{strong(name)} {good('was swapped')}")

    manifest = manifests.load(record.manifest)
    if use is not None and name in manifest.providers:
        manifest = manifests.with_use(manifest, name, use)
    async with dev.Watcher(manifest) as watcher, dev.Builder(manifest, show) as builder:
        await builder.scan()
        await swap(use)
        click.echo(dim(f"watching {name}; Ctrl-C stops"), err=True)
        provider = manifest.providers.get(name)
        # a provider that is a component of the workspace has that one's code
        own = provider is not None and provider.placement == "component" and provider.path is None
        kind: Literal["component", "provider"] = "component" if own or provider is None else "provider"
        member = dev.Member(kind, provider.target if own and provider is not None else name)
        async for batch in watcher:
            if member in await builder.changed(batch):
                made = await builder.build([member])
                if not any(isinstance(one, dev.Failed) for one in made):
                    await swap(None)
