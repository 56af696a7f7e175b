"""`[trust]`: who may sign what the workspace takes from registries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit.manifest._shape import (
    Choice,
    Cursor,
    Duration,
    Either,
    Field,
    Integer,
    ListOf,
    MapOf,
    Table,
    Text,
    did_you_mean,
)
from loop_kit.manifest._text import FILE, NAME, TEXT
from loop_kit.manifest._toml import string
from loop_kit.trust.keys import ID_PATTERN, LINE_PATTERN, PublicKey
from loop_kit.trust.policy import PATTERN, KeyFile, KeyId, Keyless, Policy, Rule, Signer
from loop_kit.trust.statement import NAME_PATTERN

__all__ = ["TRUST", "check_trust"]

_KEYLESS = ("identity", "issuer", "root")


def _line(text: str, at: Cursor) -> PublicKey | None:
    try:
        return PublicKey.parse(text)
    except ValueError as error:
        at.problem(str(error))
        return None


def _one_kind(raw: Mapping[str, Any], at: Cursor) -> None:
    kinds = [kind for kind in ("file", "id") if kind in raw]
    keyless = [key for key in _KEYLESS if key in raw]
    if len(kinds) + bool(keyless) != 1:
        at.problem('a signer has either "file", "id", or "identity" with "issuer" and "root"')
    elif keyless and len(keyless) < len(_KEYLESS):
        missing = " and ".join(string(key) for key in _KEYLESS if key not in raw)
        at.problem(f"a signer of sigstore also needs {missing}")


def _signer(**said: Any) -> Signer:
    if "file" in said:
        return KeyFile(said["file"])
    return KeyId(said["id"]) if "id" in said else Keyless(**said)


_SIGNER = Either(
    (
        Text("a public key, which is the second line of its file", LINE_PATTERN, _line),
        Table(
            "signer",
            "A key by its file or id, or an identity that sigstore vouches for.",
            _signer,
            {
                "file": Field(FILE, "The file of a public key, in PEM."),
                "id": Field(
                    Text("the id of a key, in 64 hexadecimal digits", ID_PATTERN),
                    "The id of a key that you have: `loop key import` takes one in.",
                ),
                "identity": Field(
                    TEXT, "Whom a certificate of sigstore names: an address, or a workflow's URI."
                ),
                "issuer": Field(TEXT, "Who says so: the URL of the OpenID Connect issuer."),
                "root": Field(FILE, "What to trust: the `trusted_root.json` of the sigstore instance."),
            },
            verify=_one_kind,
            also={
                "oneOf": [
                    {"required": ["file"]},
                    {"required": ["id"]},
                    {"anyOf": [{"required": [key]} for key in _KEYLESS]},
                ],
                "dependentRequired": {key: [other for other in _KEYLESS if other != key] for key in _KEYLESS},
            },
        ),
    )
)


def _verify_rule(raw: Mapping[str, Any], at: Cursor) -> None:
    if "signers" not in raw and raw.get("unsigned") != "allow":
        at.problem('names no "signers", so nobody could sign this', 'or write unsigned = "allow"')


def _rule(**said: Any) -> Rule:
    return Rule(**{key.replace("-", "_"): value for key, value in said.items()})


_RULE = Table(
    "trust-rule",
    "Who may sign some artifacts.",
    _rule,
    {
        "artifacts": Field(
            ListOf(
                Text(
                    'a pattern of names such as "registry.example/acme/*"',
                    PATTERN,
                    examples=("registry.example/acme/*", "registry.example:5000/**"),
                ),
                minimum=1,
            ),
            "Patterns of names, REGISTRY/REPOSITORY: `*` is anything but a /, and a part `**` is anything.",
            required=True,
        ),
        "signers": Field(ListOf(NAME, minimum=1), "Who may sign them, by their names in `signers`."),
        "threshold": Field(Integer(1, 16), "How many of these must have signed.", default=1),
        "max-age": Field(Duration(), "How long a signature counts, even where it says nothing of an end."),
        "unsigned": Field(
            Choice(("refuse", "allow")),
            "Whether an artifact without any signature is taken.",
            default="refuse",
        ),
    },
    verify=_verify_rule,
    also={
        "anyOf": [
            {"required": ["signers"]},
            {"properties": {"unsigned": {"const": "allow"}}, "required": ["unsigned"]},
        ]
    },
)

_PLACE = Text('a name such as "registry.example/acme"', NAME_PATTERN)


def check_trust(raw: Mapping[str, Any], at: Cursor) -> None:
    """Reports signers that rules name and nobody is, and rules that no signatures could meet."""
    trust = raw.get("trust")
    signers, rules = (
        (trust.get("signers", {}), trust.get("rules", [])) if isinstance(trust, dict) else ({}, [])
    )
    if not isinstance(signers, dict) or not isinstance(rules, list):
        return  # it is said already
    for index, rule in enumerate(rules):
        named = rule.get("signers") if isinstance(rule, dict) else None
        if not isinstance(named, list):
            continue
        here = at.child("trust").child("rules").child(index)
        for place, name in enumerate(named):
            if isinstance(name, str) and name not in signers:
                hint = did_you_mean(name, signers) or "add it to [trust.signers]"
                here.child("signers").child(place).problem(f"there is no signer {string(name)}", hint)
        threshold = rule.get("threshold", 1)
        if isinstance(threshold, int) and threshold > len(named):
            here.problem(f"{threshold} of {len(named)} signers cannot sign", child="threshold")


def _policy(*, revoked: tuple[str, ...] = (), **said: Any) -> Policy:
    return Policy(revoked=frozenset(revoked), **said)


TRUST = Table(
    "trust",
    "Who may sign what comes from registries. Where there is this table, nothing else is loaded from them.",
    _policy,
    {
        "signers": Field(
            MapOf(_SIGNER, key_pattern=NAME.pattern, key_expects=NAME.expects),
            "Those whom rules may name, by name.",
        ),
        "rules": Field(
            ListOf(_RULE), "Who may sign what. The first that matches decides; what none matches is refused."
        ),
        "mirrors": Field(
            MapOf(_PLACE, key_pattern=NAME_PATTERN, key_expects=_PLACE.expects),
            "What names begin with at a mirror, and what they begin with where they are signed.",
        ),
        "revoked": Field(
            ListOf(Text("the id of a key, in 64 hexadecimal digits", ID_PATTERN)),
            "Ids of keys whose signatures count for nothing any more.",
        ),
        "local": Field(
            Choice(("allow", "refuse")),
            "Whether code may be loaded that comes from no registry, and so is signed by nobody.",
            default="allow",
        ),
    },
)
