"""The media types of OCI documents, and of what WebAssembly artifacts hold: each is written here and nowhere else."""

from __future__ import annotations

__all__ = [
    "CONFIGS_OF_WASM",
    "DOCKER_LIST",
    "DOCKER_MANIFEST",
    "EMPTY",
    "INDEX",
    "INDEXES",
    "LAYERS_OF_WASM",
    "MANIFEST",
    "MANIFESTS",
    "OCTETS",
    "OLD_WASM_CONFIG",
    "OLD_WASM_LAYER",
    "OLD_WASM_MODULE_CONFIG",
    "WASM",
    "WASM_CONFIG",
]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
"""Of a config, or a layer, that says nothing: `{}`."""

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

MANIFESTS = frozenset((MANIFEST, DOCKER_MANIFEST))
INDEXES = frozenset((INDEX, DOCKER_LIST))

WASM = "application/wasm"
"""A module or a component."""
WASM_CONFIG = "application/vnd.wasm.config.v0+json"

OLD_WASM_CONFIG = "application/vnd.wasm.config.v1+json"
OLD_WASM_MODULE_CONFIG = "application/vnd.module.wasm.config.v1+json"
OLD_WASM_LAYER = "application/vnd.wasm.content.layer.v1+wasm"

CONFIGS_OF_WASM = frozenset((WASM_CONFIG, OLD_WASM_CONFIG, OLD_WASM_MODULE_CONFIG))
LAYERS_OF_WASM = frozenset((WASM, OLD_WASM_LAYER))

OCTETS = "application/octet-stream"
