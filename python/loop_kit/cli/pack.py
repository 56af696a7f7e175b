"""`loop pack`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._output import dim, examples, json_option, print_json, strong, warn
from loop_kit.cli._workspace import complete_component, manifest_file, manifest_option, open_manifest

if TYPE_CHECKING:
    from loop_kit.manifest import Manifest
    from loop_kit.oci.blobs import Blobs
    from loop_kit.oci.model import Descriptor
    from loop_kit.pack import Description, Plan

__all__ = ["complete_packable", "pack", "pack_one", "print_package", "stored", "target_option"]


def complete_packable(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Completes the name of a component or a provider of the manifest."""
    import tomllib

    try:
        file = manifest_file(ctx.params.get("manifest_path"))
        providers = list(tomllib.loads(file.read_text("utf-8")).get("providers", {}))
    except Exception:
        return []  # the shell has nowhere to show an error
    found = [*complete_component(ctx, param, incomplete), *(n for n in providers if n.startswith(incomplete))]
    return list(dict.fromkeys(found))


def _complete_target(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    usual = [
        f"{machine}-unknown-linux-{libc}" for machine in ("x86_64", "aarch64") for libc in ("gnu", "musl")
    ]
    usual += ["aarch64-apple-darwin", "x86_64-apple-darwin", "x86_64-pc-windows-msvc"]
    return [name for name in usual if name.startswith(incomplete)]


target_option = click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="TRIPLE",
    shell_complete=_complete_target,
    help="What to pack for; may be given again.  [default: as `pack.targets` says, else this machine]",
)


@click.command(
    epilog=examples(
        ("loop pack", "all that is the workspace's own, into the store"),
        ("loop pack kv --dry-run", "which files, and what stays out"),
        ("loop pack kv -o oci-layout:dist", "into a folder, which oras and others read"),
        (
            "loop pack kv --target x86_64-unknown-linux-musl --target aarch64-unknown-linux-musl",
            "a native program for both",
        ),
    )
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_packable)
@target_option
@click.option(
    "-o",
    "--output",
    metavar="oci-layout:DIR[:TAG]",
    help="An OCI image layout to put it in.  [default: the store]",
)
@click.option("--dry-run", is_flag=True, help="Only list what would be packed; nothing is built or fetched.")
@manifest_option
@json_option
def pack(
    names: tuple[str, ...],
    targets: tuple[str, ...],
    output: str | None,
    dry_run: bool,
    manifest_path: Path | None,
    as_json: bool,
) -> None:
    """Make packages of components and providers.

    A component becomes an artifact as the WASM working group lays it out. A provider comes with all that it needs to
    run: Python with its wheels, Node.js with its modules, a native program for each target. The same inputs make the
    same digest. Secrets, and what git ignores, stay out. `pack` of a component or provider in loop.toml says more of it.
    """
    manifest = open_manifest(manifest_path)
    if not names:
        from loop_kit.pack import packable

        names = tuple(packable(manifest))
        if not names:
            raise click.UsageError(f"{manifest.path} has no component and no provider of its own to pack")
    if dry_run:
        _plan(manifest, names, targets, as_json)
        return
    said = []
    for name in names:
        found, description, plan = _packed(manifest, name, targets, output, several=len(names) > 1)
        said.append(_document(found, description, plan, output))
        if not as_json:
            print_package(description, plan)
    if as_json:
        print_json(said)


def _packed(
    manifest: Manifest, name: str, targets: Sequence[str], output: str | None, *, several: bool
) -> tuple[Descriptor, Description, Plan]:
    from loop_kit.oci.layout import Layout
    from loop_kit.oci.reference import LayoutReference
    from loop_kit.pack import describe, refer

    if output is None:
        with stored(manifest, name, targets) as (blobs, found, plan):
            return found, describe(blobs, found), plan
    place = LayoutReference.parse(output)
    if place.digest is not None or (place.tag is not None and several):
        raise click.UsageError("--output takes a folder, and a tag where one thing is packed")
    layout = Layout(place.folder).create()
    found, plan = pack_one(manifest, name, layout.blobs, targets)
    layout.add(place.tag or name, found)
    if (about := refer(layout.blobs, found)) is not None:
        layout.add(None, about)
    return found, describe(layout.blobs, found), plan


