"""Envelopes: what is signed, which are read, and that nothing else than a refusal comes of any bytes."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from loop_kit.errors import Untrusted
from loop_kit.trust import PrivateKey, PublicKey
from loop_kit.trust.bundle import MEDIA_TYPE, Bundle
from loop_kit.trust.dsse import MOST_SIGNATURES, Envelope, pae
from loop_kit.trust.statement import PAYLOAD_TYPE, Statement
from tests.checkout import ROOT
from tests.trust.made import ACME, OPS, root_of, signed

EXAMPLE = json.loads((ROOT / "tests" / "data" / "dsse-example.json").read_text())
# RFC 8032, section 7.1, tests 1 and 2: signatures of Ed25519 are the same each time.
A = PrivateKey(
    Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
)
B = PrivateKey(
    Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    )
)


def b64(data: bytes, *, url: bool = False) -> str:
    return (base64.urlsafe_b64encode if url else base64.b64encode)(data).decode()


def envelope(
    payload: bytes = b"{}", kind: str = PAYLOAD_TYPE, *keys: PrivateKey, **signature: str
) -> dict[str, Any]:
    made = [{"sig": b64(key.sign(pae(kind, payload))), **signature} for key in keys or (A,)]
    return {"payload": b64(payload), "payloadType": kind, "signatures": made}


def test_what_is_signed_is_what_the_specification_says() -> None:
    assert pae(EXAMPLE["payloadType"], EXAMPLE["payload"].encode()) == EXAMPLE["pae"].encode()
    found = Envelope.of(EXAMPLE["envelope"])
    assert (found.payload, found.payload_type) == (b"hello world", EXAMPLE["payloadType"])
    numbers = ec.EllipticCurvePublicNumbers(
        int(EXAMPLE["key"]["x"]), int(EXAMPLE["key"]["y"]), ec.SECP256R1()
    )
    sig = found.signatures[0].sig
    halves = utils.encode_dss_signature(int.from_bytes(sig[:32]), int.from_bytes(sig[32:]))
    numbers.public_key().verify(halves, pae(found.payload_type, found.payload), ec.ECDSA(SHA256()))
    assert found.signed_by([A.public]) == []  # and a signature of another algorithm is none


def test_lengths_are_those_of_bytes() -> None:
    assert pae("application/vnd.exämple+json", b"") == b"DSSEv1 29 application/vnd.ex\xc3\xa4mple+json 0 "
    assert pae("", "ä".encode()) == b"DSSEv1 0  2 \xc3\xa4"


def test_the_keys_are_those_of_the_rfc() -> None:
    assert A.public.raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert (
        A.sign(b"")
        .hex()
        .startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb88215")
    )
    assert PublicKey.parse(A.public.pem) == PublicKey.parse(A.public.line) == A.public


@pytest.mark.parametrize("url", [False, True])
def test_both_alphabets_of_base64_are_read(url: bool) -> None:
    payload = bytes.fromhex("fbffbf3e3f")
    made = envelope(payload)
    made["payload"] = b64(payload, url=url)
    made["signatures"][0]["sig"] = b64(A.sign(pae(PAYLOAD_TYPE, payload)), url=url)
    found = Envelope.of(made)
    assert (found.payload, found.signed_by([A.public])) == (payload, [A.public])


def test_a_key_counts_once_and_its_id_decides_nothing() -> None:
    keys = [A.public, B.public]
    assert Envelope.of(envelope(b"{}", PAYLOAD_TYPE, A, B)).signed_by(keys) == keys
    assert Envelope.of(envelope(b"{}", PAYLOAD_TYPE, A, A)).signed_by(keys) == [A.public]
    assert Envelope.of(envelope(b"{}", PAYLOAD_TYPE, A, keyid=B.public.id)).signed_by(keys) == [A.public]
    assert Envelope.of(envelope(b"{}", PAYLOAD_TYPE, A, keyid=A.public.id)).signed_by([B.public]) == []


def test_another_type_or_payload_is_not_what_was_signed() -> None:
    for change in ({"payloadType": "application/vnd.other+json"}, {"payload": b64(b"{ }")}, {"payload": ""}):
        assert Envelope.of(envelope() | change).signed_by([A.public]) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"signatures": []}, "no-signature"),
        ({"signatures": None}, "no-signature"),
        ({"signatures": [{"sig": b64(b"x")}] * (MOST_SIGNATURES + 1)}, "malformed"),
        ({"signatures": ["x"]}, "malformed"),
        ({"signatures": [{}]}, "malformed"),
        ({"signatures": [{"sig": ""}]}, "malformed"),
        ({"signatures": [{"sig": b64(b"x"), "keyid": 1}]}, "malformed"),
        ({"signatures": [{"sig": b64(b"x"), "keyid": "x" * 257}]}, "malformed"),
        ({"payload": "e30"}, "malformed"),  # not padded
        ({"payload": "e31="}, "malformed"),  # bits that say nothing
        ({"payload": "e3 0="}, "malformed"),
        ({"payload": "-+=="}, "malformed"),  # of either alphabet, not of both
        ({"payload": 5}, "malformed"),
        ({"payloadType": 5}, "malformed"),
        ({"payloadType": "\ud800"}, "malformed"),
    ],
)
def test_what_is_no_envelope_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Untrusted) as told:
        Envelope.of(envelope() | change)
    assert told.value.reason == reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
keys_of_bundles = st.sampled_from([
    "mediaType", "dsseEnvelope", "verificationMaterial", "payload", "payloadType", "signatures", "sig", "keyid",
    "publicKey", "hint", "certificate",
])  # fmt: skip
texts = st.sampled_from([MEDIA_TYPE, PAYLOAD_TYPE, "e30=", "", "\ud800", "A" * 88])
like_bundles = st.recursive(
    json_values | texts,
    lambda inner: st.dictionaries(keys_of_bundles, inner, max_size=4) | st.lists(inner, max_size=2),
    max_leaves=20,
)


@given(st.binary(max_size=200) | st.builds(lambda value: json.dumps(value).encode(), like_bundles))
def test_any_bytes_are_a_bundle_or_refused(data: bytes) -> None:
    told: Untrusted | None = None
    try:
        found = Bundle.parse(data)
    except Untrusted as error:
        told = error
    else:
        assert found.envelope.signed_by([ACME.public]) == []
    assert told is None or told.reason in ("malformed", "no-signature", "payload-type")
    assert str(told).isprintable()


@given(st.data())
def test_a_bundle_with_anything_changed_is_not_signed_any_more(data: st.DataObject) -> None:
    root = root_of()
    whole = signed(root)
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start, min(len(whole), start + 8)))
    changed = whole[:start] + data.draw(st.binary(max_size=8)) + whole[end:]
    try:
        found = Bundle.parse(changed)
        payload = found.envelope.payload if found.envelope.signed_by([ACME.public]) else None
        statement = None if payload is None else Statement.parse(payload, root.digest)
    except Untrusted:
        return
    # what still counts says the very same: only ids and hints, by which nothing is decided, may be others
    assert statement in (None, Statement.parse(Bundle.parse(whole).envelope.payload, root.digest))


@given(st.binary(max_size=300) | st.builds(lambda value: json.dumps(value).encode(), json_values))
def test_any_payload_is_a_statement_or_refused(data: bytes) -> None:
    with pytest.raises(Untrusted):
        Statement.parse(data, root_of().digest)


def test_json_has_one_meaning() -> None:
    root = root_of()
    whole = json.loads(signed(root))
    for text in (
        '{"mediaType": "a", "mediaType": "b"}',
        '{"mediaType": NaN}',
        "[" * 100_000,
        '{"a": ' * 100_000,
        f'{{"n": 1{"0" * 5000}}}',
        "\ufeff{}",
        '"text"',
        " " * (2 << 20),
    ):
        with pytest.raises(Untrusted) as told:
            Bundle.parse(text.encode())
        assert told.value.reason == "malformed"
    for missing in whole:
        with pytest.raises(Untrusted):
            Bundle.parse(json.dumps({key: value for key, value in whole.items() if key != missing}).encode())
    assert Bundle.parse(json.dumps(whole, indent=2).encode()).envelope.signed_by(
        [OPS.public, ACME.public]
    ) == [ACME.public]
