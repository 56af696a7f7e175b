"""A request whose client may ask it, taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loop_kit.oci.blobs import is_digest
from loop_kit.registry._answers import Refused, Request

__all__ = ["Asked", "Change", "digest_in"]


@dataclass(frozen=True, slots=True)
class Change:
    """What a client has done to the registry.

    Attributes:
        what: What became of it.
        name: `acme/site:1.0`, or `acme/site@sha256:…`.
        digest: The manifest's.
        user: Who; empty, where nobody logs in.
    """

    what: Literal["pushed", "deleted"]
    name: str
    digest: str
    user: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes:
        request: All of it.
        repository: Whose it is; a good name.
        name: The last part of its path: a digest, a tag, an upload. Not looked at yet.
        query: Its parameters.
        user: Who asks; empty, where nobody logs in.
    """

    request: Request
    repository: str
    name: str
    query: dict[str, str]
    user: str


def digest_in(text: str) -> str:
    """A digest that a client has sent.

    Raises:
        Refused: It is none that is known here.
    """
    if not is_digest(text):
        raise Refused(400, "DIGEST_INVALID", f"{text[:300]!r} is not a digest of SHA-256 or SHA-512")
    return text
