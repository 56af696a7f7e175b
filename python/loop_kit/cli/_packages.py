"""Packages by the names that users write: in a layout, in the store, in a registry."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop_kit.cli._output import dim, print_json, strong

if TYPE_CHECKING:
    from loop_kit.oci.blobs import Blobs
    from loop_kit.oci.model import Descriptor, Platform
    from loop_kit.oci.reference import Reference
    from loop_kit.oci.registry import Registry
    from loop_kit.pack import Description

__all__ = ["clean", "complete_stored", "show", "stored"]


def show(name: str, platform: Platform | None, *, wit: bool, as_json: bool) -> None:
    """Shows what a package is.

    Raises:
        PackageError: There is none of that name, or it is malformed.
    """
    from loop_kit.pack import describe

    with _opened(name, platform, wit=wit) as (blobs, found, referrers):
        if wit:
            click.echo(_wit(blobs, found, platform).rstrip())
            return
        said = describe(blobs, found, platform, referrers)
    if as_json:
        print_json({"reference": name, **dataclasses.asdict(said)})
    else:
        _print(said)


@contextlib.contextmanager
def _opened(
    name: str, platform: Platform | None, *, wit: bool
) -> Iterator[tuple[Blobs, Descriptor, Sequence[Descriptor]]]:
    """The blobs that a package's documents are in, the package, and what refers to it."""
    from loop_kit.errors import PackageError
    from loop_kit.oci.blobs import Blobs
    from loop_kit.oci.layout import Layout
    from loop_kit.oci.reference import LAYOUT, LayoutReference, Reference
    from loop_kit.store import Store

    if name.startswith(LAYOUT):
        place = LayoutReference.parse(name)
        layout = Layout(place.folder)
        root = layout.resolve(place.digest or place.tag)
        yield layout.blobs, root, layout.referrers(root.digest)
        return
    with stored(name) as found:
        if found is not None:
            yield *found, Store().referrers(found[1].digest)
            return
    try:
        reference = Reference.parse(name.removeprefix("oci:"))
    except PackageError as e:
        error = PackageError(f"{name!r} is no file, and nothing in the store: {e}")
        error.hint = (
            "name a .wasm file, REGISTRY/REPOSITORY:TAG, oci-layout:DIR:TAG, or what `loop pack` has packed"
        )
        raise error from None
    with tempfile.TemporaryDirectory(prefix="loop-inspect-") as folder:
        blobs = Blobs(Path(folder))
        yield blobs, *asyncio.run(_fetched(reference, blobs, platform, wit=wit))


@contextlib.contextmanager
def stored(name: str) -> Iterator[tuple[Blobs, Descriptor] | None]:
    """What the store has by a name, with its blobs."""
    from loop_kit.oci.model import Descriptor
    from loop_kit.store import Store

    store = Store()
    found = store.named(name)
    if found is None:
        yield None
        return
    with store.use() as use:
        size = use.blobs.size(found.digest) or 0
        yield use.blobs, Descriptor(found.media_type, found.digest, size)


async def _fetched(
    reference: Reference, blobs: Blobs, platform: Platform | None, *, wit: bool
) -> tuple[Descriptor, Sequence[Descriptor]]:
    """Fetches the documents of a package, and nothing that is large; also says what refers to it."""
    from loop_kit.oci import media_types
    from loop_kit.oci.model import Index, Manifest, parse
    from loop_kit.oci.platform import choose, this_platform
    from loop_kit.oci.registry import Registry
    from loop_kit.pack._bill import BILL
    from loop_kit.pack.config import SBOM

    async with Registry(reference.registry) as registry:
        root, data = await registry.manifest(reference)
        blobs.add(data)
        document = parse(data, root.media_type, what=str(reference))
        if isinstance(document, Index):
            wanted = platform or this_platform()
            there = [each for each in document.manifests if each.platform is not None]
            known = any(
                (p := each.platform) and (p.os, p.architecture) == (wanted.os, wanted.architecture)
                for each in there
            )
            chosen = (
                there[0]
                if there and platform is None and not known
                else choose(document, wanted, what=str(reference))
            )
            _, data = await registry.manifest(reference.at(digest=chosen.digest))
            blobs.add(data)
            document = parse(data, chosen.media_type, what=str(reference))
        if isinstance(document, Manifest):
            wasm = media_types.LAYERS_OF_WASM if wit else frozenset()
            layers = [each for each in document.layers if each.media_type == SBOM or each.media_type in wasm]
            for part in (document.config, *layers):
                await registry.pull_blob(reference.repository, part, blobs)
        referrers = await registry.referrers(reference.repository, root.digest)
        if isinstance(document, Manifest) and BILL in document.annotations:
            await _bill(registry, reference, document.annotations[BILL], referrers, blobs)
    return root, referrers


