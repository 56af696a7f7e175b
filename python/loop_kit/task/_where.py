"""Which workspace somebody means, and which programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

__all__ = ["FILE", "locate", "path_of", "real_program"]

FILE = "loop.toml"


def locate(start: str | os.PathLike[str] | None) -> tuple[str, str]:
    """The folder of the workspace that a manifest or folder belongs to, and the member's folder from there.

    Args:
        start: A `loop.toml`, or its folder; None: the nearest at or above the current folder.

    Raises:
        ManifestError: There is none.
    """
    if start is None:
        at = os.getcwd()
        while not os.path.isfile(os.path.join(at, FILE)):
            parent = os.path.dirname(at)
            if parent == at:
                from loop_kit.manifest import find

                find()  # says that there is none
            at = parent
    else:
        path = os.path.realpath(start)
        at = path if os.path.isdir(path) else os.path.dirname(path)
        if path not in (at, os.path.join(at, FILE)) or not os.path.isfile(os.path.join(at, FILE)):
            from loop_kit.errors import LoopError
            from loop_kit.manifest import load

            load(start)
            raise LoopError(f"{start}: tasks are those of a {FILE}, by this name")
    above = os.path.dirname(at)
    while above != os.path.dirname(above):
        if os.path.isfile(os.path.join(above, FILE)):
            member = os.path.relpath(at, above)
            if _is_member(member, _patterns(above)):
                return above, member
        above = os.path.dirname(above)
    return at, ""


def _patterns(folder: str) -> tuple[str, ...]:
    import tomllib

    try:
        with open(os.path.join(folder, FILE), "rb") as file:
            found = tomllib.load(file).get("workspace", {}).get("members", ())
    except (OSError, ValueError, AttributeError):
        return ()  # it is no matter of those who work below
    return tuple(text for text in found if isinstance(text, str))


def _is_member(folder: str, patterns: Iterable[str]) -> bool:
    import fnmatch

    parts = folder.split(os.sep)
    for pattern in patterns:
        wanted = [part for part in pattern.split("/") if part not in ("", ".")]
        if len(wanted) == len(parts) and all(map(fnmatch.fnmatchcase, parts, wanted)):
            return True
    return False


def path_of() -> str:
    """The PATH of tasks: `python` and installed tools are those of this interpreter."""
    return os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)))


def real_program(name: str) -> str | None:
    """The file of a program, past all links; None, where PATH has none."""
    import shutil

    found = shutil.which(name, path=path_of())
    return None if found is None else os.path.realpath(found)
