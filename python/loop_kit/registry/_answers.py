"""What is asked of the registry, and what it answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Answer", "Gone", "Part", "Refused", "Request"]

JSON = "application/json"


class Gone(Exception):
    """The client went away in the middle of its request."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request.

    Attributes:
        method: `GET`, `PUT`, …
        path: As it was sent, percent forms included.
        query: What follows `?`, as it was sent.
        headers: Its fields, with names in small letters.
        length: The length that its body states.
        body: Its body, which can be had once; ends with Gone where the client does.
        peer: The client's address, without the port.
        secure: Whether it came by TLS.
    """

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    length: int | None
    body: Callable[[], AsyncIterator[bytes]]
    peer: str = "127.0.0.1"
    secure: bool = False

    def header(self, name: str) -> str | None:
        """The field of that name.

        Raises:
            Refused: There are several: whoever is in between may have read another one.
        """
        found = [value for key, value in self.headers if key == name]
        if len(found) > 1:
            raise Refused(400, "UNSUPPORTED", f"the request has the field {name} {len(found)} times")
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a file, as a body.

    Attributes:
        path: The file.
        start: Where it begins.
        size: Its bytes.
        digest: What all of the file is compared with while it is sent; None, where only a part is.
    """

    path: Path
    start: int
    size: int
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Part = b""

    @classmethod
    def of(cls, status: int, body: bytes | Part = b"", **headers: str | None) -> Answer:
        """One with header fields as keywords, `_` for `-`; None leaves one out."""
        fields = ((name.replace("_", "-"), value) for name, value in headers.items())
        return cls(status, tuple((name, value) for name, value in fields if value is not None), body)


class Refused(Exception):
    """A request is answered with an error.

    Args:
        status: Of HTTP.
        code: One of the specification's.
        message: What is wrong, and what to do.
        headers: Further fields of the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = tuple(headers)

    def answer(self) -> Answer:
        """As the specification has errors."""
        document = {"errors": [{"code": self.code, "message": str(self)}]}
        body = json.dumps(document, ensure_ascii=True).encode()
        return Answer(self.status, (("content-type", JSON), *self.headers), body)
