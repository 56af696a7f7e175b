"""`loop push`."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop_kit.cli._output import dim, examples, json_option, print_json, strong
from loop_kit.cli._workspace import manifest_option, open_manifest
from loop_kit.cli.pack import complete_packable, stored, target_option

if TYPE_CHECKING:
    from loop_kit.oci.blobs import Blobs
    from loop_kit.oci.model import Descriptor
    from loop_kit.oci.reference import Reference


@click.command(
    epilog=examples(
        ("loop push kv registry.example/acme/kv:1.4.0", "pack it, and put it into a registry"),
        ("loop push kv registry.example/acme/kv", "the same, where its version is the tag"),
        ("loop push kv localhost:5000/kv --json | jq -r .digest", "its digest"),
    )
)
@click.argument("name", shell_complete=complete_packable)
@click.argument("reference", metavar="REGISTRY/REPOSITORY[:TAG]")
@target_option
@manifest_option
@json_option
def push(
    name: str, reference: str, targets: tuple[str, ...], manifest_path: Path | None, as_json: bool
) -> None:
    """Pack a component or provider, and put it into a registry.

    It is packed as `loop pack` does, into the store; what the registry has already is not sent again. Without a tag its
    version is the tag. The login is that of `docker login`, or of LOOP_REGISTRY, LOOP_REGISTRY_USER and
    LOOP_REGISTRY_PASSWORD.
    """
    from loop_kit.oci.reference import Reference

    to = Reference.parse(reference.removeprefix("oci:"))
    if to.digest is not None:
        raise click.UsageError("a digest cannot be chosen: leave it out")
    manifest = open_manifest(manifest_path)
    with stored(manifest, name, targets) as (blobs, found, plan):
        if to.tag is None:
            if plan.facts.version is None:
                raise click.UsageError(f"say a tag, {to}:TAG, or give {name} a version: pack.version")
            to = dataclasses.replace(to, tag=plan.facts.version.replace("+", "_"))
        asyncio.run(_push(blobs, found, to))
    if as_json:
        print_json({"reference": str(to), "digest": found.digest, "media-type": found.media_type})
    else:
        click.echo(f"{strong(str(to))}  {found.digest}")
        click.echo(dim(f'  use = "oci:{to}" in a loop.toml, and `loop pull`'))


async def _push(blobs: Blobs, found: Descriptor, to: Reference) -> None:
    from loop_kit.cli._artifacts import Transfer
    from loop_kit.oci.registry import Registry
    from loop_kit.oci.transfer import push as transfer

    async with Registry(to.registry) as registry:
        with Transfer(str(to)) as progress:
            await transfer(blobs, found, registry, to, progress)
