"""`loop update`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._hosts import complete_member
from loop_kit.cli._locked import fetching
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong
from loop_kit.cli._workspace import manifest_option, open_manifest
from loop_kit.cli.pull import as_json_of

if TYPE_CHECKING:
    from loop_kit.lock import Entry
    from loop_kit.manifest import Manifest
    from loop_kit.store._change import Change


@click.command(
    epilog=examples(
        ("loop update --dry-run", "only show what is newer, and what it wants"),
        ("loop update", "all artifacts; asks where one wants more than before"),
        ("loop update kv --yes", "one, whatever it wants"),
    )
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_member)
@manifest_option
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask about what wants more than before.")
@click.option("--allow-downgrade", is_flag=True, help="Take an older version than the one in loop.lock.")
@json_option
@click.pass_context
def update(
    ctx: click.Context,
    names: tuple[str, ...],
    manifest_path: Path | None,
    dry_run: bool,
    yes: bool,
    allow_downgrade: bool,
    as_json: bool,
) -> None:
    """Look for newer artifacts, and show what changes.

    Asks the registries what the references of loop.toml stand for now, and shows for each artifact whose answer is
    another its version, digest and signers, and in red what it needs that it did not need: capabilities, and grants. The
    grants of loop.toml stay as they are: what is wanted is not given. loop.lock is written, and all is fetched, once you
    agree; without a terminal to ask at, what wants more is refused unless --yes. An older version than the one that
    loop.lock has is refused.
    """
    from loop_kit.store.workspace import pull, wanted
    from loop_kit.store.workspace import update as resolve

    manifest = open_manifest(manifest_path)
    changes = fetching(lambda tell: resolve(manifest, names, allow_downgrade=allow_downgrade, tell=tell))
    changing = [change for change in changes if change.any]
    gone = [] if names else _gone(manifest)
    if not as_json:
        for change in changing:
            _show(change)
        for keys in gone:
            click.echo(f"{strong(keys)}  {dim('is no artifact of the manifest any more')}")
        if not changes and not gone:
            click.echo(f"{manifest.source.shown} names no artifacts")
        elif not changing and not gone:
            click.echo(f"{good('up to date')} {dim(f'({len(wanted(manifest))} artifacts)')}")
    asked = [change for change in changing if change.asks]
    refused = bool(asked) and not (yes or dry_run or _agreed(asked, as_json))
    wrote = bool(changing or gone) and not dry_run and not refused
    if wrote:
        fetching(lambda tell: pull(manifest, changes=changing, tell=tell))
    if as_json:
        said = [_as_json(change) for change in changing]
        print_json(
            {"manifest": manifest.path, "changes": said, "gone": gone, "written": wrote, "dry-run": dry_run}
        )
    elif wrote:
        click.echo(f"{good('updated')} {dim('loop.lock')}")
    elif dry_run and (changing or gone):
        click.echo(dim("nothing was written"))
    if refused:
        wants = ", ".join(f"{change.kind}.{change.name}" for change in asked)
        click.echo(
            f"{click.style('error:', fg='red', bold=True)} {wants} would need more than before", err=True
        )
        click.echo(f"{click.style('hint:', fg='cyan')} --yes takes it; nothing was written", err=True)
        ctx.exit(exit_codes.FAILED)


def _gone(manifest: Manifest) -> list[str]:
    from loop_kit.store.workspace import left

    return left(manifest)


def _agreed(asked: list[Change], as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        return False
    many = "they need" if len(asked) > 1 else f"{asked[0].name} needs"
    return click.confirm(f"{many} more than before: take it?", default=False, err=True)


def _show(change: Change) -> None:
    before, after = change.before, change.after
    click.echo(f"{strong(f'{change.kind}.{change.name}')}  {dim(after.reference)}")
    for name, of in _ROWS:
        was, now = "" if before is None else of(before), of(after)
        if was == now:
            continue
        shown = f"{dim(was)} → {now or dim('nothing')}" if was else now
        click.echo(f"  {name:<10}{shown}")
    for said in change.wider:
        click.echo(f"  {click.style(f'+ {said}', fg='red' if change.asks else 'yellow')}")
    for said in change.narrower:
        click.echo(f"  {good(f'- no longer {said}')}")


def _signers(entry: Entry) -> str:
    return entry.signed_by or "nobody"


_ROWS: tuple[tuple[str, Any], ...] = (
    ("version", lambda entry: entry.version),
    ("digest", lambda entry: entry.digest),
    ("signed by", _signers),
)


def _as_json(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "name": change.name,
        "before": None if change.before is None else as_json_of(change.before),
        "after": as_json_of(change.after),
        "wider": change.wider,
        "narrower": change.narrower,
    }
