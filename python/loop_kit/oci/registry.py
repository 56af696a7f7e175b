"""A registry: what it has under a name, and what is put there, as the distribution specification of OCI says."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import difflib
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci import media_types
from loop_kit.oci._json import MOST_BYTES, load
from loop_kit.oci._session import Patience, Session
from loop_kit.oci._upload import CHUNK, Upload
from loop_kit.oci._web import Answer, Broken, Origin, next_page
from loop_kit.oci.auth import Login
from loop_kit.oci.blobs import Blobs, Writer, is_digest
from loop_kit.oci.model import Descriptor, Index, Manifest, describe, parse
from loop_kit.oci.reference import Reference

__all__ = ["Registry", "Tell"]

Tell = Callable[[int], object]
"""Called with bytes that came, or went, as they do."""

_ACCEPT = ", ".join(
    (media_types.MANIFEST, media_types.INDEX, media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST)
)
_FURTHER = 1 << 20
"""Bytes after which a download has got further, so that it may break off as often as before."""
_SLOWEST = 1 << 10
"""Bytes in a second, over `_WINDOW`, below which whoever sends a blob only keeps one waiting."""
_WINDOW = 60.0
_MOST_PAGES = 1000
_MOST_TAGS = 100_000
_RACES = 5
"""How often an index of referrers is written again where somebody else wrote his at the same time."""


class Registry:
    """One registry, from this host; used in an `async with`.

        async with Registry("localhost:5000") as registry:
            descriptor = await registry.resolve(Reference.parse("localhost:5000/site:1.0"))

    One on this machine is asked by plain HTTP, all others by TLS. The login is that of the environment or of docker's
    config, and looked for once the registry wants one. Methods may run at the same time. What fails in a way that may
    pass is tried again, later each time.

    Args:
        host: Its host, with its port if that is not the scheme's own.
        login: Finds the login; by default as said.
        chunk: Bytes of a blob above which it is sent in pieces of so many, each of which can be sent again.
        pause: Waits for so many seconds.
    """

    def __init__(
        self,
        host: str,
        *,
        login: Callable[[], Awaitable[Login | None]] | None = None,
        chunk: int = CHUNK,
        pause: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self.host = host
        self._session = Session(host, login=login, pause=pause)
        self._chunk = chunk
        self._indexing = asyncio.Lock()

    async def __aenter__(self) -> Registry:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.web.__aexit__(*error)

    def __repr__(self) -> str:
        return f"<registry {self.host}>"

    def _pull(self, repository: str) -> dict[str, Any]:
        return {"doing": f"pulling {self.host}/{repository}", "scopes": (f"repository:{repository}:pull",)}

    def _push(self, repository: str, *sources: str) -> dict[str, Any]:
        scopes = (f"repository:{repository}:pull,push", *(f"repository:{each}:pull" for each in sources))
        return {"doing": f"pushing to {self.host}/{repository}", "scopes": scopes}

    # ---- manifests

    async def resolve(self, reference: Reference) -> Descriptor:
        """What a name stands for at the moment; only its head is fetched, where the registry says enough by it.

        Raises:
            PackageError: It is not there, or the registry cannot be asked.
        """
        found = await self.find(reference)
        if found is None:
            raise await self._missing(reference)
        return found

    async def find(self, reference: Reference) -> Descriptor | None:
        """As `resolve`; None where there is nothing of that name."""
        named = self._named(reference)
        target = f"/v2/{reference.repository}/manifests/{named}"
        answer = await self._session.ask(
            "HEAD",
            target,
            headers=[("accept", _ACCEPT)],
            takes=(200, 404),
            **self._pull(reference.repository),
        )
        await answer.finish()
        if answer.status == 404:
            return None
        digest, length = answer.header("docker-content-digest") or "", answer.header("content-length") or ""
        media_type = _media_type(answer)
        if media_type is None or not is_digest(digest) or not (length.isascii() and length.isdigit()):
            return (await self.manifest(reference))[0]
        if reference.digest not in (None, digest):
            raise Damaged(str(reference.digest), digest, f"what {self.host} has")
        return Descriptor(media_type, digest, int(length[:20]))

    async def manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """The manifest or index that a name stands for: its descriptor, and its bytes, checked.

        Raises:
            Damaged: It is another than that of the digest.
            PackageError: It is not there, or malformed, or the registry cannot be asked.
        """
        named = self._named(reference)
        target = f"/v2/{reference.repository}/manifests/{named}"
        answer = await self._session.ask(
            "GET", target, headers=[("accept", _ACCEPT)], takes=(200, 404), **self._pull(reference.repository)
        )
        if answer.status == 404:
            await answer.finish()
            raise await self._missing(reference)
        data = await answer.read(MOST_BYTES, "a manifest")
        said = reference.digest or answer.header("docker-content-digest") or ""
        algorithm = said.partition(":")[0] if is_digest(said) else "sha256"
        digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        if is_digest(said) and said != digest:
            raise Damaged(said, digest, f"the manifest that {self.host} sent")
        document = parse(data, _media_type(answer), what=str(reference))
        return Descriptor(document.media_type, digest, len(data)), data

    def _named(self, reference: Reference) -> str:
        if reference.registry != self.host:
            raise PackageError(f"{reference} is not in the registry {self.host}")
        named = reference.digest or reference.tag
        if named is None:
            error = PackageError(f"{reference} names a repository, and nothing in it")
            error.hint = f"add a tag, such as {reference}:latest, or a digest"
            raise error
        return named

    async def _missing(self, reference: Reference) -> PackageError:
        error = PackageError(f"{self.host} does not have {reference}")
        if reference.digest is None:
            with contextlib.suppress(PackageError):
                tags = await self.tags(reference.repository)
                near = difflib.get_close_matches(reference.tag or "", tags, 5, 0) or tags[:5]
                error.hint = f"it has {', '.join(near)}" if near else f"there is nothing in {reference.at()}"
        return error

    async def tags(self, repository: str) -> list[str]:
        """All tags of a repository, in the registry's order; none where there is no such repository.

        Raises:
            PackageError: The registry cannot be asked, or does not answer with tags.
        """
        found: list[str] = []
        async for said in self._pages(f"/v2/{repository}/tags/list?n=1000", repository):
            tags = said.get("tags") if isinstance(said, dict) else None
            if tags is not None and not (isinstance(tags, list) and all(isinstance(t, str) for t in tags)):
                raise PackageError(f"{self.host} does not answer with tags")
            found += tags or []
            if len(found) > _MOST_TAGS:
                raise PackageError(f"{self.host}/{repository} has more than {_MOST_TAGS} tags")
        return found

    async def _pages(self, target: str, repository: str) -> AsyncIterator[Any]:
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            answer = await self._session.ask("GET", target, takes=(200, 404), **self._pull(repository))
            if answer.status == 404:
                await answer.finish()
                return
            yield load(await answer.read(MOST_BYTES, "a page"), f"the answer of {self.host}")
            following = next_page(answer)
            if following is None:
                return
            target = self._session.web.resolve(answer.url, following)
            if target in seen:
                raise PackageError(f"{self.host} leads from one page to the next, without end")
            seen.add(target)
        raise PackageError(f"{self.host} answers with more than {_MOST_PAGES} pages")

    async def push_manifest(
        self, repository: str, data: bytes, media_type: str | None = None, tag: str | None = None
    ) -> Descriptor:
        """Puts a manifest or index there, once all that it leads to is.

        Where it has a subject, and the registry has no API for referrers, the index that stands in for that is kept too.

        Args:
            repository: Where to.
            data: The document.
            media_type: What it is; by default it says so itself.
            tag: A name for it; without one it is had by its digest.

        Raises:
            PackageError: It is malformed, or the registry refuses it.
        """
        document = parse(data, media_type)
        descriptor = describe(document, data)
        answer = await self._session.ask(
            "PUT",
            f"/v2/{repository}/manifests/{tag or descriptor.digest}",
            headers=[("content-type", document.media_type)],
            body=data,
            takes=(201,),
            **self._push(repository),
        )
        await answer.finish()
        said = answer.header("docker-content-digest")
        if said is not None and said.startswith("sha256:") and said != descriptor.digest:
            raise Damaged(descriptor.digest, said, f"what {self.host} made of the manifest")
        if document.subject is not None and answer.header("oci-subject") != document.subject.digest:
            kind = document.kind if isinstance(document, Manifest) else document.artifact_type
            signature = dataclasses.replace(descriptor, artifact_type=kind, annotations=document.annotations)
            await self._refer(repository, document.subject.digest, signature)
        return descriptor

    # ---- referrers

    async def referrers(
        self, repository: str, digest: str, artifact_type: str | None = None
    ) -> list[Descriptor]:
        """The manifests whose subject is `digest`: its signatures and the like.

        They are those of the API for referrers, or of the index that stands in for it where there is none.

        Args:
            repository: Where to look.
            digest: The subject.
            artifact_type: What they must be; by default whatever they are.

        Raises:
            PackageError: The registry cannot be asked, or does not answer with an index.
        """
        by_api = await self._by_api(repository, digest)
        listed = (await self._stand_in(repository, digest))[1] if by_api is None else by_api
        found = [await self._with_kind(repository, each) for each in listed]
        return [each for each in found if artifact_type in (None, each.artifact_type)]

    async def _with_kind(self, repository: str, listed: Descriptor) -> Descriptor:
        """What a registry lists, with the artifact's type. Some take it of the config, which says nothing there."""
        if listed.artifact_type not in (None, media_types.EMPTY):
            return listed
        _, data = await self.manifest(Reference(self.host, repository, digest=listed.digest))
        document = parse(data, listed.media_type)
        kind = document.kind if isinstance(document, Manifest) else document.artifact_type
        return dataclasses.replace(listed, artifact_type=kind)

    async def _by_api(self, repository: str, digest: str) -> list[Descriptor] | None:
        """None where the registry has no API for it. Its own filter is not asked for: not all filter by the same."""
        target = f"/v2/{repository}/referrers/{digest}"
        found: dict[str, Descriptor] = {}
        for page in range(_MOST_PAGES):
            answer = await self._session.ask(
                "GET", target, takes=(200, 404, 405, 501), **self._pull(repository)
            )
            if answer.status != 200:
                await answer.finish()
                return None if page == 0 else list(found.values())
            if _media_type(answer) != media_types.INDEX and page == 0:
                await answer.finish()  # a page of a server that knows nothing of it
                return None
            index = parse(await answer.read(MOST_BYTES, "an index"), media_types.INDEX, what="the referrers")
            assert isinstance(index, Index)
            before = len(found)
            found |= {each.digest: each for each in index.manifests}
            following = next_page(answer)
            if following is None or len(found) == before:
                return list(found.values())
            target = self._session.web.resolve(answer.url, following)
        raise PackageError(f"{self.host} answers with more than {_MOST_PAGES} pages")

    async def _stand_in(self, repository: str, digest: str) -> tuple[bytes, tuple[Descriptor, ...]]:
        """The index under the tag that stands in for the API; empty, if there is none."""
        reference = Reference(self.host, repository, digest.replace(":", "-", 1)[:128])
        if await self.find(reference) is None:
            return b"", ()
        _, data = await self.manifest(reference)
        index = parse(data, what=str(reference))
        if not isinstance(index, Index):
            raise PackageError(
                f"{reference}: expected the index of what refers to {digest}, found a manifest"
            )
        return data, index.manifests

    async def _refer(self, repository: str, subject: str, descriptor: Descriptor) -> None:
        """Adds to the index that stands in. It is read again, since another may have written at the same time."""
        by_api = await self._by_api(repository, subject)
        if by_api is not None and any(each.digest == descriptor.digest for each in by_api):
            return  # it has the API, and only does not say so
        tag = subject.replace(":", "-", 1)[:128]
        async with self._indexing:
            for _ in range(_RACES):
                _, listed = await self._stand_in(repository, subject)
                if any(each.digest == descriptor.digest for each in listed):
                    return
                index = Index((*listed, descriptor))
                await self.push_manifest(repository, index.to_bytes(), index.media_type, tag)
        raise PackageError(f"{self.host}/{repository}:{tag} does not keep what is written to it")

    # ---- blobs

    async def has_blob(self, repository: str, descriptor: Descriptor) -> bool:
        """Whether a blob is there.

        Raises:
            PackageError: The registry cannot be asked.
        """
        target = f"/v2/{repository}/blobs/{descriptor.digest}"
        answer = await self._session.ask("HEAD", target, takes=(200, 404), **self._pull(repository))
        await answer.finish()
        return answer.status == 200

    async def offer_blob(self, repository: str, descriptor: Descriptor, *, mount: str | None = None) -> bool:
        """Whether a blob is there, or can be taken from the repository `mount` of the same registry.

        Raises:
            PackageError: The registry cannot be asked.
        """
        if await self.has_blob(repository, descriptor):
            return True
        if mount is None or mount == repository:
            return False
        target = f"/v2/{repository}/blobs/uploads/?mount={descriptor.digest}&from={mount}"
        more = self._push(repository, mount)
        answer = await self._session.ask("POST", target, body=b"", takes=(201, 202), **more)
        await answer.finish()
        if answer.status == 202 and (location := answer.header("location")):  # an upload, that nobody needs
            url = self._session.web.resolve(answer.url, location)
            await (await self._session.ask("DELETE", url, takes=range(200, 600), **more)).finish()
        return answer.status == 201

    async def pull_blob(
        self, repository: str, descriptor: Descriptor, blobs: Blobs, tell: Tell | None = None
    ) -> None:
        """Fetches a blob, unless it is there, and checks it as it comes. One that broke off goes on where it was.

        Args:
            repository: Where it is.
            descriptor: Its digest and size.
            blobs: Where to.
            tell: Called with bytes as they come, and with those that were there.

        Raises:
            Damaged: It is another, or longer; it is not kept.
            PackageError: It is not there, or the registry cannot be asked.
            OSError: It cannot be written.
        """
        counted = _Counted(tell or (lambda _: None))
        if not is_digest(descriptor.digest):
            raise PackageError(f"{descriptor.digest}: its algorithm is not one that is checked")
        with blobs.writer(descriptor.digest, descriptor.size) as writer:
            if writer is None:
                counted.to(descriptor.size)
                return
            if descriptor.data is not None:
                writer.restart()
                writer.write(descriptor.data)
                counted.to(descriptor.size)
                return
            counted.to(writer.offset)
            resumed = writer.offset > 0
            while True:
                try:
                    await self._fill(repository, descriptor, writer, counted)
                    writer.check()
                    return
                except Damaged as error:
                    if not resumed:
                        where = f"what {self.host} sent"
                        raise Damaged(error.digest, error.found, where) from None
                    resumed = False  # what was kept from before could be what is wrong
                    writer.restart()
                    counted.to(0)

    async def _fill(self, repository: str, descriptor: Descriptor, writer: Writer, counted: _Counted) -> None:
        """Has a writer get all bytes, in as many answers as it takes."""
        patience = Patience(self._session.pause)
        target = f"/v2/{repository}/blobs/{descriptor.digest}"
        while writer.offset < descriptor.size or not descriptor.size:
            begun = writer.offset
            headers = [("range", f"bytes={begun}-")] if begun else []
            answer = await self._session.ask(
                "GET", target, headers=headers, takes=(200, 206, 416), long=True, **self._pull(repository)
            )
            if begun and not (answer.status == 206 and _starts_at(answer) == begun):
                writer.restart()  # it does not go on from anywhere
                counted.to(0)
                if answer.status != 200:
                    await answer.finish()
                    await patience.wait(
                        PackageError(f"{self.host} does not send {descriptor.digest} in parts")
                    )
                    continue
            pace = _Pace(answer.origin)
            try:
                async with contextlib.aclosing(answer.chunks()) as chunks:
                    async for chunk in chunks:
                        writer.write(chunk)
                        counted.to(writer.offset)
                        pace.came(len(chunk))
            except Broken as error:
                if writer.offset - begun >= _FURTHER:
                    patience.renew()
                await patience.wait(error)
                continue
            if writer.offset < descriptor.size:
                found = f"{writer.offset} of {descriptor.size} bytes"
                short = Damaged(descriptor.digest, found, f"what {self.host} sent")
                if answer.header("content-length") is not None:  # this is all that it has
                    writer.restart()
                    raise short
                await patience.wait(short)
            if not descriptor.size:
                return

    async def push_blob(
        self,
        repository: str,
        descriptor: Descriptor,
        blobs: Blobs,
        tell: Tell | None = None,
        *,
        mount: str | None = None,
    ) -> None:
        """Puts a blob there, unless it is: taken from another repository, whole, or in pieces.

        Args:
            repository: Where to.
            descriptor: Its digest and size.
            blobs: Where it is.
            tell: Called with bytes as they go, and with those that need not.
            mount: A repository of the same registry that has it.

        Raises:
            Damaged: What is in `blobs` is another.
            PackageError: It is not in `blobs`, or the registry refuses it.
            OSError: It cannot be read.
        """
        tell = tell or (lambda _: None)
        if await self.offer_blob(repository, descriptor, mount=mount):
            tell(descriptor.size)
            return
        if blobs.size(descriptor.digest) != descriptor.size:
            raise PackageError(f"{descriptor.digest}, of {descriptor.size} bytes, is not in {blobs.folder}")
        more = self._push(repository)
        upload = Upload(self._session, f"/v2/{repository}", more, blobs, descriptor)
        await upload.run(tell, self._chunk)


class _Pace:
    """Watches over what comes of a blob: netx ends what stands still, this what trickles."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._began, self._bytes = time.monotonic(), 0

    def came(self, size: int) -> None:
        """Raises Broken where too little came in the window that has ended."""
        self._bytes += size
        passed = time.monotonic() - self._began
        if passed >= _WINDOW:
            if self._bytes < _SLOWEST * passed:
                raise Broken(self._origin, "too-slow", None)
            self._began, self._bytes = time.monotonic(), 0


class _Counted:
    """Tells how far something is as the differences to what was told before."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._told = 0

    def to(self, at: int) -> None:
        self._tell(at - self._told)
        self._told = at


def _media_type(answer: Answer) -> str | None:
    said = (answer.header("content-type") or "").partition(";")[0].strip()
    return said if said in media_types.MANIFESTS | media_types.INDEXES else None


def _starts_at(answer: Answer) -> int:
    found = re.match(r"bytes ([0-9]{1,19})-", answer.header("content-range") or "")
    return int(found[1]) if found else -1
