"""Requests to one registry: with its login, again where that helps, and to where it leads."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import email.utils
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.oci._json import load
from loop_kit.oci._web import Answer, Body, Broken, Origin, Web
from loop_kit.oci.auth import Auth, Login, find_login
from loop_kit.oci.reference import Reference

__all__ = ["PATIENCE", "Patience", "Session"]

PATIENCE = 6
"""How often something is tried that fails without getting further."""
_LONGEST = 60.0
"""Seconds that a registry can have somebody wait."""
_FIRST = 0.25
_MOST_HOPS = 5
_MOST_ERROR = 1 << 16
_BUSY = frozenset((408, 425, 429, 500, 502, 503, 504))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))

Pause = Callable[[float], Awaitable[Any]]


class Patience:
    """How often something is still tried, and how long to wait before; `renew` once it got further.

    Args:
        pause: Waits for so many seconds.
    """

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._failed = 0

    def renew(self) -> None:
        """Begins to count anew."""
        self._failed = 0

    async def wait(self, error: PackageError, asked: float | None = None) -> None:
        """Waits before the next try.

        Args:
            error: What to raise where there is none left.
            asked: Seconds that the registry asks for.

        Raises:
            PackageError: `error`, since it was tried often enough, or is asked to wait for too long.
        """
        self._failed += 1
        if self._failed >= PATIENCE or (asked or 0) > _LONGEST:
            raise error
        backed_off = _FIRST * 2 ** (self._failed - 1) * random.uniform(0.8, 1.2)
        await self._pause(max(backed_off, asked or 0))


class Session:
    """Requests to one registry.

    Args:
        registry: Its host, with its port.
        login: Finds the login, once the registry wants one.
        pause: Waits for so many seconds.
    """

    def __init__(
        self,
        registry: str,
        *,
        login: Callable[[], Awaitable[Login | None]] | None = None,
        pause: Pause = asyncio.sleep,
    ) -> None:
        scheme = "http" if Reference(registry, "").loopback else "https"
        self.registry = registry
        self.base = f"{scheme}://{registry}"
        self.web = Web(Origin.of(self.base))
        self.pause = pause
        self.auth = Auth(registry, self.web, self._patient, login or (lambda: find_login(registry)))

    async def ask(
        self,
        method: str,
        target: str,
        *,
        doing: str,
        scopes: tuple[str, ...] = (),
        headers: Sequence[tuple[str, str]] = (),
        body: Body | None = None,
        takes: Sequence[int] = (200,),
        once: bool = False,
        long: bool = False,
    ) -> Answer:
        """Asks the registry, or where it leads.

        Args:
            method: `GET`, `HEAD`, …
            target: A path below the registry, or a URL that it gave.
            doing: What is tried, for messages: `pulling localhost:5000/site`.
            scopes: What the login must be good for.
            headers: Header fields but for `authorization`.
            body: What is sent.
            takes: Statuses that are an answer; any other is raised.
            once: Whether not to send it again, since who asks knows better how to go on.
            long: Whether the answer may take as long as it likes.

        Raises:
            Broken: The registry cannot be reached.
            PackageError: It refuses, or answers something else.
        """
        url = self.web.resolve(f"{self.base}/", target)
        challenged = 0
        for _ in range(_MOST_HOPS + 3):
            ours = Origin.of(url) == self.web.home
            shown = await self.auth.header(scopes) if ours else None
            fields = [*headers, *([("authorization", shown)] if shown else [])]
            send = self.web.send if once else self._patient
            answer = await send(method, url, fields, body, long=long)
            if answer.status == 401 and ours and challenged < 2:
                challenged += 1
                await answer.finish()
                if await self.auth.challenged(answer, scopes, shown):
                    continue
                raise self.auth.refused()
            if answer.status in _REDIRECTS and method in ("GET", "HEAD") and answer.status not in takes:
                await answer.finish()
                url = self.web.resolve(url, answer.header("location") or "")
                continue
            if answer.status not in takes:
                raise await self.refusal(answer, doing)
            return answer
        raise PackageError(f"{doing}: {self.registry} leads from one place to the next, without end")

    async def _patient(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: Body | None,
        *,
        long: bool = False,
    ) -> Answer:
        """Sends a request until there is an answer that says something."""
        patience = Patience(self.pause)
        while True:
            try:
                answer = await self.web.send(method, url, headers, body, long=long)
            except Broken as error:
                if not error.again:
                    raise
                await patience.wait(error)
                continue
            if answer.status not in _BUSY:
                return answer
            await patience.wait(await self.refusal(answer, "waiting"), retry_after(answer))

    async def refusal(self, answer: Answer, doing: str) -> PackageError:
        """What to raise for an answer that is none."""
        said = ""
        with contextlib.suppress(PackageError):
            said = self.auth.clean(_words(await answer.read(_MOST_ERROR)))
        words = f": {said}" if said else ""
        server = answer.origin.host if answer.origin != self.web.home else self.registry
        if answer.status == 401:
            return self.auth.refused()
        if answer.status == 403:
            return PackageError(f"{doing}: {server} does not allow it{words}")
        if answer.status == 404:
            return PackageError(f"{doing}: {server} does not have it{words}")
        if answer.status in _BUSY:
            return PackageError(f"{server} answers {answer.status} again and again{words}")
        return PackageError(f"{doing}: {server} answers {answer.status}{words}")


def retry_after(answer: Answer) -> float | None:
    """Seconds that an answer asks to wait."""
    said = answer.header("retry-after")
    if said is None:
        return None
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        until = email.utils.parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, (until - datetime.datetime.now(datetime.UTC)).total_seconds()) if until.tzinfo else None


def _words(body: bytes) -> str:
    """The first error of a registry's list, in its own words."""
    try:
        error = load(body, "")["errors"][0]
        return " ".join(str(error[key]) for key in ("code", "message") if error.get(key))
    except (PackageError, KeyError, IndexError, TypeError, AttributeError):
        return ""
