"""The config of a provider's package: what it is, what it serves and needs, and what runs it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from loop_kit.errors import PackageError
from loop_kit.manifest._pack import is_licence
from loop_kit.manifest.model import TRANSPORTS
from loop_kit.oci._json import Place, canonical, load
from loop_kit.oci.archive import safe_name
from loop_kit.oci.model import Platform

__all__ = [
    "CONFIG", "HANDSHAKE", "KINDS", "SBOM", "SCHEMA", "TREE", "TREES", "WHEEL", "Kind", "ProviderConfig", "Runtime",
    "digest_of_wit", "parse",
]  # fmt: skip

CONFIG = "application/vnd.loop.provider.config.v1+json"
"""The media type of the document that this module reads and writes."""
TREE = "application/vnd.loop.provider.tree.v1.tar+gzip"
TREES = frozenset(
    (TREE, "application/vnd.loop.provider.tree.v1.tar+zstd", "application/vnd.loop.provider.tree.v1.tar")
)
"""Of a layer with files: the code, what Node.js has installed, or the program."""
WHEEL = "application/vnd.loop.provider.wheel.v1+zip"
"""Of a layer that is one wheel, as its index has it."""
SBOM = "application/vnd.cyclonedx+json"
"""Of the layer that lists what is in the others."""

SCHEMA = "provider-config.schema.json"
"""The name of the JSON Schema in `loop_kit/schema`."""

HANDSHAKE = 1
"""The version of the session's preface that this loop-kit speaks."""

Kind = Literal["python", "node", "native"]
KINDS: tuple[Kind, ...] = ("python", "node", "native")

_KNOWN = frozenset((
    "name", "version", "description", "kind", "entry", "args", "os", "architecture", "variant", "created", "exports",
    "imports", "wit", "handshake", "transports", "grants", "runtime", "licenses", "unpacked",
))  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_INTERFACE = re.compile(r"[a-z][a-z0-9-]*:[a-z][a-z0-9-]*/[a-z][a-z0-9-]*(@[0-9A-Za-z.+-]+)?")
_DOTTED = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
_CLASS = re.compile(rf"{_DOTTED}:{_DOTTED}")
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_VERSION = re.compile(r"[0-9A-Za-z.+_-]{1,128}")
_RUNTIME = re.compile(r"(>=)?\d+(\.\d+){0,2}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST = 1 << 40


@dataclass(frozen=True)
class Runtime:
    """What a provider runs in, besides its package.

    Attributes:
        name: `python` or `node`.
        version: `>=3.11`, or the one that will do: `3.11`.
    """

    name: Literal["python", "node"]
    version: str


@dataclass(frozen=True)
class ProviderConfig:
    """What a package says of the provider in it.

    Attributes:
        name: What it was called where it was packed.
        kind: What it is written in, or for.
        entry: `module:Class` of Python; else a file of the package.
        unpacked: Bytes of all its files.
        args: What it is run with; of Node.js and native programs.
        version: Its version, or None.
        description: What it is, or None.
        licenses: Its licence as an SPDX expression, or None.
        platform: What it runs on; None: wherever its runtime does.
        created: When it was packed, in UTC; 1970 unless SOURCE_DATE_EPOCH said otherwise.
        exports: The interfaces that it serves, with their versions.
        imports: The interfaces of its callers that it calls back.
        wit: The text of each WIT file, by its path.
        handshake: The version of the session's preface that it speaks; None: plain wRPC alone.
        transports: What it can be reached by.
        grants: What must be granted for it to work, by import.
        runtime: What it runs in; None: a native program.
    """

    name: str
    kind: Kind
    entry: str
    unpacked: int
    args: tuple[str, ...] = ()
    version: str | None = None
    description: str | None = None
    licenses: str | None = None
    platform: Platform | None = None
    created: str = "1970-01-01T00:00:00Z"
    exports: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    wit: Mapping[str, str] = field(default_factory=dict)
    handshake: int | None = HANDSHAKE
    transports: tuple[str, ...] = ("unix",)
    grants: Mapping[str, Any] = field(default_factory=dict)
    runtime: Runtime | None = None

    def document(self) -> dict[str, Any]:
        """As JSON has it, `null` for nothing."""
        made: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "entry": self.entry,
            "args": list(self.args),
            "created": self.created,
            "exports": list(self.exports),
            "imports": list(self.imports),
            "wit": {"digest": digest_of_wit(self.wit), "files": dict(self.wit)},
            "handshake": self.handshake,
            "transports": list(self.transports),
            "grants": dict(self.grants),
            "unpacked": self.unpacked,
        }
        if self.platform is not None:
            made |= {"os": self.platform.os, "architecture": self.platform.architecture}
            made |= {"variant": self.platform.variant} if self.platform.variant else {}
        if self.runtime is not None:
            made["runtime"] = {self.runtime.name: self.runtime.version}
        said = {"version": self.version, "description": self.description, "licenses": self.licenses}
        return made | {key: value for key, value in said.items() if value is not None}

    def to_bytes(self) -> bytes:
        """The document, in the one way that loop-kit writes it."""
        return canonical(self.document())


