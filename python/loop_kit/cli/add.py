"""`loop add`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong, warn
from loop_kit.cli._workspace import complete_component, manifest_option, open_manifest
from loop_kit.cli.new import LANGUAGES

if TYPE_CHECKING:
    from loop_kit.new.add import Plan

_dry_run = click.option("--dry-run", is_flag=True, help="Only show what would be written.")


@click.group(
    epilog=examples(
        ("loop add capability fsx --to site", "let a component read a folder"),
        ("loop add provider kv --lang python", "a provider of your own"),
        ("loop add component words --lang js", "another component"),
    )
)
def add() -> None:
    """Add to the workspace that is there.

    loop.toml keeps its comments and its order, is checked before it is written, and is shown as a difference. `loop new`
    makes a workspace.
    """


def _capabilities(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from loop_kit.manifest._offers import OFFERS

    shorts = [package.partition(":")[2] for package in OFFERS]
    return [name for name in shorts if name.startswith(incomplete)]


@add.command(
    epilog=examples(
        ("loop add capability fsx --to site", "its import loop:fsx, with one folder to read"),
        ("loop add capability wasi:keyvalue --to site --dry-run", "only show what would be written"),
        (
            "loop add capability keyvalue --to site --use component:loop:keyvalue/memory",
            "by another provider",
        ),
    )
)
@click.argument("name", shell_complete=_capabilities)
@click.option(
    "--to", required=True, metavar="COMPONENT", shell_complete=complete_component, help="Who is to have it."
)
@click.option(
    "--use", metavar="USE", help="What provides it, as a `use` of the manifest.  [default: the native one]"
)
@manifest_option
@_dry_run
@json_option
def capability(
    name: str, to: str, use: str | None, manifest_path: Path | None, dry_run: bool, as_json: bool
) -> None:
    """Link a component's import to what ships with loop-kit.

    NAME is loop:core, loop:fsx, loop:netx, loop:process, loop:devserver, wasi:keyvalue or wasi:blobstore; its second
    half will do. The grant is the least that something can be done with, and the manifest says beside it what it
    allows. The WIT is put where the component's is.
    """
    from loop_kit.new import add as adding

    _do(adding.capability(open_manifest(manifest_path), name, to, use=use), to, dry_run, as_json)


@add.command(
    epilog=examples(
        ("loop add provider kv --lang python", "to be written, in the folder kv"),
        ("loop add provider kv --lang node --wit wit/kv.wit", "one that is to serve this WIT"),
        ("loop add provider files --use sidecar:builtin:fsx", "one that is there"),
    )
)
@click.argument("name")
@click.option("--use", metavar="USE", help="What it is, as a `use` of the manifest.")
@click.option(
    "--trusted", is_flag=True, help="With --use python:…: its code may run in the host, with all its rights."
)
@click.option("--lang", "language", type=click.Choice(LANGUAGES["provider"]), help="What to write it in.")
@click.option(
    "--wit",
    type=click.Path(exists=True, path_type=Path),
    help="With --lang: a file or folder whose interfaces it is to serve.  [default: an example]",
)
@click.option(
    "--sdk",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --lang: the SDK's folder in a checkout, instead of the published package.",
)
@manifest_option
@_dry_run
@json_option
def provider(
    name: str,
    use: str | None,
    trusted: bool,
    language: str | None,
    wit: Path | None,
    sdk: Path | None,
    manifest_path: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Add a provider: one that is there, or a new one in the folder NAME."""
    from loop_kit.new import add as adding

    if (use is None) == (language is None):
        raise click.UsageError("say either --use, what it is, or --lang, what to write it in")
    if (use is not None and (wit or sdk)) or (trusted and use is None):
        raise click.UsageError("--wit and --sdk go with --lang, and --trusted with --use")
    manifest = open_manifest(manifest_path)
    try:
        plan = adding.provider(manifest, name, use=use, language=language, wit=wit, sdk=sdk, trusted=trusted)
    except ValueError as e:
        raise click.UsageError(f"NAME: {e}") from None
    _do(plan, name, dry_run, as_json)


@add.command(
    epilog=examples(
        ("loop add component words --lang js", "to be written, in the folder words"),
        ("loop add component words --path words.wasm", "one that is there"),
    )
)
@click.argument("name")
@click.option("--path", type=click.Path(path_type=Path), help="Its .wasm file, from this folder.")
@click.option("--lang", "language", type=click.Choice(LANGUAGES["component"]), help="What to write it in.")
@manifest_option
@_dry_run
@json_option
def component(
    name: str,
    path: Path | None,
    language: str | None,
    manifest_path: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Add a component: a file that is there, or a new one in the folder NAME."""
    import os

    from loop_kit.new import add as adding

    if (path is None) == (language is None):
        raise click.UsageError("say either --path, where it is, or --lang, what to write it in")
    manifest = open_manifest(manifest_path)
    named = None if path is None else os.path.relpath(path.absolute(), manifest.folder)
    try:
        plan = adding.component(manifest, name, language=language, path=named)
    except ValueError as e:
        raise click.UsageError(f"NAME: {e}") from None
    _do(plan, name, dry_run, as_json)


def _do(plan: Plan, name: str, dry_run: bool, as_json: bool) -> None:
    from loop_kit.manifest.edit import difference

    difference_ = difference(plan.before, plan.after)
    if not dry_run:
        plan.carry_out()
    folder = plan.before.folder
    files = sorted(path.relative_to(folder) if path.is_relative_to(folder) else path for path in plan.files)
    if as_json:
        said = {
            "manifest": plan.before.path,
            "difference": difference_,
            "files": files,
            "folders": plan.folders,
        }
        print_json({**said, "may": plan.may, "then": plan.then, "dry-run": dry_run})
        return
    for line in difference_.splitlines():
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        click.echo(click.style(line, fg=colour) if colour and line[:3] not in ("+++", "---") else line)
    for file in files:
        click.echo(f"{good('+')} {file}")
    for made in plan.folders:
        click.echo(f"{good('+')} {made.relative_to(folder)}/")
    for sentence in plan.may:
        click.echo(f"{strong(name)} may {sentence}")
    for line in plan.then:
        click.echo(warn(line))
    if dry_run:
        click.echo(dim("nothing was written"))
