"""The dev server's page: what runs, what it says, and what can be done with it, in a browser.

    url = await page.serve(host, workspace, "127.0.0.1:7080")

It is served by a component that ships with loop-kit, `devserver/page`, which is linked to `loop:netx` to listen on that
one address and to `loop:devserver`; it can reach nothing else. `docs/adr/018-page.md` says how it is kept to whoever
has its URL.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from typing import Any

from loop_kit._shipped import shipped
from loop_kit._types import Err
from loop_kit.dev.page._site import Site
from loop_kit.dev.page._token import token_of
from loop_kit.errors import CallError, HostClosed
from loop_kit.host import App, Host
from loop_kit.limits import Limits
from loop_kit.placements.builtin import builtin

__all__ = ["serve"]

_LOG = logging.getLogger("loop_kit.dev.page")
# What a browser asks for is short; what it is sent is events of one picture.
_MESSAGE = 16 << 20
_CONNECTIONS = 64
# Seconds before it is served again after a fault.
_PAUSE = 0.5
# Held until they end: a loop knows its tasks weakly.
_RUNNING: set[asyncio.Task[None]] = set()


async def serve(host: Host, workspace: Any, address: str, *, token: str | None = None) -> str:
    """Serves the page for as long as the host is open.

    Args:
        host: What runs the component that serves it.
        workspace: The provider of `loop:devserver`: whatever `Host.load` takes for an import.
        address: `127.0.0.1:7080`, or another address of this machine alone; port 0 takes any that is free.
        token: What a browser must know. None: that of the address, which lasts over restarts so that an open page
            comes back by itself, and which is kept in a file of the user's own; a new one where the port is 0.

    Returns:
        The URL to open. Whoever has it can do what the user can: it holds the token, behind a `#`, which browsers send
        to nobody.

    Raises:
        ValueError: The address is none of this machine's own, or has no port.
        OSError: Nothing can listen there.
        LinkError: The provider lacks functions of `loop:devserver`.
    """
    _check(address)
    token = token or token_of(address)
    site = Site()
    app, listening = await _open(host, workspace, site, address, token)
    running = _run(host, workspace, site, listening, token, app)
    task = asyncio.get_running_loop().create_task(running, name=f"page on {listening}")
    _RUNNING.add(task)
    task.add_done_callback(_RUNNING.discard)
    return f"http://{listening}/#{token}"


async def _open(host: Host, workspace: Any, site: Site, address: str, token: str) -> tuple[App, str]:
    """What serves, and where it listens."""
    app = await host.load(
        shipped("devserver/page"),
        imports={
            "loop:netx": builtin(
                "netx",
                listen={"page": {"address": address}},
                max_message=_MESSAGE,
                max_connections=_CONNECTIONS,
                max_body=1 << 20,
            ),
            "loop:core": builtin("core"),
            "loop:devserver": workspace,
            "loop:devserver-page/site": site,
        },
        # it runs for as long as it serves
        limits=Limits(deadline=None, cpu=None, memory="128MiB"),
    )
    try:
        return app, await app.call("open", {"listen": "page", "token": token})
    except Err as e:
        raise OSError(f"the page cannot be served on {address}: {e.value}") from None


def _check(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        is_own = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        is_own = False
    if not is_own or not port.isdecimal():
        raise ValueError(
            f"{address!r} is no address for the page, which this machine alone may open; say 127.0.0.1:7080"
        )


async def _run(host: Host, workspace: Any, site: Site, address: str, token: str, app: App) -> None:
    """Serves until the host closes; after a fault, such as one of the workspace's provider, it begins anew."""
    with contextlib.suppress(HostClosed):
        while True:
            try:
                _LOG.error("the page is no longer served: %s", await app.call("run"))
            except CallError as e:
                _LOG.error("the page is no longer served: %s", e)
            await asyncio.sleep(_PAUSE)
            with contextlib.suppress(OSError):
                app, _ = await _open(host, workspace, site, address, token)
