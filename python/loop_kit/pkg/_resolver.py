"""Resolvers: components that are loaded under a grant of their own, or providers, and asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loop_kit import Host, Limits, builtin, shipped
from loop_kit._types import Err
from loop_kit.errors import CallError, LinkError, LoadError, PackageError
from loop_kit.manifest import Component, Link, Manifest
from loop_kit.manifest import model as manifests
from loop_kit.manifest.model import Resolver as Configured
from loop_kit.oci.blobs import Blobs
from loop_kit.pkg import _clients
from loop_kit.pkg._model import Asked, Platform, failed
from loop_kit.placements.component import Settings

__all__ = ["NoPlatform", "Resolver", "Resolvers", "artifact", "limited", "proxied", "word"]

_LIMITS = Limits(memory="512MiB", deadline=180.0, cpu=60.0, payload="64MiB", instances="shared")
_MAX_ANSWER = 64 << 20
"""Bytes of one answer that a resolver may read: npm's list of versions of a package may be long."""
_MOST = 50_000
"""Items of a list that is taken from a resolver."""


class NoPlatform(PackageError):
    """A source has nothing for a platform."""


@dataclass
class Resolver:
    """One source, ready to be asked.

    Attributes:
        source: What it is called.
        downloads: The grant of the host that fetches its files: rules of `loop:netx`.
        ca: Certificates that its servers are to be believed by.
        signed: Who has signed the version that was asked for last, by their names in the policy.
    """

    source: str
    downloads: tuple[str, ...]
    ca: tuple[str, ...]
    _calls: Any = field(repr=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    signed: tuple[str, ...] = ()

    async def pull(self, asset: Any, digest: str, blobs: Blobs, tell: Callable[[int], object]) -> bool:
        """Fetches a file in a way of its own, and returns whether it has one.

        Raises:
            Damaged: It is not what its digest says.
            PackageError: It does not come.
        """
        return False

    async def call(self, function: str, *args: Any) -> Any:
        """Asks it.

        Raises:
            NoPlatform: There is nothing for this platform.
            PackageError: It says no, or misbehaves.
        """
        try:
            async with (
                self._lock
            ):  # one instance keeps what it has learned, and answers one question at a time
                return await getattr(self._calls, function)(*args)
        except Err as error:
            case, words = getattr(error.value, "case", ""), str(getattr(error.value, "value", error.value))
            words = words[:2000]
            if case == "no-platform":
                raise NoPlatform(f"{self.source}: {words}") from None
            raise failed(f"{self.source}: {words}", _HINTS.get(case)) from None
        except CallError as error:
            raise failed(
                f"the resolver of {self.source} failed: {str(error).partition(chr(10))[0][:500]}",
                "the resolver is at fault; nothing of what it said is taken",
            ) from None

    async def fitting(self, name: str, ranges: Sequence[str]) -> list[str]:
        """The versions in all ranges, the best first.

        Raises:
            PackageError: There is none, or as `call`.
        """
        found = [str(one) for one in limited(await self.call("resolve", name, list(ranges)), "versions")]
        if not found:
            raise failed(
                f"{self.source}: it has no version of {name} for {' and '.join(ranges) or 'any range'}"
            )
        return found


_HINTS = {
    "denied": "log in with the client of this source, whose configuration is used",
    "unreachable": "is it within reach? What is installed needs no network; see `loop pkg install --offline`",
}


class Resolvers:
    """The resolvers of a workspace, loaded when they are first asked; as an async context manager.

    Args:
        manifest: Its manifest.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._configured = manifest.resolvers
        self._folder = manifest.folder
        self._loaded: dict[tuple[str, str], Resolver] = {}
        self._stack = contextlib.AsyncExitStack()
        self._host: Host | None = None

    async def __aenter__(self) -> Resolvers:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def names(self) -> list[str]:
        """What there is to ask."""
        return sorted({*_clients.KINDS, "oci", *self._configured})

    async def of(self, asked: Asked) -> tuple[Resolver, str]:
        """The resolver of a package, and what that calls it.

        Raises:
            PackageError: There is none, it is not configured, or it cannot be loaded.
        """
        own = self._configured.get(asked.source)
        kind = asked.source if own is None else own.kind
        if kind is not None and kind not in ("url", "oci") and kind not in _clients.KINDS:
            raise failed(
                f"{asked}: there is no source {asked.source!r}",
                f"there are {', '.join(self.names())}; [resolvers.{asked.source}] in loop.toml adds one",
            )
        where = asked.name if kind == "oci" else ""
        known = self._loaded.get((asked.source, where))
        if known is None:
            made = self._repository(asked, own) if kind == "oci" else self._load(asked, kind, own)
            known = self._loaded[(asked.source, where)] = await made
        return known, asked.name

    async def _load(self, asked: Asked, kind: str | None, own: Configured | None) -> Resolver:
        if own is not None and own.provider is not None:
            return await self._provider(asked.source, own, own.provider)
        config: dict[str, Any] = dict(own.config) if own is not None else {}
        allow = list(own.allow) if own is not None else []
        ca: tuple[str, ...] = ()
        if kind is None:
            assert own is not None
            assert own.path is not None
            component: Any = own.path
            downloads = [*allow, *own.downloads]
        else:
            component = shipped("pkg/sources")
            if own is not None and own.base is not None:
                place = _clients.Place(own.base)
            else:
                place = await asyncio.to_thread(_clients.place, kind, self._folder, asked.name)
            ca = place.ca
            config |= dict(place.config) | {"kind": kind, "base": place.base}
            if place.authorization is not None:
                config["authorization"] = place.authorization
            asks = [place.base, *(str(config[key]) for key in ("versions", "checksum") if key in config)]
            for url in asks:
                allow += await asyncio.to_thread(_clients.origin_rule, url)
            # files, lists of checksums and tokens lie on servers that a source names, all of them public
            allow = list(dict.fromkeys(allow))
            downloads = [*allow, "https://*"]
            if kind == "github":
                allow = downloads
        grant: dict[str, Any] = {"allow": allow, "max_body": _MAX_ANSWER, "max_decoded": _MAX_ANSWER}
        grant |= proxied()
        calls = await self._calls(asked.source, component, config, grant, {"ca": list(ca)} if ca else None)
        return Resolver(asked.source, tuple(dict.fromkeys(downloads)), ca, calls)

    async def _calls(
        self,
        source: str,
        component: Any,
        config: dict[str, Any],
        grant: dict[str, Any],
        net: dict[str, Any] | None = None,
    ) -> Any:
        """The functions of a component."""
        imports = {
            "loop:netx": builtin("netx", config=net, **grant),
            "loop:provider/settings": Settings(config),
        }
        try:
            app = await (await self._on()).load(component, imports=imports, limits=_LIMITS)
            return app.exports["loop:pkg/resolver"]
        except (LoadError, KeyError, OSError) as error:
            raise failed(
                f"[resolvers.{source}]: {os.fspath(component)} is no resolver: {error}",
                "a resolver exports loop:pkg/resolver and imports loop:netx/http-client: `loop new resolver`",
            ) from None

    async def _repository(self, asked: Asked, own: Configured | None) -> Resolver:
        """A repository of a registry, which the host itself asks."""
        from loop_kit.oci.registry import Registry
        from loop_kit.pkg._oci import OciResolver, repository_of

        reference = repository_of(asked, own)
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="loop-pkg-"))
        registry = await self._stack.enter_async_context(Registry(reference.registry))
        tags = await registry.tags(reference.repository)
        config = dict(own.config if own is not None else {}) | {"kind": "oci", "base": "", "tags": tags}
        calls = await self._calls(asked.source, shipped("pkg/sources"), config, {"allow": []})
        return OciResolver(asked.source, calls, registry, reference, self._manifest, Blobs(Path(folder)))

    async def _on(self) -> Host:
        if self._host is None:
            self._host = await self._stack.enter_async_context(Host())
        return self._host

    async def _provider(self, source: str, own: Configured, provider: str) -> Resolver:
        """A provider of the workspace, in its placement: linked to a component that passes questions on."""
        from loop_kit.workspace import Workspace

        grant = {"allow": list(own.allow)} if own.allow else {}
        limits = manifests.Limits(deadline=180.0, payload=_MAX_ANSWER)
        link = Link("loop:pkg", provider, grant, ("resolvers", source))
        relay = shipped("pkg/relay").path
        component = Component(f"resolvers.{source}", relay, imports={link.name: link}, limits=limits)
        alone = replace(self._manifest, components={component.name: component})
        workspace = await self._stack.enter_async_context(Workspace(await self._on(), alone))
        try:
            app = await workspace.load(component.name)
        except (LoadError, LinkError) as error:
            raise failed(
                f"[resolvers.{source}]: the provider {provider} is no resolver: {error}",
                "a resolver serves loop:pkg/resolver@0.1.0-dev: docs/pkg.md has one in Python",
            ) from None
        downloads = tuple(dict.fromkeys([*own.allow, *own.downloads]))
        return Resolver(source, downloads, (), app.exports["loop:pkg/resolver"])


def proxied() -> dict[str, str]:
    """The proxy of the environment, where it has one, for a grant."""
    names = ("http_proxy", "https_proxy", "all_proxy")
    found = any(os.environ.get(name) or os.environ.get(name.upper()) for name in names)
    return {"proxy": "environment"} if found else {}


def limited(items: Sequence[Any], what: str) -> Sequence[Any]:
    """A list of a resolver's, which is not without end.

    Raises:
        PackageError: It is longer than anything that makes sense.
    """
    if len(items) > _MOST:
        raise failed(f"a resolver lists {len(items)} {what}", "the resolver is at fault")
    return items


def word(member: Any) -> str:
    """A member of an enum as WIT writes it."""
    return str(getattr(member, "name", member)).lower().replace("_", "-")


async def artifact(resolver: Resolver, name: str, version: str, platform: Platform) -> Any | None:
    """The file of a version for a platform; None: there is none."""
    try:
        return await resolver.call("artifact", name, version, platform.record())
    except NoPlatform:
        return None
