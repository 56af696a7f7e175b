"""`loop new`."""

from __future__ import annotations

from pathlib import Path

import click

from loop_kit.cli._output import dim, examples, json_option, print_json, strong

_LANGUAGES = ("python", "node", "rust")  # as loop_kit.new has them; that is imported only when it is needed


@click.group(
    epilog=examples(
        ("loop new provider --lang python kv", "a provider in the folder kv"),
        ("loop new provider --lang rust kv --wit wit/", "one that is to serve this WIT"),
    )
)
def new() -> None:
    """Start a project that runs and tests itself."""


@new.command(
    epilog=examples(
        ("loop new provider --lang python kv", "in Python"),
        ("loop new provider --lang node kv && make -C kv test", "in JavaScript, and test it"),
        ("loop new provider --lang rust kv --wit wit/", "in Rust, to serve this WIT"),
        ("loop new provider --lang node kv --sdk sdk/node", "on the SDK of a checkout"),
    )
)
@click.argument("folder", metavar="NAME", type=click.Path(path_type=Path))
@click.option("--lang", "language", required=True, type=click.Choice(_LANGUAGES), help="What to write it in.")
@click.option(
    "--wit",
    type=click.Path(exists=True, path_type=Path),
    help="A file or folder whose interfaces it is to serve.  [default: an example]",
)
@click.option(
    "--sdk",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The SDK's folder in a checkout, instead of the published package.",
)
@json_option
def provider(folder: Path, language: str, wit: Path | None, sdk: Path | None, as_json: bool) -> None:
    """Make the project of a provider in the folder NAME.

    `make test` there tests it, `make run` serves it. Without --wit it is a small store of texts, with a grant, errors
    and a stream; with it, each function of the WIT's interfaces is there and waits to be written.
    """
    from loop_kit.new import create

    try:
        files = create(language, folder, wit=wit, sdk=sdk)
    except ValueError as e:
        raise click.UsageError(f"NAME: {e}") from None
    if as_json:
        print_json({"folder": folder, "files": files})
        return
    click.echo(f"{strong(str(folder))} is there:")
    for file in files:
        click.echo(f"  {file}")
    click.echo(dim(f"`make -C {folder} test` tests it, `make -C {folder} run` serves it"))
