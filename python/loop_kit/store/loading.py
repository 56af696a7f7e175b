"""What a workspace loads out of the store: every byte is compared with its digest before it is used."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import threading
from typing import TYPE_CHECKING

from loop_kit.errors import Damaged, PackageError, Untrusted
from loop_kit.lock import Entry
from loop_kit.manifest import Artifact, Component, Manifest, Provider
from loop_kit.oci import model
from loop_kit.store._held import held_parts, kind_of, manifest_of, root_of
from loop_kit.store._sources import digest_in, name_in, tag_in
from loop_kit.store._store import Store
from loop_kit.store._unpacked import unpacked
from loop_kit.store._use import Use

if TYPE_CHECKING:
    from loop_kit.trust import Gate, Policy

__all__ = ["Artifacts", "artifact_of", "entry_of"]


def entry_of(what: str, artifact: Artifact) -> Entry:
    """What `loop.lock` says of an artifact.

    Args:
        what: Whose it is: `components.site`.
        artifact: The artifact.

    Raises:
        PackageError: It says nothing.
    """
    if artifact.entry is None:
        if artifact.stale is not None:
            raise _refused(
                f"{what} is {artifact.reference}, and loop.lock has it as {artifact.stale}",
                "run `loop update`",
            )
        raise _refused(
            f"{what} is {artifact.reference}, of which loop.lock does not say what it is", "run `loop pull`"
        )
    if digest_in(artifact.reference) not in (None, artifact.entry.digest):
        message = f"{what} is {artifact.reference}, and loop.lock has {artifact.entry.digest} for it"
        raise _refused(message, "run `loop update`")
    return artifact.entry


def artifact_of(
    kind: str, name: str, path: str | os.PathLike[str], manifest: Manifest
) -> tuple[str, Artifact] | None:
    """The artifact of which a member's code is loaded, with how messages name it; None for a file of the user's.

    Args:
        kind: `component` or `provider`.
        name: The member's name.
        path: Where its code is.
        manifest: What says what the member is.
    """
    declared = (manifest.components if kind == "component" else manifest.providers).get(name)
    if declared is None or declared.artifact is None or declared.path != path:
        return None
    return f"{kind}s.{name}", declared.artifact


class Artifacts:
    """The artifacts that a workspace runs; they stay in the store as long as this is open. Any thread may use it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._opened: tuple[Store, Use] | None = None
        self._judge: tuple[Policy | None, Gate] | None = None

    def close(self) -> None:
        """Lets go of what was loaded; again is harmless."""
        with self._guard:
            self._stack.close()
            self._opened = None

    def _store(self) -> tuple[Store, Use]:
        with self._guard:
            if self._opened is None:
                store = Store()
                self._opened = store, self._stack.enter_context(store.use())
            return self._opened

    def admit(self, component: Component, manifest: Manifest) -> bool:
        """Whether a component is an artifact, which is checked; one that is a file may be loaded.

        Raises:
            Damaged: Something of it is another; the text names it.
            Untrusted: The policy of the manifest does not let it be loaded.
            PackageError: Something of it is not there, or `loop.lock` does not say what it is.
        """
        what = f"components.{component.name}"
        if component.artifact is None:
            self.admit_file(what, manifest)
            return False
        self.check(what, component.artifact, manifest)
        return True

    def admit_provider(self, provider: Provider, manifest: Manifest) -> None:
        """Refuses a provider of which nobody says what it is, and local code where the policy refuses that.

        Raises:
            Untrusted: The policy of the manifest does not let it be loaded.
            PackageError: `loop.lock` does not say what it is.
        """
        what = f"providers.{provider.name}"
        if provider.artifact is not None:
            entry_of(what, provider.artifact)
        elif manifest.trust is not None:
            from loop_kit.trust._members import is_local

            if is_local(provider):
                self.admit_file(what, manifest)

    def admit_file(self, what: str, manifest: Manifest) -> None:
        """Refuses code that comes from no registry, where the policy refuses that.

        Args:
            what: Whose it is: `components.site`.
            manifest: The workspace, with its policy.

        Raises:
            Untrusted: The policy of the manifest does not let it be loaded.
        """
        if manifest.trust is not None:
            self._gate(manifest).local(what)

    def _gate(self, manifest: Manifest) -> Gate:
        from loop_kit.trust import gate

        with self._guard:
            if self._judge is None or self._judge[0] is not manifest.trust:
                self._judge = manifest.trust, gate(manifest)
            return self._judge[1]

    def check(self, what: str, artifact: Artifact, manifest: Manifest) -> model.Manifest:
        """Compares all that belongs to an artifact with its digests, and has the policy judge by whom it is signed.

        Args:
            what: Whose it is: `components.site`.
            artifact: The artifact.
            manifest: The workspace, with its policy.

        Returns:
            What it consists of.

        Raises:
            Damaged: Something is another; the text names it.
            Untrusted: The policy of the manifest does not let it be loaded.
            PackageError: Something is not there, or `loop.lock` does not say what it is.
        """
        entry = entry_of(what, artifact)
        _, use = self._store()
        blobs = use.blobs
        try:
            use.hold(entry.digest)
            for digest in held_parts(blobs, entry):
                if blobs.size(digest) is None:
                    kind = kind_of(blobs, entry, digest)
                    raise _refused(f"{kind}, {digest}, is not in {blobs.folder}", "`loop pull` fetches it")
                blobs.verify(digest)
            parts = manifest_of(blobs, entry)
            if manifest.trust is not None:
                signatures = [root_of(blobs, digest) for digest in entry.signatures]
                root, name = root_of(blobs, entry.digest), name_in(artifact.reference)
                tag = tag_in(artifact.reference)  # what it says of a version counts, whatever the lock pins
                self._gate(manifest)(
                    name, root, blobs, signatures, tag=tag, pinned=True, floor=entry.serial or None
                )
        except Untrusted:
            raise  # which names it
        except Damaged as error:
            kind = kind_of(blobs, entry, error.digest)
            raise _named(what, artifact, error, kind) from None
        except PackageError as error:
            raise _named(what, artifact, error) from None
        except OSError as error:
            said = (
                f"{what}, {artifact.reference}: {error.filename or blobs.folder}: {error.strerror or error}"
            )
            raise PackageError(said) from None
        if entry.code is not None and entry.code not in {layer.digest for layer in parts.layers}:
            message = f"{what}: loop.lock has {entry.code} as the code of {artifact.reference}, which it does not have"
            raise _refused(message, "run `loop update`")
        return parts

    def code(self, what: str, artifact: Artifact, manifest: Manifest) -> bytes:
        """The `.wasm` of a component, all of the artifact checked: these bytes are what is to be loaded.

        Raises:
            Damaged: Something is another; the text names it.
            Untrusted: The policy of the manifest does not let it be loaded.
            PackageError: Something is not there, or it is no component.
        """
        self.check(what, artifact, manifest)
        entry = entry_of(what, artifact)
        if entry.code is None:
            raise PackageError(f"{what}: {artifact.reference} is no component")
        path = self._store()[1].blobs.path(entry.code)
        data = path.read_bytes()
        algorithm = entry.code.partition(":")[0]
        found = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        if found != entry.code:  # it was changed since it was looked at
            raise _named(what, artifact, Damaged(entry.code, found, str(path)))
        return data

    def provider(self, provider: Provider, manifest: Manifest) -> Provider:
        """How a provider of an artifact runs, in a process of its own: unpacked, if it was not, and all of it checked.

        Raises:
            Damaged: Something is another; the text names it.
            Untrusted: The policy of the manifest does not let it be loaded.
            PackageError: Something is not there, or it cannot be unpacked.
        """
        what, artifact = f"providers.{provider.name}", provider.artifact
        assert artifact is not None
        self.check(what, artifact, manifest)
        store, use = self._store()
        try:
            digest = entry_of(what, artifact).digest
            # signatures are of the package: what was unpacked of it must be that, whatever lies beside it
            runnable = unpacked(store, use, digest, compare=manifest.trust is not None)
            # what came from elsewhere never runs in the host's process, whatever the manifest trusts
            return runnable.provider(dataclasses.replace(provider, trusted=False))
        except PackageError as error:
            raise _named(what, artifact, error) from None
        except OSError as error:
            said = f"{what}: {artifact.reference} cannot be unpacked in {store.folder}: {error.strerror or error}"
            raise PackageError(said) from None


def _named(what: str, artifact: Artifact, error: PackageError, kind: str = "") -> PackageError:
    """The error with whose it is."""
    made = error.within(": ".join(filter(None, (f"{what}, {artifact.reference}", kind))))
    made.hint = error.hint or "`loop pull` fetches it again"
    return made


def _refused(message: str, hint: str) -> PackageError:
    error = PackageError(message)
    error.hint = hint
    return error
