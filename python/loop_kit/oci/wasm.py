"""Artifacts that hold a WebAssembly module or component, as the WASM working group lays them out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.oci import media_types
from loop_kit.oci._json import Place, canonical, load
from loop_kit.oci.blobs import is_digest
from loop_kit.oci.model import Descriptor, Manifest

__all__ = ["WasmConfig", "is_wasm", "parse_config", "wasm_layer"]

_KNOWN = frozenset(("created", "author", "architecture", "os", "layerDigests", "component"))
_OF_COMPONENT = frozenset(("exports", "imports", "target"))
_CREATED = re.compile(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,9})?([Zz]|[+-][0-2][0-9]:[0-5][0-9])"
)
_OS = re.compile(r"wasip[0-9]{1,2}")
_MOST_NAMES = 4096


@dataclass(frozen=True, slots=True)
class WasmConfig:
    """What the config of an artifact says about its component.

    Attributes:
        created: When it was made, as RFC 3339 writes it.
        layers: The digests of its layers, in order.
        os: `wasip2` for a component, `wasip1` for a module.
        exports: Interfaces that it exports, with their versions; None for a module.
        imports: Those that it imports; None for a module.
        target: The world that it was made for, if it is known.
        author: Who made it.
    """

    created: str
    layers: tuple[str, ...]
    os: str = "wasip2"
    exports: tuple[str, ...] | None = None
    imports: tuple[str, ...] | None = None
    target: str | None = None
    author: str | None = None

    def to_bytes(self) -> bytes:
        """The document, in the one way that loop-kit writes it."""
        made: dict[str, Any] = {"created": self.created, "architecture": "wasm", "os": self.os}
        made["layerDigests"] = list(self.layers)
        if self.author is not None:
            made["author"] = self.author
        if self.exports is not None or self.imports is not None:
            made["component"] = {
                "exports": list(self.exports or ()),
                "imports": list(self.imports or ()),
                "target": self.target,
            }
        return canonical(made)


def is_wasm(manifest: Manifest) -> bool:
    """Whether an artifact says that it is a module or a component."""
    return manifest.artifact_type is None and manifest.config.media_type in media_types.CONFIGS_OF_WASM


def wasm_layer(manifest: Manifest, *, what: str = "the manifest") -> Descriptor:
    """The layer that is the module or component. The media types that were used before 2024 do as well.

    Raises:
        PackageError: It is another artifact, or has not the one layer that can be run.
    """
    if not is_wasm(manifest):
        raise PackageError(
            f"{what}: it is {manifest.kind}, no module or component: "
            f"that has a config of {media_types.WASM_CONFIG}"
        )
    if len(manifest.layers) != 1:
        raise PackageError(
            f"{what}: $.layers: expected one layer, since one component is run, found {len(manifest.layers)}"
        )
    layer = manifest.layers[0]
    if layer.media_type not in media_types.LAYERS_OF_WASM:
        raise PackageError(
            f"{what}: $.layers[0].mediaType: expected {media_types.WASM}, found {layer.media_type}"
        )
    return layer


def parse_config(data: bytes, manifest: Manifest | None = None, *, what: str = "the config") -> WasmConfig:
    """Reads a config of `application/vnd.wasm.config.v0+json`.

    Args:
        data: The document.
        manifest: The one that it belongs to: it must have the layers that the config names.
        what: What it is, for messages.

    Raises:
        PackageError: It is none, or names other layers; the text names the place.
    """
    top = Place(what, load(data, what))
    members = top.object(_KNOWN)
    for key in ("created", "architecture", "os", "layerDigests"):
        if key not in members:
            top.refuse(f"expected the key {key!r}, found none")
    created = members["created"].matching(_CREATED, "a time such as 2026-01-01T00:00:00Z")
    if members["architecture"].text() != "wasm":
        members["architecture"].expected('"wasm"')
    system = members["os"].matching(_OS, '"wasip1" or "wasip2"')
    layers = []
    for item in members["layerDigests"].array(1, _MOST_NAMES):
        layers.append(item.text())
        if not is_digest(layers[-1]):
            item.expected("a digest such as sha256:…, in 64 hexadecimal digits")
    if manifest is not None and layers != [layer.digest for layer in manifest.layers]:
        members["layerDigests"].refuse("expected the digests of the manifest's layers, in their order")
    author = _optional(members, "author")
    if (component := members.get("component")) is None or component.value is None:
        return WasmConfig(created, tuple(layers), system, author=author)
    inner = component.object(_OF_COMPONENT)
    exports, imports = (
        tuple(item.text(most=1024) for item in inner[key].array(0, _MOST_NAMES)) if key in inner else ()
        for key in ("exports", "imports")
    )
    return WasmConfig(created, tuple(layers), system, exports, imports, _optional(inner, "target"), author)


def _optional(members: dict[str, Place], key: str) -> str | None:
    found = members.get(key)
    return None if found is None or found.value is None else found.text(most=1024)
