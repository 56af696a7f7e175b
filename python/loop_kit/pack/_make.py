"""Makes packages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from loop_kit import inspect
from loop_kit.dev._command import make
from loop_kit.errors import PackageError
from loop_kit.manifest import Manifest
from loop_kit.oci import media_types
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor, Index, describe
from loop_kit.oci.model import Manifest as Artifact
from loop_kit.oci.wasm import WasmConfig
from loop_kit.pack import _native, _node, _python, sbom
from loop_kit.pack._bill import BILL, bill_of, refer
from loop_kit.pack._facts import created
from loop_kit.pack._layers import Part, add_bytes
from loop_kit.pack._plan import Plan, Tell, plan, problem
from loop_kit.pack.config import CONFIG, HANDSHAKE, SBOM, ProviderConfig
from loop_kit.pack.platforms import platform_of_triple

__all__ = ["GRANTS", "pack"]

GRANTS = "dev.loop-kit.grants"
"""The annotation of a component's manifest that says, as JSON, what must be granted for it to work."""

_REACHED = {
    "python": ("stdio", "unix", "shm", "pipe", "tcp", "quic", "http2", "ws", "nats"),
    "node": ("stdio", "unix", "tcp"),
    "native": ("stdio", "unix", "tcp"),
}
"""What a provider is reached by that is written with an SDK; by a gateway it is reached by all."""


async def pack(
    manifest: Manifest,
    name: str,
    blobs: Blobs,
    *,
    targets: Sequence[str] = (),
    tell: Tell = lambda text: None,
    planned: Plan | None = None,
) -> Descriptor:
    """Packs a component or a provider of a workspace; what has a build is built.

    Args:
        manifest: The workspace.
        name: Its name there.
        blobs: Where the package goes.
        targets: What it is for, as compilers name it; empty: as the manifest says, else this machine. What runs
            wherever its runtime does is the same for all.
        tell: Told, in words, what takes a while.
        planned: What `plan` said, if it was asked.

    Returns:
        The package: a manifest where it is for all platforms, else an index. What refers to a component with its SBOM is
        there as well: `refer` says what that is.

    Raises:
        PackageError: It cannot be packed; the error says why.
        LoadError: A component cannot be built, or is none.
        OSError: A file cannot be read or written.
    """
    planned = planned or await plan(manifest, name)
    for triple in targets:
        if platform_of_triple(triple) is None:
            hint = 'write one such as "aarch64-unknown-linux-musl"'
            raise problem(f"{triple!r} is a target of no machine that is known", hint)
    match planned.kind:
        case "component":
            return await _component(planned, blobs)
        case "python":
            parts = await _python.parts(planned, blobs, targets, tell)
        case "node":
            parts = await _node.parts(planned, blobs, targets, tell)
        case "native":
            parts = await _native.parts(planned, blobs, targets, tell)
    made = [_provider(planned, part, blobs) for part in parts]
    if made[0].platform is None:
        return made[0]
    index = Index(tuple(made), annotations=planned.facts.annotations(name))
    data = index.to_bytes()
    blobs.add(data)
    return describe(index, data)


async def _component(planned: Plan, blobs: Blobs) -> Descriptor:
    assert planned.wasm is not None
    if planned.component is not None:
        await make(planned.component, planned.folder, planned.tools)
    try:
        wasm = await asyncio.to_thread(planned.wasm.read_bytes)
    except OSError as e:
        raise PackageError(f"{planned.name}: cannot read {planned.wasm}: {e.strerror}") from None
    found = await asyncio.to_thread(inspect.inspect, wasm)
    layer = add_bytes(blobs, wasm, media_types.WASM, f"{planned.name}.wasm")
    names = [tuple(item.name for item in side) for side in (found.exports, found.imports)]
    exports, imports = (None, None) if found.module else names
    config = WasmConfig(created(), (layer.digest,), "wasip1" if found.module else "wasip2", exports, imports)
    said = planned.facts.annotations(planned.name)
    if planned.pack.grants:
        said[GRANTS] = json.dumps(plain(planned.pack.grants), sort_keys=True)
    said[BILL] = blobs.add(bill_of(planned, wasm))
    artifact = Artifact(
        add_bytes(blobs, config.to_bytes(), media_types.WASM_CONFIG), (layer,), annotations=said
    )
    data = artifact.to_bytes()
    blobs.add(data)
    made = describe(artifact, data)
    refer(blobs, made)
    return made


def _provider(planned: Plan, part: Part, blobs: Blobs) -> Descriptor:
    """One part of a provider's package."""
    provider = planned.provider
    assert provider is not None
    assert planned.kind != "component"
    facts = planned.facts
    config = ProviderConfig(
        planned.name,
        planned.kind,
        part.entry,
        part.unpacked,
        () if planned.kind == "python" else provider.args,
        facts.version,
        facts.description,
        facts.license,
        part.platform,
        created(),
        planned.exports,
        planned.pack.imports,
        planned.wit,
        HANDSHAKE if provider.handshake else None,
        planned.pack.transports
        or (_REACHED[planned.kind] if provider.handshake else (provider.transport or "unix",)),
        plain(planned.pack.grants),
        part.runtime,
    )
    bill = sbom.document(planned.name, facts.version, facts.license, part.items)
    layers = (*part.layers, add_bytes(blobs, bill, SBOM, "sbom.cdx.json"))
    artifact = Artifact(
        add_bytes(blobs, config.to_bytes(), CONFIG), layers, annotations=facts.annotations(planned.name)
    )
    data = artifact.to_bytes()
    blobs.add(data)
    return describe(artifact, data, **({} if part.platform is None else {"platform": part.platform}))


def plain(value: Any) -> Any:
    """A value of a manifest as JSON has it.

    Raises:
        PackageError: There is a secret in it.
    """
    from loop_kit.manifest import Secret

    if isinstance(value, Secret):
        raise problem("a secret stands among the grants of a package", "leave it to whoever grants it")
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
