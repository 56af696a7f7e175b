"""Who made a result that comes from a registry: what the workspace's policy asks for, and what this machine signs.

A signature is of the result's manifest, and so of its key and of all that it has written; its version is the key.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from loop_kit.errors import PackageError, Untrusted
from loop_kit.oci._places import Repository
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor, Manifest, parse
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry

if TYPE_CHECKING:
    from loop_kit.trust import Gate, PrivateKey

__all__ = ["KEY_VARIABLE", "Signed"]

KEY_VARIABLE = "LOOP_TASK_KEY"
"""The variable that names the key by which this machine signs results."""


class Signed:
    """Judges results by a policy, and signs those of this machine.

    Args:
        gate: The workspace's policy; None: there is none.
        key: The key of this machine; None: nothing is signed.
    """

    def __init__(self, gate: Gate | None = None, key: PrivateKey | None = None) -> None:
        self._gate = gate
        self._key = key

    @classmethod
    def of(cls, root: str, *, policy: bool) -> Signed:
        """What a workspace asks for, with the key that the environment names.

        Args:
            root: The workspace's folder.
            policy: Whether its manifest has a policy.

        Raises:
            ManifestError: A key that the policy names cannot be read.
            PackageError: There is no such key as the environment names, or what verifies is not installed.
        """
        named = os.environ.get(KEY_VARIABLE)
        if not policy and not named:
            return cls()
        from loop_kit.manifest import load
        from loop_kit.trust import Keyring, gate
        from loop_kit.trust._keyring import passphrase_of

        try:
            key = Keyring().private(named, passphrase_of(None)) if named else None
        except PackageError as error:
            refused = PackageError(f"{KEY_VARIABLE}: {error}")
            refused.hint = error.hint
            raise refused from None
        return cls(gate(load(root)) if policy else None, key)

    async def judge(self, registry: Registry, reference: Reference, root: Descriptor) -> None:
        """Looks who has signed a result.

        Raises:
            Untrusted: Nobody whom the policy allows.
            PackageError: The registry cannot be asked.
        """
        if self._gate is None:
            return
        with _blobs() as blobs:
            found = await _signatures(registry, reference, root, blobs)
            self._gate(reference.name, root, blobs, found)

    async def needs(self, registry: Registry, reference: Reference, there: Descriptor) -> bool:
        """Whether a result should be put although there is one: it would be signed, and that one does not count."""
        if self._key is None:
            return False
        if self._gate is None:
            with _blobs() as blobs:
                return not await _signatures(registry, reference, there, blobs)
        try:
            await self.judge(registry, reference, there)
        except Untrusted:
            return True
        return False

    async def sign(self, registry: Registry, reference: Reference, root: Descriptor) -> None:
        """Puts a signature beside a result, if there is a key.

        Raises:
            PackageError: The registry refuses it.
        """
        if self._key is None:
            return
        from loop_kit.trust import attach, sign

        assert reference.tag is not None
        with _blobs() as blobs:
            made = attach(blobs, root, sign(self._key, root, reference.name, reference.tag))
            data = blobs.read(made.digest)
            document = parse(data, made.media_type)
            assert isinstance(document, Manifest)
            for part in document.parts:
                await registry.push_blob(reference.repository, part, blobs)
            await registry.push_manifest(reference.repository, data)


async def _signatures(
    registry: Registry, reference: Reference, root: Descriptor, blobs: Blobs
) -> list[Descriptor]:
    from loop_kit.trust._fetch import fetch

    return await fetch(Repository(registry, reference.repository), root, blobs)


@contextlib.contextmanager
def _blobs() -> Iterator[Blobs]:
    with tempfile.TemporaryDirectory(prefix="loop-result-") as folder:
        yield Blobs(folder, sync=False)
