"""What a host itself asks of providers, in whatever placement: a component that ships passes its calls on."""

from __future__ import annotations

import asyncio
from typing import Any

from loop_kit import _core
from loop_kit._shipped import shipped
from loop_kit._types import Err
from loop_kit.errors import LoadError, LoopError
from loop_kit.host import App, Host
from loop_kit.limits import Limits

__all__ = ["HEALTH", "ask", "exports", "unwell"]

HEALTH = "loop:core/health"
"""How a provider is, in any version."""
ANSWER = 10.0
"""Seconds that a provider has to answer."""


def exports(provider: Any, interface: str) -> bool:
    """Whether a provider, as it stands in `Host.load`'s `imports`, exports an interface, in any version.

    An object in Python does where its class was declared to.
    """
    if isinstance(provider, _core.Route):
        return provider.offers(interface)
    if isinstance(provider, App):
        names = {export.interface for export in provider.functions}
    else:
        names = {*getattr(getattr(type(provider), "__loop_provider__", None), "interfaces", ())}
    return any(name.partition("@")[0] == interface for name in names)


async def ask(host: Host, provider: Any, interface: str, function: str, *args: Any) -> Any:
    """Calls a function of `loop:core/lifecycle` or `loop:core/health`; `args` and result are as `docs/values.md` says.

    Raises:
        LoadError: It answered with an error, in its words, or did not answer.
    """
    relay = shipped(interface.removeprefix("loop:"))
    app = await host.load(relay, {interface: provider}, limits=Limits(deadline=ANSWER))
    try:
        return await app.call(function, *args)
    except Err as error:
        raise LoadError(str(error.value)) from None
    except LoopError as error:
        raise LoadError(str(error)) from error
    finally:
        await asyncio.to_thread(app._program.close)


async def unwell(host: Host, provider: Any) -> str | None:
    """Why a provider cannot do what it provides; None where it can, or does not export `loop:core/health`."""
    if not exports(provider, HEALTH):
        return None
    try:
        await ask(host, provider, HEALTH, "check")
    except LoopError as error:
        return str(error)
    return None
