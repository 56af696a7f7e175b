"""Bundles of sigstore, which hold an envelope and what its signature is checked by.

As in https://github.com/sigstore/protobuf-specs, version 0.3, so that other tools find and read them. A bundle of a key
hints at it; one of sigstore has a certificate, and proofs of its logs.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from loop_kit.trust import _json
from loop_kit.trust._reasons import untrusted
from loop_kit.trust.dsse import Envelope
from loop_kit.trust.keys import PublicKey

__all__ = ["MEDIA_TYPE", "Bundle"]

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@dataclass(frozen=True)
class Bundle:
    """One signature, with all that is needed to check it but trust.

    Attributes:
        envelope: What was signed.
        hint: The id of the key that it hints at, "" if none. Nothing is decided by it.
        certified: Whether it has a certificate instead, so that sigstore must be asked.
        data: Its bytes.
    """

    envelope: Envelope
    hint: str
    certified: bool
    data: bytes

    @classmethod
    def of_key(cls, envelope: Envelope, key: PublicKey) -> Bundle:
        """The bundle of an envelope that a key signed."""
        found = {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": key.hint}},
            "dsseEnvelope": envelope.as_json(),
        }
        return cls(envelope, key.id, False, _json.canonical(found))

    @classmethod
    def parse(cls, data: bytes) -> Bundle:
        """Reads a bundle; nothing of it is to be believed yet.

        Raises:
            Untrusted: It is none.
        """
        found = _json.read(data, "the signature")
        if found.get("mediaType") != MEDIA_TYPE:
            raise untrusted("malformed", f"the signature is not a bundle, {MEDIA_TYPE}")
        if "dsseEnvelope" not in found:
            raise untrusted(
                "payload-type", "the signature has no envelope, and so says nothing of what it is for"
            )
        envelope = Envelope.of(found["dsseEnvelope"])
        material = found.get("verificationMaterial")
        if not isinstance(material, dict):
            raise untrusted("malformed", "the signature does not say what it is to be checked by")
        certified = "certificate" in material or "x509CertificateChain" in material
        return cls(envelope, "" if certified else _hint(material.get("publicKey")), certified, data)


def _hint(key: Any) -> str:
    """The id of a key, of the base64 of the same; "" if it is none."""
    hint = key.get("hint", "") if isinstance(key, dict) else None
    if not isinstance(hint, str):
        raise untrusted("malformed", "the signature has neither a key nor a certificate to be checked by")
    try:
        found = base64.b64decode(hint, validate=True)
    except ValueError:
        return ""
    return found.hex() if len(found) == 32 else ""
