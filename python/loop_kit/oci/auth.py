"""Logins for registries: where they are found, and how registries are shown that one is there.

Secrets are in no message: texts of a registry, which could repeat what was sent to it, go through `Auth.clean`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.oci._json import load
from loop_kit.oci._web import Answer, Body, Web

__all__ = ["HOST", "PASSWORD", "USER", "Auth", "Login", "find_login"]

HOST, USER, PASSWORD = "LOOP_REGISTRY", "LOOP_REGISTRY_USER", "LOOP_REGISTRY_PASSWORD"
"""Variables of the environment that have a login, and for which registry it is."""

_MOST_CONFIG = 1 << 20
_MOST_TOKEN = 1 << 18
_HELPER_SECONDS = 60
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LEAST_SECONDS = 60
"""How long tokens are good for that do not say."""
_EARLY = 10

# A parameter of a challenge, or the name of the next one.
_WORD = re.compile(r'([A-Za-z][A-Za-z0-9_-]*)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+)))?')

Send = Callable[[str, str, Sequence[tuple[str, str]], Body | None], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks, and what proves it.

    Attributes:
        user: The name.
        secret: The password, or a token that others are had by.
        token: Whether it is such a token.
    """

    user: str
    secret: str = field(repr=False)
    token: bool = False


async def find_login(registry: str, environ: Mapping[str, str] | None = None) -> Login | None:
    """The login for a registry, of the environment or of docker's config; None, if there is none.

    Args:
        registry: Its host, with its port.
        environ: The environment, by default that of this process.

    Raises:
        PackageError: It cannot be had: a config that is malformed, a helper that fails.
    """
    environ = os.environ if environ is None else environ
    return _of_environment(registry, environ) or await _of_docker(registry, environ)


def _of_environment(registry: str, environ: Mapping[str, str]) -> Login | None:
    host, user, password = (environ.get(name) for name in (HOST, USER, PASSWORD))
    if not user and not password:
        return None
    if not (host and user and password):
        error = PackageError(f"of {HOST}, {USER} and {PASSWORD} some are set, and others are not")
        error.hint = f"{HOST} says for which registry the other two are: {HOST}={registry}"
        raise error
    return Login(user, password) if host == registry else None


async def _of_docker(registry: str, environ: Mapping[str, str]) -> Login | None:
    home = Path(environ.get("HOME") or "/")
    file = Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
    try:
        data = file.read_bytes()[: _MOST_CONFIG + 1]
    except (FileNotFoundError, NotADirectoryError):
        return None
    config = load(data, os.fspath(file))
    for name, helper in _table(config, "credHelpers", file).items():
        if _host_of(name) == registry:
            return await _of_helper(helper, name, environ)
    for name, entry in _table(config, "auths", file).items():
        if _host_of(name) == registry and (found := _of_entry(entry, name, file)) is not None:
            return found
    store = config.get("credsStore")
    if not store:
        return None
    return await _of_helper(store, registry, environ)


def _table(config: Any, key: str, file: Path) -> dict[str, Any]:
    found = config.get(key) or {} if isinstance(config, dict) else None
    if not isinstance(found, dict):
        raise PackageError(f"{file}: {key} is no object")
    return found


def _host_of(name: str) -> str:
    return re.sub(r"^https?://", "", name).partition("/")[0]


def _of_entry(entry: Any, name: str, file: Path) -> Login | None:
    said = entry if isinstance(entry, dict) else {}
    user, secret = (
        text if isinstance(text := said.get(key), str) else "" for key in ("username", "password")
    )
    if said.get("auth"):
        try:
            user, colon, secret = base64.b64decode(said["auth"], validate=True).decode().partition(":")
        except (ValueError, TypeError):
            colon = ""
        if not colon:
            raise PackageError(f"{file}: the login for {name} is malformed") from None
    secret = secret.rstrip("\0")
    if isinstance(token := said.get("identitytoken"), str) and token:
        return Login(user, token, token=True)
    return Login(user, secret) if user and secret else None


async def _of_helper(helper: Any, registry: str, environ: Mapping[str, str]) -> Login | None:
    """Asks the program `docker-credential-NAME`."""
    if not isinstance(helper, str) or _NAME.fullmatch(helper) is None:
        raise PackageError("docker's config names a credential helper that cannot be a program's name")
    program = f"docker-credential-{helper}"
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(environ),
            limit=_MOST_CONFIG,
        )
    except OSError as error:
        told = PackageError(f"docker's config has logins kept by {program}: {error.strerror}")
        told.hint = "install it, or have docker's config name another"
        raise told from None
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_HELPER_SECONDS):
            try:
                process.stdin.write(registry.encode())
                await process.stdin.drain()
            except (BrokenPipeError, ConnectionResetError):
                pass  # its exit code tells
            process.stdin.close()
            said = await process.stdout.read(_MOST_CONFIG)
            code = await process.wait()
    except TimeoutError:
        raise PackageError(f"{program} did not answer within {_HELPER_SECONDS} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != 0:
        if b"credentials not found" in said:
            return None
        raise PackageError(f"{program} exited with {code} when it was asked for the login of {registry}")
    try:
        found = json.loads(said)
        user, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, KeyError, TypeError):
        raise PackageError(f"{program} did not answer with a login") from None
    return Login(user, secret, token=user == "<token>") if secret else None


