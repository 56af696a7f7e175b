"""HTTP with a registry, by `loop:netx`: each server has a grant of its own, and none is asked that has not to be."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import urllib.parse
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from loop_kit._types import Err
from loop_kit.errors import PackageError
from loop_kit.exports import Exports
from loop_kit.placements.builtin import builtin, driven

__all__ = ["Answer", "Body", "Broken", "Origin", "Web"]

Body = bytes | tuple[Callable[[], Iterator[bytes]], int]
"""What is sent: bytes, or what makes pieces of them, and how many they are.

Pieces are asked for while they are sent, outside of the event loop."""

# Where registries of companies are. Whoever names a registry means it wherever it is; what a registry leads to must
# speak TLS, and have a certificate for its name.
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "[fc00::]/7")
_MOST_ORIGINS = 16
_CONNECT = 10
_HEAD = 60
_SENT = 600
"""Seconds until the head of an answer is there, where a body is sent first; and for all of an answer but a blob."""
_SECOND = 10**9
_UNWANTED = 1 << 16
_PORTS = {"http": 80, "https": 443}

# How a connection can end that is better the next time.
_AGAIN = frozenset(
    (
        "DNS-timeout", "destination-unavailable", "connection-terminated", "connection-timeout",
        "connection-read-timeout", "connection-limit-reached", "HTTP-response-incomplete", "HTTP-response-timeout",
        "internal-error",
    )
)  # fmt: skip
_WORDS = {
    "DNS-error": "its name does not resolve",
    "DNS-timeout": "its name does not resolve in time",
    "destination-not-found": "its name has no address",
    "destination-unavailable": "it cannot be reached",
    "destination-IP-prohibited": "its name leads to this machine, or to an address that is no server's",
    "connection-refused": "it refuses connections",
    "connection-terminated": "the connection ended",
    "connection-timeout": "it could not be connected to in time",
    "connection-read-timeout": "nothing more came",
    "HTTP-response-incomplete": "the connection ended in the middle",
    "HTTP-response-timeout": "it did not answer in time",
    "too-slow": "it sends so slowly that it would never end",
    "TLS-certificate-error": "its certificate is not to be trusted",
    "TLS-protocol-error": "TLS failed",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """A server: scheme, host and port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """That of a URL.

        Raises:
            PackageError: It is none of HTTP, or carries a login.
        """
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urllib.parse.SplitResult("", "", "", "", ""), None
        if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or not url.isprintable():
            raise PackageError(f"{url[:200]!r} is no URL that can be asked")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(parts.scheme, host, port or _PORTS[parts.scheme])

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine."""
        address = self.address
        return self.host == "localhost" or (address is not None and address.is_loopback)

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The address that it is named by, if it is."""
        try:
            return ipaddress.ip_address(self.host.strip("[]"))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


class Broken(PackageError):
    """A server cannot be reached, or its answer broke off. `again`: whether it may go better the next time."""

    def __init__(self, origin: Origin, case: str, words: str | None) -> None:
        said = _WORDS.get(case) or (f"{case}: {words}" if words else case)
        super().__init__(f"{origin.host}:{origin.port}: {said}")
        self.again = case in _AGAIN
        if case == "connection-refused" and origin.loopback:
            self.hint = "does the registry run?"


def _broken(origin: Origin, code: Any) -> Broken:
    words = getattr(code, "value", None)
    return Broken(origin, code.case, words if isinstance(words, str) else None)


