"""What `loop --version` prints."""

from __future__ import annotations

import os
import sys

__all__ = ["version_line"]


def version_line() -> str:
    """Returns what `loop --version` prints."""
    return f"loop {_installed_beside() or _installed_elsewhere()} (Python {sys.version.split()[0]})"


def _installed_beside() -> str | None:
    """Reads it off `loop_kit-VERSION.dist-info`: importing importlib.metadata takes longer than all else."""
    site = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for name in os.listdir(site):
        if name.startswith("loop_kit-") and name.endswith(".dist-info"):
            return name.removeprefix("loop_kit-").removesuffix(".dist-info")
    return None


def _installed_elsewhere() -> str:
    """Asks importlib.metadata, which also knows packages that are linked to a source tree."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("loop-kit")
    except PackageNotFoundError:
        return "(not installed)"
