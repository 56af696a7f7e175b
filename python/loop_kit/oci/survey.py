"""What a layout consists of, as far as it can be read, for whoever looks at it."""

from __future__ import annotations

from typing import Any

from loop_kit.errors import PackageError
from loop_kit.oci import media_types
from loop_kit.oci._json import MOST_BYTES
from loop_kit.oci.layout import REF_NAME, Layout, name_of
from loop_kit.oci.model import Descriptor, Index, Manifest, parse
from loop_kit.oci.wasm import is_wasm, parse_config, wasm_layer

__all__ = ["survey"]

_DEEPEST = 8
_MOST = 10_000
"""Documents that are looked at."""


def survey(layout: Layout) -> list[dict[str, Any]]:
    """What a layout lists, in its order: an object for each artifact, as JSON has it.

    Its keys: `tags`, `digest`, `media-type`, `size`; `problem`, where it cannot be read; for an index `manifests`, and
    for a manifest `kind`, `config`, `layers`, `total` (bytes of all its blobs), `subject`; for a component `wasm`: what
    its config says, and `runs`: the digest that is run, or None with `why-not`.

    Raises:
        PackageError: It is no layout, or its index is malformed.
    """
    by_digest: dict[str, dict[str, Any]] = {}
    left = [_MOST]
    for descriptor in layout.index().manifests:
        said = by_digest.get(descriptor.digest)
        if said is None:
            said = by_digest[descriptor.digest] = {"tags": [], **_document(layout, descriptor, left, 1)}
        if (name := name_of(descriptor)) is not None and name not in said["tags"]:
            said["tags"].append(name)
    return list(by_digest.values())


def _document(layout: Layout, descriptor: Descriptor, left: list[int], deep: int) -> dict[str, Any]:
    said = _blob(descriptor)
    if descriptor.platform is not None:
        said["platform"] = str(descriptor.platform)
    if descriptor.media_type not in media_types.MANIFESTS | media_types.INDEXES:
        return said
    left[0] -= 1
    if left[0] < 0 or deep > _DEEPEST:
        return said | {"problem": "there is too much to look at"}
    try:
        data = layout.blobs.read(descriptor.digest, most=MOST_BYTES)
        document = parse(data, descriptor.media_type, what=descriptor.digest)
    except PackageError as error:
        return said | {"problem": str(error)}
    said["annotations"] = dict(document.annotations)
    said["subject"] = document.subject.digest if document.subject is not None else None
    if isinstance(document, Index):
        inner = [_document(layout, each, left, deep + 1) for each in document.manifests]
        return said | {"kind": document.artifact_type, "manifests": inner}
    return said | _manifest(layout, document)


def _manifest(layout: Layout, manifest: Manifest) -> dict[str, Any]:
    said: dict[str, Any] = {
        "kind": manifest.kind,
        "config": _blob(manifest.config),
        "layers": [_blob(layer) for layer in manifest.layers],
        "total": sum(part.size for part in manifest.parts),
    }
    if not is_wasm(manifest):
        return said
    said |= {"wasm": None, "runs": None}
    try:
        said["runs"] = wasm_layer(manifest).digest
        if manifest.config.media_type == media_types.WASM_CONFIG:
            said["wasm"] = _config(layout, manifest)
    except PackageError as error:
        said["why-not"] = str(error)
    return said


def _config(layout: Layout, manifest: Manifest) -> dict[str, Any]:
    config = parse_config(layout.blobs.read(manifest.config.digest, most=MOST_BYTES), manifest)
    return {
        "created": config.created,
        "author": config.author,
        "os": config.os,
        "exports": None if config.exports is None else list(config.exports),
        "imports": None if config.imports is None else list(config.imports),
        "target": config.target,
    }


def _blob(descriptor: Descriptor) -> dict[str, Any]:
    said: dict[str, Any] = {
        "media-type": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    words = {key: value for key, value in descriptor.annotations.items() if key != REF_NAME}
    return said | ({"annotations": words} if words else {})