class Answer:
    """A response, with its body still to come, which is read or finished."""

    def __init__(self, origin: Origin, url: str, sent: Any) -> None:
        head, self._stream, self._end = sent
        self.origin = origin
        self.url = url
        self.status: int = head.status
        self._headers = [(name.lower(), bytes(value).decode("latin-1")) for name, value in head.headers]

    def header(self, name: str) -> str | None:
        """The first field of that name."""
        return next(iter(self.headers(name)), None)

    def headers(self, name: str) -> list[str]:
        """All fields of that name."""
        return [value for key, value in self._headers if key == name]

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body.

        Raises:
            Broken: It ended before its end.
        """
        async with self._stream:
            async for chunk in self._stream:
                yield chunk
        try:
            outcome = await self._end
        except Err as error:
            outcome = error
        if isinstance(outcome, Err):
            raise _broken(self.origin, outcome.value)

    async def read(self, most: int, what: str = "its answer") -> bytes:
        """The whole body.

        Raises:
            Broken: It ended before its end.
            PackageError: It has more than `most` bytes.
        """
        data = bytearray()
        async with contextlib.aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                data += chunk
                if len(data) > most:
                    raise PackageError(f"{self.origin.host}: {what} has more than {most} bytes")
        return bytes(data)

    async def finish(self) -> None:
        """Takes in a body that nobody wants, if it is short: so the connection can be used again."""
        with contextlib.suppress(PackageError):
            await self.read(_UNWANTED)


class Web:
    """The servers that a registry consists of: its own, and those that it leads to.

    Args:
        home: The registry's own. Where it is on this machine, it may lead to others here.
    """

    def __init__(self, home: Origin) -> None:
        self.home = home
        self._stack = contextlib.AsyncExitStack()
        self._opened: dict[Origin, Exports] = {}

    async def __aenter__(self) -> Web:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._opened.clear()
        await self._stack.aclose()

    def resolve(self, base: str, location: str) -> str:
        """Where an answer leads.

        Raises:
            PackageError: There a registry may not lead.
        """
        try:
            url = urllib.parse.urljoin(base, location)
        except ValueError:
            url = location
        origin = Origin.of(url)
        if origin.host == self.home.host and origin.scheme == "http" != self.home.scheme:
            # behind a proxy for TLS many do not know that they are
            rest = urllib.parse.urlsplit(url)
            return urllib.parse.urlunsplit(("https", base.split("/")[2], rest.path, rest.query, ""))
        if origin == self.home or (origin.loopback and self.home.loopback):
            return url
        if origin.scheme != "https" or origin.address is not None or origin.loopback:
            raise PackageError(
                f"{self.home.host} leads to {origin}, which is not asked: "
                f"that may only be a name, with TLS, or the registry itself"
            )
        return url

    async def _netx(self, origin: Origin) -> Exports:
        opened = self._opened.get(origin)
        if opened is None:
            if len(self._opened) >= _MOST_ORIGINS:
                raise PackageError(f"{self.home.host} leads to more than {_MOST_ORIGINS} servers")
            allow = [str(origin)]
            more: dict[str, Any] = {}
            if not origin.loopback:
                more["proxy"] = "environment"
                if origin.address is None:
                    allow += [f"{origin.scheme}://{network}:{origin.port}" for network in _PRIVATE]
            made = builtin("netx", allow=allow, first_byte_timeout=_SENT, connect_timeout=_CONNECT, **more)
            opened = await self._stack.enter_async_context(driven(made))
            self._opened[origin] = opened
        return opened

    async def send(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]] = (),
        body: Body | None = None,
        *,
        long: bool = False,
    ) -> Answer:
        """Sends a request and waits for the head of the answer; redirects are answers.

        Args:
            method: `GET`, `HEAD`, …
            url: Whom to ask, and for what.
            headers: Header fields.
            body: What is sent.
            long: Whether the answer may take as long as it likes, as long as something comes.

        Raises:
            Broken: The server cannot be reached, or does not answer.
        """
        origin = Origin.of(url)
        netx = await self._netx(origin)
        fields = [(name, value.encode()) for name, value in headers]
        stream: Iterator[bytes] | None = None
        if body is not None:
            length = len(body) if isinstance(body, bytes) else body[1]
            fields.append(("content-length", b"%d" % length))
            if length:
                stream = iter((body,)) if isinstance(body, bytes) else body[0]()
        options = {
            "connect_timeout": None,
            "first_byte_timeout": None if body else _HEAD * _SECOND,
            "between_bytes_timeout": _HEAD * _SECOND,
            "total_timeout": None if long else _SENT * _SECOND,
            "redirects": 0,
            "decompress": False,
            "max_body": None,
        }
        request = {"method": method, "url": url, "headers": fields, "options": options}
        try:
            return Answer(origin, url, await netx.http_streaming.send(request, stream, None))
        except Err as error:
            raise _broken(origin, error.value) from None


def next_page(answer: Answer) -> str | None:
    """Where an answer says that more is, by its field `link`."""
    for link in answer.headers("link"):
        if found := re.match(r'\s*<([^<>]{1,4096})>\s*;\s*rel="?next"?\s*(?:[;,]|$)', link):
            return found[1]
    return None
