"""What a policy says of packages: those of registries must be signed, others are held by the lock alone, or refused."""

from __future__ import annotations

from collections.abc import Iterable

from loop_kit.manifest import Manifest
from loop_kit.pkg._model import Asked, Locked

__all__ = ["Judge"]


class Judge:
    """Judges the packages of a workspace by its `[trust]`; without one all are taken."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    def _is_signed(self, asked: Asked) -> bool:
        """Whether a package comes from where signatures are."""
        own = self._manifest.resolvers.get(asked.source)
        return (asked.source if own is None else own.kind) == "oci"

    def source(self, asked: Asked) -> None:
        """Judges where a package comes from, before anybody is asked about it.

        Raises:
            Untrusted: Nobody signs what is there, and the policy refuses that.
        """
        if self._manifest.trust is not None and not self._is_signed(asked):
            from loop_kit.trust import Gate

            Gate(self._manifest.trust).local(f"packages.{asked.alias} ({asked})")

    def locked(self, pinned: Locked) -> None:
        """Judges what is locked: by those whose signatures were verified when it was.

        Raises:
            Untrusted: The policy does not take it, or not any more.
        """
        policy = self._manifest.trust
        if policy is None or not self._is_signed(pinned.asked):
            self.source(pinned.asked)
            return
        from loop_kit.pkg._oci import repository_of
        from loop_kit.trust._reasons import untrusted

        own = self._manifest.resolvers.get(pinned.asked.source)
        place = repository_of(pinned.asked, own)
        name = policy.original(f"{place.registry}/{place.repository}")
        found = policy.rule_for(name)
        if found is None:
            raise untrusted(
                "no-rule", f"packages.{pinned.asked.alias}: no rule of [trust] says who may sign {name}"
            )
        rule = found[1]
        if rule.unsigned != "allow" and len({*pinned.signed} & {*rule.signers}) < rule.threshold:
            signed = " and ".join(pinned.signed) or "nobody"
            raise untrusted(
                "no-signature",
                f"packages.{pinned.asked.alias}: loop.lock has it as signed by {signed}, "
                f"and [trust] wants {rule.threshold} of {', '.join(rule.signers)}",
                f"`loop pkg update {pinned.asked.alias}` looks for signatures",
            )

    def unsigned(self, packages: Iterable[Asked]) -> str | None:
        """In words, what of these is trusted by its checksum in the lock alone, though there is a policy."""
        if self._manifest.trust is None:
            return None
        names = [asked.alias for asked in packages if not self._is_signed(asked)]
        if not names:
            return None
        return f"signed by nobody, and trusted by their checksums in loop.lock alone: {', '.join(names)}"
