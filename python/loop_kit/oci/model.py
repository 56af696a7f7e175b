"""The documents of OCI: descriptors, manifests, indexes and what marks a layout, read strictly.

What is read is what was understood: a document's digest is that of the bytes that came, never of `to_bytes`, which
leaves out what loop-kit does not know.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.oci import media_types
from loop_kit.oci._json import MOST_BYTES, Place, canonical, load
from loop_kit.oci.blobs import digest_of, is_digest

__all__ = [
    "EMPTY_CONFIG",
    "MOST_BYTES",
    "Descriptor",
    "Index",
    "Manifest",
    "Platform",
    "annotations_of",
    "check_layout",
    "describe",
    "parse",
    "parse_descriptor",
]

MOST_ITEMS = 4096
"""Layers of a manifest, manifests of an index, annotations of either."""
MOST_SIZE = (1 << 63) - 1

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#$%&'()*+,./0-9:;=?@A-Z_a-z~\[\]-]+")

_OF_PLATFORM = frozenset(("architecture", "os", "os.version", "os.features", "variant"))
_OF_DESCRIPTOR = frozenset(
    ("mediaType", "digest", "size", "urls", "data", "artifactType", "annotations", "platform")
)
_OF_MANIFEST = frozenset(
    ("schemaVersion", "mediaType", "artifactType", "config", "layers", "subject", "annotations")
)
_OF_INDEX = frozenset(("schemaVersion", "mediaType", "artifactType", "manifests", "subject", "annotations"))
_OF_LAYOUT = frozenset(("imageLayoutVersion",))


@dataclass(frozen=True, slots=True)
class Platform:
    """What a manifest of an index is for, in Go's words: `linux`, `amd64`, and the variant of an architecture."""

    architecture: str
    os: str
    variant: str | None = None
    os_version: str | None = None
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        said = {"architecture": self.architecture, "os": self.os, "variant": self.variant}
        said |= {"os.version": self.os_version}
        made: dict[str, Any] = {key: value for key, value in said.items() if value is not None}
        return made | ({"os.features": list(self.os_features)} if self.os_features else {})


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a blob or document is, how long, and its digest.

    Attributes:
        media_type: What it is.
        digest: Of its bytes. In a document it may be of an algorithm that loop-kit does not check; nothing is fetched
            by such a one.
        size: Its bytes.
        annotations: Words about it.
        artifact_type: What the artifact is that it leads to.
        platform: For which it is, in an index.
        urls: Where else it can be had. loop-kit does not ask there.
        data: Its bytes, where the document carries them; they are those of the digest.
    """

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    data: bytes | None = None

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        made: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type is not None:
            made["artifactType"] = self.artifact_type
        if self.annotations:
            made["annotations"] = dict(self.annotations)
        if self.platform is not None:
            made["platform"] = self.platform.document()
        if self.urls:
            made["urls"] = list(self.urls)
        if self.data is not None:
            made["data"] = base64.b64encode(self.data).decode()
        return made

    def __hash__(self) -> int:
        return hash((self.digest, self.size, self.media_type))


EMPTY_CONFIG = Descriptor(media_types.EMPTY, digest_of(b"{}"), 2, data=b"{}")
"""The config of an artifact that needs none; its bytes are `{}`."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """An artifact: a config and layers.

    Attributes:
        config: What says how the layers are meant.
        layers: At least one.
        subject: The manifest that this one is about, where it is a signature or the like.
        annotations: Words about it.
        artifact_type: What it is, where its config does not say.
        media_type: Its own.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None
    media_type: str = media_types.MANIFEST

    @property
    def kind(self) -> str:
        """What the artifact is: its `artifact_type`, else the media type of its config."""
        return self.artifact_type or self.config.media_type

    @property
    def parts(self) -> tuple[Descriptor, ...]:
        """Config and layers, each blob once (one that is said to have two sizes stands here twice)."""
        once: dict[tuple[str, int], Descriptor] = {}
        for part in (self.config, *self.layers):
            once.setdefault((part.digest, part.size), part)
        return tuple(once.values())

    def to_bytes(self) -> bytes:
        """The document, in the one way that loop-kit writes it."""
        made: dict[str, Any] = {
            "config": self.config.document(),
            "layers": [layer.document() for layer in self.layers],
        }
        return canonical(made | _common(self))


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, or of indexes.

    Attributes:
        manifests: What it lists; a layout's and those of platforms are told apart by annotations and `platform`.
        subject: The manifest that this one is about.
        annotations: Words about it.
        artifact_type: What it is.
        media_type: Its own.
    """

    manifests: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None
    media_type: str = media_types.INDEX

    def to_bytes(self) -> bytes:
        """The document, in the one way that loop-kit writes it."""
        return canonical({"manifests": [each.document() for each in self.manifests]} | _common(self))


def _common(document: Manifest | Index) -> dict[str, Any]:
    made: dict[str, Any] = {"schemaVersion": 2, "mediaType": document.media_type}
    if document.artifact_type is not None:
        made["artifactType"] = document.artifact_type
    if document.subject is not None:
        made["subject"] = document.subject.document()
    if document.annotations:
        made["annotations"] = dict(document.annotations)
    return made


def describe(document: Manifest | Index, data: bytes, **more: Any) -> Descriptor:
    """The descriptor of a document.

    Args:
        document: What it says.
        data: Its bytes.
        **more: Further fields of the descriptor.
    """
    return Descriptor(document.media_type, digest_of(data), len(data), **more)


def parse(data: bytes, media_type: str | None = None, *, what: str | None = None) -> Manifest | Index:
    """Reads a manifest or an index.

    Args:
        data: The document.
        media_type: What it was said to be, by a descriptor or a registry; by default it says so itself.
        what: What it is, for messages.

    Raises:
        PackageError: It is neither, or not the one that it was said to be; the text names the place,
            `$.layers[0].digest`, and what was expected there.
    """
    what = what or "the manifest"
    if media_type is not None and media_type not in media_types.MANIFESTS | media_types.INDEXES:
        raise PackageError(f"{what}: {media_type} is neither a manifest nor an index")
    top = Place(what, load(data, what))
    members = top.object()
    said = members["mediaType"].matching(_MEDIA_TYPE, "a media type") if "mediaType" in members else None
    if said is not None and media_type is not None and said != media_type:
        members["mediaType"].refuse(f"expected {media_type}, as it was described, found {said}")
    kind = said or media_type
    if kind is None:  # older documents do not say
        kind = media_types.INDEX if "manifests" in members else media_types.MANIFEST
    if kind in media_types.MANIFESTS:
        return _manifest(top, kind)
    if kind in media_types.INDEXES:
        return _index(top, kind)
    return members["mediaType"].expected("that of a manifest or an index")


def parse_descriptor(data: bytes, *, what: str = "the descriptor") -> Descriptor:
    """Reads a descriptor that stands alone.

    Raises:
        PackageError: It is none.
    """
    return _descriptor(Place(what, load(data, what)))


def check_layout(data: bytes, *, what: str = "oci-layout") -> None:
    """Reads the file `oci-layout`.

    Raises:
        PackageError: It does not mark a layout of the version that loop-kit knows.
    """
    top = Place(what, load(data, what))
    version = _required(top, top.object(_OF_LAYOUT), "imageLayoutVersion")
    if version.text() != "1.0.0":
        version.expected('"1.0.0"')


def _required(of: Place, members: Mapping[str, Place], key: str) -> Place:
    if key not in members:
        of.refuse(f"expected the key {key!r}, found none")
    return members[key]


def _manifest(top: Place, media_type: str) -> Manifest:
    members = top.object(_OF_MANIFEST)
    _version(top, members)
    if "manifests" in members:
        members["manifests"].refuse("a manifest has none: it could be read as an index")
    config = _descriptor(_required(top, members, "config"))
    layers = tuple(map(_descriptor, _required(top, members, "layers").array(1, MOST_ITEMS)))
    artifact_type = _media_type(members, "artifactType")
    if config.media_type == media_types.EMPTY and artifact_type is None:
        top.refuse("expected the key 'artifactType', since the config is empty, found none")
    return Manifest(config, layers, _subject(members), annotations_of(members), artifact_type, media_type)


def _index(top: Place, media_type: str) -> Index:
    members = top.object(_OF_INDEX)
    _version(top, members)
    for key in ("config", "layers"):
        if key in members:
            members[key].refuse("an index has none: it could be read as a manifest")
    manifests = tuple(map(_descriptor, _required(top, members, "manifests").array(0, MOST_ITEMS)))
    artifact_type = _media_type(members, "artifactType")
    return Index(manifests, _subject(members), annotations_of(members), artifact_type, media_type)


def _version(top: Place, members: Mapping[str, Place]) -> None:
    _required(top, members, "schemaVersion").integer(2, 2)


def _subject(members: Mapping[str, Place]) -> Descriptor | None:
    return _descriptor(members["subject"]) if "subject" in members else None


def _media_type(members: Mapping[str, Place], key: str) -> str | None:
    return members[key].matching(_MEDIA_TYPE, "a media type") if key in members else None


def annotations_of(members: Mapping[str, Place]) -> dict[str, str]:
    """The key `annotations` of an object: words by name.

    Raises:
        PackageError: It is something else.
    """
    if "annotations" not in members:
        return {}
    found = members["annotations"].object()
    if len(found) > MOST_ITEMS or "" in found:
        members["annotations"].refuse(f"expected at most {MOST_ITEMS} annotations, each with a name")
    for key in found:
        Place("an annotation", key, members["annotations"].path).text()
    return {key: value.text() for key, value in found.items()}


def _descriptor(place: Place) -> Descriptor:
    members = place.object(_OF_DESCRIPTOR)
    media_type = _required(place, members, "mediaType").matching(_MEDIA_TYPE, "a media type")
    digest = _digest(_required(place, members, "digest"))
    size = _required(place, members, "size").integer(0, MOST_SIZE)
    urls = (
        tuple(item.matching(_URL, "a URL") for item in members["urls"].array(0, 64))
        if "urls" in members
        else ()
    )
    return Descriptor(
        media_type,
        digest,
        size,
        annotations_of(members),
        _media_type(members, "artifactType"),
        _platform(members["platform"]) if "platform" in members else None,
        urls,
        _data(members["data"], digest, size) if "data" in members else None,
    )


def _digest(place: Place) -> str:
    digest = place.matching(_DIGEST, "a digest such as sha256:…, in 64 hexadecimal digits")
    if digest.partition(":")[0] in ("sha256", "sha512") and not is_digest(digest):
        place.expected("as many small hexadecimal digits as the algorithm has")
    return digest


def _data(place: Place, digest: str, size: int) -> bytes:
    text = place.text("base64", MOST_BYTES)
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        place.expected("base64")
    if len(data) != size:
        place.refuse(f"expected the {size} bytes of its size, found {len(data)}")
    if digest.startswith("sha256:") and digest_of(data) != digest:
        place.refuse(f"expected the bytes of {digest}, found those of {digest_of(data)}")
    return data


def _platform(place: Place) -> Platform:
    members = place.object(_OF_PLATFORM)
    architecture = _required(place, members, "architecture").text(most=256)
    system = _required(place, members, "os").text(most=256)
    features = members["os.features"].array(0, 256) if "os.features" in members else ()
    more = {key: members[key].text(most=256) for key in ("variant", "os.version") if key in members}
    return Platform(
        architecture,
        system,
        more.get("variant"),
        more.get("os.version"),
        tuple(feature.text(most=256) for feature in features),
    )
