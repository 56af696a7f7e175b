"""Signatures as artifacts: manifests whose subject is what they sign, as cosign has them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import EMPTY_CONFIG, Descriptor, Manifest, describe, parse
from loop_kit.trust import _json
from loop_kit.trust._reasons import untrusted
from loop_kit.trust.bundle import MEDIA_TYPE, Bundle
from loop_kit.trust.dsse import Envelope
from loop_kit.trust.statement import PAYLOAD_TYPE, PREDICATE, Statement, instant

if TYPE_CHECKING:
    from loop_kit.trust._keyring import PrivateKey

__all__ = ["MOST_MANIFEST", "attach", "bundle_of", "sign"]

MOST_MANIFEST = 256 << 10
"""Bytes of the manifest of a signature."""


def sign(
    key: PrivateKey,
    root: Descriptor,
    name: str,
    version: str,
    *,
    serial: int | None = None,
    expires: float | None = None,
    now: float | None = None,
) -> Bundle:
    """Signs an artifact as a release.

    Args:
        key: Whose signature it is.
        root: The artifact's root.
        name: What it is called, `REGISTRY/REPOSITORY`.
        version: Its version.
        serial: Must grow from release to release; by default the milliseconds since 1970.
        expires: Seconds until it says nothing more; None: it has no end.
        now: Seconds since 1970; by default what the clock says.

    Raises:
        PackageError: Name or version cannot be one.
    """
    at = time.time() if now is None else now
    statement = Statement(
        root.digest,
        name,
        version,
        int(at * 1000) if serial is None else serial,
        int(at),
        None if expires is None else int(at + expires),
    )
    payload = statement.to_bytes()
    Statement.parse(payload, root.digest)  # what nobody would take is not signed
    return Bundle.of_key(Envelope.signed(PAYLOAD_TYPE, payload, key.sign), key.public)


def attach(blobs: Blobs, root: Descriptor, bundle: Bundle) -> Descriptor:
    """Adds a signature of `root` to some blobs, and returns its manifest's descriptor."""
    created = Statement.parse(bundle.envelope.payload, root.digest).signed
    layer = Descriptor(MEDIA_TYPE, blobs.add(bundle.data), len(bundle.data))
    blobs.add(b"{}")
    manifest = Manifest(
        EMPTY_CONFIG,
        (layer,),
        Descriptor(root.media_type, root.digest, root.size),
        {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": PREDICATE,
            "org.opencontainers.image.created": instant(created),
        },
        MEDIA_TYPE,
    )
    data = manifest.to_bytes()
    blobs.add(data)
    return describe(manifest, data, artifact_type=MEDIA_TYPE, annotations=manifest.annotations)


def bundle_of(blobs: Blobs, referrer: Descriptor, root: Descriptor) -> bytes | None:
    """The bundle of a manifest that refers to `root`; None, if that is something else than a signature.

    Raises:
        Damaged: The manifest or the bundle has other bytes than its digest says.
        Untrusted: It is a signature of something else, or malformed.
        PackageError: It is not there.
    """
    what = f"the manifest of a signature, {referrer.digest},"
    data = _read(blobs, referrer.digest, what, MOST_MANIFEST)
    try:
        found = parse(data, referrer.media_type, what=what)
    except PackageError as error:
        raise untrusted("malformed", str(error)) from None
    if not isinstance(found, Manifest) or found.kind != MEDIA_TYPE:
        return None
    if found.subject is None or found.subject.digest != root.digest:
        of = "nothing" if found.subject is None else found.subject.digest
        raise untrusted("wrong-subject", f"{what} is about {of}, and not about {root.digest}")
    if len(found.layers) != 1 or found.layers[0].media_type != MEDIA_TYPE:
        raise untrusted("malformed", f"{what} does not have one bundle, {MEDIA_TYPE}")
    return _read(blobs, found.layers[0].digest, f"the signature {found.layers[0].digest}", _json.MOST)


def _read(blobs: Blobs, digest: str, what: str, most: int) -> bytes:
    try:
        return blobs.read(digest, most=most)
    except Damaged as error:
        raise Damaged(error.digest, error.found, what.rstrip(",")) from None
