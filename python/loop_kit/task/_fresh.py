"""Whether nothing at all has changed since all of some tasks were as they should be: no more than a look at each file.

It imports next to nothing: most runs of `loop task` end here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

__all__ = ["look", "seen", "write"]

_FORMAT = 1
_KEPT = 16
"""Selections of tasks that are remembered."""


def _file(root: str, wanted: Iterable[str]) -> str:
    name = hashlib.sha256(json.dumps(sorted(wanted)).encode()).hexdigest()[:16]
    return os.path.join(root, ".loop", "task", f"fresh-{name}.json")


def look(root: str, wanted: Iterable[str], version: str) -> dict[str, Any] | None:
    """What `write` was told, where all is as it was then; else None.

    Args:
        root: The workspace's folder.
        wanted: What tasks are asked for.
        version: Of loop-kit.
    """
    try:
        with open(_file(root, wanted), "rb") as file:
            said = json.loads(file.read())
        if said["format"] != _FORMAT or said["version"] != version or said["env"] != seen_env(said["env"]):
            return None
        found = said["seen"] == seen(root, said["paths"])
        return said["told"] if found else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def seen(root: str, paths: dict[str, list[str]]) -> str:
    """One text of the signatures of files, by their folders."""
    whole = hashlib.sha256()
    lstat = os.lstat
    for folder, names in paths.items():
        start = os.path.join(root, folder, "")
        found = []
        for name in names:
            try:
                s = lstat(start + name)
            except OSError:
                found.append(0)
                continue
            found += (s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns, s.st_mode)
        whole.update(repr(found).encode())
    return whole.hexdigest()


def seen_env(names: Iterable[str]) -> dict[str, str | None]:
    """Digests of the values of variables."""
    found: dict[str, str | None] = {}
    for name in names:
        value = os.environ.get(name)
        found[name] = None if value is None else hashlib.sha256(os.fsencode(value)).hexdigest()
    return found


def write(
    root: str,
    wanted: Iterable[str],
    version: str,
    *,
    paths: Iterable[str],
    env: Iterable[str],
    told: dict[str, Any],
) -> None:
    """Remembers that tasks are as they should be.

    Args:
        root: The workspace's folder.
        wanted: What tasks were asked for.
        version: Of loop-kit.
        paths: All that matters, from the workspace's folder; their signatures must tell of any change.
        env: All variables that matter.
        told: What `look` is to return.
    """
    grouped: dict[str, list[str]] = defaultdict(list)
    for path in sorted(set(paths)):
        folder, _, name = path.rpartition("/")
        grouped[folder].append(name)
    said = {
        "format": _FORMAT,
        "version": version,
        "env": seen_env(sorted(set(env))),
        "paths": grouped,
        "seen": seen(root, grouped),
        "told": told,
    }
    place = _file(root, wanted)
    fresh = f"{place}.{os.getpid()}"
    with open(fresh, "w", encoding="utf-8") as file:
        json.dump(said, file)
    os.replace(fresh, place)
    _prune(os.path.dirname(place))


def _prune(folder: str) -> None:
    with os.scandir(folder) as entries:
        found = [(entry.stat().st_mtime_ns, entry.path) for entry in entries if entry.name.startswith("fresh-")]
    for _, path in sorted(found)[:-_KEPT]:
        os.unlink(path)
