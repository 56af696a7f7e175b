"""Python providers, in this process: they have all the rights of the host, so the manifest must trust users' own."""

from __future__ import annotations

import importlib
import operator
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loop_kit.errors import LoadError

__all__ = ["class_of", "python"]


def python(target: str, *, config: Mapping[str, Any], grant: Mapping[str, Any], folder: Path | None) -> Any:
    """An instance of the class that `module:Class` names, made with `config` and `grant` as keywords.

    `folder`, the workspace's, is searched for the module first; None leaves it out. A class without parameters is
    called without them, as long as there is nothing to pass.

    Raises:
        LoadError: There is no such module or class, or it cannot be made.
    """
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    cls = class_of(target)
    given = {key: value for key, value in (("config", config), ("grant", grant)) if value}
    try:
        return cls(**given)
    except Exception as e:
        raise LoadError(f"python:{target}: {type(e).__name__}: {e}") from e


def class_of(target: str) -> Any:
    """What `module:Class` names; a class within another has dots in its name.

    Raises:
        LoadError: There is no such module or class.
    """
    module, _, name = target.partition(":")
    try:
        return operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError) as e:
        raise LoadError(f"python:{target}: {e}") from None
