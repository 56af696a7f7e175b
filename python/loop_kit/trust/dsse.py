"""DSSE: the envelope that a signed payload travels in, and what of it is signed.

As in https://github.com/secure-systems-lab/dsse, protocol 1.0.2.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from loop_kit.trust._reasons import untrusted
from loop_kit.trust.keys import PublicKey

__all__ = ["MOST_SIGNATURES", "Envelope", "Signature", "pae"]

MOST_SIGNATURES = 16
"""Signatures of one envelope: each costs work."""

_MOST_TEXT = 256


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: type and payload, each with its length before it."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True)
class Signature:
    """One signature.

    Attributes:
        sig: Its bytes.
        keyid: Whose it claims to be, "" if it says nothing. Nothing is decided by it.
    """

    sig: bytes
    keyid: str = ""


@dataclass(frozen=True)
class Envelope:
    """A payload, what it is, and signatures of both.

    Attributes:
        payload: The bytes, of which nothing is to be believed before `signed_by` has said so.
        payload_type: What they are.
        signatures: One at least.
    """

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]

    @classmethod
    def of(cls, found: Any) -> Envelope:
        """Reads an envelope from its object of JSON.

        Raises:
            Untrusted: It is no envelope.
        """
        if not isinstance(found, dict):
            raise untrusted("malformed", "the envelope is not an object of JSON")
        payload_type = _text(found.get("payloadType", ""), "payloadType")
        payload = _bytes(found.get("payload", ""), "payload")
        signatures = found.get("signatures")
        if not isinstance(signatures, list) or not signatures:
            raise untrusted("no-signature", "the envelope has no signatures")
        if len(signatures) > MOST_SIGNATURES:
            raise untrusted("malformed", f"the envelope has more than {MOST_SIGNATURES} signatures")
        return cls(payload, payload_type, tuple(map(_signature, signatures)))

    def as_json(self) -> dict[str, Any]:
        """The object of JSON."""
        return {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": self.payload_type,
            "signatures": [
                {"sig": base64.b64encode(one.sig).decode()} | ({"keyid": one.keyid} if one.keyid else {})
                for one in self.signatures
            ],
        }

    @classmethod
    def signed(cls, payload_type: str, payload: bytes, sign: Callable[[bytes], bytes]) -> Envelope:
        """An envelope with one signature, which `sign` makes of the bytes to be signed. Whose it is the bundle says."""
        return cls(payload, payload_type, (Signature(sign(pae(payload_type, payload))),))

    def signed_by(self, keys: Iterable[PublicKey]) -> list[PublicKey]:
        """Those of some keys that signed it, each once, however many signatures it has.

        Raises:
            PackageError: The library that checks signatures is not installed.
        """
        data = pae(self.payload_type, self.payload)
        return [
            key for key in dict.fromkeys(keys) if any(key.verifies(one.sig, data) for one in self.signatures)
        ]


def _signature(found: Any) -> Signature:
    if not isinstance(found, dict):
        raise untrusted("malformed", "a signature of the envelope is not an object of JSON")
    sig = _bytes(found.get("sig"), "sig")
    if not sig:
        raise untrusted("malformed", "sig of the envelope is empty")
    return Signature(sig, _text(found.get("keyid") or "", "keyid"))


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        raise untrusted(
            "malformed", f"{name} of the envelope is not a string of at most {_MOST_TEXT} characters"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise untrusted("malformed", f"{name} of the envelope is not Unicode") from None
    return value


def _bytes(value: Any, name: str) -> bytes:
    """Bytes in base64, by either alphabet, and written in the one way that there is."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9+/]*={0,2}|[A-Za-z0-9_-]*={0,2}", value):
        plain = value.replace("-", "+").replace("_", "/")
        try:
            found = base64.b64decode(plain, validate=True)
        except binascii.Error:
            found = None
        if found is not None and base64.b64encode(found).decode() == plain:
            return found
    raise untrusted("malformed", f"{name} of the envelope is not base64")
