"""`loop mirror`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._artifacts import Transfer, amount, complete_place, jobs_option, size_option
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong
from loop_kit.errors import PackageError

if TYPE_CHECKING:
    from loop_kit.oci.named import Named
    from loop_kit.oci.reference import LayoutReference, Reference


@click.command(
    epilog=examples(
        (
            "loop mirror registry.example/acme/site:1.0 registry.example/acme/files:2 localhost:5000",
            "two artifacts",
        ),
        (
            "loop mirror registry.example/acme/site localhost:5000/copies",
            "all tags of a repository, below a prefix",
        ),
        ("loop mirror registry.example/acme/site oci-layout:stick", "… into a folder, to carry it away"),
        ("loop mirror oci-layout:stick registry.lan", "… and from there"),
    )
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...", shell_complete=complete_place)
@click.argument("target", shell_complete=complete_place)
@jobs_option
@size_option
@click.option("--dry-run", is_flag=True, help="Only show what would be copied.")
@json_option
def mirror(sources: tuple[str, ...], target: str, jobs: int, most: int, dry_run: bool, as_json: bool) -> None:
    """Copy artifacts with their signatures, where missing.

    A SOURCE is REGISTRY/REPOSITORY[:TAG][@DIGEST] or oci-layout:DIR[:TAG]; without a tag it stands for all tags.
    TARGET is a registry, with a prefix for repositories if it has one, or oci-layout:DIR, where each repository becomes
    a layout of its own below DIR; such a folder can be a source again. Repositories and tags keep their names, and what
    refers to an artifact goes with it. Where one cannot be copied, the others are, and the exit code is 4.
    """
    outcomes = asyncio.run(_mirrored(sources, target, jobs, most, dry_run, as_json))
    failed = [outcome for outcome in outcomes if "error" in outcome]
    if as_json:
        print_json({"artifacts": outcomes, "failed": len(failed)})
    if failed:
        raise PackageError(f"{len(failed)} of {len(outcomes)} could not be copied: {failed[0]['error']}")


async def _mirrored(
    sources: tuple[str, ...], target: str, jobs: int, most: int, dry_run: bool, as_json: bool
) -> list[dict[str, Any]]:
    from loop_kit.oci.named import Named, mirrored
    from loop_kit.oci.reference import parse_place

    outcomes: list[dict[str, Any]] = []
    async with Named() as named:
        pairs = []
        for source in sources:
            for repository, artifact in await named.all_of(parse_place(source)):
                pairs.append((artifact, mirrored(target, repository, artifact)))
        for here, there in pairs:
            outcome = {"source": str(here), "target": str(there)}
            try:
                outcome |= await _one(named, here, there, jobs, most, dry_run)
            except PackageError as error:
                outcome["error"] = str(error)
            outcomes.append(outcome)
            if not as_json:
                _say(outcome, dry_run)
    return outcomes


async def _one(
    named: Named,
    here: Reference | LayoutReference,
    there: Reference | LayoutReference,
    jobs: int,
    most: int,
    dry_run: bool,
) -> dict[str, Any]:
    from loop_kit.oci.transfer import copy

    root = await named.resolve(here)
    if dry_run:
        try:
            new = (await named.resolve(there)).digest != root.digest
        except PackageError:
            new = True
        return {"digest": root.digest, "new": new}
    place, target = await named.place(here), await named.place(there, create=True)
    with Transfer(str(here)) as progress:
        copied = await copy(
            place, root, target, there.tag, tell=progress, referrers=True, jobs=jobs, most=most
        )
    return {
        "digest": root.digest,
        "new": copied.new,
        "blobs": copied.blobs,
        "bytes": copied.size,
        "referrers": [each.digest for each in copied.referrers],
    }


def _say(outcome: dict[str, Any], dry_run: bool) -> None:
    name = strong(outcome["target"])
    if "error" in outcome:
        click.echo(f"{click.style('-', fg='red')} {name}  {outcome['error']}")
    elif not outcome["new"]:
        click.echo(f"{dim('=')} {name}  {dim('is there')}")
    elif dry_run:
        click.echo(f"{good('+')} {name}  {dim('would be copied')}")
    else:
        count = len(outcome["referrers"])
        signed = f", {count} that refer to it" if count else ""
        click.echo(f"{good('+')} {name}  {dim(amount(outcome['bytes']) + signed)}")
