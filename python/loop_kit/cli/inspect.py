"""`loop inspect`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._output import dim, examples, json_option, print_json, strong

if TYPE_CHECKING:
    from loop_kit.inspect import Item


@click.command(
    epilog=examples(
        ("loop inspect app.wasm", "imports, exports and sizes"),
        ("loop inspect app.wasm --wit", "its world as WIT"),
        ("loop inspect app.wasm --json", "all of it, for machines"),
    )
)
@click.argument("component", type=click.Path(exists=True, dir_okay=False))
@click.option("--wit", "only_wit", is_flag=True, help="Print the world as WIT text and nothing else.")
@json_option
def inspect(component: str, only_wit: bool, as_json: bool) -> None:
    """Show what a component imports and exports.

    Nothing is compiled or run. A core module for WASI preview 1 is shown as the component that loading makes of it.
    """
    from loop_kit.inspect import inspect as decode

    found = decode(component)
    if as_json:
        document: dict[str, Any] = {"path": component, **dataclasses.asdict(found)}
        print_json(document)
        return
    if only_wit:
        click.echo(found.wit.rstrip())
        return
    kind = "core module for WASI preview 1" if found.module else "component"
    click.echo(f"{strong(component)}  {kind}, {found.size:,} bytes")
    for title, items in (("imports", found.imports), ("exports", found.exports)):
        click.echo(f"\n{strong(title)}" + ("" if items else dim("  none")))
        for item in items:
            _print_item(item)


def _print_item(item: Item) -> None:
    click.echo(f"  {item.name}")
    for function in item.functions:
        if function != item.name:
            click.echo(dim(f"    {function}"))
