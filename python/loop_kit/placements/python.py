"""Python providers, in this process: they have all the rights of the host, so the manifest must trust users' own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loop_kit.errors import LoadError

__all__ = ["python"]


def python(target: str, *, config: Mapping[str, Any], grant: Mapping[str, Any], folder: Path | None) -> Any:
    """An instance of the class that `module:Class` names, made with `config` and `grant` as keywords.

    `folder`, the workspace's, is searched for the module first; None leaves it out. A class without parameters is
    called without them, as long as there is nothing to pass.

    Raises:
        LoadError: There is no such module or class, or it cannot be made.
    """
    module, _, name = target.partition(":")
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as e:
        raise LoadError(f"python:{target}: {e}") from None
    given = {key: value for key, value in (("config", config), ("grant", grant)) if value}
    try:
        return cls(**given)
    except Exception as e:
        raise LoadError(f"python:{target}: {type(e).__name__}: {e}") from e
