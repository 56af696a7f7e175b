"""Providers at an address: whoever runs them, it is not this host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit import _core, _remote
from loop_kit import manifest as manifests
from loop_kit.manifest import Provider

__all__ = ["bind", "connect"]


async def connect(engine: _core.Engine, provider: Provider) -> _remote.Routes:
    """The session with a remote provider of the manifest, on the host's engine; it has `aclose()`.

    Raises:
        LoadError: It cannot be connected to, or is not what it should be.
        ManifestError: The token or login cannot be read.
    """
    token = manifests.reveal(provider.token)
    session = await _remote.connect(
        engine,
        provider.target,
        name=provider.name,
        handshake=provider.handshake,
        token=token,
        tls=provider.tls,
        login=manifests.reveal(provider.login),
    )
    routes = _remote.Routes()
    await routes.move(session)
    return routes


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
