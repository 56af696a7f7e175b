"""Where the user's keys and policy are."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["configuration", "policy_file"]


def configuration() -> Path:
    """loop-kit's folder among the user's configuration: below `XDG_CONFIG_HOME`, by default in `~/.config`."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".config") / "loop-kit"


def policy_file() -> Path:
    """The file of the user's own policy, there or not: that of the environment's LOOP_TRUST, or `trust.toml`."""
    given = os.environ.get("LOOP_TRUST")
    return Path(given).absolute() if given else configuration() / "trust.toml"