class Auth:
    """What a registry is shown: nothing, until it asks; then the login, or a token for what is done.

    Args:
        registry: Its host, with its port, for the login and for messages.
        web: The servers that it may ask for tokens.
        send: Sends a request, again where that may help.
        login: Finds the login, once it is needed.
    """

    def __init__(
        self, registry: str, web: Web, send: Send, login: Callable[[], Awaitable[Login | None]]
    ) -> None:
        self._registry = registry
        self._web = web
        self._send = send
        self._find = login
        self._login: Login | None = None
        self._looked = False
        self._basic: str | None = None
        self._bearer: dict[str, str] | None = None
        """Realm and service of those who give tokens, once the registry has named them."""
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}
        self._locks: dict[tuple[str, ...], asyncio.Lock] = {}
        self._secrets: set[str] = set()

    def __repr__(self) -> str:
        return f"<logins of {self._registry}>"

    async def header(self, scopes: tuple[str, ...]) -> str | None:
        """What to send as `authorization`, as far as is known."""
        if self._basic is not None:
            return self._basic
        if self._bearer is None:
            return None
        async with self._locks.setdefault(scopes, asyncio.Lock()):
            token, until = self._tokens.get(scopes, ("", 0.0))
            if until < asyncio.get_running_loop().time():
                token = await self._fetch(self._bearer, scopes)
            return f"Bearer {token}"

    async def challenged(self, answer: Answer, scopes: tuple[str, ...], sent: str | None) -> bool:
        """Takes in how a registry refused `sent`; whether there is something else to send now.

        Raises:
            PackageError: It wants a login, and there is none; or a way to show it that is not known.
        """
        challenges = _challenges(answer.headers("www-authenticate"))
        if "bearer" in challenges:
            said = challenges["bearer"]
            if "realm" not in said:
                raise PackageError(f"{self._registry} wants a token, and does not say where there are some")
            realm = self._web.resolve(self._web.home.__str__() + "/", said["realm"])
            self._bearer = {**said, "realm": realm}
            token, _ = self._tokens.get(scopes, ("", 0.0))
            if sent == f"Bearer {token}":
                del self._tokens[scopes]
            return True
        if "basic" in challenges:
            login = await self._found()
            if login is None or login.token:
                raise self._wants()
            made = _basic(login)
            fresh = sent != made
            self._basic = made
            return fresh
        raise self._wants()

    def refused(self) -> PackageError:
        """What to raise where a registry takes no for its last word."""
        if self._login is None:
            return self._wants()
        error = PackageError(f"{self._registry} does not take the login of {self._login.user!r}")
        error.hint = f"`docker login {self._registry}` makes a new one"
        return error

    def _wants(self) -> PackageError:
        error = PackageError(f"{self._registry} wants a login, and there is none for it")
        error.hint = f"`docker login {self._registry}`, or set {HOST}={self._registry}, {USER} and {PASSWORD}"
        return error

    async def _found(self) -> Login | None:
        if not self._looked:
            self._login = await self._find()
            self._looked = True
            if self._login is not None:
                header = _basic(self._login)
                self._secrets |= {self._login.secret, header, header.partition(" ")[2]}
        return self._login

    def clean(self, text: str) -> str:
        """A text of a registry, without secrets and control characters, and not too long."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            if secret:
                text = text.replace(secret, "***")
        return "".join(c if c.isprintable() else " " for c in text)[:300]

    async def _fetch(self, bearer: dict[str, str], scopes: tuple[str, ...]) -> str:
        """A new token for scopes."""
        login = await self._found()
        fields = [("service", bearer["service"])] if "service" in bearer else []
        headers: list[tuple[str, str]] = []
        if login is not None and login.token:
            form = [*fields, ("client_id", "loop-kit"), ("scope", " ".join(scopes))]
            form += [("grant_type", "refresh_token"), ("refresh_token", login.secret)]
            headers.append(("content-type", "application/x-www-form-urlencoded"))
            body = urllib.parse.urlencode(form).encode()
            answer = await self._send("POST", bearer["realm"], headers, body)
        else:
            if login is not None:
                headers.append(("authorization", _basic(login)))
                fields.append(("account", login.user))
            query = urllib.parse.urlencode(fields + [("scope", scope) for scope in scopes])
            mark = "&" if "?" in bearer["realm"] else "?"
            answer = await self._send("GET", f"{bearer['realm']}{mark}{query}", headers, None)
        data = await answer.read(_MOST_TOKEN, "its answer to who asks for a token")
        if answer.status in (400, 401, 403):
            raise self.refused()
        if answer.status != 200:
            raise PackageError(f"{answer.origin.host} answers {answer.status} to who asks for a token")
        return self._taken(data, scopes, answer)

    def _taken(self, data: bytes, scopes: tuple[str, ...], answer: Answer) -> str:
        said = load(data, f"the token of {answer.origin.host}")
        token = said.get("token") or said.get("access_token") if isinstance(said, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise PackageError(f"{answer.origin.host} has not answered with a token")
        seconds = said.get("expires_in")
        seconds = seconds if type(seconds) is int and seconds > 0 else _LEAST_SECONDS
        until = asyncio.get_running_loop().time() + max(seconds, _LEAST_SECONDS) - _EARLY
        self._tokens[scopes] = token, until
        self._secrets.add(token)
        return token


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.user}:{login.secret}".encode()).decode()


def _challenges(fields: Sequence[str]) -> dict[str, dict[str, str]]:
    """The ways to show a login that a registry names, each with its parameters, by names in small letters."""
    found: dict[str, dict[str, str]] = {}
    for text in fields:
        said: dict[str, str] = {}
        for name, quoted, plain in _WORD.findall(text[:8192]):
            if quoted or plain:
                said[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) or plain
            else:
                said = found.setdefault(name.lower(), {})
    return found
