"""`loop copy`."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import click

from loop_kit.cli._artifacts import (
    Transfer,
    amount,
    complete_place,
    jobs_option,
    platform_option,
    size_option,
)
from loop_kit.cli._output import dim, examples, json_option, print_json, strong

if TYPE_CHECKING:
    from loop_kit.oci.model import Platform
    from loop_kit.oci.reference import LayoutReference, Reference
    from loop_kit.oci.transfer import Copied


@click.command(
    epilog=examples(
        ("loop copy registry.example/acme/site:1.0 localhost:5000/site:1.0", "from one registry to another"),
        ("loop copy registry.example/acme/site:1.0 oci-layout:out", "… into a folder, under the same tag"),
        ("loop copy oci-layout:out:1.0 registry.example/acme/site:1.1", "… and from there, by another"),
        (
            "loop copy --platform linux/arm64 registry.example/acme/files:2 oci-layout:arm",
            "only this part of it",
        ),
        ("loop copy --with-referrers registry.example/acme/site:1.0 oci-layout:out", "with its signatures"),
    )
)
@click.argument("source", shell_complete=complete_place)
@click.argument("target", shell_complete=complete_place)
@platform_option
@click.option(
    "--with-referrers", "referrers", is_flag=True, help="Copy what refers to it, such as signatures."
)
@jobs_option
@size_option
@json_option
def copy(
    source: str, target: str, platform: Platform | None, referrers: bool, jobs: int, most: int, as_json: bool
) -> None:
    """Copy an artifact between registries and folders.

    SOURCE and TARGET are REGISTRY/REPOSITORY[:TAG][@DIGEST], or oci-layout:DIR[:TAG] for an OCI image layout on disk.
    Without a tag the target gets that of the source. Every byte is checked by its digest; what is there already is not
    copied, a copy that broke off goes on, and the name comes last. The login for a registry is that of `docker login`,
    or of LOOP_REGISTRY, LOOP_REGISTRY_USER and LOOP_REGISTRY_PASSWORD.
    """
    from loop_kit.oci.reference import parse_place

    here = parse_place(source)
    there, copied = asyncio.run(_copied(here, parse_place(target), platform, referrers, jobs, most))
    if as_json:
        print_json(
            {
                "source": str(here),
                "target": str(there),
                "digest": copied.descriptor.digest,
                "media-type": copied.descriptor.media_type,
                "new": copied.new,
                "blobs": copied.blobs,
                "bytes": copied.size,
                "referrers": [each.digest for each in copied.referrers],
            }
        )
        return
    click.echo(f"{strong(str(there))}  {copied.descriptor.digest}")
    signed = f", and {len(copied.referrers)} that refer to it" if copied.referrers else ""
    how = f"{copied.blobs} blobs, {amount(copied.size)}" if copied.new else "all of it was there"
    click.echo(dim(f"  {how}{signed}"))


async def _copied(
    here: Reference | LayoutReference,
    there: Reference | LayoutReference,
    platform: Platform | None,
    referrers: bool,
    jobs: int,
    most: int,
) -> tuple[Reference | LayoutReference, Copied]:
    from loop_kit.errors import PackageError
    from loop_kit.oci.layout import name_of
    from loop_kit.oci.named import Named
    from loop_kit.oci.transfer import copy as transfer

    async with Named() as named:
        root = await named.resolve(here)
        place = await named.place(here)
        if there.digest is not None and there.digest != root.digest and platform is None:
            raise PackageError(f"{there} cannot be had by copying {root.digest}")
        if there.tag is None and there.digest is None:
            there = dataclasses.replace(there, tag=here.tag or name_of(root))
        target = await named.place(there, create=True)
        with Transfer(str(here)) as progress:
            copied = await transfer(
                place,
                root,
                target,
                there.tag,
                tell=progress,
                platform=platform,
                referrers=referrers,
                jobs=jobs,
                most=most,
            )
    return there, copied
