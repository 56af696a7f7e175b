"""Failures of the wire as exceptions, and exceptions as failures. `docs/wire.md` lists the codes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from loop_kit import errors

__all__ = ["error_of", "failure_of"]

Failure = tuple[str, bool, str, list[tuple[str, str]]]


def error_of(code: str, retryable: bool, message: str, fields: Sequence[tuple[str, str]]) -> errors.LoopError:
    """The exception of a failure that a peer, or the session itself, told."""
    told = dict(fields)
    make = _MADE.get(code, _provider)
    error = make(message, told)
    if isinstance(error, errors.ProviderGone):
        error.retryable = retryable
    return error


def failure_of(error: BaseException, interface: str, function: str) -> Failure:
    """What a peer is told of an exception: code, whether it may try again, message, fields."""
    where = [("interface", interface), ("function", function)] if function else []
    if isinstance(error, errors.ProviderError) and error.__cause__ is not None:
        cause = error.__cause__
        kind = type(cause).__name__
        return "provider", False, f"{kind}: {cause}", [("type", kind), *where]
    if isinstance(error, asyncio.CancelledError):
        return "cancelled", False, "the call was cancelled", where
    for cls, code, names in _TOLD:
        if isinstance(error, cls):
            told = [(name, str(getattr(error, name.replace("-", "_"), ""))) for name in names]
            return code, bool(getattr(error, "retryable", False)), str(error), [*told, *where]
    name = type(error).__name__
    return "provider", False, f"{name}: {error}", [("type", name), *where]


def _provider(message: str, told: Mapping[str, str]) -> errors.LoopError:
    interface, function = told.get("interface", ""), told.get("function", "")
    path = f"{interface}#{function}" if interface and function else function or interface
    return errors.ProviderError(f"{path}: {message}" if path else message, interface, function)


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _bad_value(message: str, told: Mapping[str, str]) -> errors.LoopError:
    return errors.ProviderTypeError(
        message,
        told.get("interface", ""),
        told.get("function", ""),
        told.get("path", ""),
        told.get("expected", ""),
        told.get("got", ""),
    )


_MADE: dict[str, Callable[[str, Mapping[str, str]], errors.LoopError]] = {
    "not-granted": lambda m, t: errors.NotGranted(m, t.get("link", "")),
    "no-such-interface": lambda m, t: errors.NotOffered(m, t.get("interface", ""), t.get("offered", "")),
    "no-such-function": lambda m, t: errors.NotOffered(m, t.get("function", ""), ""),
    "version-mismatch": lambda m, t: errors.VersionMismatch(
        m, t.get("interface", ""), t.get("ours", ""), t.get("theirs", "")
    ),
    "bad-value": _bad_value,
    "bad-handle": lambda m, _: errors.BadHandle(m),
    "deadline-exceeded": lambda m, t: errors.DeadlineExceeded(m, _number(t.get("seconds"))),
    "cancelled": lambda m, _: errors.Cancelled(m),
    "provider-gone": lambda m, _: errors.ProviderGone(m),
    "overloaded": lambda m, t: errors.Overloaded(m, int(_number(t.get("limit")))),
    "protocol": lambda m, _: errors.ProtocolError(m),
    "guest-trap": lambda m, t: errors.GuestTrap(t.get("export", ""), m, t.get("code") or None, None),
    "unauthenticated": lambda m, _: errors.Unauthenticated(m),
}

_TOLD: tuple[tuple[type[BaseException], str, tuple[str, ...]], ...] = (
    (errors.NotGranted, "not-granted", ("link",)),
    (errors.VersionMismatch, "version-mismatch", ("interface", "ours", "theirs")),
    (errors.ProviderTypeError, "bad-value", ("path", "expected", "got")),
    (errors.BadHandle, "bad-handle", ()),
    (errors.DeadlineExceeded, "deadline-exceeded", ("seconds",)),
    (errors.Cancelled, "cancelled", ()),
    (errors.ProviderGone, "provider-gone", ()),
    (errors.Overloaded, "overloaded", ("limit",)),
    (errors.ProtocolError, "protocol", ()),
    (errors.GuestTrap, "guest-trap", ("export", "code")),
    (errors.Unauthenticated, "unauthenticated", ()),
)
