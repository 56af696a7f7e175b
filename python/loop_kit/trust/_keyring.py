"""The user's keys: files in the configuration folder, `NAME.key` with `NAME.pub`, or that of somebody else alone."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loop_kit.errors import PackageError
from loop_kit.trust._where import configuration
from loop_kit.trust.keys import PublicKey, library

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["PASSPHRASE", "Held", "Keyring", "PrivateKey", "passphrase_of"]

PASSPHRASE = "LOOP_KEY_PASSPHRASE"
"""The environment variable that may hold the passphrase of a key."""

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_MOST = 16 << 10


class PrivateKey:
    """A key that signs; it is never shown."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    def sign(self, data: bytes) -> bytes:
        """The signature of bytes."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"PrivateKey(id={self.public.id!r})"


@dataclass(frozen=True)
class Held:
    """A key of the user's.

    Attributes:
        name: Its name.
        public: Its public half.
        file: Where the private half is; None: somebody else has that.
    """

    name: str
    public: PublicKey
    file: Path | None


class Keyring:
    """Keys by name, in a folder.

    Args:
        folder: The folder; by default that of the environment's LOOP_KEYS, or one in the user's configuration folder.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder) if folder is not None else _default()

    def new(self, name: str, passphrase: bytes | None = None) -> Held:
        """Makes a key.

        Raises:
            PackageError: There is one of that name, or it cannot be kept.
        """
        library()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return self._keep(name, Ed25519PrivateKey.generate(), passphrase)

    def add(self, name: str, file: Path, passphrase: bytes | None = None) -> Held:
        """Takes in a key, private or public, from a file of PEM.

        Raises:
            PackageError: There is one of that name, it cannot be kept, or the file has no key of Ed25519.
        """
        text = _read(file)
        if "PRIVATE KEY" in text:
            return self._keep(name, _private(file, text, passphrase), passphrase)
        public = PublicKey.load(file)
        self._make(self._path(name, ".pub"), public.pem.encode(), 0o644)
        return Held(name, public, None)

    def all(self) -> list[Held]:
        """All keys, by name.

        Raises:
            PackageError: A file is no public key.
        """
        names = sorted(
            path.stem for path in self.folder.glob("*.pub") if re.fullmatch(NAME_PATTERN, path.stem)
        )
        return [self.get(name) for name in names]

    def get(self, name: str) -> Held:
        """A key by its name.

        Raises:
            PackageError: There is none.
        """
        file, private = self._path(name, ".pub"), self._path(name, ".key")
        if not file.is_file():
            missing = PackageError(f"there is no key {name!r} in {self.folder}")
            missing.hint = "`loop key ls` shows those that are there, `loop key new` makes one"
            raise missing
        return Held(name, PublicKey.load(file), private if private.is_file() else None)

    def by_id(self, identifier: str) -> PublicKey | None:
        """The key of an id, if it is there."""
        return next((held.public for held in self.all() if held.public.id == identifier), None)

    def private(self, name: str, passphrase: bytes | None = None) -> PrivateKey:
        """A key to sign with: one of here by its name, or a file, by a path with a `/` or that ends in `.key` or `.pem`.

        Raises:
            PackageError: There is none, others than its owner can read it, or the passphrase is missing or wrong.
        """
        library()
        if "/" in name or name.endswith((".key", ".pem")):
            file = Path(name)
        else:
            held = self.get(name)
            if held.file is None:
                raise PackageError(f"of the key {name!r} only the public half is here, which cannot sign")
            file = held.file
        return PrivateKey(_private(file, _read(file, secret=True), passphrase))

    def _path(self, name: str, suffix: str) -> Path:
        if not re.fullmatch(NAME_PATTERN, name):
            raise PackageError(f"{name!r} is no name of a key: letters, digits, `.`, `-` and `_`")
        return self.folder / f"{name}{suffix}"

    def _keep(self, name: str, key: Ed25519PrivateKey, passphrase: bytes | None) -> Held:
        from cryptography.hazmat.primitives import serialization as as_

        locked = as_.NoEncryption() if passphrase is None else as_.BestAvailableEncryption(passphrase)
        pem = key.private_bytes(as_.Encoding.PEM, as_.PrivateFormat.PKCS8, locked)
        public, private = PrivateKey(key).public, self._path(name, ".key")
        if self._path(name, ".pub").exists():
            raise _there(name, self.folder)
        self._make(private, pem, 0o600)
        self._make(self._path(name, ".pub"), public.pem.encode(), 0o644)
        return Held(name, public, private)

    def _make(self, path: Path, data: bytes, mode: int) -> None:
        """Writes a file that must not be there yet, whole or not at all."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        except FileExistsError:
            raise _there(path.stem, self.folder) from None
        except OSError as error:
            raise PackageError(f"{path}: cannot be written: {error.strerror}") from None
        with open(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())


def passphrase_of(file: Path | None) -> bytes | None:
    """The passphrase from a file, without its final line end, or from the environment; None, if there is none.

    Raises:
        PackageError: The file cannot be read, others than its owner can read it, or it is empty.
    """
    if file is None:
        value = os.environ.get(PASSPHRASE)
        return value.encode("utf-8", "surrogateescape") if value else None
    text = _read(file, secret=True).removesuffix("\n")
    if not text:
        raise PackageError(f"{file}: the passphrase is empty")
    return text.encode()


def _there(name: str, folder: Path) -> PackageError:
    error = PackageError(f"there is a key {name!r} already in {folder}")
    error.hint = "give another name; keys are not overwritten"
    return error


def _read(file: Path, *, secret: bool = False) -> str:
    try:
        with file.open("rb") as stream:
            found = os.fstat(stream.fileno())
            data = stream.read(_MOST + 1)
    except OSError as error:
        raise PackageError(f"{file}: cannot be read: {error.strerror}") from None
    if secret and found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        shown = PackageError(f"{file}: others can read or write it (mode {stat.S_IMODE(found.st_mode):04o})")
        shown.hint = f"`chmod 600 {file}` makes it yours alone; who may have read it has the key"
        raise shown
    try:
        if len(data) > _MOST:
            raise ValueError
        return data.decode()
    except ValueError:
        raise PackageError(f"{file}: is not a key: it is no text, or too long") from None


def _private(file: Path, text: str, passphrase: bytes | None) -> Ed25519PrivateKey:
    library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    locked = "ENCRYPTED PRIVATE KEY" in text
    if "ENCRYPTED SIGSTORE" in text or "ENCRYPTED COSIGN" in text:
        error = PackageError(f"{file}: it is locked in cosign's own way")
        error.hint = "make a key with `loop key new`, or import one in PKCS #8"
        raise error
    if locked and passphrase is None:
        error = PackageError(f"{file}: it is locked by a passphrase")
        error.hint = f"--passphrase-file names the file that has it; {PASSPHRASE} may hold it, too"
        raise error
    try:
        key = load_pem_private_key(text.encode(), passphrase if locked else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # their texts tell nothing that helps
        wrong = (
            "the passphrase is wrong, or the file damaged" if locked else "it is no private key in PKCS #8"
        )
        raise PackageError(f"{file}: {wrong}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise PackageError(f"{file}: it is a private key, but not of Ed25519")
    return key


def _default() -> Path:
    if own := os.environ.get("LOOP_KEYS"):
        return Path(own)
    return configuration() / "keys"
