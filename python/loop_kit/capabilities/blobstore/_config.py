"""The config: which storage, where it is, and whom to be there."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from loop_kit.capabilities import _nats, _settings
from loop_kit.capabilities.blobstore._backend import Backend
from loop_kit.capabilities.blobstore._files import Files
from loop_kit.capabilities.blobstore._memory import Memory

__all__ = ["backend_of"]


def backend_of(config: Mapping[str, Any] | None) -> Backend:
    """The storage that a config names.

    Raises:
        ValueError: A key is not known, its value does not do, or an extra of loop-kit is not installed.
    """
    given = _settings.table("config", config)
    which = _settings.word("config.backend", given.get("backend"), tuple(_BACKENDS), "memory")
    known, make = _BACKENDS[which]
    return make(_settings.table("config", given, ("backend", *known)))


def _memory(given: Mapping[str, Any]) -> Backend:
    return Memory()


def _files(given: Mapping[str, Any]) -> Backend:
    durability = _settings.word("config.durability", given.get("durability"), ("full", "normal"), "full")
    path = given.get("path")
    if path is None:
        raise ValueError('config.path: missing; name the folder that `backend = "files"` keeps objects in')
    if not (isinstance(path, (str, os.PathLike)) and os.path.isabs(path)):
        raise ValueError(f"config.path: `{path}` is relative; write the absolute path")
    try:
        return Files(path, durable=durability == "full")
    except OSError as e:
        hint = "name a folder that may be written, or one to be made in a folder that exists"
        raise ValueError(
            f"config.path: `{os.fspath(path)}` cannot be opened ({e.strerror}); {hint}"
        ) from None


def _s3(given: Mapping[str, Any]) -> Backend:
    try:
        from loop_kit.capabilities.blobstore._s3 import S3, Access
    except ImportError as e:
        hint = 'install it by `pip install "loop-kit[s3]"`'
        raise ValueError(f"config.backend: S3 takes the package {e.name}; {hint}") from None
    region = _text(given, "region", "us-east-1")
    endpoint = _text(given, "endpoint", f"https://s3.{region}.amazonaws.com").rstrip("/")
    scheme = _address("endpoint", endpoint, ("https", "http"))
    if scheme == "http" and not _is_here(endpoint):
        raise ValueError(
            "config.endpoint: http:// is for this machine only, as all could be read; use https://"
        )
    keys = [_text(given, name, None) for name in ("access-key-id", "secret-access-key", "session-token")]
    key_id, secret, token = keys
    ways = [any(keys), _flag(given, "ambient"), _flag(given, "anonymous")]
    if ways.count(True) != 1 or (any(keys) and not (key_id and secret)):
        raise ValueError(
            "config: say whom to be: `access-key-id` and `secret-access-key`, each of them best as "
            '{ env = "NAME" } or { file = "path" }; or `ambient = true`, what the environment and the machine say; '
            "or `anonymous = true`"
        )
    bucket = _text(given, "bucket", "")
    if not bucket:
        raise ValueError('config.bucket: missing; name the bucket that `backend = "s3"` keeps objects in')
    prefix = _text(given, "prefix", "").strip("/")
    if re.search(r"(^|/)(\.{0,2})(/|$)|[\x00-\x1f\x7f]", prefix) and prefix:
        raise ValueError(f"config.prefix: {prefix!r} does not do; use names between single slashes")
    return S3(
        bucket,
        endpoint=endpoint,
        region=region,
        prefix=prefix,
        access=Access(key_id, secret, token, ambient=ways[1]),
        timeout=_settings.positive("config.timeout", given.get("timeout"), 30),
    )


def _in_nats(given: Mapping[str, Any]) -> Backend:
    server = _nats.server(given)
    prefix = given.get("prefix", "loop-")
    if not (isinstance(prefix, str) and re.fullmatch("[A-Za-z0-9-]*", prefix)):
        raise ValueError(f"config.prefix: must be letters, digits and `-`, got {prefix!r}")
    try:
        from loop_kit.capabilities.blobstore._nats import Nats
    except ImportError as error:
        raise _nats.not_installed(error) from None
    try:
        return Nats(server, prefix)
    except OSError as error:  # of TLS too
        raise ValueError(f"config.tls: its files cannot be used: {error}") from None


def _text(given: Mapping[str, Any], key: str, default: Any) -> Any:
    value = given.get(key)
    if value is None:
        return default
    if not isinstance(value, str) or not value:
        # it may be a secret, so it is not shown
        raise ValueError(
            f"config.{key}: must be a string that is not empty, got one of {type(value).__name__}"
        )
    return value


def _flag(given: Mapping[str, Any], key: str) -> bool:
    value = given.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"config.{key}: must be true or false, got {value!r}")
    return value


def _address(key: str, url: str, schemes: tuple[str, ...]) -> str:
    """The scheme of an address, which holds no login: addresses are shown."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in schemes and parts.hostname and (parts.port or True)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"config.{key}: expected an address such as {schemes[0]}://HOST:PORT")
    if "@" in parts.netloc:
        raise ValueError(f"config.{key}: a login does not stand in an address, which is shown to everybody")
    return parts.scheme


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_BACKENDS: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Backend]]] = {
    "memory": ((), _memory),
    "files": (("path", "durability"), _files),
    "s3": (
        (
            "bucket",
            "endpoint",
            "region",
            "prefix",
            "access-key-id",
            "secret-access-key",
            "session-token",
            "ambient",
            "anonymous",
            "timeout",
        ),
        _s3,
    ),
    "nats": (_nats.KEYS, _in_nats),
}
