"""Why something is not trusted, in a word."""

from __future__ import annotations

from typing import Literal

from loop_kit.errors import Untrusted

__all__ = ["Reason", "untrusted"]

Reason = Literal[
    "rollback", "expired", "future", "wrong-version", "wrong-name", "wrong-subject", "payload-type", "threshold",
    "revoked", "not-allowed", "bad-signature", "unknown-key", "malformed", "no-signature", "no-rule", "local",
]  # fmt: skip
"""From that which says most: the further a signature came, the more."""


def untrusted(reason: Reason, text: str, hint: str | None = None) -> Untrusted:
    """The error to raise."""
    error = Untrusted(text)
    error.reason = reason
    error.hint = hint
    return error
