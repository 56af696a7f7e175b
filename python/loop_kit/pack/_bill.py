"""What a component is made of: an SBOM that refers to it, since its artifact has one layer and no room for more.

The component's manifest names the SBOM's digest in an annotation. So whoever has signed the component has signed that,
too, and an SBOM that somebody else puts beside it is not taken for its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci._json import MOST_BYTES
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import EMPTY_CONFIG, Descriptor, Manifest, describe, parse
from loop_kit.pack import sbom
from loop_kit.pack._layers import TITLE
from loop_kit.pack.config import SBOM
from loop_kit.pack.sbom import Tool

if TYPE_CHECKING:
    from loop_kit.pack._plan import Plan

__all__ = ["BILL", "MOST_BILL", "bill_of", "bind", "refer", "tools_in"]

BILL = "dev.loop-kit.sbom"
"""The annotation of a component's manifest that has the digest of its SBOM."""
MOST_BILL = 16 << 20
"""Bytes of an SBOM that is read."""
_FIELDS = ("language", "processed-by", "sdk")
_DEEPEST = 16
_MOST_TOOLS = 1000


def bill_of(plan: Plan, wasm: bytes) -> bytes:
    """The SBOM of a component: its own digest, the tools that its code names, and what the lock of its build lists.

    Raises:
        PackageError: A lock cannot be read.
    """
    built = plan.component is not None and plan.component.build is not None and plan.wasm is not None
    items = _locked(plan.wasm.parent, plan.folder) if built and plan.wasm is not None else []
    return sbom.document(
        plan.name,
        plan.facts.version,
        plan.facts.license,
        items,
        digest=hashlib.sha256(wasm).hexdigest(),
        tools=tools_in(wasm),
    )


def _locked(project: Path, folder: Path) -> list[sbom.Item]:
    """What the nearest lock at or above a component's file lists, within the workspace."""
    for at in (project, *project.parents):
        if not at.is_relative_to(folder):
            break
        if (lock := at / "Cargo.lock").is_file():
            return sbom.of_cargo(lock)
        if (lock := at / "package-lock.json").is_file():
            try:
                said = json.loads(lock.read_text("utf-8"))
                packages = said.get("packages", {})
                there = [name for name, each in packages.items() if name and not each.get("dev")]
            except (OSError, ValueError, AttributeError) as e:
                raise PackageError(f"{lock} cannot be read: {e}") from None
            return sbom.of_npm(said, [name for name in there if "node_modules/" in name])
        if (lock := at / "requirements.txt").is_file():
            return sbom.of_requirements(lock)
    return []


def refer(blobs: Blobs, root: Descriptor) -> Descriptor | None:
    """Adds the artifact that brings a component its SBOM, whose subject it is; None, where there is no SBOM of it.

    Args:
        blobs: Where the component is, and its SBOM.
        root: The component.

    Raises:
        PackageError: The component's manifest is not there, or malformed.
    """
    document = parse(blobs.read(root.digest, most=MOST_BYTES), root.media_type, what=root.digest)
    digest = document.annotations.get(BILL)
    if digest is None or (size := blobs.size(digest)) is None:
        return None
    blobs.add(b"{}")
    made = Manifest(
        EMPTY_CONFIG,
        (Descriptor(SBOM, digest, size, {TITLE: "sbom.cdx.json"}),),
        Descriptor(root.media_type, root.digest, root.size),
        artifact_type=SBOM,
    )
    data = made.to_bytes()
    blobs.add(data)
    return describe(made, data, artifact_type=SBOM)


def bind(blobs: Blobs, component: Manifest, referrers: Iterable[Descriptor]) -> None:
    """Refuses SBOMs that are beside a component and none of which is the one that it was packed with.

    Args:
        blobs: Where the manifests of what refers to it are.
        component: Its manifest.
        referrers: What refers to it.

    Raises:
        Damaged: So it is.
    """
    digest, others = component.annotations.get(BILL), []
    for each in referrers if digest is not None else ():
        if each.artifact_type == SBOM:
            document = parse(blobs.read(each.digest, most=MOST_BYTES), each.media_type, what=each.digest)
            others += [layer.digest for layer in document.layers] if isinstance(document, Manifest) else []
    if digest is not None and others and digest not in others:
        raise Damaged(digest, others[0], "the SBOM that is beside it")


def tools_in(wasm: bytes) -> list[Tool]:
    """The tools that have made a component or a module, as its sections `producers` say, and those of what is in it."""
    found: dict[Tool, None] = {}
    for section in _producers(wasm, 0):
        try:
            for tool in _read(section):
                if len(found) < _MOST_TOOLS:
                    found[tool] = None
        except (IndexError, ValueError):
            continue  # such a section may have anything in it: the code is as good without
    return sorted(found)


def _producers(wasm: bytes, deep: int) -> Iterator[bytes]:
    at = 8
    try:
        nested = (1, 4) if wasm[6] else ()  # of a component its modules and components; of a module nothing
        while at < len(wasm) and deep < _DEEPEST:
            kind = wasm[at]
            size, at = _number(wasm, at + 1)
            body = wasm[at : at + size]
            at += size
            if kind == 0:
                name, end = _text(body, 0)
                if name == "producers":
                    yield body[end:]
            elif kind in nested:
                yield from _producers(body, deep + 1)
    except (IndexError, ValueError):
        return


def _read(section: bytes) -> Iterator[Tool]:
    fields, at = _number(section, 0)
    for _ in range(fields):
        name, at = _text(section, at)
        values, at = _number(section, at)
        for _ in range(values):
            tool, at = _text(section, at)
            version, at = _text(section, at)
            if name in _FIELDS and tool.isprintable() and version.isprintable():
                yield Tool(tool[:200], version[:200])


def _number(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 of 32 bits, and where it ends."""
    value = 0
    for shift in range(0, 35, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no number of 32 bits")


def _text(data: bytes, at: int) -> tuple[str, int]:
    size, at = _number(data, at)
    if at + size > len(data):
        raise ValueError("a text that is cut off")
    return data[at : at + size].decode("utf-8"), at + size
