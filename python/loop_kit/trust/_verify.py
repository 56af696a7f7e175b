"""Whether a policy takes an artifact, by its signatures."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from loop_kit.errors import Untrusted
from loop_kit.trust._reasons import Reason, untrusted
from loop_kit.trust.bundle import Bundle
from loop_kit.trust.keys import PublicKey, library
from loop_kit.trust.policy import Keyless, Policy, Rule
from loop_kit.trust.statement import PAYLOAD_TYPE, Statement, instant

if TYPE_CHECKING:
    from loop_kit.oci.model import Descriptor

__all__ = ["MOST_BUNDLES", "Identity", "verify"]

MOST_BUNDLES = 256
"""Signatures of one artifact that are looked at."""

_SKEW = 300
"""Seconds that a signer's clock may be ahead of ours."""

_TELLING = get_args(Reason)


@dataclass(frozen=True)
class Identity:
    """By whom an artifact is signed, as what.

    Attributes:
        digest: Its root.
        name: What its signers call it, `REGISTRY/REPOSITORY`.
        version: Its version; "" where it is not signed and need not be.
        serial: Grows from release to release; 0 where it is not signed.
        signed: When, in seconds since 1970: the latest of those that count.
        expires: From when on it is refused; None: never.
        signers: Those that count, by their names in the policy, each with the id of the key, or the identity that
            sigstore vouched for. Empty where it is not signed and need not be.
    """

    digest: str
    name: str
    version: str = ""
    serial: int = 0
    signed: int = 0
    expires: int | None = None
    signers: tuple[tuple[str, str], ...] = ()

    @property
    def signed_by(self) -> str:
        """The signers in words."""
        shown = [f"{name} ({of if '@' in of or ':' in of else of[:16]})" for name, of in self.signers]
        return " and ".join(shown) or "nobody"


def verify(
    policy: Policy,
    name: str | None,
    root: Descriptor,
    signatures: Sequence[bytes],
    *,
    version: str | None = None,
    floor: int | None = None,
    now: float | None = None,
) -> Identity:
    """Verifies an artifact.

    Args:
        policy: The policy.
        name: What was asked for, `REGISTRY/REPOSITORY`; None: whatever the signers call it.
        root: What came: the artifact's root.
        signatures: Bundles, as bytes. What does not verify is passed over where enough others do.
        version: What was asked for, where that says a version: the release must be one of it.
        floor: The serial of a release that was seen: older ones are refused.
        now: Seconds since 1970; by default what the clock says.

    Raises:
        Untrusted: It is not signed as the policy has it; `reason` says why in a word.
        PackageError: What verifies is not installed.
    """
    library()
    at = time.time() if now is None else now
    called = None if name is None else policy.original(name)
    rule = None if called is None else _rule(policy, called)
    if not signatures:
        return _unsigned(policy, called, rule, root)
    if len(signatures) > MOST_BUNDLES:
        raise untrusted("malformed", f"{_what(called, root)} has more than {MOST_BUNDLES} signatures")
    counted: list[tuple[str, str, Statement]] = []
    refused: list[Untrusted] = []
    for data in signatures:
        try:
            counted += _count(policy, rule, called, root, version, data, at)
        except Untrusted as error:
            refused.append(error)
    if not counted:
        raise _most_telling(refused, called, root)
    identity = _agreed(policy, rule, counted, refused, root)
    if floor is not None and identity.serial < floor:
        raise untrusted(
            "rollback",
            f"{_what(identity.name, root)} is release {identity.serial} ({identity.version}, signed "
            f"{instant(identity.signed)}), and a newer one, {floor}, was seen",
            "ask for it by its version or digest, if the older one is wanted",
        )
    return identity


def _rule(policy: Policy, name: str) -> Rule:
    found = policy.rule_for(name)
    if found is None:
        raise untrusted(
            "no-rule",
            f"nobody may sign {name}: no rule of [trust] names it",
            "add a rule, or correct the name",
        )
    return found[1]


