"""What stands between a registry and what is loaded: a workspace's policy, asked about each artifact."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from loop_kit.errors import ManifestError, PackageError
from loop_kit.trust import _artifact
from loop_kit.trust._keyring import Keyring
from loop_kit.trust._reasons import untrusted
from loop_kit.trust._record import Seen
from loop_kit.trust._verify import Identity, verify
from loop_kit.trust.keys import PublicKey, library
from loop_kit.trust.policy import KeyFile, KeyId, Policy, Signer

if TYPE_CHECKING:
    from loop_kit.manifest import Manifest
    from loop_kit.oci.blobs import Blobs
    from loop_kit.oci.model import Descriptor

__all__ = ["Gate", "gate", "own_gate", "policy_of", "version_in"]

_VERSION = re.compile(r"v?[0-9]+(\.[0-9]+){0,2}([-+].*)?")


class Gate:
    """Says of each artifact whether it may be loaded.

    Args:
        policy: The policy, as `policy_of` has it; None: everything may.
        seen: Where it is kept which releases were seen.
    """

    def __init__(self, policy: Policy | None, seen: Seen | None = None) -> None:
        self.policy = policy
        self._seen = Seen() if seen is None else seen
        if policy is not None:
            library()

    def __call__(
        self,
        name: str | None,
        root: Descriptor,
        blobs: Blobs,
        signatures: Iterable[Descriptor],
        *,
        tag: str | None = None,
        pinned: bool = False,
        floor: int | None = None,
    ) -> Identity | None:
        """Whether an artifact may be loaded, judged by the signatures that are there with it.

        Args:
            name: Where it comes from: `REGISTRY/REPOSITORY`; None: nobody knows, and its signers' word is taken.
            root: Its root.
            blobs: Where the signatures are.
            signatures: Manifests that refer to the root, of whatever kind.
            tag: What was asked for, where that is a tag: a version is one that must have been signed.
            pinned: Whether `loop.lock` says what the tag is. Otherwise the tag must not go back to an older release than
                the one that it was seen to be.
            floor: The serial that `loop.lock` has for it.

        Returns:
            By whom it is signed; None, if there is no policy.

        Raises:
            Untrusted: It may not be loaded.
            PackageError: A signature is not there, or is not what its digest says.
        """
        if self.policy is None:
            return None
        bundles = [data for one in signatures if (data := _artifact.bundle_of(blobs, one, root)) is not None]
        identity = verify(self.policy, name, root, bundles, version=version_in(tag), floor=floor)
        if tag is not None and not pinned and identity.signers:
            self._seen.accept(f"{identity.name}:{tag}", identity)
        return identity

    def local(self, what: str) -> None:
        """Whether code may be loaded that comes from no registry: `what` says which, as in `components.site`.

        Raises:
            Untrusted: It may not.
        """
        if self.policy is not None and self.policy.local == "refuse":
            raise untrusted(
                "local",
                f'{what} comes from no registry, so nobody has signed it, and [trust] has local = "refuse"',
                "take it from a registry, signed, or allow local code",
            )


def gate(manifest: Manifest, seen: Seen | None = None) -> Gate:
    """What must be asked before anything of a workspace is loaded.

    Raises:
        ManifestError: A key that the policy names cannot be read.
        PackageError: There is a policy, and what verifies is not installed.
    """
    return Gate(policy_of(manifest), seen)


def own_gate(file: Path | None = None) -> Gate:
    """What must be asked before something is loaded that belongs to no workspace.

    Args:
        file: The policy, a file with `[trust]`; None: that of the user, if there is one.

    Raises:
        ManifestError: The policy, or a key that it names, cannot be read.
        PackageError: There is a policy, and what verifies is not installed.
    """
    from loop_kit.manifest._policy import policy_in, user_policy

    found = user_policy() if file is None else policy_in(file)
    return Gate(None) if found is None else gate(found)


def policy_of(manifest: Manifest, keyring: Keyring | None = None) -> Policy | None:
    """The policy of a manifest, with the keys that it names by file or id; None, if it has none.

    Raises:
        ManifestError: A key cannot be read, or is not there.
    """
    policy = manifest.trust
    if policy is None:
        return None
    own = Keyring() if keyring is None else keyring
    signers: dict[str, Signer] = {}
    for name, signer in policy.signers.items():
        try:
            signers[name] = _read(signer, own)
        except PackageError as error:
            where = manifest.trust_source or manifest.source
            problem = where.problem(("trust", "signers", name), str(error), error.hint)
            raise ManifestError([problem]) from None
    return dataclasses.replace(policy, signers=signers)


def _read(signer: Signer, keyring: Keyring) -> Signer:
    match signer:
        case KeyFile(path):
            return PublicKey.load(path)
        case KeyId(identifier):
            found = keyring.by_id(identifier)
            if found is None:
                missing = PackageError(f"there is no key with the id {identifier} in {keyring.folder}")
                missing.hint = "`loop key import` takes one in"
                raise missing
            return found
        case _:
            return signer


def version_in(tag: str | None) -> str | None:
    """The version that a tag asks for, such as `1.2`; None for tags such as `latest`."""
    return tag if tag is not None and _VERSION.fullmatch(tag) else None
