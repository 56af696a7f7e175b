"""Artifacts, keys and policies of the tests of trust."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from loop_kit.errors import Untrusted
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.layout import Layout
from loop_kit.oci.model import Descriptor, Manifest, describe
from loop_kit.trust import Identity, Policy, PrivateKey, Rule, sign, verify
from tests.checkout import ROOT

NAME = "registry.example/acme/site"
NOW = 1_800_000_000  # tests do not look at the clock
DAY = 86_400


def key_of(seed: str) -> PrivateKey:
    """A key, the same for the same word."""
    return PrivateKey(Ed25519PrivateKey.from_private_bytes(seed.encode().ljust(32, b".")))


ACME, OPS, OTHER = key_of("acme"), key_of("ops"), key_of("other")


@dataclass(frozen=True)
class Artifact:
    """A manifest with one layer, and the blobs that it lies in."""

    blobs: Blobs
    root: Descriptor
    layer: Descriptor
    config: Descriptor


def artifact(folder: Path, content: bytes = b"component") -> Artifact:
    blobs = Blobs(folder)
    layer = Descriptor("application/wasm", blobs.add(content), len(content))
    about = b'{"architecture":"wasm","os":"wasip2"}'
    config = Descriptor("application/vnd.example.config+json", blobs.add(about), len(about))
    manifest = Manifest(config, (layer,))
    data = manifest.to_bytes()
    blobs.add(data)
    return Artifact(blobs, describe(manifest, data), layer, config)


def root_of(content: bytes = b"{}") -> Descriptor:
    """The descriptor of some manifest."""
    manifest = Manifest(
        Descriptor("a/b", f"sha256:{'0' * 64}", 0), (Descriptor("a/b", f"sha256:{'0' * 64}", 0),)
    )
    return describe(manifest, content)


def policy(**more: Any) -> Policy:
    """One by which acme signs its own."""
    rules = more.pop("rules", None) or (Rule(("registry.example/acme/*",), ("acme",)),)
    return Policy({"acme": ACME.public, "ops": OPS.public, **more.pop("signers", {})}, rules, **more)


def signed(root: Descriptor, key: PrivateKey = ACME, **more: Any) -> bytes:
    """The bundle of a signature."""
    said: dict[str, Any] = {"name": NAME, "version": "1.2.0", "now": NOW, **more}
    return sign(key, root, said.pop("name"), said.pop("version"), **said).data


def judged(policy: Policy, root: Descriptor, *signatures: bytes, **more: Any) -> Identity:
    said: dict[str, Any] = {"name": NAME, "now": NOW, **more}
    return verify(policy, said.pop("name"), root, signatures, **said)


def refused(policy: Policy, root: Descriptor, *signatures: bytes, **more: Any) -> Untrusted:
    """Why it is refused; its text is one line, without anything that a terminal would take for more than text."""
    with pytest.raises(Untrusted) as told:
        judged(policy, root, *signatures, **more)
    assert str(told.value).isprintable()
    return told.value


def layout(folder: str, tag: str) -> None:
    """Makes a layout with a component in it, for the docs."""
    code = (ROOT / "examples" / "plugin.wasm").read_bytes()
    made = Layout(folder).create()
    made.add(tag, artifact(Path(folder), code).root)
