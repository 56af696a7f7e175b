"""Names of artifacts: in a registry, `registry.example.com/team/site:1.0@sha256:…`, or in a layout on disk."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from loop_kit._address import is_loopback
from loop_kit.errors import PackageError
from loop_kit.oci.blobs import is_digest

__all__ = ["LAYOUT", "LayoutReference", "Reference", "is_repository", "is_tag", "parse_place"]

LAYOUT = "oci-layout:"
"""What the name of an artifact in a folder begins with."""

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::([1-9][0-9]{{0,4}}))?")
_MOST = 255


def is_tag(text: str) -> bool:
    """Whether it can be a tag: up to 128 letters, digits, `_`, `.` and `-`."""
    return _TAG.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Whether it can be a repository: small letters and digits, with `.`, `_`, `-` or `/` between them."""
    return len(text) <= _MOST and _REPOSITORY.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Reference:
    """An artifact, or a repository, of a registry.

    Attributes:
        registry: Its host, with a port if that is not the scheme's own.
        repository: Its path there.
        tag: A name for one of its artifacts, which may come to stand for another.
        digest: The artifact; it decides, where there is a tag too.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Reads `REGISTRY/REPOSITORY[:TAG][@DIGEST]`. No registry is filled in.

        Raises:
            PackageError: It is no such name; the text says which part.
        """
        rest, at, digest = text.partition("@")
        if at and not is_digest(digest):
            raise _wrong(text, f"{digest!r} is not a digest such as sha256:…, in 64 hexadecimal digits")
        registry, slash, rest = rest.partition("/")
        if not slash or not ("." in registry or ":" in registry or registry == "localhost"):
            error = _wrong(text, "it does not begin with a registry")
            error.hint = "write REGISTRY/REPOSITORY:TAG, such as registry.example/acme/site:1.0"
            raise error
        if not _is_host(registry):
            raise _wrong(text, f"{registry!r} is not a host such as registry.example.com or localhost:5000")
        repository, colon, tag = rest.partition(":")
        if not is_repository(repository):
            small = repository.lower()
            error = _wrong(
                text,
                f"{repository!r} is not a repository: small letters and digits, with ., _, - or / between them",
            )
            if repository != small and _REPOSITORY.fullmatch(small):
                error.hint = f"did you mean {small!r}?"
            raise error
        if colon and not is_tag(tag):
            raise _wrong(text, f"{tag!r} is not a tag: up to 128 letters, digits, _, . and -")
        return cls(registry, repository, tag or None, digest or None)

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def loopback(self) -> bool:
        """Whether the registry is on this machine, where it is spoken to without TLS."""
        return is_loopback(re.sub(r":[0-9]+$", "", self.registry))

    def at(self, *, tag: str | None = None, digest: str | None = None) -> Reference:
        """The same repository with another tag and digest."""
        return dataclasses.replace(self, tag=tag, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


@dataclass(frozen=True, slots=True)
class LayoutReference:
    """An artifact of a layout on disk, or all of it.

    Attributes:
        folder: The layout's.
        tag: A name that its index gives to an artifact.
        digest: The artifact; it decides, where there is a tag too.
    """

    folder: Path
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> LayoutReference:
        """Reads `oci-layout:DIR[:TAG][@DIGEST]`.

        Raises:
            PackageError: It is no such name.
        """
        if not text.startswith(LAYOUT):
            raise _wrong(text, f"it does not begin with {LAYOUT}")
        rest, at, digest = text.removeprefix(LAYOUT).rpartition("@")
        if not at or not is_digest(digest):  # a folder may have an @ in its name
            rest, digest = text.removeprefix(LAYOUT), ""
        folder, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            folder, tag = rest, ""
        elif not is_tag(tag):
            raise _wrong(text, f"{tag!r} is not a tag: up to 128 letters, digits, _, . and -")
        if not folder:
            raise _wrong(text, "it names no folder")
        return cls(Path(folder), tag or None, digest or None)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{LAYOUT}{self.folder}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse_place(text: str) -> Reference | LayoutReference:
    """Reads the name of an artifact, wherever it is.

    Raises:
        PackageError: It is none.
    """
    return LayoutReference.parse(text) if text.startswith(LAYOUT) else Reference.parse(text)


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    if found is None or int(found[1] or 1) > 65535 or len(text) > _MOST:
        return False
    if text.startswith("["):
        try:
            ipaddress.IPv6Address(text[1 : text.index("]")])
        except ValueError:
            return False
    return True


def _wrong(text: str, problem: str) -> PackageError:
    return PackageError(f"{text!r} names no artifact: {problem}")
