"""Artifacts made up for tests."""

from typing import Any

from loop_kit.oci import media_types
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import EMPTY_CONFIG, Descriptor, Index, Manifest, describe
from loop_kit.oci.wasm import WasmConfig

CREATED = "2026-01-01T00:00:00Z"


def put(blobs: Blobs, document: Manifest | Index, **more: Any) -> Descriptor:
    data = document.to_bytes()
    blobs.add(data)
    return describe(document, data, **more)


def put_blob(blobs: Blobs, data: bytes, media_type: str = "application/x") -> Descriptor:
    return Descriptor(media_type, blobs.add(data), len(data))


def put_component(blobs: Blobs, code: bytes = b"code") -> tuple[Descriptor, Manifest]:
    layer = put_blob(blobs, code, media_types.WASM)
    config = WasmConfig(CREATED, (layer.digest,), exports=("wasi:cli/run@0.2.6",), imports=())
    manifest = Manifest(put_blob(blobs, config.to_bytes(), media_types.WASM_CONFIG), (layer,))
    return put(blobs, manifest), manifest


def put_signature(blobs: Blobs, subject: Descriptor, words: bytes = b"signed") -> tuple[Descriptor, Manifest]:
    blobs.add(b"{}")
    layer = put_blob(blobs, words, "application/x.signature")
    manifest = Manifest(EMPTY_CONFIG, (layer,), subject, artifact_type="application/x.signature+json")
    return put(blobs, manifest), manifest
