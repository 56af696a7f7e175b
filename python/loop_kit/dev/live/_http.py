"""Heads of HTTP/1.1, as far as a server before the server must understand them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

__all__ = ["Head", "admitting"]


@dataclass
class Head:
    """The first line of a message, and its fields in their order, by their names as they were written.

    Attributes:
        line: `GET / HTTP/1.1`, or `HTTP/1.1 200 OK`.
        fields: Names and values.
    """

    line: str
    fields: list[tuple[str, str]] = field(default_factory=list)

    @staticmethod
    def parse(data: bytes) -> Head:
        """Reads one, up to the empty line and with it.

        Raises:
            ValueError: It is none.
        """
        first, *rest = data.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        head = Head(first)
        if len(first.split(" ", 2)) < 2:
            raise ValueError("it is no head of HTTP/1.1")
        for line in rest:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip() or "\n" in line or "\r" in line:
                raise ValueError("a field is not as in HTTP/1.1")
            head.fields.append((name, value.strip(" \t")))
        return head

    def bytes(self) -> bytes:
        """As it is sent."""
        lines = [self.line, *(f"{name}: {value}" for name, value in self.fields), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def all(self, name: str) -> list[str]:
        """The values of a field, by its name in lower case."""
        return [value for key, value in self.fields if key.lower() == name]

    def get(self, name: str) -> str:
        """The one value of a field; "" where it is not there, or there are several."""
        found = self.all(name)
        return found[0] if len(found) == 1 else ""

    def drop(self, *names: str) -> None:
        """Leaves fields out."""
        self.fields = [(key, value) for key, value in self.fields if key.lower() not in names]

    def set(self, name: str, value: str) -> None:
        """Has a field have one value."""
        self.drop(name)
        self.fields.append((name, value))


def admitting(policy: str, host: str, nonce: str) -> str:
    """A content security policy that lets the script in, and lets it listen and load styles and modules anew.

    Args:
        policy: As the component has it.
        host: The address that the page is asked of.
        nonce: Of the script's element.
    """
    rules: dict[str, list[str]] = {}
    for part in policy.split(";"):
        name, *values = part.split() or [""]
        if name:
            rules.setdefault(name.lower(), values)
    default = rules.get("default-src")
    for names, sources in (
        (("script-src-elem", "script-src"), [f"'nonce-{nonce}'"]),
        (("connect-src",), ["'self'", f"ws://{host}"]),
    ):
        found = next((name for name in names if name in rules), None)
        given = default if found is None else rules[found]
        if given is None:
            continue  # nothing is forbidden
        kept = [value for value in given if value.lower() != "'none'"]
        rules[found or names[-1]] = kept + [source for source in sources if source not in kept]
    return "; ".join(" ".join([name, *values]) for name, values in rules.items())


def new_nonce() -> str:
    """For one answer."""
    return secrets.token_urlsafe(16)
