"""`loop push`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop_kit.cli._output import dim, examples, json_option, print_json, strong
from loop_kit.cli._workspace import manifest_option, open_manifest
from loop_kit.cli.key import complete_key, passphrase_option
from loop_kit.cli.pack import complete_packable, stored, target_option

if TYPE_CHECKING:
    from loop_kit.oci.blobs import Blobs
    from loop_kit.oci.model import Descriptor
    from loop_kit.oci.reference import Reference
    from loop_kit.trust._keyring import PrivateKey


@click.command(
    epilog=examples(
        ("loop push kv registry.example/acme/kv:1.4.0", "pack it, and put it into a registry"),
        ("loop push kv registry.example/acme/kv", "the same, where its version is the tag"),
        ("loop push kv", "by its own name, into `registry` of [workspace]"),
        (
            "loop push kv registry.example/acme/kv --sign acme",
            "… signed as that, as a release of its version",
        ),
        ("loop push kv localhost:5000/kv --json | jq -r .digest", "its digest"),
    )
)
@click.argument("name", shell_complete=complete_packable)
@click.argument("reference", metavar="[REGISTRY/REPOSITORY[:TAG]]", required=False)
@click.option(
    "--sign",
    "key",
    metavar="KEY",
    shell_complete=complete_key,
    help="Sign it on the way, as REGISTRY/REPOSITORY in its version: a key of yours, or the file of one.",
)
@click.option("--no-signatures", is_flag=True, help="Leave the signatures that the store has of it here.")
@passphrase_option
@target_option
@manifest_option
@json_option
def push(
    name: str,
    reference: str | None,
    key: str | None,
    no_signatures: bool,
    passphrase: Path | None,
    targets: tuple[str, ...],
    manifest_path: Path | None,
    as_json: bool,
) -> None:
    """Pack a component or provider, and put it into a registry.

    It is packed as `loop pack` does, into the store; what the registry has already is not sent again. Without a tag its
    version is the tag; without a reference it goes, by its name, to the `registry` of [workspace] in loop.toml. What
    the store has about it goes along, and is there before the tag is: its SBOM, and signatures that `loop sign` or
    --sign has made. The login is that of `docker login`, or of LOOP_REGISTRY, LOOP_REGISTRY_USER and
    LOOP_REGISTRY_PASSWORD.
    """
    from loop_kit.oci.reference import Reference

    manifest = open_manifest(manifest_path)
    if reference is None and manifest.registry is None:
        raise click.UsageError(f"say where it goes, or give [workspace] a `registry` in {manifest.path}")
    to = Reference.parse((reference or f"{manifest.registry}/{name}").removeprefix("oci:"))
    if to.digest is not None:
        raise click.UsageError("a digest cannot be chosen: leave it out")
    if key is not None and no_signatures:
        raise click.UsageError(
            "--sign makes a signature, and --no-signatures leaves it here: give one of them"
        )
    signer = (
        None if key is None else _signer(key, passphrase)
    )  # what cannot sign is told before anything is built
    with stored(manifest, name, targets) as (blobs, found, plan):
        if to.tag is None:
            if plan.facts.version is None:
                raise click.UsageError(f"say a tag, {to}:TAG, or give {name} a version: pack.version")
            to = dataclasses.replace(to, tag=plan.facts.version.replace("+", "_"))
        went = asyncio.run(_push(blobs, found, to, signer, signatures=not no_signatures))
    if as_json:
        referrers = [{"digest": each.digest, "artifact-type": each.artifact_type} for each in went]
        print_json(
            {
                "reference": str(to),
                "digest": found.digest,
                "media-type": found.media_type,
                "referrers": referrers,
            }
        )
    else:
        click.echo(f"{strong(str(to))}  {found.digest}")
        for each in went:
            click.echo(dim(f"  with {_what(each)}  {each.digest}"))
        click.echo(dim(f'  use = "oci:{to}" in a loop.toml, and `loop pull`'))


def _signer(key: str, passphrase: Path | None) -> PrivateKey:
    from loop_kit.trust._keyring import Keyring, passphrase_of

    return Keyring().private(key, passphrase_of(passphrase))


def _what(referrer: Descriptor) -> str:
    from loop_kit.pack.config import SBOM
    from loop_kit.trust.bundle import MEDIA_TYPE

    known = {MEDIA_TYPE: "a signature", SBOM: "its SBOM"}
    return known.get(referrer.artifact_type or "", f"a {referrer.artifact_type}")


async def _push(
    blobs: Blobs, found: Descriptor, to: Reference, signer: PrivateKey | None, *, signatures: bool
) -> Sequence[Descriptor]:
    """Has a registry get something of the store; returns what went along, or was there."""
    from loop_kit.cli._artifacts import Transfer
    from loop_kit.cli.sign import sign_at, version_of
    from loop_kit.oci.registry import Registry
    from loop_kit.oci.transfer import Repository, copy
    from loop_kit.store import Store
    from loop_kit.store._place import Stored
    from loop_kit.trust._places import at_store
    from loop_kit.trust.bundle import MEDIA_TYPE

    store = Store()
    if signer is not None:
        place = at_store(store, blobs, found)
        await sign_at(place, signer, to.name, version_of(place, to.tag), None, None)
    source = Stored(store, blobs, lambda each: signatures or each.artifact_type != MEDIA_TYPE)
    async with Registry(to.registry) as registry:
        with Transfer(str(to)) as progress:
            target = Repository(registry, to.repository)
            return (await copy(source, found, target, to.tag, tell=progress, referrers=True)).referrers
