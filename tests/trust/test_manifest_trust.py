"""`[trust]` of a manifest: what it becomes, and how it is refused."""

import os
from pathlib import Path

import pytest

from loop_kit.manifest import Manifest, ManifestError, load
from loop_kit.trust import Keyless, Keyring, Policy, PublicKey, Rule, policy_of
from loop_kit.trust.policy import KeyFile, KeyId
from tests.manifests import WS, problems, read
from tests.trust.made import ACME, OPS

FULL = f"""\
[trust]
revoked = ["{OPS.public.id}"]
local = "refuse"

[trust.signers]
acme = "{ACME.public.line}"
partner = {{ file = "keys/partner.pub" }}
ours = {{ id = "{OPS.public.id}" }}
ci = {{ identity = "a@b.example", issuer = "https://c.example", root = "root.json" }}

[trust.mirrors]
"mirror.local:5000" = "registry.example/acme"

[[trust.rules]]
artifacts = ["registry.example/acme/*"]
signers = ["acme", "ci"]
threshold = 2
max-age = "90d"

[[trust.rules]]
artifacts = ["localhost:5000/**"]
unsigned = "allow"
"""


def test_all_of_it() -> None:
    assert read(FULL).trust == Policy(
        {
            "acme": ACME.public,
            "partner": KeyFile(WS / "keys" / "partner.pub"),
            "ours": KeyId(OPS.public.id),
            "ci": Keyless("a@b.example", "https://c.example", WS / "root.json"),
        },
        (
            Rule(("registry.example/acme/*",), ("acme", "ci"), 2, 90 * 86_400.0),
            Rule(("localhost:5000/**",), unsigned="allow"),
        ),
        {"mirror.local:5000": "registry.example/acme"},
        frozenset((OPS.public.id,)),
        "refuse",
    )
    assert read("[trust]").trust == Policy()
    assert read("").trust is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[trust]\nrule = 1", '1: trust: unknown key "rule" (did you mean "rules"?)'),
        ('[trust]\nlocal = "deny"', '9: trust.local: expected "allow" or "refuse", got "deny"'),
        ('[trust.signers]\na = "x"', "a public key, which is the second line of its file"),
        ("[trust.signers]\na = {}", 'a signer has either "file", "id", or "identity"'),
        ('[trust.signers]\na = { file = "x", id = "y" }', 'a signer has either "file", "id", or'),
        ('[trust.signers]\na = { id = "y" }', "in 64 hexadecimal digits"),
        ('[trust.signers]\na = { identity = "x" }', 'also needs "issuer" and "root"'),
        ('[[trust.rules]]\nsigners = ["a"]', 'missing key "artifacts"'),
        ('[[trust.rules]]\nartifacts = ["**"]', 'names no "signers", so nobody could sign this'),
        ('[[trust.rules]]\nartifacts = ["a b"]\nunsigned = "allow"', "a pattern of names such as"),
        ('[trust]\nrevoked = ["acme"]', "the id of a key, in 64 hexadecimal digits"),
        ('[trust.mirrors]\n"a b" = "c"', 'a name such as "registry.example/acme"'),
        (
            f'[trust]\nsigners.acme = "{ACME.public.line}"\nrules = [{{ artifacts = ["**"], signers = ["acm"] }}]',
            'there is no signer "acm" (did you mean "acme"?)',
        ),
        (
            f'[trust]\nsigners.a = "{ACME.public.line}"\n'
            'rules = [{ artifacts = ["**"], signers = ["a"], threshold = 2 }]',
            "2 of 1 signers cannot sign",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, problem: str) -> None:
    found, *_ = problems(text)
    assert found.startswith("loop.toml:")
    assert problem in found


def workspace(folder: Path, signer: str) -> Manifest:
    (folder / "loop.toml").write_text(f"[trust.signers]\na = {signer}\n")
    return load(folder)


def test_keys_are_read_when_they_are_needed(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "ring")
    manifest = workspace(tmp_path, '{ file = "a.pub" }')
    with pytest.raises(
        ManifestError, match=r"loop.toml:2:1: trust.signers.a: .*a.pub: cannot be read: No such file"
    ):
        policy_of(manifest, ring)
    (tmp_path / "a.pub").write_text(ACME.public.pem)
    found = policy_of(manifest, ring)
    assert found is not None
    assert found.signers == {"a": ACME.public}
    (tmp_path / "a.pub").write_text("no key")
    with pytest.raises(ManifestError, match="it is no public key"):
        policy_of(manifest, ring)
    assert policy_of(read(""), ring) is None


def test_keys_by_id_are_the_users(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "ring")
    held = ring.new("a")
    found = policy_of(workspace(tmp_path, f'{{ id = "{held.public.id}" }}'), ring)
    assert found is not None
    assert found.signers == {"a": PublicKey(held.public.raw)}
    with pytest.raises(
        ManifestError, match=f"there is no key with the id {ACME.public.id} in {os.fspath(ring.folder)}"
    ):
        policy_of(workspace(tmp_path, f'{{ id = "{ACME.public.id}" }}'), ring)
