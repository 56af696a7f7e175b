"""`loop pull`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._artifacts import amount
from loop_kit.cli._locked import fetching, lock_options
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong
from loop_kit.cli._workspace import manifest_option, open_manifest

if TYPE_CHECKING:
    from loop_kit.lock import Entry
    from loop_kit.store.workspace import Tell

__all__ = ["as_json_of", "pull"]


@click.command(
    epilog=examples(
        ("loop pull", "all that the nearest workspace names; then `loop run --locked --offline` works"),
        ("loop pull --locked", "… and nothing else than what loop.lock pins, as on a server"),
        ("loop pull --offline", "only see whether all is here"),
        ("loop pull oci:registry.example/acme/kv:1.2", "one artifact by itself"),
    )
)
@click.argument("references", nargs=-1, metavar="[REFERENCE]...")
@manifest_option
@lock_options
@json_option
def pull(
    references: tuple[str, ...], manifest_path: Path | None, locked: bool, offline: bool, as_json: bool
) -> None:
    """Fetch what a workspace names, and pin it in loop.lock.

    What loop.lock has is fetched by its digest, whatever its tag is now: `loop update` looks for what is newer. What it
    does not have is resolved and written into it. What is here already is read, and fetched again where it is damaged.

    A REFERENCE, oci:REGISTRY/REPOSITORY:TAG or oci-layout:FOLDER:TAG, is fetched by itself, without a workspace; it
    stays until `loop store gc --forget REFERENCE`.
    """
    if references:
        if locked or offline or manifest_path is not None:
            raise click.UsageError(
                "a REFERENCE is fetched by itself: --locked, --offline and --manifest are of a workspace"
            )
        _alone(references, as_json)
        return
    from loop_kit.store.workspace import pull as pull_all

    manifest = open_manifest(manifest_path)
    pulled = fetching(lambda tell: pull_all(manifest, locked=locked, offline=offline, tell=tell))
    if as_json:
        artifacts = {keys: as_json_of(entry) for keys, entry in pulled.entries.items()}
        print_json(
            {
                "manifest": manifest.path,
                "artifacts": artifacts,
                "fetched": pulled.size,
                "changed": pulled.lock,
            }
        )
        return
    for keys, entry in pulled.entries.items():
        _show(keys, entry)
    if not pulled.entries:
        click.echo(f"{manifest.source.shown} names no artifacts")
        return
    wrote = "; loop.lock has changed" if pulled.lock else ""
    came = f"{amount(pulled.size)} came" if pulled.size else "all was here"
    click.echo(f"{good('pulled')} {dim(f'({came}{wrote})')}")


def _alone(references: tuple[str, ...], as_json: bool) -> None:
    said = []
    for reference in references:
        entry, came = fetching(functools.partial(_one, reference))
        said.append(as_json_of(entry) | {"fetched": came})
        if not as_json:
            _show(reference, entry)
    if as_json:
        print_json({"artifacts": said})


async def _one(reference: str, tell: Tell) -> tuple[Entry, int]:
    from loop_kit.store.alone import pull as pull_alone

    return await pull_alone(reference, Path.cwd(), tell=tell)


def _show(name: str, entry: Entry) -> None:
    version = f" {entry.version}" if entry.version else ""
    signed = f", signed by {entry.signed_by}" if entry.signed_by else ""
    click.echo(
        f"{strong(name)}{version}  {entry.digest}  {dim(f'{entry.kind}, {amount(entry.size)}{signed}')}"
    )


def as_json_of(entry: Entry) -> dict[str, Any]:
    """An entry of loop.lock, by the lock's own keys."""
    return {key.replace("_", "-"): value for key, value in vars(entry).items()}
