"""`loop store`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._artifacts import amount
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong, warn
from loop_kit.cli._progress import Progress

if TYPE_CHECKING:
    from loop_kit.store import Swept


def _roots(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from loop_kit.store import Store

    try:
        return [root.name for root in Store().roots() if root.name.startswith(incomplete)]
    except Exception:
        return []  # the shell has nowhere to show an error


@click.group(
    epilog=examples(
        ("loop store ls", "what is there, and for whom"),
        ("loop store verify", "reads all of it, and names what is damaged"),
        ("loop store gc --dry-run", "what nothing needs any more"),
        ("du -sh $(loop store path)", "its folder"),
    )
)
def store() -> None:
    """Look after what was fetched and packed.

    Artifacts are kept once for all workspaces of a user, by their digests: `loop pull` fetches them, and a workspace
    runs what is here with no network. What a loop.lock names stays, and so does what runs.
    """


@store.command()
@json_option
def path(as_json: bool) -> None:
    """Print the folder of the store.

    It is $XDG_DATA_HOME/loop-kit/store, or that in ~/.local/share. It need not be there yet.
    """
    from loop_kit.store import Store

    folder = Store().folder
    if as_json:
        print_json({"path": folder})
    else:
        click.echo(str(folder))


@store.command(
    epilog=examples(("loop store ls", ""), ("loop store ls --json | jq -r '.roots[].name'", "names alone"))
)
@json_option
def ls(as_json: bool) -> None:
    """Show what stays in the store, for whom, and whether it is unpacked.

    What is fetched and nothing names is not shown; `loop store gc --dry-run` shows that.
    """
    from loop_kit.store import Store
    from loop_kit.store._roots import kept

    place = Store()
    unpacked, roots = set(place.trees), place.roots()
    needed = {root.name for root in kept(roots)}
    found = [
        {
            "name": root.name,
            "digest": root.digest,
            "media-type": root.media_type,
            "size": root.size,
            "blobs": len(root.digests),
            "lock": root.lock,
            "needed": root.name in needed,
            "subject": root.subject,
            "unpacked": not unpacked.isdisjoint(root.digests),
        }
        for root in roots
    ]
    if as_json:
        print_json({"path": place.folder, "roots": found})
        return
    if not found:
        click.echo(f"{place.folder} has nothing that stays")
    for one in found:
        notes = [amount(int(str(one["size"]))), *(["unpacked"] if one["unpacked"] else [])]
        notes += [] if one["needed"] else ["nothing needs it any more"]
        click.echo(f"{strong(str(one['name']))}  {one['digest']}  {dim(', '.join(notes))}")


@store.command(
    epilog=examples(
        ("loop store verify", ""), ("loop store verify --json | jq '.damaged[]'", "what is wrong")
    )
)
@json_option
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> None:
    """Read all that is in the store, and name what is damaged.

    Each blob is compared with its digest, each folder that was unpacked with the list of its files, and each root with
    what belongs to it. Exits with 4 if anything is not as it should be; `loop pull` in a workspace fetches it again.
    """
    from loop_kit.store import Store

    place = Store()
    with Progress() as progress:
        found = place.verify(lambda done, of: progress.at(f"verifying: {done} of {of} …"))
    if as_json:
        damaged = [{"kind": one.kind, "name": one.name, "why": one.why} for one in found]
        print_json({"path": place.folder, "damaged": damaged})
    else:
        for one in found:
            click.echo(f"{warn(one.kind)} {strong(one.name)}: {one.why}")
        if not found:
            click.echo(f"{place.folder} is {good('as it should be')}")
    if found:
        ctx.exit(exit_codes.LOAD)


@store.command(
    epilog=examples(
        ("loop store gc --dry-run", "only show what would be removed"),
        ("loop store gc", ""),
        ("loop store gc --forget oci:registry.example/acme/kv:1.2", "also give up what was pulled by itself"),
    )
)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option(
    "--forget",
    multiple=True,
    metavar="NAME",
    shell_complete=_roots,
    help="Give up what `loop store ls` names so.",
)
@json_option
def gc(dry_run: bool, forget: tuple[str, ...], as_json: bool) -> None:
    """Remove what no loop.lock names and nothing uses.

    It may run beside anything: what is being fetched, or runs, stays. A loop.lock that is not there any more, or names
    something else now, keeps nothing.
    """
    from loop_kit.store import Store

    place = Store()
    with Progress() as progress:
        swept = place.gc(dry_run=dry_run, forget=forget, tell=progress.say)
    if as_json:
        print_json(
            {
                "path": place.folder,
                "roots": swept.roots,
                "blobs": [{"digest": digest, "size": bytes_} for digest, bytes_ in swept.blobs],
                "trees": [{"digest": digest, "size": bytes_} for digest, bytes_ in swept.trees],
                "left": swept.left,
                "size": swept.size,
                "dry-run": dry_run,
            }
        )
    else:
        _show(swept, dry_run)


def _show(swept: Swept, dry_run: bool) -> None:
    for name in swept.roots:
        click.echo(f"{strong(name)} {'would be' if dry_run else 'is'} given up")
    parts = [
        f"{len(found)} {what}" for what, found in (("blobs", swept.blobs), ("trees", swept.trees)) if found
    ]
    parts += [f"{amount(swept.left)} of what broke off"] if swept.left else []
    if not parts:
        click.echo("all that is there is needed" if not swept.roots else "nothing else goes with it")
    elif dry_run:
        click.echo(f"{', '.join(parts)} would go: {amount(swept.size)}  {dim('(nothing was removed)')}")
    else:
        click.echo(f"{good('removed')} {', '.join(parts)}: {amount(swept.size)}")
