"""Logins of NATS servers in the environment, under the names that the `nats` command has for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from loop_kit.errors import PeerError
from loop_kit.manifest.model import Login

__all__ = ["WORDS", "as_environment", "of_environment", "references"]

WORDS = "NATS_USER and NATS_PASSWORD, NATS_TOKEN, or NATS_CREDS, a file of credentials or of an NKey's seed"

_NAMES = {
    "user": "NATS_USER",
    "password": "NATS_PASSWORD",
    "token": "NATS_TOKEN",
    "credentials": "NATS_CREDS",
}


def of_environment(address: str) -> Login | None:
    """Whom to be where `address` is one of NATS.

    Raises:
        PeerError: The file of credentials cannot be read.
    """
    if not address.startswith("nats:"):
        return None
    said = {name: value for name, variable in _NAMES.items() if (value := os.environ.get(variable))}
    creds = said.get("credentials", "")
    if creds and not _is_text(creds):
        try:
            said["credentials"] = Path(creds).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise PeerError(f"NATS_CREDS: cannot read the file {creds}: {why}") from None
    return Login(**said) if said else None


def references(address: str) -> dict[str, Any]:
    """The `login` by which a manifest says what `of_environment` does."""
    said = of_environment(address)
    if said is None:
        return {}
    if said.credentials and not _is_text(os.environ["NATS_CREDS"]):
        return {"credentials": {"file": str(Path(os.environ["NATS_CREDS"]).absolute())}}
    for name in ("credentials", "token", "password"):
        if getattr(said, name):
            return {**({"user": said.user} if name == "password" else {}), name: {"env": _NAMES[name]}}
    return {}


def as_environment(login: Login | None) -> dict[str, str]:
    """What has a provider log in in the same way; the secrets of `login` are read."""
    said = {variable: getattr(login, name, None) for name, variable in _NAMES.items()}
    return {variable: value for variable, value in said.items() if value}


def _is_text(creds: str) -> bool:
    """Whether it is what a file would hold, as a host passes it on to its sidecars."""
    return "-----BEGIN" in creds or creds.startswith("SU")
