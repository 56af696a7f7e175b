"""Requests for manifests, tags and referrers."""

from __future__ import annotations

import asyncio
import bisect
import hashlib
import json
import re
import urllib.parse
from collections.abc import Callable

from loop_kit.errors import PackageError
from loop_kit.oci import media_types
from loop_kit.oci.blobs import is_digest
from loop_kit.oci.model import Descriptor
from loop_kit.oci.reference import is_tag
from loop_kit.registry import _document
from loop_kit.registry._answers import JSON, Answer, Refused
from loop_kit.registry._asked import Asked, Change, digest_in
from loop_kit.registry._content import Content
from loop_kit.registry._uploads import finished

__all__ = ["ManifestRequests"]

_PAGE = 2 << 20
"""Bytes of a list of referrers from which on the rest comes in another."""


class ManifestRequests:
    """What is done with manifests."""

    def __init__(self, content: Content, told: Callable[[Change], object]) -> None:
        self._content = content
        self._told = told

    async def get(self, asked: Asked) -> Answer:
        """A manifest, by tag or digest (end-3)."""
        found, data = await asyncio.to_thread(self._read, asked)
        return Answer.of(
            200,
            data,
            content_type=found.media_type,
            docker_content_digest=found.digest,
            etag=f'"{found.digest}"',
            content_length=str(len(data)),
        )

    def _read(self, asked: Asked) -> tuple[Descriptor, bytes]:
        name = _reference(asked.name)
        found = self._content.manifest(asked.repository, name)
        if found is None:
            raise self._unknown(asked)
        return found, self._content.read(asked.repository, found)

    async def put(self, asked: Asked) -> Answer:
        """Takes a manifest in, under a tag or by its digest (end-7)."""
        name = _reference(asked.name)
        data = await self._body(asked)
        by_digest = is_digest(name)
        algorithm = name.partition(":")[0] if by_digest else "sha256"
        digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        if by_digest and digest != name:
            raise Refused(400, "DIGEST_INVALID", f"what came is {digest}, not {name}")
        said = (asked.request.header("content-type") or "").partition(";")[0].strip().lower() or None
        try:
            document = _document.read(data, said)
        except PackageError as error:
            raise Refused(400, "MANIFEST_INVALID", str(error)) from None
        tag = None if by_digest else name
        put = asyncio.to_thread(self._content.put_manifest, asked.repository, tag, digest, data, document)
        await finished(put)
        shown = f"{asked.repository}:{tag}" if tag else f"{asked.repository}@{digest}"
        self._told(Change("pushed", shown, digest, asked.user))
        return Answer.of(
            201,
            location=f"/v2/{asked.repository}/manifests/{digest}",
            docker_content_digest=digest,
            oci_subject=document.subject if is_digest(document.subject or "") else None,
        )

    async def _body(self, asked: Asked) -> bytes:
        most = self._content.bounds.manifest
        data = bytearray()
        if (asked.request.length or 0) <= most:
            async for chunk in asked.request.body():
                data += chunk
                if len(data) > most:
                    break
            else:
                return bytes(data)
        raise Refused(413, "SIZE_INVALID", f"a manifest may have {most} bytes here")

    async def delete(self, asked: Asked) -> Answer:
        """Takes away a tag, or a manifest with all its tags (end-9)."""
        name = _reference(asked.name)
        found = await asyncio.to_thread(self._content.manifest, asked.repository, name)
        remove = self._content.remove_manifest if is_digest(name) else self._content.remove_tag
        if not await finished(asyncio.to_thread(remove, asked.repository, name)):
            raise self._unknown(asked)
        shown = f"{asked.repository}{'@' if is_digest(name) else ':'}{name}"
        self._told(Change("deleted", shown, found.digest if found else "", asked.user))
        return Answer.of(202)

    async def tags(self, asked: Asked) -> Answer:
        """Tags by their order (end-8a, end-8b)."""
        if not await asyncio.to_thread(self._content.has, asked.repository):
            raise _no_repository(asked)
        tags = await asyncio.to_thread(self._content.tags, asked.repository)
        page, link = self._page(asked, tags, f"/v2/{asked.repository}/tags/list")
        body = json.dumps({"name": asked.repository, "tags": page}).encode()
        return Answer.of(200, body, content_type=JSON, link=link)

    async def catalog(self, asked: Asked) -> Answer:
        """Repositories by their order: no part of the specification, and asked for by many clients."""
        names = await asyncio.to_thread(lambda: list(self._content.repositories()))
        page, link = self._page(asked, names, "/v2/_catalog")
        return Answer.of(200, json.dumps({"repositories": page}).encode(), content_type=JSON, link=link)

    def _page(self, asked: Asked, names: list[str], path: str) -> tuple[list[str], str | None]:
        """The names that are asked for, and the link to those that follow."""
        most = self._content.bounds.page
        said = asked.query.get("n")
        if said is not None and re.fullmatch(r"[0-9]{1,9}", said) is None:
            raise Refused(400, "PAGINATION_NUMBER_INVALID", f"{said[:100]!r} is not how many there can be")
        count = min(int(said) if said is not None else most, most)
        first = bisect.bisect_right(names, asked.query["last"]) if "last" in asked.query else 0
        page = names[first : first + count]
        more = page and first + count < len(names)
        return page, _link(path, n=str(count), last=page[-1]) if more else None

    async def referrers(self, asked: Asked) -> Answer:
        """What is about a manifest, whether that is there or not (end-12a, end-12b)."""
        subject = digest_in(asked.name)
        kind = asked.query.get("artifactType")
        page, last = await asyncio.to_thread(self._listed, asked, subject, kind)
        link = None
        if last is not None:
            more = {"artifactType": kind} if kind is not None else {}
            link = _link(f"/v2/{asked.repository}/referrers/{subject}", last=last, **more)
        index = b'{"schemaVersion":2,"mediaType":"%s","manifests":[%s]}' % (
            media_types.INDEX.encode(),
            b",".join(page),
        )
        return Answer.of(
            200,
            index,
            content_type=media_types.INDEX,
            oci_filters_applied="artifactType" if kind is not None else None,
            link=link,
        )

    def _listed(self, asked: Asked, subject: str, kind: str | None) -> tuple[list[bytes], str | None]:
        """Descriptors of a page, and the last one's digest if there are more."""
        page: list[bytes] = []
        size, last = 0, ""
        for digest, data in self._content.referrers(asked.repository, subject, asked.query.get("last", "")):
            if kind is not None and json.loads(data).get("artifactType") != kind:
                continue
            size += len(data)
            if page and (size > _PAGE or len(page) >= self._content.bounds.page):
                return page, last
            page.append(data)
            last = digest
        return page, None

    def _unknown(self, asked: Asked) -> Refused:
        if not self._content.has(asked.repository):
            return _no_repository(asked)
        return Refused(404, "MANIFEST_UNKNOWN", f"{asked.repository} has no manifest {asked.name[:300]!r}")


def _reference(text: str) -> str:
    if is_digest(text) or is_tag(text):
        return text
    if ":" in text:
        return digest_in(text)
    raise Refused(400, "TAG_INVALID", f"{text[:300]!r} is no tag: up to 128 letters, digits, _, . and -")


def _link(path: str, **parameters: str) -> str:
    return f'<{path}?{urllib.parse.urlencode(parameters)}>; rel="next"'


def _no_repository(asked: Asked) -> Refused:
    return Refused(404, "NAME_UNKNOWN", f"there is no repository {asked.repository}")
