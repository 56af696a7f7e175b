"""`loop bind`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._output import dim, examples, good, json_option, print_json, warn

if TYPE_CHECKING:
    from loop_kit.bind import Bindings

_LANGUAGES = ("python", "typescript")  # as loop_kit.bind has them; that is imported only when it is needed


@click.command(
    epilog=examples(
        ("loop bind wit/ -o bindings.py", "what providers and callers of a package need"),
        ("loop bind wit/ --world guest -o bindings.py", "of one world: imports to provide, exports to call"),
        ("loop bind app.wasm -o app_types.py", "of a component"),
        ("loop bind wit/ --lang typescript -o src/bindings.d.ts", "for a provider in Node.js"),
        ("loop bind wit/ --lang typescript --guest -o wit.d.ts", "for a component in JavaScript"),
        ("loop bind wit/ -o bindings.py --check", "in CI: fail where the file is not what the WIT says"),
    )
)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
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
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 where the file is another.")
@json_option
def bind(
    source: Path,
    world: str | None,
    interfaces: tuple[str, ...],
    language: str,
    guest: bool,
    output: Path | None,
    check: bool,
    as_json: bool,
) -> None:
    """Write types of WIT or a component, for Python or TypeScript.

    SOURCE is a file or folder of WIT with its `deps`, or a component. In Python these are dataclasses and Protocols,
    which type checkers hold providers and programs to; in TypeScript, declarations. They are types only: values are
    passed as before. The same WIT gives the same file, and a file that is right already is not touched.
    """
    from loop_kit.bind import bindings, is_current, write

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
    if check:
        differs = not is_current(file, made.text)
        said = (
            warn("is not what the WIT says; run this without --check")
            if differs
            else good("is what the WIT says")
        )
    else:
        differs = write(file, made.text)
        said = "written" if differs else dim("unchanged")
    if as_json:
        print_json({**_said(made, language), "file": file, "changed": differs})
    else:
        click.echo(f"{file}: {said}")
    if check and differs:
        raise SystemExit(exit_codes.FAILED)


def _said(made: Bindings, language: str) -> dict[str, Any]:
    return {
        "source": made.source,
        "digest": f"sha256:{made.digest}",
        "language": language,
        "imports": made.imports,
        "exports": made.exports,
    }