def _what(name: str | None, root: Descriptor) -> str:
    return f"{name}@{root.digest}" if name else root.digest


def _unsigned(policy: Policy, name: str | None, rule: Rule | None, root: Descriptor) -> Identity:
    if name is not None and rule is not None and rule.unsigned == "allow":
        return Identity(root.digest, name)
    hint = '`loop sign` signs it; a rule with unsigned = "allow" takes it as it is'
    raise untrusted("no-signature", f"{_what(name, root)} has no signature", hint)


def _count(
    policy: Policy,
    rule: Rule | None,
    name: str | None,
    root: Descriptor,
    version: str | None,
    data: bytes,
    now: float,
) -> list[tuple[str, str, Statement]]:
    """The signers that a bundle has, each with what it states; raises Untrusted where it counts for nothing."""
    bundle = Bundle.parse(data)
    signers, payload_type, payload = _signers(policy, bundle)
    if payload_type != PAYLOAD_TYPE:
        raise untrusted("payload-type", f"what was signed is {payload_type[:80]!r}, not {PAYLOAD_TYPE}")
    statement = Statement.parse(payload, root.digest)
    if name is not None and statement.name != name:
        hint = "if it is a mirror, name it in [trust.mirrors]"
        raise untrusted("wrong-name", f"it was signed as {statement.name}, and came as {name}", hint)
    rule = rule or _rule(policy, statement.name)
    allowed = [signer for signer in signers if signer[0] in rule.signers]
    if not allowed:
        raise untrusted(
            "not-allowed", f"{_names(signers)} signed it, who may not sign {statement.name}", _may(rule)
        )
    _check_version(statement, version)
    _check_time(statement, rule, now)
    return [(*signer, statement) for signer in allowed]


def _signers(policy: Policy, bundle: Bundle) -> tuple[list[tuple[str, str]], str, bytes]:
    """Who of the policy's signers made a bundle, and the very bytes that they signed."""
    if bundle.certified:
        return _keyless(policy, bundle)
    envelope = bundle.envelope
    keys = {name: key for name, key in policy.signers.items() if isinstance(key, PublicKey)}
    made = set(envelope.signed_by(keys.values()))
    found = [(name, key.id) for name, key in keys.items() if key in made]
    valid = [signer for signer in found if signer[1] not in policy.revoked]
    if valid:
        return valid, envelope.payload_type, envelope.payload
    if found:
        raise untrusted("revoked", f"{_names(found)} signed it, whose key is revoked")
    claimed = {one.keyid for one in envelope.signatures} | {bundle.hint}
    for name, key in keys.items():
        if key.id in claimed:
            raise untrusted(
                "bad-signature", f"its signature is not one that {name} ({key.id[:16]}) made of it"
            )
    if claimed & policy.revoked:
        raise untrusted("revoked", "it claims to be signed by a key that is revoked")
    known = sorted(one[:16] for one in claimed if re.fullmatch("[0-9a-f]{64}", one))
    whose = f"a key that the policy does not name ({', '.join(known)})" if known else "nobody known"
    raise untrusted(
        "unknown-key", f"it is signed by {whose}", "name the key in [trust.signers], if you know whose it is"
    )


def _keyless(policy: Policy, bundle: Bundle) -> tuple[list[tuple[str, str]], str, bytes]:
    """The same of a bundle with a certificate."""
    signers = {name: one for name, one in policy.signers.items() if isinstance(one, Keyless)}
    if not signers:
        raise untrusted(
            "unknown-key", "it is signed by a certificate of sigstore, and the policy names no identity"
        )
    from loop_kit.trust import _keyless

    said: list[Untrusted] = []
    found: list[tuple[str, str]] = []
    payload: tuple[str, bytes] = "", b""
    for name, signer in signers.items():
        try:
            payload = _keyless.verify(bundle.data, signer)
            found.append((name, signer.identity))
        except Untrusted as error:
            said.append(error)
    if not found:
        raise said[0]
    return found, *payload


