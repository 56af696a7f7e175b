"""Requests for blobs, and for uploads of them."""

from __future__ import annotations

import asyncio
import re

from loop_kit.oci import media_types
from loop_kit.oci.reference import is_repository
from loop_kit.registry._answers import Answer, Part, Refused
from loop_kit.registry._asked import Asked, digest_in
from loop_kit.registry._content import Content
from loop_kit.registry._uploads import Upload, finished

__all__ = ["BlobRequests"]

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")
_CONTENT_RANGE = re.compile(r"(?:bytes )?([0-9]{1,19})-([0-9]{1,19})(?:/\*|/[0-9]{1,19})?")


class BlobRequests:
    """What is done with blobs."""

    def __init__(self, content: Content) -> None:
        self._content = content

    async def get(self, asked: Asked) -> Answer:
        """A blob, or a part of it (end-2, end-3)."""
        digest = digest_in(asked.name)
        size = await asyncio.to_thread(self._content.blob, asked.repository, digest)
        if size is None:
            raise _unknown(asked, digest)
        etag = f'"{digest}"'
        start, count = 0, size
        said = asked.request.header("range") if asked.request.method == "GET" else None
        if said is not None and asked.request.header("if-range") in (None, etag):
            start, count = _part(said, size)
        partial = count != size
        fields = {
            "content_type": media_types.OCTETS,
            "docker_content_digest": digest,
            "etag": etag,
            "accept_ranges": "bytes",
            "content_length": str(count),
            "content_range": f"bytes {start}-{start + count - 1}/{size}" if partial else None,
        }
        body = Part(self._content.blobs.path(digest), start, count, None if partial else digest)
        return Answer.of(206 if partial else 200, body, **fields)

    async def delete(self, asked: Asked) -> Answer:
        """Has a repository have a blob no more (end-10)."""
        digest = digest_in(asked.name)
        if not await finished(asyncio.to_thread(self._content.remove_blob, asked.repository, digest)):
            raise _unknown(asked, digest)
        return Answer.of(202)

    async def begin(self, asked: Asked) -> Answer:
        """Begins an upload, takes a whole blob at once, or one that another repository has (end-4a, end-4b, end-11)."""
        mount, digest = asked.query.get("mount"), asked.query.get("digest")
        if mount is not None:
            mounted = await self._mounted(asked, digest_in(mount), asked.query.get("from"))
            if mounted is not None:
                return mounted
        if digest is not None:
            digest_in(digest)
        upload = self._content.uploads.begin(asked.repository, asked.user)
        if digest is None:
            return self._state(asked, upload, 202)
        try:
            async with upload.alone():
                await upload.append(asked.request.body(), None)
                return await self._finished(asked, upload, digest)
        finally:
            upload.drop()

    async def _mounted(self, asked: Asked, digest: str, source: str | None) -> Answer | None:
        if source is not None and not is_repository(source):
            raise Refused(400, "NAME_INVALID", f"{source[:300]!r} is not a name of a repository")
        mount = asyncio.to_thread(self._content.mount, asked.repository, digest, source)
        return self._created(asked, digest) if await finished(mount) else None

    async def state(self, asked: Asked) -> Answer:
        """How far an upload is (end-13)."""
        return self._state(asked, self._upload(asked), 204)

    async def append(self, asked: Asked) -> Answer:
        """Adds a piece to an upload (end-5)."""
        upload = self._upload(asked)
        async with upload.alone():
            await upload.append(asked.request.body(), self._expected(asked, upload))
            return self._state(asked, upload, 202)

    async def finish(self, asked: Asked) -> Answer:
        """Ends an upload, with the last piece if there is one (end-6)."""
        upload = self._upload(asked)
        digest = digest_in(asked.query.get("digest", ""))
        async with upload.alone():
            await upload.append(asked.request.body(), self._expected(asked, upload))
            return await self._finished(asked, upload, digest)

    async def cancel(self, asked: Asked) -> Answer:
        """Gives an upload up (end-14)."""
        upload = self._upload(asked)
        async with upload.alone():
            upload.drop()
        return Answer.of(204)

    def _upload(self, asked: Asked) -> Upload:
        return self._content.uploads.get(asked.name, asked.repository, asked.user)

    def _expected(self, asked: Asked, upload: Upload) -> int | None:
        """How many bytes a piece has, if it says which they are."""
        said = asked.request.header("content-range")
        if said is None:
            return None
        found = _CONTENT_RANGE.fullmatch(said.strip())
        first, last = (int(found[1]), int(found[2])) if found else (-1, -1)
        if first != upload.size or last < first:
            raise Refused(
                416,
                "BLOB_UPLOAD_INVALID",
                f"the piece {said[:100]!r} is not the next one: {upload.size} bytes are here",
                self._state(asked, upload, 416).headers,
            )
        if asked.request.length not in (None, last - first + 1):
            raise Refused(400, "SIZE_INVALID", "the piece has not as many bytes as its range")
        return last - first + 1

    async def _finished(self, asked: Asked, upload: Upload, digest: str) -> Answer:
        if not await finished(asyncio.to_thread(upload.matches, digest)):
            upload.drop()
            raise Refused(
                400, "DIGEST_INVALID", f"what came is not {digest}: it is not kept, and is to be sent anew"
            )
        taken = asyncio.to_thread(self._content.add_blob, asked.repository, digest, upload.path)
        await finished(taken)
        self._content.budget.give(entries=1)  # the upload's
        return self._created(asked, digest)

    def _state(self, asked: Asked, upload: Upload, status: int) -> Answer:
        return Answer.of(
            status,
            location=f"/v2/{asked.repository}/blobs/uploads/{upload.id}",
            range=f"0-{max(0, upload.size - 1)}",
            docker_upload_uuid=upload.id,
        )

    def _created(self, asked: Asked, digest: str) -> Answer:
        return Answer.of(201, location=f"/v2/{asked.repository}/blobs/{digest}", docker_content_digest=digest)


def _part(said: str, size: int) -> tuple[int, int]:
    """Where the range of a request begins, and its length; of what is none, all."""
    found = _RANGE.fullmatch(said.strip())
    if found is None or (not found[1] and not found[2]):
        return 0, size  # several, or another unit: HTTP lets them be
    if not found[1]:
        start, end = max(0, size - int(found[2])), size - 1
        satisfiable = int(found[2]) > 0 and size > 0
    else:
        start, end = int(found[1]), min(int(found[2]) if found[2] else size - 1, size - 1)
        satisfiable = start <= end
    if not satisfiable:
        raise Refused(
            416, "SIZE_INVALID", f"the blob has {size} bytes", [("content-range", f"bytes */{size}")]
        )
    return start, end - start + 1


def _unknown(asked: Asked, digest: str) -> Refused:
    return Refused(404, "BLOB_UNKNOWN", f"{asked.repository} has no blob {digest}")
