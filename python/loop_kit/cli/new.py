"""`loop new`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._output import dim, examples, json_option, print_json, strong

if TYPE_CHECKING:
    from loop_kit.new import Kind

# as loop_kit.new has them; that is imported only when it is needed
LANGUAGES = {
    "app": ("js", "python"),
    "component": ("js", "python", "rust"),
    "provider": ("python", "node", "rust"),
    "resolver": ("js", "python"),
}

_folder = click.argument("folder", metavar="NAME", type=click.Path(path_type=Path))


def _language(kind: Kind) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    choices = click.Choice(LANGUAGES[kind])
    return click.option("--lang", "language", required=True, type=choices, help="What to write it in.")


@click.group(
    epilog=examples(
        ("loop new app hello", "a site with a page, and a provider of yours: then `loop dev`"),
        ("loop new component words --lang rust", "a component alone"),
        ("loop new provider kv --lang python", "a provider alone"),
        ("loop new provider kv --lang rust --wit wit/", "one that is to serve this WIT"),
        ("loop new resolver tools --lang js", "one that tells `loop pkg` where tools are"),
    )
)
def new() -> None:
    """Start a project that runs and tests itself.

    Each is a workspace: `loop dev` runs it and takes up what you change, `make test` tests it. What is in the folder
    stays: it must not exist, or be empty. `loop add` adds to a workspace that is there.
    """


@new.command(
    epilog=examples(
        ("loop new app hello && cd hello && loop dev", "its page is at http://127.0.0.1:8080/"),
        ("loop new app hello --lang python", "the component in Python: it takes 20 s to build, not one"),
    )
)
@_folder
@click.option(
    "--lang",
    "language",
    default="js",
    show_default=True,
    type=click.Choice(LANGUAGES["app"]),
    help="What its component is written in.",
)
@json_option
def app(folder: Path, language: str, as_json: bool) -> None:
    """Make a web site in the folder NAME.

    It is a component with a page, and a provider in Python, in a process of its own, that it asks. `loop dev` there
    builds and serves it. What builds the component is fetched when it is first needed.
    """
    _create("app", language, folder, as_json, "`loop dev` there builds and serves it, `make test` tests it")


@new.command(
    epilog=examples(
        ("loop new component words --lang js", "in JavaScript"),
        ("loop new component words --lang rust && make -C words test", "in Rust, and test it"),
    )
)
@_folder
@_language("component")
@json_option
def component(folder: Path, language: str, as_json: bool) -> None:
    """Make a component in the folder NAME.

    It is a small one, which counts words; `loop dev` builds it whenever it has changed. What builds JavaScript and
    Python is fetched when it is first needed; Rust takes its target wasm32-wasip2.
    """
    _create("component", language, folder, as_json, f"`make -C {folder} test` builds and tests it")


@new.command(
    epilog=examples(
        ("loop new provider kv --lang python", "in Python"),
        ("loop new provider kv --lang node && make -C kv test", "in JavaScript, and test it"),
        ("loop new provider kv --lang rust --wit wit/", "in Rust, to serve this WIT"),
        ("loop new provider kv --lang node --sdk sdk/node", "on the SDK of a checkout"),
    )
)
@_folder
@_language("provider")
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
    """Make a provider in the folder NAME.

    `make test` there tests it, `make run` serves it. Without --wit it is a small store of texts, with a grant, errors
    and a stream; with it, each function of the WIT's interfaces is there and waits to be written.
    """
    said = f"`make -C {folder} test` tests it, `make -C {folder} run` serves it"
    _create("provider", language, folder, as_json, said, wit=wit, sdk=sdk)


@new.command(
    epilog=examples(
        ("loop new resolver tools --lang js && make -C tools test", "in JavaScript, and test it"),
        ("loop new resolver tools --lang python", "in Python"),
    )
)
@_folder
@_language("resolver")
@json_option
def resolver(folder: Path, language: str, as_json: bool) -> None:
    """Make a resolver of packages in the folder NAME.

    It is a component that tells `loop pkg` where tools are: here, in the files of a server, with a list of their
    versions. [resolvers] of a workspace's loop.toml names it, and the servers that it may ask.
    A class in plain Python can be one, too, and needs no project: docs/pkg.md has one of thirty lines.
    """
    _create(
        "resolver", language, folder, as_json, f"`make -C {folder} test` builds it and installs a tool by it"
    )


def _create(
    kind: Kind,
    language: str,
    folder: Path,
    as_json: bool,
    then: str,
    *,
    wit: Path | None = None,
    sdk: Path | None = None,
) -> None:
    from loop_kit.new import create

    try:
        files = create(kind, language, folder, wit=wit, sdk=sdk)
    except ValueError as e:
        raise click.UsageError(f"NAME: {e}") from None
    if as_json:
        print_json({"folder": folder, "files": files})
        return
    click.echo(f"{strong(str(folder))} is there:")
    for file in files:
        click.echo(f"  {file}")
    click.echo(dim(then))
