"""Whether nothing at all has changed since all of some tasks were as they should be: no more than a look at each file.

It imports next to nothing, and so does `_where`: most runs of `loop task` end here.
"""

from __future__ import annotations

import array
import json
import os
import zlib
from collections.abc import Iterable, Mapping

TYPE_CHECKING = False  # `typing` itself would be most of what this imports
if TYPE_CHECKING:
    from typing import Any

__all__ = ["look", "write"]

_FORMAT = 2
_KEPT = 16
"""Selections of tasks that are remembered."""
_MASK = (1 << 63) - 1


def _file(root: str, asked: list[str]) -> str:
    return os.path.join(root, ".loop", "task", f"fresh-{zlib.crc32(json.dumps(asked).encode()):08x}")


def look(root: str, asked: Iterable[str], version: str) -> dict[str, Any] | None:
    """What `write` was told, where all is as it was then; else None.

    Args:
        root: The workspace's folder.
        asked: What tasks are asked for.
        version: Of loop-kit.
    """
    asked = list(asked)
    try:
        with open(_file(root, asked), "rb") as file:
            said, seen = json.loads(file.readline()), file.read()
        if [said["format"], said["version"], said["asked"]] != [_FORMAT, version, asked]:
            return None
        if said["env"] != _values(said["env"]) or said["tools"] != _programs(root, said["tools"]):
            return None
        if seen != _seen(root, said["paths"]):
            return None
        told: dict[str, Any] = said["told"]
        return told
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _seen(root: str, paths: dict[str, list[str]]) -> bytes:
    """The signatures of files, which are given by their folders."""
    found = array.array("q")
    lstat, extend = os.lstat, found.extend
    for folder, names in paths.items():
        start = os.path.join(root, folder, "")
        for name in names:
            try:
                s = lstat(start + name)
            except OSError:
                found.append(-1)
                continue
            extend((s.st_size, s.st_ino & _MASK, s.st_mtime_ns, s.st_ctime_ns, s.st_mode))
    return found.tobytes()


def _programs(root: str, names: Iterable[str]) -> dict[str, str | None]:
    """The files of programs, from the workspace's folder."""
    from loop_kit.task._where import real_program

    found = {name: real_program(name) for name in names}
    return {name: None if path is None else os.path.relpath(path, root) for name, path in found.items()}


def _values(names: Iterable[str]) -> dict[str, str | None]:
    """Digests of the values of variables, which may be secrets."""
    found: dict[str, str | None] = {}
    for name in names:
        value = os.environ.get(name)
        if value is not None:
            import hashlib

            value = hashlib.sha256(os.fsencode(value)).hexdigest()
        found[name] = value
    return found


def write(
    root: str,
    asked: Iterable[str],
    version: str,
    *,
    paths: Iterable[str],
    env: Iterable[str],
    tools: Mapping[str, str],
    told: dict[str, Any],
) -> None:
    """Remembers that tasks are as they should be.

    Args:
        root: The workspace's folder.
        asked: What tasks were asked for.
        version: Of loop-kit.
        paths: All that matters, from the workspace's folder; their signatures must tell of any change.
        env: All variables that matter.
        tools: Programs of PATH that matter, and their files, which are among the paths.
        told: What `look` is to return.
    """
    grouped: dict[str, list[str]] = {}
    for path in sorted(set(paths)):
        folder, _, name = path.rpartition("/")
        grouped.setdefault(folder, []).append(name)
    asked = list(asked)
    said = {
        "format": _FORMAT,
        "version": version,
        "asked": asked,
        "env": _values(sorted(set(env))),
        "tools": dict(tools),
        "paths": grouped,
        "told": told,
    }
    place = _file(root, asked)
    fresh = f"{place}.{os.getpid()}"
    with open(fresh, "wb") as file:
        file.write(json.dumps(said).encode() + b"\n" + _seen(root, grouped))
    os.replace(fresh, place)
    _prune(os.path.dirname(place))


def _prune(folder: str) -> None:
    with os.scandir(folder) as entries:
        found = [
            (entry.stat().st_mtime_ns, entry.path) for entry in entries if entry.name.startswith("fresh-")
        ]
    for _, path in sorted(found)[:-_KEPT]:
        os.unlink(path)
