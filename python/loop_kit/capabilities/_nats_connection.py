"""Connections to NATS, by nats-py."""

from __future__ import annotations

import ssl
from typing import Any

from nats import errors
from nats.aio.client import Client, RawCredentials

from loop_kit.manifest.model import Login, Tls

__all__ = ["Connection", "options"]


class Connection(Client):
    """A client that sends nothing in the clear where TLS is asked for, which nats-py leaves to the server.

    Args:
        tls_only: Whether it is.
    """

    def __init__(self, *, tls_only: bool) -> None:
        super().__init__()
        self._tls_only = tls_only

    async def _process_op_err(self, e: Exception) -> None:
        # a connection that was lost takes nothing more; to try would keep nats-py from closing the rest
        self._pending_data_size = 0
        await super()._process_op_err(e)

    def drop(self) -> None:
        """Lets go of a connection that did not come about; after TLS failed, `close` may wait for ever."""
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if self._tls_only and initial_connection and not info.get("tls_required"):
            raise errors.SecureConnRequiredError
        await super()._process_info(info, initial_connection)


def options(login: Login | None, tls: Tls | None) -> dict[str, Any]:
    """What `connect` is told of whom to be and how to be sure of the server; has `tls` where that is asked for.

    Raises:
        OSError: A file cannot be used.
    """
    return {**_who(login), **_secured(tls)}


def _who(login: Login | None) -> dict[str, Any]:
    """Options of a connection that say whom to be."""
    if login is None:
        return {}
    if login.credentials is None:
        return {"user": login.user, "password": login.password, "token": login.token}
    text = str(login.credentials).strip()
    return {"user_credentials": RawCredentials(text)} if "-----BEGIN" in text else {"nkeys_seed_str": text}


def _secured(tls: Tls | None) -> dict[str, Any]:
    """Options of a connection that secure it."""
    if tls is None:
        return {}
    context = ssl.create_default_context(cafile=tls.ca)
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return {"tls": context} | ({} if tls.server_name is None else {"tls_hostname": tls.server_name})