def _check_version(statement: Statement, asked: str | None) -> None:
    """A release is of a version if it has it, or one that begins with it: 1.2.0 is of 1.2 and of 1."""
    if asked is None:
        return
    wanted, has = asked.removeprefix("v"), statement.version.removeprefix("v")
    if has != wanted and not has.startswith((f"{wanted}.", f"{wanted}-", f"{wanted}+")):
        raise untrusted("wrong-version", f"it was signed as version {statement.version}, and came as {asked}")


def _check_time(statement: Statement, rule: Rule, now: float) -> None:
    if statement.signed > now + _SKEW:
        raise untrusted(
            "future",
            f"it says that it was signed at {instant(statement.signed)}",
            "is this machine's clock right?",
        )
    hint = "get a newer one, or have it signed anew: `loop sign` keeps its place among the releases"
    if statement.expires is not None and statement.expires <= now:
        raise untrusted("expired", f"its signature expired at {instant(statement.expires)}", hint)
    if rule.max_age is not None and statement.signed + rule.max_age <= now:
        days = rule.max_age / 86400
        since = instant(statement.signed)
        raise untrusted(
            "expired", f"it was signed at {since}, longer ago than the {days:g} days of max-age", hint
        )


def _agreed(
    policy: Policy,
    rule: Rule | None,
    counted: Sequence[tuple[str, str, Statement]],
    refused: Sequence[Untrusted],
    root: Descriptor,
) -> Identity:
    """What enough of the signers say together."""
    best: Identity | None = None
    wanted = 1
    for name, version in dict.fromkeys((one.name, one.version) for _, _, one in counted):
        own = rule or _rule(policy, name)
        # Of each signer what it said last; one key under two names is one signer.
        said: dict[str, tuple[str, Statement]] = {}
        for signer, key, statement in sorted(counted, key=lambda one: one[2].serial):
            if (statement.name, statement.version) == (name, version):
                said[key] = signer, statement
        statements = sorted((one for _, one in said.values()), key=lambda one: -one.serial)
        if len(statements) >= own.threshold:
            # The serial that so many vouch for: one alone cannot make an old release a new one.
            serial = statements[own.threshold - 1].serial
            # Likewise the time until which so many do.
            ends = sorted(
                (math.inf if one.expires is None else one.expires for one in statements), reverse=True
            )
            expires = None if ends[own.threshold - 1] == math.inf else int(ends[own.threshold - 1])
            signed = max(one.signed for one in statements)
            signers = tuple((signer, key) for key, (signer, _) in said.items())
            made = Identity(root.digest, name, version, serial, signed, expires, signers)
            best = made if best is None or made.serial > best.serial else best
        wanted = max(wanted, own.threshold)
    if best is not None:
        return best
    names = _names(list(dict.fromkeys((name, key) for name, key, _ in counted)))
    others = f"; of the others: {_most_telling(refused, None, root)}" if refused else ""
    text = f"{root.digest} needs {wanted} signatures, and has that of {names}{others}"
    raise untrusted("threshold", text, None if rule is None else _may(rule))


def _most_telling(refused: Sequence[Untrusted], name: str | None, root: Descriptor) -> Untrusted:
    first = min(refused, key=lambda error: _TELLING.index(error.reason))
    return untrusted(first.reason, f"{_what(name, root)}: {first}", first.hint)  # type: ignore[arg-type]


def _names(signers: Iterable[tuple[str, str]]) -> str:
    return " and ".join(dict.fromkeys(name for name, _ in signers))


def _may(rule: Rule) -> str:
    return f"{' and '.join(rule.signers) or 'nobody'} may" + (
        f", {rule.threshold} of them together" if rule.threshold > 1 else ""
    )
