"""Who may sign what: each rule of a policy, kept and broken."""

from pathlib import Path
from typing import Any

import pytest

from loop_kit.errors import LoadError, PackageError, Untrusted
from loop_kit.trust import Identity, Policy, Rule, Seen
from loop_kit.trust.bundle import Bundle
from loop_kit.trust.dsse import Envelope
from loop_kit.trust.policy import matches
from loop_kit.trust.statement import PAYLOAD_TYPE
from tests.trust.made import ACME, DAY, NAME, NOW, OPS, OTHER, judged, policy, refused, root_of, signed

ROOT = root_of()
TWO = policy(rules=(Rule(("**",), ("acme", "ops"), 2),))
MONTH = policy(rules=(Rule(("**",), ("acme",), max_age=30 * DAY),))
ELSEWHERE = root_of(b"{ }")


def raw(payload: bytes, kind: str = PAYLOAD_TYPE) -> bytes:
    """A bundle that acme signed, of whatever."""
    return Bundle.of_key(Envelope.signed(kind, payload, ACME.sign), ACME.public).data


def test_a_release_that_is_signed_by_whom_the_policy_names() -> None:
    found = judged(policy(), ROOT, signed(ROOT, serial=7, expires=DAY))
    assert found == Identity(ROOT.digest, NAME, "1.2.0", 7, NOW, NOW + DAY, (("acme", ACME.public.id),))
    assert found.signed_by == f"acme ({ACME.public.id[:16]})"
    assert judged(policy(), ROOT, signed(ROOT), name=None).name == NAME
    assert judged(policy(), ROOT, signed(ROOT)).serial == NOW * 1000


def test_untrusted_is_an_error_of_loading() -> None:
    assert issubclass(Untrusted, PackageError)
    assert issubclass(PackageError, LoadError)


CASES: list[tuple[str, Policy, tuple[bytes, ...], dict[str, Any], str, str]] = [
    ("nothing is signed", policy(), (), {}, "no-signature", "has no signature"),
    (
        "no rule names it",
        policy(),
        (signed(ROOT),),
        {"name": "other.example/x"},
        "no-rule",
        "nobody may sign other.example/x",
    ),
    (
        "nobody named",
        policy(rules=(Rule(("elsewhere/*",), ("acme",)),)),
        (signed(ROOT),),
        {"name": None},
        "no-rule",
        "nobody may",
    ),
    ("a key that nobody knows", policy(), (signed(ROOT, OTHER),), {}, "unknown-key", OTHER.public.id[:16]),
    (
        "a key for other artifacts",
        policy(),
        (signed(ROOT, OPS),),
        {},
        "not-allowed",
        "ops signed it, who may not",
    ),
    (
        "another artifact",
        policy(),
        (signed(ELSEWHERE),),
        {},
        "wrong-subject",
        f"for another artifact than {ROOT.digest}",
    ),
    (
        "another name",
        policy(),
        (signed(ROOT, name="registry.example/acme/tool"),),
        {},
        "wrong-name",
        "signed as registry.example/acme/tool",
    ),
    (
        "another version",
        policy(),
        (signed(ROOT),),
        {"version": "1.3"},
        "wrong-version",
        "signed as version 1.2.0, and came as 1.3",
    ),
    (
        "its end",
        policy(),
        (signed(ROOT, expires=DAY),),
        {"now": NOW + DAY},
        "expired",
        "expired at 2027-01-16T08:00:00Z",
    ),
    ("its age", MONTH, (signed(ROOT),), {"now": NOW + 30 * DAY}, "expired", "30 days"),
    ("a clock", policy(), (signed(ROOT),), {"now": NOW - 301}, "future", "2027-01-15T08:00:00Z"),
    (
        "an older release",
        policy(),
        (signed(ROOT, serial=4),),
        {"floor": 5},
        "rollback",
        "a newer one, 5, was seen",
    ),
    (
        "a revoked key",
        policy(revoked=frozenset((ACME.public.id,))),
        (signed(ROOT),),
        {},
        "revoked",
        "acme signed it, whose key is revoked",
    ),
    (
        "a revoked key without a name",
        Policy(rules=policy().rules, revoked=frozenset((OTHER.public.id,))),
        (signed(ROOT, OTHER),),
        {},
        "revoked",
        "revoked",
    ),
    ("one of two", TWO, (signed(ROOT),), {}, "threshold", "needs 2 signatures, and has that of acme"),
    ("one of two, twice", TWO, (signed(ROOT), signed(ROOT, serial=9)), {}, "threshold", "acme"),
    (
        "one key, twice named",
        policy(signers={"b": ACME.public}, rules=(Rule(("**",), ("acme", "b"), 2),)),
        (signed(ROOT),),
        {},
        "threshold",
        "acme",
    ),
    (
        "two who differ",
        TWO,
        (signed(ROOT), signed(ROOT, OPS, version="1.3.0")),
        {},
        "threshold",
        "acme and ops",
    ),
    (
        "a payload of another type",
        policy(),
        (raw(b"{}", "application/json"),),
        {},
        "payload-type",
        "'application/json'",
    ),
    (
        "a statement of another kind",
        policy(),
        (raw(b'{"_type":"https://in-toto.io/Statement/v2"}'),),
        {},
        "payload-type",
        "not a statement of in-toto",
    ),
    (
        "a predicate of another kind",
        policy(),
        (raw(b'{"_type":"https://in-toto.io/Statement/v1","predicateType":"x"}'),),
        {},
        "payload-type",
        "does not name a release",
    ),
    ("no bundle", policy(), (b"{}",), {}, "malformed", "is not a bundle"),
    ("too many", policy(), (b"{}",) * 257, {}, "malformed", "more than 256 signatures"),
]


