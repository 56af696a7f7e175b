"""`loop verify`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong, warn
from loop_kit.cli.key import complete_key
from loop_kit.errors import Damaged, LoopError, ManifestError, Untrusted

if TYPE_CHECKING:
    from loop_kit.trust import Gate, Identity
    from loop_kit.trust._places import Place


@dataclass
class _Judged:
    """What came of one artifact."""

    digest: str
    name: str | None
    tag: str | None
    signatures: int
    identity: Identity | None = None
    error: LoopError | None = None

    @property
    def document(self) -> dict[str, Any]:
        identity = None
        if self.identity is not None:
            signers = [{"name": name, "key": key} for name, key in self.identity.signers]
            identity = dataclasses.asdict(self.identity) | {"signers": signers}
        return {
            "digest": self.digest,
            "name": self.name,
            "tag": self.tag,
            "signatures": self.signatures,
            "identity": identity,
            "reason": self.error.reason if isinstance(self.error, Untrusted) else None,
            "error": None if self.error is None else str(self.error),
        }


@click.command(
    epilog=examples(
        ("loop verify registry.example/acme/site:1.2.0", "by the policy of this workspace"),
        ("loop verify registry.example/acme/site:1.2.0 --key acme", "whether that key signed it"),
        ("loop verify site --key acme", "… what `loop pack site` has packed, and `loop sign site` signed"),
        ("loop verify --layout dist --policy loop.toml", "all of a folder, byte by byte, and who signed it"),
        ("loop verify --layout dist --json | jq .artifacts", ""),
    )
)
@click.argument("artifact", required=False)
@click.option(
    "--layout",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="An OCI layout instead: all of it.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file with [trust].  [default: the nearest loop.toml at or above this folder, then your trust.toml]",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    shell_complete=complete_key,
    help="A key that must have signed it, instead of a policy: one of yours, or a file. May be given again.",
)
@click.option("--name", help="What it must be called, REGISTRY/REPOSITORY.  [default: where it is]")
@json_option
def verify(
    artifact: str | None,
    layout: Path | None,
    policy: Path | None,
    keys: tuple[str, ...],
    name: str | None,
    as_json: bool,
) -> None:
    """Check an artifact, and by whom it is signed.

    ARTIFACT is REGISTRY/REPOSITORY:TAG, oci-layout:DIR:TAG, or the name of what is in the store. Of a layout, or in the
    store, every document and blob is read and compared with its digest; of a registry the artifact's own document, all
    else is compared when it is fetched. Signatures are judged as they are before anything is loaded: by the policy, and
    by what was seen of the tag before.

    Exits with 4 if something is damaged or not signed as the policy has it. Without a policy only bytes are judged.
    """
    from loop_kit.oci.reference import LAYOUT, LayoutReference, Reference, parse_place

    if (artifact is None) == (layout is None):
        raise click.UsageError("name an ARTIFACT, or a folder by --layout")
    gate = _gate(policy, keys)
    if artifact is not None and not artifact.startswith(LAYOUT):
        found = _in_store(artifact, gate, name)
        if found is not None:
            _tell(artifact, (), [found], gate, as_json)
            return
    where = parse_place(artifact) if artifact is not None else LayoutReference.parse(f"{LAYOUT}{layout}")
    faults: Sequence[Any] = ()
    if isinstance(where, Reference):
        judged = [asyncio.run(_in_registry(where, gate, name))]
    else:
        faults = _faults(where.folder)
        judged = [] if faults else [_judge(place, gate, name, where.tag) for place in _places(where)]
    _tell(where, faults, judged, gate, as_json)


def _tell(where: object, faults: Sequence[Any], judged: Sequence[_Judged], gate: Gate, as_json: bool) -> None:
    """Shows what came of it, and exits where something is refused."""
    if as_json:
        print_json({
            "artifact": str(where),
            "trusted": None if gate.policy is None else not faults and all(one.error is None for one in judged),
            "faults": [dataclasses.asdict(one) for one in faults],
            "artifacts": [one.document for one in judged],
        })  # fmt: skip
    else:
        _print(where, faults, judged, gate)
    if faults or any(one.error is not None for one in judged):
        raise SystemExit(exit_codes.LOAD)


def _gate(policy: Path | None, keys: Sequence[str]) -> Gate:
    """What judges: keys alone, or a policy."""
    from loop_kit.trust import Gate, Policy, PublicKey, Rule
    from loop_kit.trust._keyring import Keyring

    if keys:
        if policy is not None:
            raise click.UsageError("--key stands for a policy: give one of them")
        ring = Keyring()
        signers = {
            name: PublicKey.load(Path(name))
            if "/" in name or name.endswith((".pub", ".pem"))
            else ring.get(name).public
            for name in keys
        }
        return Gate(Policy(signers, (Rule(("**",), tuple(signers), len(signers)),)))
    return _of_manifest(policy)


def _of_manifest(policy: Path | None) -> Gate:
    from loop_kit.manifest import FILE_NAME, find, load
    from loop_kit.trust._gate import gate, own_gate

    if policy is not None:
        return own_gate(policy / FILE_NAME if policy.is_dir() else policy)
    try:
        file = find()
    except ManifestError:
        return own_gate()
    return gate(load(file))


def _faults(folder: Path) -> Sequence[Any]:
    from loop_kit.cli._progress import Progress
    from loop_kit.oci.layout import check

    read = 0

    def tell(size: int) -> None:
        nonlocal read
        read += size
        progress.at(f"reading {folder}: {read / 1e6:.0f} MB …")

    with Progress() as progress:
        return check(folder, tell)


def _places(where: Any) -> list[Place]:
    from loop_kit.trust._places import at_layout

    return at_layout(where)


def _in_store(artifact: str, gate: Gate, name: str | None) -> _Judged | None:
    """What comes of an artifact of the store; None, where there is none of that name."""
    from loop_kit.cli._packages import stored
    from loop_kit.pack import whole
    from loop_kit.store import Store
    from loop_kit.store._sources import name_in, tag_in
    from loop_kit.trust._places import at_store

    with stored(artifact) as found:
        if found is None:
            return None
        blobs, root = found
        # what was pulled is judged as that, as it is when it is loaded
        pulled = artifact.startswith("oci:")
        tag = tag_in(artifact) if pulled else None
        name = name or (name_in(artifact) if pulled else None)
        try:
            for part in whole(blobs, root):
                blobs.verify(part.digest)
            return _judge(at_store(Store(), blobs, root), gate, name, tag)
        except Damaged as error:
            return _Judged(root.digest, name, tag, 0, error=error)


async def _in_registry(where: Any, gate: Gate, name: str | None) -> _Judged:
    from loop_kit.trust._places import at_registry

    async with at_registry(where) as place:
        moving = where.tag if where.digest is None else None
        return _judge(place, gate, name or where.name, moving)


def _judge(place: Place, gate: Gate, name: str | None, tag: str | None) -> _Judged:
    judged = _Judged(place.root.digest, name, tag, len(place.signatures))
    try:
        judged.identity = gate(name, place.root, place.blobs, place.signatures, tag=tag)
    except (Untrusted, Damaged) as error:
        judged.error = error
    return judged


def _print(where: object, faults: Sequence[Any], judged: Sequence[_Judged], gate: Gate) -> None:
    for fault in faults:
        click.echo(f"{warn('damaged')}  {fault}")
    if faults:
        click.echo(f"{where}: signatures were not judged, since {len(faults)} part(s) are damaged")
    for one in judged:
        tag = f":{one.tag}" if one.tag else ""
        click.echo(f"{strong(f'{one.name}{tag}' if one.name else str(where))}  {one.digest}")
        if one.error is not None:
            click.echo(f"  {warn('refused')}  {one.error}")
            if one.error.hint:
                click.echo(f"  {dim(one.error.hint)}")
        elif one.identity is not None and one.identity.signers:
            _print_identity(one.identity)
        elif one.identity is not None:
            click.echo(f"  {warn('unsigned')}, which the policy allows")
        else:
            what = f"{one.signatures} signature(s), not judged" if one.signatures else "no signatures"
            click.echo(f"  whole; {what}: there is no policy")


def _print_identity(identity: Identity) -> None:
    from loop_kit.trust.statement import instant

    until = "" if identity.expires is None else f", until {instant(identity.expires)}"
    click.echo(f"  {good('signed')} by {identity.signed_by}, {instant(identity.signed)}{until}")
    click.echo(f"  as {identity.name} {identity.version}, release {identity.serial}")
