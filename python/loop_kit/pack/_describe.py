"""What is in a package, in words and for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from loop_kit.errors import PackageError
from loop_kit.manifest._grants import SENTENCES
from loop_kit.manifest._match import ImportName
from loop_kit.manifest._toml import inline
from loop_kit.oci import model
from loop_kit.oci.blobs import Blobs, is_digest
from loop_kit.oci.model import Descriptor, Index, Platform
from loop_kit.oci.wasm import parse_config
from loop_kit.pack._bill import BILL, MOST_BILL, bind
from loop_kit.pack._layers import TITLE
from loop_kit.pack._make import GRANTS
from loop_kit.pack._unpack import config_of, part_of
from loop_kit.pack.config import SBOM, digest_of_wit
from loop_kit.pack.sbom import items
from loop_kit.trust.bundle import MEDIA_TYPE as BUNDLE

__all__ = ["Description", "LayerOf", "describe"]

_IMAGE = "org.opencontainers.image."
_TITLES = {SBOM: "SBOM", BUNDLE: "signature"}


@dataclass(frozen=True)
class LayerOf:
    """A layer of a package."""

    title: str
    media_type: str
    digest: str
    size: int


@dataclass(frozen=True)
class Description:
    """What a package is.

    Attributes:
        digest: Of the package.
        kind: What it holds.
        name: What it was called where it was packed.
        version: Its version, or None.
        description: What it is, or None.
        licenses: Its licence, or None.
        source: Where its source code is, or None.
        created: When it was packed.
        platforms: What it is for; empty: wherever its runtime is.
        shown: The platform whose part the rest is about, or None.
        runtime: What it runs in: `python >=3.11`; None: nothing else, or a component.
        entry: What runs, or None for a component.
        exports: The interfaces that it serves.
        imports: The interfaces that it needs, or calls back.
        wit: The digest of its WIT; None for a component, which has its own.
        handshake: The version of the session's preface that it speaks; None for a component, or plain wRPC.
        transports: What it can be reached by.
        grants: What must be granted for it to work, by import.
        may: The same in words, each the end of "NAME may".
        size: Bytes of its layers.
        unpacked: Bytes of its files.
        layers: Its layers.
        packages: Names and versions of what others have made in it.
        referrers: What is known to refer to it, such as an SBOM and signatures: the artifacts' types.
    """

    digest: str
    kind: Literal["component", "module", "python", "node", "native"]
    name: str | None = None
    version: str | None = None
    description: str | None = None
    licenses: str | None = None
    source: str | None = None
    created: str | None = None
    platforms: tuple[str, ...] = ()
    shown: str | None = None
    runtime: str | None = None
    entry: str | None = None
    exports: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    wit: str | None = None
    handshake: int | None = None
    transports: tuple[str, ...] = ()
    grants: Mapping[str, Any] = field(default_factory=dict)
    may: tuple[str, ...] = ()
    size: int = 0
    unpacked: int = 0
    layers: tuple[LayerOf, ...] = ()
    packages: tuple[tuple[str, str], ...] = ()
    referrers: tuple[LayerOf, ...] = ()


def describe(
    blobs: Blobs,
    descriptor: Descriptor,
    platform: Platform | None = None,
    referrers: Iterable[Descriptor] = (),
) -> Description:
    """What a package is, as it says itself. Layers need not be there; what an SBOM lists is told where it is.

    Args:
        blobs: Where its documents are.
        descriptor: The package.
        platform: For which; None: this machine, or the first one that there is.
        referrers: What refers to it.

    Raises:
        Damaged: There are SBOMs beside a component, and none is the one that it was packed with.
        PackageError: It is no package, or a document of it is not there, or malformed.
    """
    beside = tuple(referrers)
    root = model.parse(
        blobs.read(descriptor.digest, most=model.MOST_BYTES), descriptor.media_type, what=descriptor.digest
    )
    platforms: tuple[str, ...] = ()
    if isinstance(root, Index):
        there = [each.platform for each in root.manifests if each.platform is not None]
        platforms = tuple(dict.fromkeys(map(str, there)))
        try:
            part, manifest = part_of(blobs, descriptor, platform)
        except PackageError:
            if platform is not None or not there:
                raise
            part, manifest = part_of(blobs, descriptor, there[0])
    else:
        part, manifest = descriptor, root
    what = part.digest
    said = {
        key.removeprefix(_IMAGE): value
        for key, value in manifest.annotations.items()
        if key.startswith(_IMAGE)
    }
    layers = tuple(
        LayerOf(layer.annotations.get(TITLE, ""), layer.media_type, layer.digest, layer.size)
        for layer in manifest.layers
    )
    common: dict[str, Any] = {
        "digest": descriptor.digest,
        "platforms": platforms,
        "shown": str(part.platform) if part.platform else None,
        "source": said.get("source"),
        "size": sum(layer.size for layer in layers),
        "layers": layers,
        "packages": _packages(blobs, layers, manifest.annotations.get(BILL)),
        "referrers": tuple(
            LayerOf(
                _TITLES.get(each.artifact_type or "", ""), each.artifact_type or "", each.digest, each.size
            )
            for each in beside
        ),
    }
    bind(blobs, manifest, beside)
    config = config_of(blobs, manifest, what=what)
    if config is None:
        wasm = parse_config(blobs.read(manifest.config.digest, most=model.MOST_BYTES), manifest, what=what)
        grants = _grants(manifest.annotations.get(GRANTS), what)
        return Description(
            **common,
            kind="module" if wasm.os == "wasip1" else "component",
            name=said.get("title"),
            version=said.get("version"),
            description=said.get("description"),
            licenses=said.get("licenses"),
            created=wasm.created,
            exports=wasm.exports or (),
            imports=wasm.imports or (),
            grants=grants,
            may=_sentences(grants),
            unpacked=common["size"],
        )
    return Description(
        **common,
        kind=config.kind,
        name=config.name,
        version=config.version,
        description=config.description,
        licenses=config.licenses,
        created=config.created,
        runtime=f"{config.runtime.name} {config.runtime.version}" if config.runtime else None,
        entry=" ".join((config.entry, *config.args)),
        exports=config.exports,
        imports=config.imports,
        wit=digest_of_wit(config.wit),
        handshake=config.handshake,
        transports=config.transports,
        grants=config.grants,
        may=_sentences(config.grants),
        unpacked=config.unpacked,
    )


def _packages(blobs: Blobs, layers: tuple[LayerOf, ...], bill: str | None) -> tuple[tuple[str, str], ...]:
    for digest in (*(layer.digest for layer in layers if layer.media_type == SBOM), bill):
        if digest is not None and is_digest(digest) and blobs.size(digest) is not None:
            found = items(blobs.read(digest, most=MOST_BILL))
            return tuple((item.name, item.version) for item in found)
    return ()


def _grants(text: str | None, what: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
        raise PackageError(f"{what}: the annotation {GRANTS} is no object of objects")
    return found


def _sentences(grants: Mapping[str, Any]) -> tuple[str, ...]:
    """Grants in words, as `loop explain` has them."""
    said: list[str] = []
    for name, grant in grants.items():
        try:
            package = ImportName.parse(name).package
            found = (
                SENTENCES[package](grant) if package in SENTENCES else [f"use {name} under {inline(grant)}"]
            )
        except Exception:  # a grant of another version, or made up
            found = [f"use {name} under {json.dumps(grant, sort_keys=True)}"]
        said += found
    return tuple(dict.fromkeys(said))
