"""Who may sign what: `[trust]` of a manifest, as data."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from loop_kit.trust.keys import PublicKey

__all__ = ["PATTERN", "KeyFile", "KeyId", "Keyless", "Policy", "Rule", "Signer", "matches"]

PATTERN = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9*][A-Za-z0-9.*-]*)(:[0-9*]{1,5})?(/[A-Za-z0-9*][A-Za-z0-9._*-]*)*$"
"""Of patterns: names of artifacts in which `*` is anything but a `/`, and a part `**` is anything."""


@dataclass(frozen=True)
class KeyFile:
    """A public key in a file, which is read when it is needed."""

    path: Path


@dataclass(frozen=True)
class KeyId:
    """A public key that the user has, by its id."""

    id: str


@dataclass(frozen=True)
class Keyless:
    """Somebody whom a sigstore instance has given certificates.

    Attributes:
        identity: Who, as the certificate has it: an address, or the URI of a workflow.
        issuer: Who says so: the URL of the OpenID Connect issuer.
        root: What to trust: a `trusted_root.json` of the instance.
    """

    identity: str
    issuer: str
    root: Path


Signer = PublicKey | KeyFile | KeyId | Keyless


@dataclass(frozen=True)
class Rule:
    """Who may sign some artifacts.

    Attributes:
        artifacts: Patterns of their names.
        signers: Names of signers.
        threshold: How many of these must have signed.
        max_age: Seconds that a signature counts, even where it says nothing of an end; None: any.
        unsigned: Whether an artifact without any signature is taken, too.
    """

    artifacts: tuple[str, ...]
    signers: tuple[str, ...] = ()
    threshold: int = 1
    max_age: float | None = None
    unsigned: Literal["refuse", "allow"] = "refuse"


@dataclass(frozen=True)
class Policy:
    """What a workspace trusts; what it does not name is refused.

    Attributes:
        signers: Those who may be named, by name: keys, or identities of sigstore.
        rules: Who may sign what; the first that matches decides.
        mirrors: What names begin with, and what they are judged as beginning with instead.
        revoked: Ids of keys that count for nothing any more.
        local: Whether code that comes from no registry may be loaded.
    """

    signers: Mapping[str, Signer] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    mirrors: Mapping[str, str] = field(default_factory=dict)
    revoked: frozenset[str] = frozenset()
    local: Literal["allow", "refuse"] = "allow"

    def original(self, name: str) -> str:
        """The name that an artifact has where it was signed, of the one that it has at a mirror."""
        for mirror in sorted(self.mirrors, key=len, reverse=True):
            if name == mirror or name.startswith(f"{mirror}/"):
                return self.mirrors[mirror] + name[len(mirror) :]
        return name

    def rule_for(self, name: str) -> tuple[int, Rule] | None:
        """The rule that decides about a name, and its place among all; None: nobody may sign it."""
        for index, rule in enumerate(self.rules):
            if any(matches(pattern, name) for pattern in rule.artifacts):
                return index, rule
        return None


def matches(pattern: str, name: str) -> bool:
    """Whether a name is one of a pattern's."""
    return _compiled(pattern).fullmatch(name) is not None


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = [".+" if part == "**" else _part(part) for part in pattern.split("/")]
    return re.compile("/".join(parts), re.DOTALL)


def _part(part: str) -> str:
    return "[^/]*".join(map(re.escape, part.split("*")))
