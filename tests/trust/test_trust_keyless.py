"""Bundles of sigstore: one of its staging instance, verified without the network."""

import json
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from loop_kit.errors import PackageError, Untrusted
from loop_kit.trust import Keyless, Rule, _keyless
from loop_kit.trust.bundle import Bundle
from loop_kit.trust.statement import PAYLOAD_TYPE
from tests.checkout import ROOT
from tests.trust.made import judged, policy, refused, root_of, signed

DATA = ROOT / "tests" / "data" / "sigstore"
BUNDLE = (DATA / "dsse.sigstore.json").read_bytes()
WHO = (
    "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/"
    "extremely-dangerous-oidc-beacon.yml@refs/heads/main"
)
ISSUER = "https://token.actions.githubusercontent.com"
SIGNER = Keyless(WHO, ISSUER, DATA / "trusted_root.json")


@pytest.fixture(autouse=True)
def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> NoReturn:
        raise AssertionError("the network is asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_bundle_with_a_certificate_is_verified() -> None:
    assert Bundle.parse(BUNDLE).certified
    kind, payload = _keyless.verify(BUNDLE, SIGNER)
    assert kind == "application/vnd.in-toto+json"
    assert json.loads(payload)["subject"][0]["name"] == "a.txt"


@pytest.mark.parametrize(
    ("signer", "text"),
    [
        (Keyless(f"{WHO}x", ISSUER, SIGNER.root), "does not take it as one of"),
        (Keyless(WHO, "https://elsewhere.example", SIGNER.root), "OIDCIssuer does not match"),
    ],
)
def test_somebody_else_is_refused(signer: Keyless, text: str) -> None:
    with pytest.raises(Untrusted, match=text) as told:
        _keyless.verify(BUNDLE, signer)
    assert told.value.reason == "bad-signature"


def changed(**more: Any) -> bytes:
    found = json.loads(BUNDLE)
    return json.dumps(found | more).encode()


def test_what_was_changed_is_refused() -> None:
    found = json.loads(BUNDLE)
    envelope, material = found["dsseEnvelope"], found["verificationMaterial"]
    for bundle in (
        changed(dsseEnvelope=envelope | {"payload": "e30="}),
        changed(dsseEnvelope=envelope | {"payloadType": "text/plain"}),
        changed(verificationMaterial={key: value for key, value in material.items() if key != "tlogEntries"}),
        changed(verificationMaterial=material | {"certificate": {"rawBytes": "AAAA"}}),
        changed(verificationMaterial=material | {"timestampVerificationData": {}}),
        changed(dsseEnvelope=5),
        b"{}",
        b"\xff",
    ):
        with pytest.raises(Untrusted) as told:
            _keyless.verify(bundle, SIGNER)
        assert told.value.reason in ("bad-signature", "malformed")


def test_a_policy_asks_for_it() -> None:
    root = root_of()
    of = policy(signers={"ci": SIGNER})
    # It verifies, and is about something else than a release.
    assert refused(of, root, BUNDLE).reason == "payload-type"
    assert refused(policy(), root, BUNDLE).reason == "unknown-key"
    other = policy(signers={"ci": Keyless(f"{WHO}x", ISSUER, SIGNER.root)})
    assert refused(other, root, BUNDLE).reason == "bad-signature"


def test_a_release_that_such_a_signer_states_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sigstore's own part is in the tests above: here it is given that it vouches for the signer."""
    root = root_of()
    payload = Bundle.parse(signed(root)).envelope.payload
    monkeypatch.setattr(_keyless, "verify", lambda data, signer: (PAYLOAD_TYPE, payload))
    rules = (Rule(("**",), ("ci",)),)
    found = judged(policy(signers={"ci": SIGNER}, rules=rules), root, BUNDLE)
    assert (found.version, found.signers) == ("1.2.0", (("ci", WHO),))
    assert found.signed_by == f"ci ({WHO})"
    assert refused(policy(signers={"ci": SIGNER}), root, BUNDLE).reason == "not-allowed"
    assert (
        refused(policy(signers={"ci": SIGNER}, rules=rules), root_of(b"{ }"), BUNDLE).reason
        == "wrong-subject"
    )


def test_what_to_trust_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="cannot be read"):
        _keyless.verify(BUNDLE, Keyless(WHO, ISSUER, tmp_path / "none.json"))
    (tmp_path / "odd.json").write_text("{}")
    with pytest.raises(PackageError, match="is no trusted root of sigstore"):
        _keyless.verify(BUNDLE, Keyless(WHO, ISSUER, tmp_path / "odd.json"))


def test_without_the_library_nothing_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sigstore.models", None)
    with pytest.raises(PackageError, match="signatures of sigstore cannot be checked") as told:
        _keyless.verify(BUNDLE, SIGNER)
    assert told.value.hint == "pip install 'loop-kit[sigstore]'"
