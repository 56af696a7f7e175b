"""`loop inspect`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._artifacts import complete_place, platform_option
from loop_kit.cli._output import dim, examples, json_option, print_json, strong

if TYPE_CHECKING:
    from loop_kit.inspect import Item
    from loop_kit.oci.model import Platform


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    from loop_kit.cli._packages import complete_stored

    names = [CompletionItem(name) for name in complete_stored(incomplete)]
    return [*complete_place(ctx, param, incomplete), *names, CompletionItem(incomplete, type="file")]


@click.command(
    epilog=examples(
        ("loop inspect app.wasm", "imports, exports and sizes"),
        ("loop inspect app.wasm --wit", "its world as WIT"),
        ("loop inspect app.wasm --json", "all of it, for machines"),
        (
            "loop inspect registry.example/acme/kv:1.4.0",
            "a package in a registry: what it serves, and needs to",
        ),
        ("loop inspect kv", "… or one that `loop pack` has packed"),
        ("loop inspect --layout out", "what an OCI image layout on disk has in it"),
    )
)
@click.argument("component", required=False, metavar="COMPONENT", shell_complete=_complete)
@platform_option
@click.option("--wit", "only_wit", is_flag=True, help="Print the world as WIT text and nothing else.")
@click.option(
    "--layout",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Show the artifacts of an OCI image layout instead.",
)
@json_option
def inspect(
    component: str | None, platform: Platform | None, only_wit: bool, layout: Path | None, as_json: bool
) -> None:
    """Show what a component, a package or an OCI layout is made of.

    Of a component: what it imports and exports. Nothing is compiled or run. A core module for WASI preview 1 is shown
    as the component that loading makes of it.

    Of a package, in a registry (REGISTRY/REPOSITORY:TAG), a layout (oci-layout:DIR:TAG) or the store: what it is, serves
    and needs, the grants in words, and what others have made of it. Only its documents are fetched.

    Of a layout: tags, artifacts, layers, and what a component's config says. Every document and blob that its index
    leads to is checked; what is wrong is named, and the exit code is 4.
    """
    if (component is None) == (layout is None) or (only_wit and layout is not None):
        raise click.UsageError("name a component, or say --layout DIR, which has no WIT")
    if layout is not None:
        _layout(layout, as_json)
    elif component is not None and os.path.isfile(component):
        _component(component, only_wit, as_json)
    elif component is not None and component.endswith(".wasm"):
        raise click.UsageError(f"there is no file {component}")
    elif component is not None:
        from loop_kit.cli._packages import show

        show(component, platform, wit=only_wit, as_json=as_json)


def _component(component: str, only_wit: bool, as_json: bool) -> None:
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


def _layout(folder: Path, as_json: bool) -> None:
    from loop_kit.errors import PackageError
    from loop_kit.oci.layout import Layout, check
    from loop_kit.oci.survey import survey

    faults = check(folder)
    readable = all(fault.digest is not None or fault.kind == "ambiguous" for fault in faults)
    artifacts = survey(Layout(folder)) if readable else []  # else its own files are what is wrong
    if as_json:
        told = [dataclasses.asdict(fault) for fault in faults]
        print_json({"layout": folder, "artifacts": artifacts, "faults": told})
    else:
        for artifact in artifacts:
            _print_artifact(artifact, "")
        if not artifacts and not faults:
            click.echo(dim("it lists nothing"))
        for fault in faults:
            click.echo(f"{click.style(fault.kind, fg='red')}  {fault}")
    if faults:
        what = "one part is" if len(faults) == 1 else f"{len(faults)} parts are"
        raise PackageError(f"{folder}: {what} not as it should be: {faults[0]}")


def _print_artifact(said: dict[str, Any], indent: str) -> None:
    from loop_kit.cli._artifacts import amount

    tags = ", ".join(said.get("tags", ())) or said.get("platform") or "without a tag"
    click.echo(f"{indent}{strong(_clean(tags))}  {said['digest']}")
    inner = indent + "  "
    if "problem" in said:
        click.echo(f"{inner}{click.style('cannot be read', fg='red')}: {said['problem']}")
        return
    if said.get("subject"):
        click.echo(f"{inner}refers to  {said['subject']}")
    if "manifests" in said:
        click.echo(f"{inner}index      {len(said['manifests'])} of {amount(said['size'])}")
        for each in said["manifests"]:
            _print_artifact(each, inner)
        return
    if "layers" not in said:
        click.echo(f"{inner}blob       {_clean(said['media-type'])}, {amount(said['size'])}")
        return
    click.echo(f"{inner}kind       {_clean(said['kind'])}, {amount(said['total'])}")
    click.echo(f"{inner}config     {_clean(said['config']['media-type'])}  {dim(said['config']['digest'])}")
    for layer in said["layers"]:
        what = f"{_clean(layer['media-type'])}, {amount(layer['size'])}"
        click.echo(f"{inner}layer      {what}  {dim(layer['digest'])}")
    if wasm := said.get("wasm"):
        click.echo(f"{inner}made       {wasm['created']}, for {wasm['os']}")
        for key in ("imports", "exports"):
            for name in wasm[key] or ():
                click.echo(f"{inner}{key:<9}  {_clean(name)}")
    if "why-not" in said:
        click.echo(f"{inner}{click.style('does not run', fg='yellow')}: {_clean(said['why-not'])}")


def _clean(text: str) -> str:
    """Words that others wrote, of which a terminal obeys nothing."""
    return "".join(c if c.isprintable() else "?" for c in text)
