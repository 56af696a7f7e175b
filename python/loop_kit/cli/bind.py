"""`loop bind`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._output import dim, examples, good, json_option, print_json, warn
from loop_kit.cli._workspace import manifest_option, open_manifest

if TYPE_CHECKING:
    from loop_kit.bind import Bindings

_LANGUAGES = ("python", "typescript")  # as loop_kit.bind has them; that is imported only when it is needed


@click.command(
    epilog=examples(
        ("loop bind", "all that the workspace's loop.toml says under `bind`"),
        ("loop bind --check", "in CI: fail where a file is not what the WIT says"),
        ("loop bind wit/ -o bindings.py", "what providers and callers of a package need"),
        ("loop bind wit/ --world guest -o bindings.py", "of one world: imports to provide, exports to call"),
        ("loop bind app.wasm -o app_types.py", "of a component"),
        ("loop bind wit/ --lang typescript -o src/bindings.d.ts", "for a provider in Node.js"),
        ("loop bind wit/ --lang typescript --guest -o wit.d.ts", "for a component in JavaScript"),
    )
)
@click.argument("source", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--world", metavar="WORLD", help="Only this world's imports and exports.")
@click.option(
    "--interface",
    "interfaces",
    metavar="INTERFACE",
    multiple=True,
    help="Only this interface, with or without package and version. May be given again.",
)
@click.option(
    "--lang",
    "language",
    type=click.Choice(_LANGUAGES),
    default="python",
    show_default=True,
    help="What to write.",
)
@click.option("--guest", is_flag=True, help="For a component instead of a provider. Needs --lang typescript.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Where to; in a folder the file is named after the package.  [default: stdout]",
)
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 where a file is another.")
@manifest_option
@json_option
def bind(
    source: Path | None,
    world: str | None,
    interfaces: tuple[str, ...],
    language: str,
    guest: bool,
    output: Path | None,
    check: bool,
    manifest_path: Path | None,
    as_json: bool,
) -> None:
    """Write types of WIT or a component, for Python or TypeScript.

    SOURCE is a file or folder of WIT with its `deps`, or a component. In Python these are dataclasses and Protocols,
    which type checkers hold providers and programs to; in TypeScript, declarations. They are types only: values are
    passed as before. The same WIT gives the same file, and a file that is right already is not touched.

    Without SOURCE all types of the workspace are written: what components and providers have under `bind` in
    loop.toml, which `loop dev` keeps right by itself.
    """
    from loop_kit.bind import bindings, is_current, write

    if source is None:
        if world is not None or interfaces or guest or output is not None:
            raise click.UsageError("name a SOURCE, or leave out what is said of it: loop.toml says it")
        _of_workspace(manifest_path, check, as_json)
        return
    if manifest_path is not None:
        raise click.UsageError("-m is for what loop.toml says; leave out the SOURCE")
    if world is not None and interfaces:
        raise click.UsageError("--world and --interface: name a world or interfaces, not both")
    if check and output is None:
        raise click.UsageError("--check needs -o FILE, which it compares")
    if guest and language != "typescript":
        raise click.UsageError(
            "--guest needs --lang typescript; guests in Python have `componentize-py bindings`"
        )
    made = bindings(source, language, world=world, interfaces=interfaces, guest=guest)
    if output is None:
        if as_json:
            print_json({**_said(made, language), "text": made.text})
        else:
            click.echo(made.text, nl=False)
        return
    file = output / made.file if output.is_dir() else output
    differs = not is_current(file, made.text) if check else write(file, made.text)
    if as_json:
        print_json({**_said(made, language), "file": file, "changed": differs})
    else:
        click.echo(f"{file}: {_verdict(differs, check)}")
    if check and differs:
        raise SystemExit(exit_codes.FAILED)


def _verdict(differs: bool, check: bool) -> str:
    if not check:
        return "written" if differs else dim("unchanged")
    if differs:
        return warn("is not what the WIT says; run this without --check")
    return good("is what the WIT says")


def _of_workspace(manifest_path: Path | None, check: bool, as_json: bool) -> None:
    """All of a workspace; what is wrong with one has the others written all the same."""
    from loop_kit.dev._bindings import declared
    from loop_kit.errors import LoopError

    manifest = open_manifest(manifest_path)
    told: list[dict[str, Any]] = []
    failed = False
    for made in declared(manifest):
        try:
            files = made.write(check=check)
        except (LoopError, OSError) as error:
            failed = True
            told.append({"bind": made.name, "wit": made.wit, "files": [], "error": str(error)})
            if not as_json:
                click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
            continue
        shown = [{"file": file, "changed": differs} for file, differs in files.items()]
        told.append({"bind": made.name, "wit": made.wit, "files": shown, "error": None})
        if not as_json:
            for file, differs in files.items():
                click.echo(f"{_relative(file)}: {_verdict(differs, check)}")
    if as_json:
        print_json({"manifest": manifest.path, "bindings": told})
    elif not told:
        click.echo(f"{manifest.source.shown} says of no types: a component or provider has them under `bind`")
    if failed:
        raise SystemExit(exit_codes.LOAD)
    if check and any(file["changed"] for each in told for file in each["files"]):
        raise SystemExit(exit_codes.FAILED)


def _relative(file: Path) -> str:
    return min(str(file), os.path.relpath(file), key=len)


def _said(made: Bindings, language: str) -> dict[str, Any]:
    return {
        "source": made.source,
        "digest": f"sha256:{made.digest}",
        "language": language,
        "imports": made.imports,
        "exports": made.exports,
    }
