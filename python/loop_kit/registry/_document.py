"""Manifests that clients bring: read as far as a registry must know them, and no further.

`loop_kit.oci.model` is for who runs what is in them, and refuses more. Here what they say is somebody else's affair, as
long as it can be read in one way only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.oci import media_types
from loop_kit.oci._json import Place, canonical, load

__all__ = ["Document", "read"]

_MOST = 4096
"""Descriptors of one document."""
_SIZE = (1 << 63) - 1
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_DIGEST = re.compile(r"[a-z0-9]{1,32}(?:[+._-][a-z0-9]{1,32}){0,4}:[a-zA-Z0-9=_-]{32,256}")
_ELSEWHERE = re.compile(
    r"application/vnd\.(?:oci\.image\.layer\.nondistributable\.|docker\.image\.rootfs\.foreign\.).*"
)


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index.

    Attributes:
        media_type: What it is.
        blobs: Digests of config and layers, but those that are not to be distributed.
        elsewhere: Digests of these.
        manifests: Digests of what an index lists.
        subject: What it is about.
        artifact_type: What the artifact is: said so, or by the config.
        annotations: As they are.
    """

    media_type: str
    blobs: tuple[str, ...]
    elsewhere: tuple[str, ...]
    manifests: tuple[str, ...]
    subject: str | None
    artifact_type: str | None
    annotations: dict[str, str]

    def descriptor(self, digest: str, size: int) -> bytes:
        """What stands for it in a list of referrers, as JSON."""
        made: dict[str, Any] = {"mediaType": self.media_type, "digest": digest, "size": size}
        if self.artifact_type is not None:
            made["artifactType"] = self.artifact_type
        if self.annotations:
            made["annotations"] = self.annotations
        return canonical(made)


def read(data: bytes, said: str | None) -> Document:
    """Reads a document.

    Args:
        data: Its bytes.
        said: The media type that it came with.

    Raises:
        PackageError: It is none; the text names the place.
    """
    top = Place("the manifest", load(data, "the manifest"))
    members = top.object(frozenset(("mediaType", "config", "layers", "manifests", "subject", "artifactType")))
    own = _text(members, "mediaType")
    if own is not None and said is not None and own != said:
        members["mediaType"].refuse(f"expected {said}, as it was sent, found {own}")
    kind = own or said
    if kind in media_types.MANIFESTS:
        blobs, manifests = ["config", "layers"], []
    elif kind in media_types.INDEXES:
        blobs, manifests = [], ["manifests"]
    else:
        raise PackageError(f"the manifest: {kind or 'no media type'} is neither a manifest's nor an index's")
    if "schemaVersion" not in members:
        top.refuse("expected the key 'schemaVersion', found none")
    members["schemaVersion"].integer(2, 2)
    for key in {"config", "layers", "manifests"} - {*blobs, *manifests}:
        if key in members:
            members[key].refuse("it could be read as a manifest and as an index")
    for key in (*blobs, *manifests):
        if key not in members:
            top.refuse(f"expected the key {key!r}, found none")
    here: list[str] = []
    elsewhere: list[str] = []
    config: str | None = None
    if blobs:
        config, digest = _descriptor(members["config"])
        here.append(digest)
        for media_type, digest in map(_descriptor, members["layers"].array(0, _MOST)):
            (elsewhere if _ELSEWHERE.fullmatch(media_type) else here).append(digest)
    listed = [_descriptor(item)[1] for item in members["manifests"].array(0, _MOST)] if manifests else []
    subject = _descriptor(members["subject"])[1] if "subject" in members else None
    annotations: dict[str, str] = {}
    if "annotations" in members:
        found = members["annotations"].object()
        annotations = {key: value.text() for key, value in found.items()}
    return Document(
        kind,
        tuple(dict.fromkeys(here)),
        tuple(dict.fromkeys(elsewhere)),
        tuple(dict.fromkeys(listed)),
        subject,
        _text(members, "artifactType") or config,
        annotations,
    )


def _text(members: dict[str, Place], key: str) -> str | None:
    return members[key].matching(_MEDIA_TYPE, "a media type") if key in members else None


def _descriptor(place: Place) -> tuple[str, str]:
    """Its media type and digest."""
    members = place.object(frozenset(("mediaType", "digest", "size")))
    for key in ("mediaType", "digest", "size"):
        if key not in members:
            place.refuse(f"expected the key {key!r}, found none")
    members["size"].integer(0, _SIZE)
    return (
        members["mediaType"].matching(_MEDIA_TYPE, "a media type"),
        members["digest"].matching(_DIGEST, "a digest such as sha256:…, in 64 hexadecimal digits"),
    )
