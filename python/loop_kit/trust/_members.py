"""What a policy says of each component and provider of a workspace, before anything of it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loop_kit.manifest._use import is_shipped
from loop_kit.oci.reference import LAYOUT, Reference
from loop_kit.trust.policy import Policy, Rule

if TYPE_CHECKING:
    from loop_kit.manifest import Manifest, Provider
    from loop_kit.manifest.model import Artifact

__all__ = ["Covered", "covered", "is_local"]

_OCI = "oci:"


@dataclass(frozen=True)
class Covered:
    """What a policy says of one member.

    Attributes:
        member: Its place in the manifest, `components.site`.
        what: What it is loaded from: an artifact's reference, a file, or the `use` of a provider.
        verdict: `signed` where signatures decide, `unsigned` where it needs none, `refused` where nothing would help,
            `local` for code that comes from no registry.
        why: The same in words.
        place: `loop.toml:12` of the rule that decides, or None.
    """

    member: str
    what: str
    verdict: Literal["signed", "unsigned", "refused", "local"]
    why: str
    place: str | None = None


def covered(manifest: Manifest) -> tuple[Covered, ...]:
    """The members with code that does not ship with loop-kit; nothing, if there is no policy."""
    policy = manifest.trust
    if policy is None:
        return ()
    found = []
    for component in manifest.components.values():
        keys = f"components.{component.name}"
        if component.artifact is None:
            found.append(_local(policy, keys, component.path.name))
        else:
            found.append(_artifact(manifest, policy, keys, component.artifact))
    for provider in manifest.providers.values():
        keys = f"providers.{provider.name}"
        if provider.artifact is not None:
            found.append(_artifact(manifest, policy, keys, provider.artifact))
        elif is_local(provider):
            found.append(_local(policy, keys, provider.use))
    return tuple(found)


def is_local(provider: Provider) -> bool:
    """Whether a provider brings code of its own that comes from no registry."""
    if provider.artifact is not None or provider.shipped or provider.shipped_aside:
        return False
    if provider.placement == "component":
        # else it is a component of the workspace, which has its own answer
        return provider.path is not None and not is_shipped(provider.target)
    return provider.placement in ("python", "sidecar")


def _local(policy: Policy, member: str, what: str) -> Covered:
    if policy.local == "refuse":
        return Covered(member, what, "refused", 'comes from no registry, and local = "refuse"')
    return Covered(member, what, "local", "comes from no registry, so no signature is asked for")


def _artifact(manifest: Manifest, policy: Policy, member: str, artifact: Artifact) -> Covered:
    reference = artifact.reference
    if reference.startswith(LAYOUT):
        return Covered(
            member, reference, "signed", "must be signed by whoever may sign what its signature calls it"
        )
    name = policy.original(Reference.parse(reference.removeprefix(_OCI)).name)
    found = policy.rule_for(name)
    if found is None:
        return Covered(member, reference, "refused", f"nobody may sign {name}: no rule of [trust] names it")
    index, rule = found
    source = manifest.trust_source or manifest.source
    position = source.position(("trust", "rules", index))
    place = f"{source.shown}:{position[0]}" if position else None
    if not rule.signers:
        return Covered(member, reference, "unsigned", "needs no signature", place)
    verdict: Literal["signed", "unsigned"] = "unsigned" if rule.unsigned == "allow" else "signed"
    return Covered(member, reference, verdict, _words(rule), place)


def _words(rule: Rule) -> str:
    who = " or ".join(rule.signers)
    if rule.threshold > 1:
        who = f"{rule.threshold} of {', '.join(rule.signers)}"
    said = f"must be signed by {who}"
    if rule.max_age is not None:
        said += f" in the last {rule.max_age / 86_400:g} days"
    return f"{said}, if it is signed at all" if rule.unsigned == "allow" else said
