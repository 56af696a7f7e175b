"""Providers at an address: whoever runs them, it is not this host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit import _core, _remote
from loop_kit import manifest as manifests
from loop_kit.manifest import Provider

__all__ = ["again", "bind", "connect"]


async def connect(engine: _core.Engine, provider: Provider) -> _remote.Routes:
    """The session with a remote provider of the manifest, on the host's engine; it has `aclose()`.

    Raises:
        LoadError: It cannot be connected to, or is not what it should be.
        ManifestError: The token or login cannot be read.
    """
    routes = _remote.Routes()
    await routes.move(await _session(engine, provider))
    return routes


async def again(engine: _core.Engine, provider: Provider, routes: _remote.Routes) -> None:
    """Connects anew, has all links go over the new session, and lets calls end that have begun over the old.

    Raises:
        LoadError: It cannot be connected to; all goes on as before.
        ManifestError: The token or login cannot be read.
    """
    old = routes._session
    await routes.move(await _session(engine, provider))
    if old is not None:
        await old.aclose()


async def _session(engine: _core.Engine, provider: Provider) -> _remote.Session:
    token = manifests.reveal(provider.token)
    return await _remote.connect(
        engine,
        provider.target,
        name=provider.name,
        handshake=provider.handshake,
        token=token,
        tls=provider.tls,
        login=manifests.reveal(provider.login),
    )


async def bind(
    routes: _remote.Routes,
    name: str,
    *,
    grant: Mapping[str, Any],
    config: Mapping[str, Any],
    budget: float | None,
) -> Any:
    """What answers the imports of one link by a remote provider; the arguments are those of `sidecar.bind`."""
    return await routes.bind(name, grant=grant, config=config, budget=budget)
