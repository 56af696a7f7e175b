"""Bundles of sigstore with a certificate, verified by sigstore's own library and without the network."""

from __future__ import annotations

from loop_kit.errors import PackageError
from loop_kit.trust._reasons import untrusted
from loop_kit.trust.policy import Keyless

__all__ = ["verify"]


def verify(bundle: bytes, signer: Keyless) -> tuple[str, bytes]:
    """The type and the bytes of what somebody signed; the certificate, its time and the logs are checked.

    Raises:
        Untrusted: It does not verify, or somebody else signed it.
        PackageError: The library is not installed, or what to trust cannot be read.
    """
    try:
        from sigstore.errors import VerificationError
        from sigstore.models import Bundle, TrustedRoot
        from sigstore.verify import Verifier
        from sigstore.verify.policy import Identity
    except ImportError as error:
        missing = PackageError(f"signatures of sigstore cannot be checked: {error}")
        missing.hint = "pip install 'loop-kit[sigstore]'"
        raise missing from None
    try:
        root = TrustedRoot.from_file(str(signer.root))
        verifier = Verifier(trusted_root=root)
    except OSError as error:
        raise PackageError(f"{signer.root}: cannot be read: {error.strerror}") from None
    except Exception as error:  # the library has no class for what a root may be wrong in
        raise PackageError(f"{signer.root}: is no trusted root of sigstore: {_short(error)}") from None
    try:
        found = Bundle.from_json(bundle)
    except Exception as error:
        raise untrusted("malformed", f"the signature is no bundle of sigstore: {_short(error)}") from None
    try:
        return verifier.verify_dsse(found, Identity(identity=signer.identity, issuer=signer.issuer))
    except VerificationError as error:
        raise untrusted(
            "bad-signature", f"sigstore does not take it as one of {signer.identity}: {_short(error)}"
        ) from None
    except Exception as error:  # whatever a made-up bundle has the library stumble over
        raise untrusted("malformed", f"the signature is no bundle of sigstore: {_short(error)}") from None


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
