"""`loop wit`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong, warn

if TYPE_CHECKING:
    from loop_kit.wit import Comparison


@click.group(epilog=examples(("loop wit check released/ wit/", "what changed since a release")))
def wit() -> None:
    """Check that WIT still links what was built for it."""


@wit.command(
    epilog=examples(
        ("loop wit check released/ wit/", "what changed since a release, and whether that may be"),
        ("loop wit check released/kv.wit wit/kv.wit", "the same of single files"),
    )
)
@click.argument("old", type=click.Path(exists=True, path_type=Path))
@click.argument("new", type=click.Path(exists=True, path_type=Path))
@json_option
def check(old: Path, new: Path, as_json: bool) -> None:
    """Refuse changes from OLD to NEW that break components which were built for OLD.

    Interfaces, functions and types may be added. What is removed or changed breaks, and so does a field or case that
    is added, unless the package's version says so: by its first number that is not 0, as from 0.1.0 to 0.2.0. A version
    with a `-`, such as 0.1.0-dev, promises nothing yet. Exits with 1 if a change is refused.
    """
    from loop_kit.wit import compare

    found = compare(old, new)
    if as_json:
        refused = [asdict(change) for change in found.refused]
        changes = [asdict(change) for change in found.changes]
        versions = {name: {"old": was, "new": now} for name, (was, now) in found.versions.items()}
        print_json({"compatible": not refused, "versions": versions, "refused": refused, "changes": changes})
    else:
        _print(found)
    if found.refused:
        raise SystemExit(exit_codes.FAILED)


def _print(found: Comparison) -> None:
    refused = set(found.refused)
    last = ""
    for change in found.changes:
        if change.interface != last:
            last = change.interface
            click.echo(strong(last))
        mark = good("added")
        if change in refused:
            mark = warn("breaks")
        elif change.breaks:
            mark = dim("breaks, as its version says")
        item = f"{change.item}: " if change.item else ""
        click.echo(f"  {mark} {item}{change.what}")
    if not found.changes:
        click.echo(good("nothing changed"))
        return
    packages = dict.fromkeys(change.package for change in found.refused)
    if not packages:
        click.echo(f"\n{good('components that were built for the old still link')}")
        return
    click.echo()
    for package in packages:
        was, now = found.versions[package]
        click.echo(
            warn(f"{package} went from {was} to {now or 'nothing'}, which promises that nothing breaks:")
            + " undo what breaks, or give it a version that says so"
        )