def digest_of_wit(files: Mapping[str, str]) -> str:
    """One digest of WIT files: the SHA-256 of their canonical JSON, paths to texts."""
    return f"sha256:{hashlib.sha256(canonical(dict(files))).hexdigest()}"


def parse(data: bytes, *, what: str = "the config") -> ProviderConfig:
    """Reads the config of a provider's package.

    Args:
        data: The document.
        what: What it is, for messages.

    Raises:
        PackageError: It is none; the text names the place, `$.wit.digest`, and what was expected there.
    """
    top = Place(what, load(data, what))
    members = top.object(_KNOWN)
    for key in members:
        if key not in _KNOWN:
            top.refuse(f"has the key {key!r}, which this loop-kit does not know")

    def required(key: str) -> Place:
        if key not in members:
            top.refuse(f"expected the key {key!r}, found none")
        return members[key]

    def text(key: str, most: int = 4096) -> str | None:
        return members[key].text(most=most) if key in members else None

    kind = required("kind")
    if kind.value not in KINDS:
        kind.expected(" or ".join(f'"{each}"' for each in KINDS))
    platform = _platform(top, members)
    if kind.value == "native" and platform is None:
        top.refuse("a native program is for an os and an architecture, found none")
    licenses = text("licenses")
    if licenses is not None and not is_licence(licenses):
        members["licenses"].expected("an SPDX expression")
    version = members["version"].matching(_VERSION, "a version") if "version" in members else None
    return ProviderConfig(
        required("name").matching(_NAME, "a name of letters, digits, - and _"),
        kind.value,
        _entry(required("entry"), kind.value),
        required("unpacked").integer(0, _MOST),
        tuple(item.text() for item in members["args"].array(0, 1024)) if "args" in members else (),
        version,
        text("description"),
        licenses,
        platform,
        required("created").matching(_CREATED, "a time in UTC such as 2026-01-01T00:00:00Z"),
        _interfaces(required("exports")),
        _interfaces(members["imports"]) if "imports" in members else (),
        _wit(required("wit")),
        None if required("handshake").value is None else required("handshake").integer(1, 1 << 16),
        _transports(required("transports")),
        _grants(members["grants"]) if "grants" in members else {},
        _runtime(top, members, kind.value),
    )


def _entry(place: Place, kind: str) -> str:
    if kind == "python":
        return place.matching(_CLASS, "module:Class")
    text = place.text("a file of the package", 1024)
    try:
        if safe_name(text) == text:
            return text
    except PackageError:
        pass
    return place.expected("a file of the package, such as bin/provider")


def _platform(top: Place, members: Mapping[str, Place]) -> Platform | None:
    if ("os" in members) != ("architecture" in members):
        top.refuse('"os" and "architecture" go together')
    if "os" not in members:
        return None
    variant = members["variant"].text(most=64) if "variant" in members else None
    return Platform(members["architecture"].text(most=64), members["os"].text(most=64), variant)


def _interfaces(place: Place) -> tuple[str, ...]:
    return tuple(
        item.matching(_INTERFACE, "an interface such as acme:kv/store@0.1.0") for item in place.array(0, 1024)
    )


def _wit(place: Place) -> dict[str, str]:
    members = place.object(frozenset(("digest", "files")))
    for key in ("digest", "files"):
        if key not in members:
            place.refuse(f"expected the key {key!r}, found none")
    files = {}
    for path, item in members["files"].object().items():
        try:
            if safe_name(path) != path or not path.endswith(".wit"):
                raise PackageError(path)
        except PackageError:
            members["files"].refuse(f"expected paths such as store.wit, found {path[:100]!r}")
        files[path] = item.text(most=1 << 20)
    digest = members["digest"].matching(_DIGEST, "a digest such as sha256:…")
    if digest != digest_of_wit(files):
        members["digest"].refuse(f"expected {digest_of_wit(files)}, that of the files, found {digest}")
    return files


def _transports(place: Place) -> tuple[str, ...]:
    items = place.array(1, len(TRANSPORTS))
    for item in items:
        if item.value not in TRANSPORTS:
            item.expected(f"one of {', '.join(TRANSPORTS)}")
    return tuple(item.value for item in items)


def _grants(place: Place) -> dict[str, Any]:
    members = place.object()
    for item in members.values():
        item.object()
    return {key: item.value for key, item in members.items()}


def _runtime(top: Place, members: Mapping[str, Place], kind: str) -> Runtime | None:
    if kind == "native":
        if "runtime" in members:
            members["runtime"].refuse("a native program has none")
        return None
    if "runtime" not in members:
        top.refuse(f"expected the key 'runtime' with the version of {kind}, found none")
    found = members["runtime"].object()
    if list(found) != [kind]:
        members["runtime"].expected(f"the version of {kind} alone")
    return Runtime(kind, found[kind].matching(_RUNTIME, "a version such as >=3.11"))  # type: ignore[arg-type]
