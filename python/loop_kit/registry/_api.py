"""The distribution API of OCI, version 1.1: who may ask, and for what."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from loop_kit._address import is_loopback
from loop_kit.errors import PackageError
from loop_kit.oci.reference import is_repository
from loop_kit.registry._answers import JSON, Answer, Gone, Refused, Request
from loop_kit.registry._asked import Asked, Change
from loop_kit.registry._blobs import BlobRequests
from loop_kit.registry._content import Content
from loop_kit.registry._manifests import ManifestRequests
from loop_kit.registry._users import Users

__all__ = ["Access", "Api"]

_FIELDS = (
    ("docker-distribution-api-version", "registry/2.0"),
    # what somebody put here is not to be a page of this address
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; sandbox"),
    ("cross-origin-resource-policy", "same-origin"),
)
_READS = ("GET", "HEAD")
_MOST_PARAMETERS = 16
_PATIENCE = 60.0
"""Seconds between two counts of what is there because there is no room any more."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what.

    Attributes:
        users: Who may log in; None: whoever can connect may read and write.
        anonymous: Whether one may read without a login.
        delete: Whether something may be deleted.
        read_only: Whether nothing may be changed.
        names: Names of hosts that requests may be for, in small letters, besides addresses and `localhost`.
    """

    users: Users | None = None
    anonymous: bool = False
    delete: bool = False
    read_only: bool = False
    names: Collection[str] = ()


class Api:
    """Answers requests.

    Args:
        content: What the registry has, opened.
        access: Who may do what.
        told: Told what was pushed and deleted.
        tell: Told, in words, of what is wrong with the folder or the file of users.
    """

    def __init__(
        self,
        content: Content,
        access: Access | None = None,
        *,
        told: Callable[[Change], object] = lambda change: None,
        tell: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.content = content
        self._access = access or Access()
        self._tell = tell
        self._blobs = BlobRequests(content)
        self._manifests = ManifestRequests(content, told)
        self._counted = float("-inf")

    async def answer(self, request: Request) -> Answer:
        """The answer to a request. Nothing is raised but Gone."""
        try:
            answer = await self._answer(request)
        except Refused as refused:
            answer = refused.answer()
            if refused.status == 507:
                await self._count()
        except Gone:
            raise
        except (PackageError, OSError) as error:
            self._tell(str(error))
            answer = Refused(500, "UNKNOWN", "the registry cannot do this; its own output says why").answer()
        return Answer(answer.status, (*answer.headers, *_FIELDS), answer.body)

    async def _count(self) -> None:
        """Looks whether something has been deleted, or given up, since it was counted last."""
        if time.monotonic() - self._counted > _PATIENCE:
            self._counted = time.monotonic()
            await asyncio.to_thread(self.content.tidy)

    async def _answer(self, request: Request) -> Answer:
        self._check_origin(request)
        user = await self._login(request)
        kind, repository, name = _route(request.path)
        if kind == "base":
            if request.method not in _READS:
                raise _not_here(request, "GET, HEAD")
            return Answer.of(200, b"{}", content_type=JSON)
        answers: dict[str, dict[str, Callable[[Asked], Awaitable[Answer]]]] = {
            "blob": {"GET": self._blobs.get, "DELETE": self._blobs.delete},
            "uploads": {"POST": self._blobs.begin},
            "upload": {
                "GET": self._blobs.state,
                "PATCH": self._blobs.append,
                "PUT": self._blobs.finish,
                "DELETE": self._blobs.cancel,
            },
            "manifest": {
                "GET": self._manifests.get,
                "PUT": self._manifests.put,
                "DELETE": self._manifests.delete,
            },
            "tags": {"GET": self._manifests.tags},
            "referrers": {"GET": self._manifests.referrers},
            "catalog": {"GET": self._manifests.catalog},
        }
        methods = {**answers[kind]}
        if "GET" in methods:
            methods["HEAD"] = methods["GET"]
        if not self._access.delete and kind in ("blob", "manifest"):
            methods.pop("DELETE", None)
        if self._access.read_only:
            methods = {method: answer for method, answer in methods.items() if method in _READS}
        if request.method not in methods:
            raise _not_here(request, ", ".join(sorted(methods)))
        if kind != "catalog" and not is_repository(repository):
            raise Refused(400, "NAME_INVALID", f"{repository[:300]!r} is not a name of a repository")
        return await methods[request.method](Asked(request, repository, name, _query(request.query), user))

    def _check_origin(self, request: Request) -> None:
        """Keeps pages that a browser shows from asking, by whatever name they have found for this address."""
        host = (request.header("host") or "").strip()
        name = (host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host).lower()
        if not (request.secure or _is_address(name) or is_loopback(name) or name in self._access.names):
            raise Refused(
                421, "DENIED", f"this registry is not {name[:300]!r}: --name lets it be asked by that name"
            )
        site = request.header("sec-fetch-site")
        if request.header("origin") is not None or site not in (None, "none", "same-origin"):
            raise Refused(403, "DENIED", "a registry is nothing for pages of a browser")

    async def _login(self, request: Request) -> str:
        """The name of who asks, who may do so.

        Raises:
            Refused: He may not.
        """
        users = self._access.users
        if users is None:
            return ""
        said = request.header("authorization")
        if said is None:
            if self._access.anonymous and request.method in _READS:
                return ""
            raise _unauthorized("log in first")
        name, password = _basic(said)
        rights = await users.rights(name, password, request.peer)
        if rights is None:
            raise _unauthorized("there is no such user, or the password is another")
        if rights == "read" and request.method not in _READS:
            raise Refused(403, "DENIED", f"{name} may read, and not write")
        return name


def _route(path: str) -> tuple[str, str, str]:
    """What a path is of, the repository, and the name in it."""
    # Colons are all that has to be escaped in any of them: nothing else is read in two ways.
    path = path.replace("%3A", ":").replace("%3a", ":")
    if path in ("/v2", "/v2/"):
        return "base", "", ""
    if path == "/v2/_catalog":
        return "catalog", "", ""
    parts = path.split("/")
    if len(parts) > 4 and parts[:2] == ["", "v2"] and "%" not in path:
        match parts[2:]:
            case [*name, "tags", "list"] if name:
                return "tags", "/".join(name), ""
            case [*name, "manifests", reference] if name:
                return "manifest", "/".join(name), reference
            case [*name, "referrers", digest] if name:
                return "referrers", "/".join(name), digest
            case [*name, "blobs", "uploads", upload] if name:
                return "upload" if upload else "uploads", "/".join(name), upload
            case [*name, "blobs", "uploads"] if name:
                return "uploads", "/".join(name), ""
            case [*name, "blobs", digest] if name:
                return "blob", "/".join(name), digest
    raise Refused(404, "UNSUPPORTED", "there is nothing at this path: the API of OCI 1.1 is below /v2/")


def _query(text: str) -> dict[str, str]:
    """Parameters. A `+` is one: media types have it."""
    found: dict[str, str] = {}
    for part in filter(None, text.split("&")[: _MOST_PARAMETERS + 1]):
        key, _, value = part.partition("=")
        key, value = urllib.parse.unquote(key), urllib.parse.unquote(value)
        if key in found or len(found) == _MOST_PARAMETERS:
            raise Refused(
                400, "UNSUPPORTED", f"the parameter {key[:100]!r} comes twice, or is one of too many"
            )
        found[key] = value
    return found


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _basic(said: str) -> tuple[str, str]:
    scheme, _, text = said.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        name, colon, password = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        raise _unauthorized("the login is none of the kind Basic") from None
    if not colon or len(name) > 256 or len(password) > 4096:
        raise _unauthorized("the login is none of the kind Basic")
    return name, password


def _unauthorized(why: str) -> Refused:
    return Refused(401, "UNAUTHORIZED", why, [("www-authenticate", 'Basic realm="loop registry"')])


def _not_here(request: Request, methods: str) -> Refused:
    why = "; the registry is served without --delete" if request.method == "DELETE" else ""
    return Refused(
        405, "UNSUPPORTED", f"{request.method[:20]} is not for this path{why}", [("allow", methods)]
    )