def pack_one(manifest: Manifest, name: str, blobs: Blobs, targets: Sequence[str]) -> tuple[Descriptor, Plan]:
    """Packs one thing, and tells on stderr what takes a while."""
    from loop_kit.pack import pack as make
    from loop_kit.pack import plan

    async def both() -> tuple[Descriptor, Plan]:
        planned = await plan(manifest, name)
        tell = lambda text: click.echo(dim(text), err=True)  # noqa: E731
        return await make(manifest, name, blobs, targets=targets, tell=tell, planned=planned), planned

    return asyncio.run(both())


@contextlib.contextmanager
def stored(manifest: Manifest, name: str, targets: Sequence[str]) -> Iterator[tuple[Blobs, Descriptor, Plan]]:
    """Packs one thing into the user's store, where it stays in the place of what was packed before."""
    from loop_kit.pack import refer, whole
    from loop_kit.store import Store
    from loop_kit.store._roots import PACKED

    store = Store()
    with store.use() as use:
        found, plan = pack_one(manifest, name, use.blobs, targets)
        parts = whole(use.blobs, found)
        digests = [part.digest for part in parts if part.digest != found.digest]
        store.pin(f"{PACKED}{manifest.name}/{name}", found, digests, size=sum(part.size for part in parts))
        if (about := refer(use.blobs, found)) is not None:
            store.refer(found, about, [part.digest for part in whole(use.blobs, about)])
        yield use.blobs, found, plan


def _document(found: Descriptor, description: Description, plan: Plan, output: str | None) -> dict[str, Any]:
    return {
        "name": plan.name,
        "kind": description.kind,
        "version": description.version,
        "digest": found.digest,
        "media-type": found.media_type,
        "platforms": list(description.platforms),
        "size": description.size,
        "unpacked": description.unpacked,
        "place": output or "store",
        "left-out": [{"path": path, "why": why} for path, why in plan.left_out],
    }


def print_package(said: Description, plan: Plan) -> None:
    """Shows what was packed."""
    version = f" {said.version}" if said.version else ""
    what = f"{said.kind}, {said.size:,} bytes"
    click.echo(f"{strong(plan.name)}{version}  {what}, {', '.join(said.platforms) or 'for any machine'}")
    click.echo(f"  {said.digest}")
    _print_left_out(plan)


def _print_left_out(plan: Plan) -> None:
    for path, why in plan.left_out:
        click.echo(warn(f"  left out: {path}, which {why}"))


def _plan(manifest: Manifest, names: Sequence[str], targets: Sequence[str], as_json: bool) -> None:
    """Lists what would be packed."""
    from loop_kit.pack import contents, plan

    said = []
    for name in names:
        planned = asyncio.run(plan(manifest, name))
        files, more = contents(planned, targets)
        said.append(
            {
                "name": name,
                "kind": planned.kind,
                "files": [{"path": path, "size": size} for path, size in files],
                "more": more,
                "left-out": [{"path": path, "why": why} for path, why in planned.left_out],
            }
        )
        if as_json:
            continue
        total = sum(size or 0 for _, size in files)
        count = "1 file" if len(files) == 1 else f"{len(files)} files"
        click.echo(f"{strong(name)}  {planned.kind}, {count} of {total:,} bytes")
        for path, size in files:
            click.echo(f"  {path}  {dim('to be built' if size is None else f'{size:,}')}")
        for line in more:
            click.echo(dim(f"  {line}"))
        _print_left_out(planned)
    if as_json:
        print_json(said)
    else:
        click.echo(dim("nothing was packed"))
