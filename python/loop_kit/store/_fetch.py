"""Fetches artifacts into the store, all that belongs to them for this machine, and reads what they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from loop_kit.errors import PackageError, Untrusted
from loop_kit.oci._places import bring
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import MOST_BYTES, Descriptor, Index, Manifest, parse
from loop_kit.oci.platform import choose, this_platform
from loop_kit.oci.transfer import JOBS, together
from loop_kit.oci.wasm import is_wasm, parse_config, wasm_layer
from loop_kit.store._sources import Source
from loop_kit.trust._artifact import MOST_MANIFEST
from loop_kit.trust._fetch import fetch as signatures_of

__all__ = ["Fetched", "Found", "fetch", "find", "parts_of", "read", "selected"]

Tell = Callable[[int], object]
"""Called with bytes as they come."""

_MOST = 32 << 30
"""Bytes of one artifact."""
_VERSION = "org.opencontainers.image.version"


@dataclass(frozen=True)
class Found:
    """What an artifact is.

    Attributes:
        root: The artifact: its manifest, or its index.
        part: Its manifest, that for this machine where there are several.
        manifest: What that says.
        kind: `component`, or `provider` for what runs in a process of its own.
        version: The version that it says it has, or "".
        exports: Capabilities that it provides.
        imports: Capabilities that it needs.
        grants: What it needs to be granted, by capability.
        platforms: Of an index: the digests of what it has, by platform.
        signatures: Manifests of its signatures.
    """

    root: Descriptor
    part: Descriptor
    manifest: Manifest
    kind: Literal["component", "provider"]
    version: str = ""
    exports: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    grants: Mapping[str, Any] = field(default_factory=dict)
    platforms: Mapping[str, str] = field(default_factory=dict)
    signatures: tuple[Descriptor, ...] = ()

    @property
    def code(self) -> str | None:
        """The digest of a component's `.wasm`."""
        return wasm_layer(self.manifest).digest if self.kind == "component" else None


@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Attributes:
        found: What it is.
        digests: All that belongs to it, its signatures too.
        size: Bytes of all that.
    """

    found: Found
    digests: tuple[str, ...]
    size: int


def read(blobs: Blobs, root: Descriptor, what: str) -> tuple[Descriptor, Manifest, Mapping[str, str]]:
    """The manifest of an artifact that is in the store, for this machine, and of an index all that it has.

    Raises:
        Damaged: It is not what its digest says.
        PackageError: It is not there, malformed, or not for this machine.
    """
    document = parse(blobs.read(root.digest, most=MOST_BYTES), root.media_type, what=what)
    if isinstance(document, Manifest):
        return root, document, {}
    part = selected(document, what)
    inner = parse(
        blobs.read(part.digest, most=MOST_BYTES), part.media_type, what=f"{what}, for {part.platform}"
    )
    if isinstance(inner, Index):
        raise PackageError(f"{what}: an index lists another index, and no artifact")
    return part, inner, _platforms(document)


def _platforms(index: Index) -> dict[str, str]:
    return {str(each.platform): each.digest for each in index.manifests if each.platform is not None}


def selected(index: Index, what: str) -> Descriptor:
    """What an index has for this machine.

    Raises:
        PackageError: It has nothing for it.
    """
    return choose(index, this_platform(), what=what)


async def find(source: Source, blobs: Blobs, root: Descriptor, what: str) -> Found:
    """Fetches what says what an artifact is, and its signatures, not what it is made of.

    Raises:
        PackageError: It is not there, is no component or provider, or nobody can be asked.
    """
    with _telling(what, "the manifest or index"):
        await bring(source.place, blobs, root, document=True)
    document = parse(blobs.read(root.digest, most=MOST_BYTES), root.media_type, what=what)
    if isinstance(document, Index):
        with _telling(what, "the manifest"):
            await bring(source.place, blobs, selected(document, what), document=True)
    part, manifest, platforms = read(blobs, root, what)
    if manifest.config.size > MOST_BYTES:
        raise PackageError(f"{what}: its config has more than {MOST_BYTES} bytes")
    with _telling(what, "the config"):
        await bring(source.place, blobs, manifest.config)
    said = _facts(blobs, manifest, what)
    annotations = {**document.annotations, **manifest.annotations}
    version = said.pop("version", None) or annotations.get(_VERSION, "")
    with _telling(what, ""):
        signatures = tuple(await signatures_of(source.place, root, blobs))
    return Found(root, part, manifest, version=version, platforms=platforms, signatures=signatures, **said)


def _facts(blobs: Blobs, manifest: Manifest, what: str) -> dict[str, Any]:
    config = manifest.config
    if is_wasm(manifest):
        wasm_layer(manifest, what=what)  # it has the one that is run
        said = parse_config(
            blobs.read(config.digest, most=MOST_BYTES), manifest, what=f"the config of {what}"
        )
        return {"kind": "component", "exports": said.exports or (), "imports": said.imports or ()}
    from loop_kit.pack import config_of

    found = config_of(blobs, manifest, what=what)  # which refuses what is neither
    assert found is not None
    version = {} if found.version is None else {"version": found.version}
    return {
        "kind": "provider",
        "exports": found.exports,
        "imports": found.imports,
        "grants": found.grants,
    } | version


def parts_of(blobs: Blobs, found: Found) -> list[Descriptor]:
    """All that belongs to an artifact, its signatures too: each once.

    Raises:
        PackageError: A signature is not there, or malformed.
    """
    parts = [found.root, found.part, *found.manifest.parts, *found.signatures]
    for each in found.signatures:
        manifest = parse(blobs.read(each.digest, most=MOST_MANIFEST), each.media_type, what="a signature")
        parts += manifest.parts if isinstance(manifest, Manifest) else ()
    return [*{part.digest: part for part in parts}.values()]


async def fetch(source: Source, blobs: Blobs, found: Found, what: str, tell: Tell) -> Fetched:
    """Fetches what an artifact is made of. What is there already is read, and fetched anew where it is damaged.

    Raises:
        PackageError: Something is not there, or nobody can be asked.
        OSError: It cannot be written.
    """
    parts = parts_of(blobs, found)
    size = sum(part.size for part in parts)
    if size > _MOST:
        raise PackageError(f"{what} has {size} bytes, which is more than {_MOST}")

    async def one(part: Descriptor) -> None:
        with _telling(what, "the config" if part == found.manifest.config else "a layer"):
            await bring(source.place, blobs, part, tell)

    await together(map(one, found.manifest.parts), JOBS)
    return Fetched(found, tuple(part.digest for part in parts), size)


@contextlib.contextmanager
def _telling(what: str, kind: str) -> Iterator[None]:
    """Has errors say whose the part is that is wrong, and what it is."""
    try:
        yield
    except Untrusted:
        raise
    except PackageError as error:
        raise error.within(": ".join(filter(None, (what, kind)))) from None
