"""`loop tool`."""

from __future__ import annotations

import os

import click

from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong


def _names(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from loop_kit.tools import TOOLS

    return [name for name in TOOLS if name.startswith(incomplete)]


_name = click.argument("name", shell_complete=_names)


@click.group(
    epilog=examples(
        ("loop tool list", "what there is, and what is here already"),
        ("loop tool fetch componentize-qjs", "so that builds need no network"),
        ("loop tool run componentize-qjs -- --help", "what a build runs as {tool:componentize-qjs}"),
    )
)
def tool() -> None:
    """Fetch and run the programs that builds need.

    A `build` in loop.toml names one as `{tool:NAME}`: it is fetched when it is first needed, by npm or pip as you have
    configured them, at one version and checked by its digest, into the cache folder. From then on no network is needed.
    """


@tool.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show the tools, and which are here already."""
    from loop_kit.tools import TOOLS, place_of

    found = [
        {
            "name": one.name,
            "version": one.version,
            "client": one.client,
            "makes": one.makes,
            "place": place if (place := place_of(one)).is_dir() else None,
        }
        for one in TOOLS.values()
    ]
    if as_json:
        print_json({"tools": found})
        return
    width = max(len(str(one)) for one in TOOLS.values())
    for one, said in zip(TOOLS.values(), found, strict=True):
        where = good("here") if said["place"] else dim(f"is fetched by {one.client} when it is needed")
        click.echo(f"{strong(f'{one!s:<{width}}')}  {one.makes}  {where}")


@tool.command(
    epilog=examples(
        ("loop tool fetch componentize-qjs", ""),
        ("loop tool fetch componentize-py --json | jq -r .place", "where it is"),
    )
)
@_name
@json_option
def fetch(name: str, as_json: bool) -> None:
    """Fetch a tool, unless it is here already."""
    from loop_kit.tools import place_of
    from loop_kit.tools import tool as find

    wanted = find(name)
    command = _ensure(name)
    if as_json:
        said = {"name": name, "version": wanted.version, "place": place_of(wanted), "command": command}
        print_json(said)
    else:
        click.echo(f"{strong(str(wanted))} is in {place_of(wanted)}")


@tool.command(
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        ("loop tool run componentize-qjs -- --help", ""),
        ("loop tool run componentize-py -- -d wit -w site bindings types", "types of a world, for an editor"),
    ),
)
@_name
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(name: str, args: tuple[str, ...]) -> None:
    """Run a tool.

    It is fetched unless it is here already. The exit code is its own.
    """
    command = (*_ensure(name), *(args[1:] if args[:1] == ("--",) else args))
    os.execv(command[0], command)


def _ensure(name: str) -> tuple[str, ...]:
    import asyncio

    from loop_kit.tools import ensure
    from loop_kit.tools import tool as find

    return asyncio.run(ensure(find(name), lambda text: click.echo(dim(text), err=True)))
