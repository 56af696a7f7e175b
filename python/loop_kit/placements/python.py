"""Python providers, in this process: they have all the rights of the host, so the manifest must trust users' own."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loop_kit._modules import find, find_anew
from loop_kit.errors import LoadError

__all__ = ["class_of", "python"]


def python(
    target: str,
    *,
    config: Mapping[str, Any],
    grant: Mapping[str, Any],
    folder: Path | None,
    anew: bool = False,
    paths: Sequence[Path] = (),
) -> Any:
    """An instance of the class that `module:Class` names, made with `config` and `grant` as keywords.

    `folder`, the workspace's, is searched for the module first; None leaves it out. A class without parameters is
    called without them, as long as there is nothing to pass. `anew`: modules of the folder are read again; objects
    that were made before keep the old ones. `paths` are searched before all else: those of a package.

    Raises:
        LoadError: There is no such module or class, or it cannot be made.
    """
    for place in reversed(paths or (() if folder is None else (folder,))):
        if str(place) not in sys.path:
            sys.path.insert(0, str(place))
    cls = class_of(target, folder if anew else None)
    given = {key: value for key, value in (("config", config), ("grant", grant)) if value}
    try:
        return cls(**given)
    except (Exception, SystemExit) as e:  # which would end the host
        raise LoadError(f"python:{target}: {type(e).__name__}: {e}") from e


def class_of(target: str, anew: Path | None = None) -> Any:
    """What `module:Class` names; `anew`: modules of this folder are read again.

    Raises:
        LoadError: There is no such module or class, or its code fails.
    """
    module, _, name = target.partition(":")
    try:
        return find(module, name) if anew is None else find_anew(module, name, anew)
    except LoadError as e:
        raise LoadError(f"python:{target}: {e}") from None
    except (Exception, SystemExit) as e:
        where = f" ({e.filename}:{e.lineno})" if isinstance(e, SyntaxError) and e.lineno else ""
        raise LoadError(f"python:{target}: {type(e).__name__}: {e}{where}") from e
