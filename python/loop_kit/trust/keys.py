"""Public keys of Ed25519, and how they are written.

What is here needs no library, except for checking a signature.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from loop_kit.errors import PackageError

__all__ = ["ID_PATTERN", "LINE_PATTERN", "PublicKey", "library"]

_HEAD = bytes.fromhex("302a300506032b6570032100")
"""What comes before the 32 bytes of the key in a SubjectPublicKeyInfo of RFC 8410."""

ID_PATTERN = "^[0-9a-f]{64}$"
LINE_PATTERN = "^MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=$"

_MOST = 16 << 10
"""Bytes of a file with a key."""

_PEM = re.compile(r"\s*-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]{1,400})-----END PUBLIC KEY-----\s*")


def library() -> None:
    """Raises PackageError, with the remedy, where the library that checks signatures is not installed."""
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401
    except ImportError as error:
        missing = PackageError(f"signatures cannot be checked: {error}")
        missing.hint = "pip install 'loop-kit[trust]'"
        raise missing from None


@dataclass(frozen=True)
class PublicKey:
    """A key that checks signatures.

    Attributes:
        raw: Its 32 bytes.
    """

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Reads PEM, or the one line between its first and last.

        Raises:
            ValueError: It is no public key of Ed25519; says what it is instead, where that is known.
        """
        if "PRIVATE KEY" in text:
            raise ValueError("it is a private key, which nobody else should ever see")
        found = _PEM.fullmatch(text)
        line = "".join((found[1] if found else text).split())
        try:
            der = base64.b64decode(line, validate=True)
        except binascii.Error:
            raise ValueError("it is no public key: neither PEM nor the line in it") from None
        if len(der) != len(_HEAD) + 32 or not der.startswith(_HEAD):
            raise ValueError("it is no public key of Ed25519")
        return cls(der[len(_HEAD) :])

    @classmethod
    def load(cls, file: Path) -> PublicKey:
        """Reads a file of PEM.

        Raises:
            PackageError: It cannot be read, or is no public key of Ed25519.
        """
        try:
            with file.open("rb") as stream:
                data = stream.read(_MOST + 1)
            if len(data) > _MOST:
                raise ValueError("it is too long for a key")
            return cls.parse(data.decode("ascii"))
        except OSError as error:
            raise PackageError(f"{file}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise PackageError(f"{file}: it is no public key: it is not PEM") from None
        except ValueError as error:
            raise PackageError(f"{file}: {error}") from None

    @property
    def der(self) -> bytes:
        """The key as SubjectPublicKeyInfo, in DER."""
        return _HEAD + self.raw

    @property
    def line(self) -> str:
        """The key on one line, as a policy has it: the second one of `pem`."""
        return base64.b64encode(self.der).decode()

    @property
    def pem(self) -> str:
        """The key as a file has it."""
        return f"-----BEGIN PUBLIC KEY-----\n{self.line}\n-----END PUBLIC KEY-----\n"

    @functools.cached_property
    def id(self) -> str:
        """The SHA-256 of `der`, in 64 hexadecimal digits."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def hint(self) -> str:
        """The same in base64, as bundles of sigstore hint at a key."""
        return base64.b64encode(bytes.fromhex(self.id)).decode()

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether it is the signature of these bytes by this key.

        Raises:
            PackageError: The library is not installed.
        """
        library()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True