@pytest.mark.parametrize(
    ("of", "signatures", "more", "reason", "text"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_what_breaks_the_policy_is_refused(
    of: Policy, signatures: tuple[bytes, ...], more: dict[str, Any], reason: str, text: str
) -> None:
    error = refused(of, ROOT, *signatures, **more)
    assert error.reason == reason
    assert text in str(error)


def test_statements_as_cosign_writes_them_count() -> None:
    payload = Bundle.parse(signed(ROOT)).envelope.payload
    assert judged(policy(), ROOT, raw(payload.replace(b"Statement/v1", b"Statement/v0.1"))).version == "1.2.0"


def test_a_signature_that_was_tampered_with_is_named_by_its_key() -> None:
    bundle = Bundle.parse(signed(ROOT))
    for other in (
        Envelope(bundle.envelope.payload + b" ", PAYLOAD_TYPE, bundle.envelope.signatures),
        Envelope(bundle.envelope.payload, "text/plain", bundle.envelope.signatures),
    ):
        error = refused(policy(), ROOT, Bundle.of_key(other, ACME.public).data)
        assert error.reason == "bad-signature"
        assert f"acme ({ACME.public.id[:16]})" in str(error)


def test_what_says_most_is_told_and_what_does_not_count_does_no_harm() -> None:
    others = (b"{}", signed(ROOT, OTHER), signed(ELSEWHERE), signed(ROOT, expires=DAY))
    error = refused(policy(), ROOT, *others, now=NOW + DAY)
    assert error.reason == "expired"
    assert judged(policy(), ROOT, *others, signed(ROOT), now=NOW + DAY).version == "1.2.0"


def test_threshold() -> None:
    two = policy(rules=(Rule(("**",), ("acme", "ops", "other"), 2),), signers={"other": OTHER.public})
    found = judged(two, ROOT, signed(ROOT, serial=5), signed(ROOT, OPS, serial=9, expires=DAY))
    assert {name for name, _ in found.signers} == {"acme", "ops"}
    assert found.signed_by.count(" and ") == 1
    # Neither a serial nor an end that one alone says counts.
    assert (found.serial, found.expires) == (5, NOW + DAY)
    three = judged(two, ROOT, *(signed(ROOT, key, serial=n) for n, key in enumerate((ACME, OPS, OTHER))))
    assert three.serial == 1


def test_keys_are_rotated_and_revoked() -> None:
    both = policy(rules=(Rule(("**",), ("acme", "ops")),))
    for key in (ACME, OPS):
        assert judged(both, ROOT, signed(ROOT, key)).signers[0][1] == key.public.id
    after = policy(rules=both.rules, revoked=frozenset((ACME.public.id,)))
    assert refused(after, ROOT, signed(ROOT)).reason == "revoked"
    assert judged(after, ROOT, signed(ROOT), signed(ROOT, OPS)).signers == (("ops", OPS.public.id),)


def test_unsigned_artifacts_only_where_a_rule_says_so() -> None:
    lenient = policy(rules=(Rule(("registry.example/*/*",), unsigned="allow"), Rule(("**",), ("acme",))))
    assert judged(lenient, ROOT).signers == ()
    assert judged(lenient, ROOT).signed_by == "nobody"
    assert refused(lenient, ROOT, name="registry.example/site").reason == "no-signature"
    assert refused(lenient, ROOT, name=None).reason == "no-signature"
    # A signature that is there must be one that counts.
    assert refused(lenient, ROOT, signed(ROOT)).reason == "not-allowed"


def test_the_first_rule_that_matches_decides() -> None:
    rules = (Rule((NAME,), ("ops",)), Rule(("**",), ("acme",)))
    assert refused(policy(rules=rules), ROOT, signed(ROOT)).reason == "not-allowed"
    assert judged(policy(rules=rules[::-1]), ROOT, signed(ROOT)).version == "1.2.0"


def test_mirrors() -> None:
    at = policy(mirrors={"mirror.local:5000": "registry.example", "mirror.local:5000/x": "elsewhere"})
    assert judged(at, ROOT, signed(ROOT), name="mirror.local:5000/acme/site").name == NAME
    assert at.original("mirror.local:5000/x/y") == "elsewhere/y"
    assert at.original("mirror.local:5000") == "registry.example"
    assert at.original("mirror.local:50001/acme/site") == "mirror.local:50001/acme/site"
    assert (
        refused(policy(rules=(Rule(("**",), ("acme",)),)), ROOT, signed(ROOT), name="mirror/acme/site").reason
        == "wrong-name"
    )


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ("1.2.0", True), ("v1.2.0", True), ("1.2", True), ("1", True),
        ("1.20", False), ("1.2.0.1", False), ("2", False), ("1.1", False),
    ],
)  # fmt: skip
def test_a_version_is_of_those_that_it_begins_with(asked: str, taken: bool) -> None:
    if taken:
        judged(policy(), ROOT, signed(ROOT), version=asked)
    else:
        assert refused(policy(), ROOT, signed(ROOT), version=asked).reason == "wrong-version"


