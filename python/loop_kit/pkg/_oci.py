"""Repositories of OCI registries as a source: `loop_kit.oci` speaks with them, and the workspace's policy judges.

What a file's name means, and which programs are in it, is answered by the component, as for any source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from loop_kit.errors import Damaged, PackageError
from loop_kit.manifest import Manifest
from loop_kit.manifest.model import Resolver as Configured
from loop_kit.oci._places import Repository
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor, Index, parse
from loop_kit.oci.model import Manifest as Document
from loop_kit.oci.platform import choose, parse_platform
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.pkg._model import MOST, Asked, Platform, failed
from loop_kit.pkg._resolver import NoPlatform, Resolver
from loop_kit.trust import gate
from loop_kit.trust._fetch import fetch

__all__ = ["OciResolver", "repository_of"]

_TITLE = "org.opencontainers.image.title"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def repository_of(asked: Asked, own: Configured | None) -> Reference:
    """The repository of a package: its name, or what that is at the registry of a source of one's own.

    Raises:
        PackageError: It is none.
    """
    host = "" if own is None or own.base is None else f"{urlsplit(own.base).netloc}/"
    try:
        return Reference.parse(f"{host}{asked.name}")
    except PackageError as error:
        raise failed(
            f"{asked}: {error}", error.hint or "write one such as oci:registry.example.com/tools/rg@1"
        ) from None


@dataclass(frozen=True)
class _Asset:
    """As `loop:pkg` has it; `url` only tells layers apart."""

    file: str
    url: str
    headers: tuple[tuple[str, str], ...]
    checksum: str
    size: int


class OciResolver(Resolver):
    """One repository.

    Args:
        source: What the source is called.
        calls: The component that knows what files mean, told the repository's tags.
        registry: The registry.
        reference: The repository.
        manifest: The workspace's, which has the policy.
        blobs: Where signatures go.
    """

    def __init__(
        self,
        source: str,
        calls: Any,
        registry: Registry,
        reference: Reference,
        manifest: Manifest,
        blobs: Blobs,
    ) -> None:
        super().__init__(source, (), (), calls)
        self._registry, self._reference, self._blobs = registry, reference, blobs
        self._gate = gate(manifest)
        self._documents: dict[str, Document | Index] = {}
        self._signers: dict[str, tuple[str, ...]] = {}

    async def call(self, function: str, *args: Any) -> Any:
        """Asks it, as any resolver."""
        if function != "artifact":
            return await super().call(function, *args)
        _, version, platform = args
        return await self._artifact(version, Platform(**platform))

    async def pull(self, asset: Any, digest: str, blobs: Blobs, tell: Callable[[int], object]) -> bool:
        """Fetches a layer; one that the registry does not name any more is refused."""
        if digest != asset.checksum:
            raise Damaged(digest, asset.checksum, asset.file)
        if asset.size > MOST:
            raise failed(f"{asset.file} has {asset.size} bytes; {MOST} are the most that is fetched")
        layer = Descriptor("application/octet-stream", digest, asset.size)
        await self._registry.pull_blob(self._reference.repository, layer, blobs, tell)
        return True

    async def _artifact(self, version: str, platform: Platform) -> _Asset:
        what = f"{self._reference.registry}/{self._reference.repository}:{version}"
        if version not in self._documents:
            self._documents[version] = await self._judged(version, what)
        self.signed = self._signers.get(version, ())
        document = self._documents[version]
        if isinstance(document, Index):
            document = await self._part(document, platform, what)
        if not document.layers:
            raise failed(f"{what} has no layer")
        layer = document.layers[0]
        bare = self._reference.repository.rpartition("/")[2]
        title = layer.annotations.get(_TITLE) or f"{bare}{'.tar' if 'tar' in layer.media_type else ''}"
        return _Asset(title.rpartition("/")[2], f"oci:{layer.digest}", (), layer.digest, layer.size)

    async def _judged(self, version: str, what: str) -> Document | Index:
        """What a tag stands for, if the policy takes it."""
        host, repository = self._reference.registry, self._reference.repository
        root, data = await self._registry.manifest(Reference(host, repository, tag=version))
        if self._gate.policy is not None:
            signatures = await fetch(Repository(self._registry, repository), root, self._blobs)
            identity = self._gate(f"{host}/{repository}", root, self._blobs, signatures, tag=version)
            signers = () if identity is None else identity.signers
            self._signers[version] = tuple(name for name, _ in signers)
        return parse(data, root.media_type, what=what)

    async def _part(self, index: Index, platform: Platform, what: str) -> Document:
        wanted = f"{platform.os}/{_ARCHITECTURES.get(platform.arch, platform.arch)}"
        try:
            part = choose(index, parse_platform(wanted), what=what)
        except PackageError as error:
            raise NoPlatform(f"{self.source}: {error}") from None
        known = self._documents.get(part.digest)
        if known is None:
            data = await Repository(self._registry, self._reference.repository).document(part)
            known = self._documents[part.digest] = parse(data, part.media_type, what=what)
        if isinstance(known, Index):
            raise failed(f"{what}: an index lists another index, and no artifact")
        return known