async def _bill(
    registry: Registry, reference: Reference, digest: str, referrers: Sequence[Descriptor], blobs: Blobs
) -> None:
    """Fetches the SBOMs that are beside a component, and of them the one that it says it has."""
    from loop_kit.errors import PackageError
    from loop_kit.oci.model import Manifest, parse
    from loop_kit.pack._bill import MOST_BILL
    from loop_kit.pack.config import SBOM

    for each in referrers:
        if each.artifact_type != SBOM:
            continue
        kind = "the manifest of the SBOM"
        try:
            _, data = await registry.manifest(reference.at(digest=each.digest))
            blobs.add(data)
            document = parse(data, each.media_type, what=each.digest)
            kind = "the SBOM"
            for layer in document.layers if isinstance(document, Manifest) else ():
                if layer.digest == digest and layer.size <= MOST_BILL:
                    await registry.pull_blob(reference.repository, layer, blobs)
        except PackageError as error:
            raise error.within(kind) from None


def _wit(blobs: Blobs, found: Descriptor, platform: Platform | None) -> str:
    from loop_kit.inspect import inspect
    from loop_kit.oci.wasm import wasm_layer
    from loop_kit.pack import config_of, part_of

    _, manifest = part_of(blobs, found, platform)
    config = config_of(blobs, manifest)
    if config is None:
        return inspect(blobs.read(wasm_layer(manifest).digest, most=1 << 30)).wit
    return "\n".join(f"// {path}\n{text}" for path, text in config.wit.items())


def _print(said: Description) -> None:
    from loop_kit.cli._artifacts import amount

    version = f" {clean(said.version)}" if said.version else ""
    click.echo(f"{strong(clean(said.name or 'a package'))}{version}  {said.kind}, {amount(said.size)}")
    others = f" (shown: {said.shown})" if said.shown and len(said.platforms) > 1 else ""
    rows = [
        ("digest", said.digest),
        ("is", said.description),
        ("licence", said.licenses),
        ("source", said.source),
        ("made", said.created),
        ("runs on", ", ".join(said.platforms) + others),
        ("runs in", said.runtime),
        ("entry", said.entry),
        ("reached by", ", ".join(said.transports)),
        ("handshake", None if said.transports == () else str(said.handshake or "none: plain wRPC")),
        ("unpacked", amount(said.unpacked)),
    ]
    for label, text in rows:
        if text:
            click.echo(f"  {label:<11}{clean(text)}")
    for label, names in (("serves", said.exports), ("imports", said.imports), ("needs to", said.may)):
        for name in names:
            click.echo(f"  {label:<11}{clean(name)}")
    for layer in said.layers:
        click.echo(
            f"  {'layer':<11}{clean(layer.title or layer.media_type)}, {amount(layer.size)}  {dim(layer.digest)}"
        )
    for each in said.referrers:
        click.echo(
            f"  {'beside it':<11}{clean(each.title or each.media_type)}, {amount(each.size)}  {dim(each.digest)}"
        )
    for package, version in said.packages:
        click.echo(f"  {'contains':<11}{clean(package)} {clean(version)}")


def clean(text: str) -> str:
    """Words that others wrote, of which a terminal obeys nothing."""
    return "".join(c if c.isprintable() else "?" for c in text)


def complete_stored(incomplete: str) -> list[str]:
    """The names of what is in the store and was packed."""
    try:
        from loop_kit.store import Store
        from loop_kit.store._roots import PACKED

        store = Store()
        roots = store.roots() if store.folder.is_dir() else []
        names = [root.name.removeprefix(PACKED) for root in roots if root.subject is None]
    except Exception:
        return []  # the shell has nowhere to show an error
    return [name for name in names if name.startswith(incomplete)]