@pytest.mark.parametrize(
    ("pattern", "name", "is_one"),
    [
        ("a.b/c", "a.b/c", True),
        ("a.b/c", "axb/c", False),
        ("a.b/*", "a.b/c", True),
        ("a.b/*", "a.b/c/d", False),
        ("a.b/*", "a.b", False),
        ("a.b/**", "a.b/c/d", True),
        ("a.b/**", "a.b", False),
        ("a.b/**/d", "a.b/c/d", True),
        ("**", "a.b/c/d", True),
        ("a.b:*/c", "a.b:5000/c", True),
        ("a.b/c-*", "a.b/c-1", True),
        ("*/c", "evil.example/x/c", False),
    ],
)
def test_patterns(pattern: str, name: str, is_one: bool) -> None:
    assert matches(pattern, name) == is_one


def identity(serial: int, digest: str = ROOT.digest) -> Identity:
    return Identity(digest, NAME, f"1.{serial}", serial, NOW + serial)


def test_what_was_seen_does_not_go_back(tmp_path: Path) -> None:
    seen = Seen(tmp_path / "state")
    seen.accept(f"{NAME}:latest", identity(5))
    seen.accept(f"{NAME}:latest", identity(5))
    seen.accept(f"{NAME}:latest", identity(6))
    seen.accept(f"{NAME}:1", identity(1))  # another reference
    for older, text in (
        (identity(5), "1.5 (release 5) now, and was the newer release 6 (1.6, sha256:"),
        (identity(6, ELSEWHERE.digest), "another with the same serial, 6"),
    ):
        with pytest.raises(Untrusted) as told:
            Seen(tmp_path / "state").accept(f"{NAME}:latest", older)
        assert told.value.reason == "rollback"
        assert text in str(told.value)
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("kept", [b"", b"{}", b'{"serial": true}', b"\xff", b"[" * 70_000])
def test_a_record_that_says_nothing_is_told_and_not_forgotten(kept: bytes, tmp_path: Path) -> None:
    seen = Seen(tmp_path)
    seen.accept("a:b", identity(5))
    (file,) = tmp_path.glob("*.json")
    file.write_bytes(kept)
    with pytest.raises(PackageError, match="does not say which release was seen") as told:
        seen.accept("a:b", identity(6))
    assert str(file) in str(told.value)
    assert told.value.hint is not None


def test_a_record_that_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PackageError, match="cannot be kept"):
        Seen(tmp_path / "file").accept("a:b", identity(5))
