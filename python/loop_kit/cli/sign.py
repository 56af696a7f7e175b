"""`loop sign`."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._output import dim, examples, json_option, print_json, strong
from loop_kit.cli.key import complete_key, passphrase_option
from loop_kit.errors import PackageError, Untrusted

if TYPE_CHECKING:
    from loop_kit.oci.reference import LayoutReference, Reference
    from loop_kit.trust._keyring import PrivateKey
    from loop_kit.trust._places import Place
    from loop_kit.trust.statement import Statement

__all__ = ["sign", "sign_at", "version_of"]

_VERSION = "org.opencontainers.image.version"


def _duration(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    from loop_kit._units import parse_duration

    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    from loop_kit.cli._artifacts import complete_place
    from loop_kit.cli._packages import complete_stored

    return [
        *complete_place(ctx, param, incomplete),
        *(CompletionItem(name) for name in complete_stored(incomplete)),
    ]


@click.command(
    epilog=examples(
        ("loop sign registry.example/acme/site:1.2.0 --key acme", "what is there, as release 1.2.0"),
        (
            "loop sign registry.example/acme/site:1.2.0 --key acme --expires 90d",
            "the same, until it is signed anew",
        ),
        (
            "loop sign oci-layout:dist:1.2.0 --key acme --name registry.example/acme/site",
            "before it is pushed",
        ),
        ("loop sign kv --key acme --name registry.example/acme/kv", "… what `loop pack kv` has packed"),
    )
)
@click.argument("artifact", shell_complete=_complete)
@click.option(
    "--key", "key", required=True, shell_complete=complete_key, help="A key of yours, or the file of one."
)
@click.option("--name", help="What it is called, REGISTRY/REPOSITORY.  [default: where it is]")
@click.option("--version", help="Its version.  [default: what it says itself, or its tag]")
@click.option(
    "--expires",
    callback=_duration,
    metavar="DURATION",
    help="How long it counts: 90d.  [default: for ever]",
)
@click.option(
    "--serial",
    type=click.IntRange(0, 2**53 - 1),
    help="Its place among releases.  [default: the last]",
)
@passphrase_option
@json_option
def sign(
    artifact: str,
    key: str,
    name: str | None,
    version: str | None,
    expires: float | None,
    serial: int | None,
    passphrase: Path | None,
    as_json: bool,
) -> None:
    """Sign an artifact as a release.

    ARTIFACT is REGISTRY/REPOSITORY:TAG, oci-layout:DIR:TAG for one that lies in a folder, or the name of what
    `loop pack` has put into the store. The signature says what it is called, its version, and when it was signed; it is
    put beside the artifact, and nothing of that changes: `loop push` sends it along. Who signs the same release again
    renews the signature: its place among the releases stays.
    """
    from loop_kit.oci.reference import Reference
    from loop_kit.trust._keyring import Keyring, passphrase_of

    signer = Keyring().private(key, passphrase_of(passphrase))

    async def run() -> tuple[Statement, str]:
        async with contextlib.AsyncExitStack() as stack:
            place, where = await _place(artifact, stack)
            called = name or (where.name if isinstance(where, Reference) else None)
            if called is None:
                raise click.UsageError(
                    "say what it is called, by --name REGISTRY/REPOSITORY: where it is does not tell"
                )
            said = version or version_of(place, None if where is None else where.tag)
            return await sign_at(place, signer, called, said, serial, expires)

    statement, digest = asyncio.run(run())
    if as_json:
        print_json({
            "digest": statement.digest, "name": statement.name, "version": statement.version,
            "serial": statement.serial, "signed": statement.signed, "expires": statement.expires,
            "key": signer.public.id, "signature": digest,
        })  # fmt: skip
        return
    from loop_kit.trust.statement import instant

    until = "" if statement.expires is None else f", until {instant(statement.expires)}"
    click.echo(f"{strong(f'{statement.name} {statement.version}')}  {statement.digest}")
    click.echo(f"signed by {signer.public.id[:16]} as release {statement.serial}{until}")
    click.echo(dim(f"the signature is {digest}"))


async def _place(
    artifact: str, stack: contextlib.AsyncExitStack
) -> tuple[Place, Reference | LayoutReference | None]:
    """Where an artifact is; in the store under its name, where no reference is said."""
    from loop_kit.cli._packages import stored
    from loop_kit.oci.reference import LAYOUT, LayoutReference, parse_place
    from loop_kit.store import Store
    from loop_kit.trust._places import at_layout, at_registry, at_store

    if not artifact.startswith(("oci:", LAYOUT)):
        found = stack.enter_context(stored(artifact))
        if found is not None:
            return at_store(Store(), *found), None
    try:
        where = parse_place(artifact)
    except PackageError as e:
        if artifact.startswith(LAYOUT):
            raise
        error = PackageError(f"{artifact!r} is nothing in the store, and {e}")
        error.hint = (
            "name what `loop pack` has packed, by WORKSPACE/NAME where several are called so, "
            "REGISTRY/REPOSITORY:TAG, or oci-layout:DIR:TAG"
        )
        raise error from None
    if isinstance(where, LayoutReference):
        places = at_layout(where)
        if len(places) > 1:
            error = PackageError(f"{where.folder} has {len(places)} artifacts")
            error.hint = f"name one of them, as oci-layout:{where.folder}:TAG"
            raise error
        return places[0], where
    return await stack.enter_async_context(at_registry(where)), where


def version_of(place: Place, tag: str | None) -> str:
    """What the artifact says of its version, or its tag, where that is one."""
    from loop_kit.trust._gate import version_in

    found = place.document.annotations.get(_VERSION) or version_in(tag)
    if found is None:
        raise click.UsageError(
            "say which version it is, by --version: neither the artifact nor its tag tells"
        )
    return found


async def sign_at(
    place: Place, key: PrivateKey, name: str, version: str, serial: int | None, expires: float | None
) -> tuple[Statement, str]:
    """Signs what is at a place, and puts the signature there.

    Raises:
        PackageError: It cannot be signed by that name or version, or the signature is refused.
    """
    from loop_kit.trust._artifact import sign as make
    from loop_kit.trust.statement import Statement

    if serial is None:
        serial = _former(place, key, name, version)
    try:
        bundle = make(key, place.root, name, version, serial=serial, expires=expires)
    except Untrusted as error:  # of names and versions that nobody would take
        raise PackageError(f"{name!r} in version {version!r} cannot be signed: {error}") from None
    made = await place.add(bundle)
    return Statement.parse(bundle.envelope.payload, place.root.digest), made.digest


def _former(place: Place, key: PrivateKey, name: str, version: str) -> int | None:
    """The serial that this key gave the release before; None, if it has not signed it."""
    from loop_kit.trust._artifact import bundle_of
    from loop_kit.trust.bundle import Bundle
    from loop_kit.trust.statement import Statement

    serials = []
    for one in place.signatures:
        with contextlib.suppress(Untrusted):
            data = bundle_of(place.blobs, one, place.root)
            envelope = None if data is None else Bundle.parse(data).envelope
            if envelope is not None and envelope.signed_by([key.public]):
                said = Statement.parse(envelope.payload, place.root.digest)
                if (said.name, said.version) == (name, version):
                    serials.append(said.serial)
    return max(serials, default=None)
