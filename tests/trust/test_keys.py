"""Keys: made, taken in, and kept to oneself."""

import builtins
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from loop_kit.errors import PackageError
from loop_kit.trust import Keyring, Policy, PublicKey
from loop_kit.trust._gate import Gate
from loop_kit.trust._keyring import passphrase_of
from tests.trust.made import ACME, judged, root_of


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys")


def test_a_key_signs_and_is_its_owners_alone(ring: Keyring) -> None:
    assert ring.all() == []
    held = ring.new("acme")
    assert held.file is not None
    assert stat.S_IMODE(held.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(ring.folder.stat().st_mode) == 0o700
    assert ring.all() == [held]
    key = ring.private("acme")
    assert held.public.verifies(key.sign(b"data"), b"data")
    assert not held.public.verifies(key.sign(b"data"), b"other")
    assert not held.public.verifies(b"short", b"data")
    assert ring.private(str(held.file)).public == key.public == held.public
    assert ring.by_id(held.public.id) == held.public
    assert ring.by_id("0" * 64) is None
    assert held.file.read_text() not in repr(key)
    with pytest.raises(PackageError, match="there is a key 'acme' already"):
        ring.new("acme")


def test_a_passphrase_locks_the_file(ring: Keyring) -> None:
    held = ring.new("acme", b"secret")
    assert held.file is not None
    assert "ENCRYPTED" in held.file.read_text()
    assert ring.private("acme", b"secret").public == held.public
    for wrong, text in ((None, "locked by a passphrase"), (b"Secret", "the passphrase is wrong")):
        with pytest.raises(PackageError, match=text) as told:
            ring.private("acme", wrong)
        assert "ecret" not in str(told.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_key_that_others_can_reach_is_refused(mode: int, ring: Keyring) -> None:
    held = ring.new("acme")
    assert held.file is not None
    held.file.chmod(mode)
    with pytest.raises(PackageError, match=f"others can read or write it .mode 0{mode:o}") as told:
        ring.private("acme")
    assert told.value.hint is not None
    assert f"chmod 600 {held.file}" in told.value.hint


def test_keys_of_others_are_taken_in(ring: Keyring, tmp_path: Path) -> None:
    file = tmp_path / "partner.pub"
    file.write_text(ACME.public.pem)
    held = ring.add("partner", file)
    assert (held.public, held.file) == (ACME.public, None)
    assert ring.get("partner") == held
    with pytest.raises(PackageError, match="only the public half"):
        ring.private("partner")
    own = ring.new("own", b"x")
    assert own.file is not None
    again = Keyring(tmp_path / "other").add("again", own.file, b"x")
    assert again.public == own.public
    assert again.file is not None
    assert stat.S_IMODE(again.file.stat().st_mode) == 0o600


def pem(key: Any, form: Any = serialization.PrivateFormat.PKCS8) -> str:
    return str(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode())


def public_pem(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, form).decode())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no public key"),
        ("x" * 20_000, "too long"),
        ("\xff", "it is no text"),
        (ACME.public.pem.replace("MCow", "MCox"), "no public key of Ed25519"),
        (ACME.public.line[:-4], "no public key of Ed25519"),
        ("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n", "cosign's own way"),
        ("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n", "no private key in PKCS #8"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "but not of Ed25519"),
        (public_pem(ec.generate_private_key(ec.SECP256R1())), "no public key of Ed25519"),
    ],
)
def test_what_is_no_key_is_refused(text: str, problem: str, ring: Keyring, tmp_path: Path) -> None:
    file = tmp_path / "odd"
    file.write_text(text, "latin-1")
    with pytest.raises(PackageError, match=problem) as told:
        ring.add("odd", file)
    assert str(file) in str(told.value)
    assert not list(ring.folder.glob("*"))


def test_a_private_key_is_no_public_one(tmp_path: Path) -> None:
    file = tmp_path / "acme.pub"
    file.write_text("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n")
    with pytest.raises(PackageError, match="private key, which nobody else should ever see"):
        PublicKey.load(file)
    with pytest.raises(PackageError, match="cannot be read: No such file"):
        PublicKey.load(tmp_path / "none")


@pytest.mark.parametrize("name", ["", ".", "../x", "a/b", "-a", "a" * 65, "a b"])
def test_names_stay_in_the_folder(name: str, ring: Keyring) -> None:
    with pytest.raises(PackageError, match="is no name of a key"):
        ring.new(name)


def test_a_key_that_is_not_there(ring: Keyring) -> None:
    with pytest.raises(PackageError, match="there is no key 'acme'"):
        ring.private("acme")


def test_passphrases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOP_KEY_PASSPHRASE", raising=False)
    assert passphrase_of(None) is None
    monkeypatch.setenv("LOOP_KEY_PASSPHRASE", "geheim ä")
    assert passphrase_of(None) == "geheim ä".encode()
    file = tmp_path / "pass"
    file.write_text("two words\n")
    file.chmod(0o600)
    assert passphrase_of(file) == b"two words"
    file.chmod(0o644)
    with pytest.raises(PackageError, match="others can read"):
        passphrase_of(file)
    file.write_text("\n")
    file.chmod(0o600)
    with pytest.raises(PackageError, match="is empty"):
        passphrase_of(file)


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LOOP_KEYS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", os.fspath(tmp_path))
    assert Keyring().folder == tmp_path / "loop-kit" / "keys"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert Keyring().folder == Path.home() / ".config" / "loop-kit" / "keys"
    monkeypatch.setenv("LOOP_KEYS", "elsewhere")
    assert Keyring().folder == Path("elsewhere")


def test_nothing_is_taken_where_nothing_can_be_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy without the library refuses; it is never as if there were no policy."""
    real = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name.startswith("cryptography"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    for what in (
        lambda: Gate(Policy()),
        lambda: judged(Policy(), root_of()),
        lambda: ACME.public.verifies(b"", b""),
    ):
        with pytest.raises(PackageError, match="cannot be checked") as told:
            what()
        assert told.value.hint == "pip install 'loop-kit[trust]'"
    Gate(None)
