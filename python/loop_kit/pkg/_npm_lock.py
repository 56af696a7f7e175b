"""What npm has pinned: `package-lock.json`, read as entries of `loop.lock`."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loop_kit.errors import PackageError
from loop_kit.manifest import Manifest
from loop_kit.oci.blobs import is_digest
from loop_kit.pkg import _lock
from loop_kit.pkg._edit import with_package
from loop_kit.pkg._lock import bin_checked, name_checked, place_checked
from loop_kit.pkg._model import PLATFORMS, Asked, File, Locked, Node, Platform, failed

__all__ = ["added", "read"]

_LONGEST = 64 << 20
"""Bytes of a lock."""
_MOST = 2000
"""Packages of one tool."""
_HERE = "node_modules/"
_ANEW = "`npm install --package-lock-only`, with npm 7 or later, writes one"
_ALGORITHMS = ("sha512", "sha256")

Table = Mapping[str, Any]


def added(manifest: Manifest, locked: Mapping[str, Locked]) -> Manifest:
    """Writes packages into the lock, and returns the manifest that asks for them, which is not written yet."""
    for one in locked.values():
        manifest = with_package(manifest, one.asked)
    with _lock.changing(manifest.path.with_suffix(".lock")) as packages:
        packages |= locked
    return manifest


def read(file: Path, names: Sequence[str] = ()) -> tuple[dict[str, Locked], list[str]]:
    """The tools that a lock of npm's has, as they are pinned there, by alias; nothing is asked of any registry.

    Args:
        file: A `package-lock.json` or `npm-shrinkwrap.json`.
        names: Of what its project depends on, only these; none: whatever has a program.

    Returns:
        The tools, and the names of those that were left out because they have no program.

    Raises:
        PackageError: It is no such file, or pins something that cannot be held to a checksum.
    """
    tree = _Tree(file)
    wanted = tree.wanted()
    if unknown := [name for name in names if name not in wanted]:
        raise failed(
            f"{file}: its project does not depend on {', '.join(unknown)}",
            f"it does on {', '.join(wanted) or 'nothing'}",
        )
    found: dict[str, Locked] = {}
    left: list[str] = []
    for name in names or wanted:
        at = f"{_HERE}{name}"
        has = isinstance(tree.packages.get(at, {}).get("bin"), dict)
        if not names and (not has or tree.packages[at].get("link") is True):
            left.append(name)
            continue
        locked = tree.locked(name, at, wanted[name])
        other = found.setdefault(locked.asked.alias, locked)
        if other is not locked:
            raise failed(
                f"{file}: {other.asked.name} and {locked.asked.name} would both be {locked.asked.alias}",
                "import one of them by its name",
            )
    return found, left


class _Tree:
    """A lock: its packages by the folders that they are in."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            if file.stat().st_size > _LONGEST:
                raise failed(f"{file} has more than {_LONGEST} bytes")
            document = json.loads(file.read_text("utf-8"))
        except OSError as error:
            raise failed(f"cannot read {file}: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise failed(f"{file} is no package-lock.json", _ANEW) from None
        packages = document.get("packages") if isinstance(document, dict) else None
        if not isinstance(packages, dict) or not isinstance(packages.get(""), dict):
            old = isinstance(document, dict) and document.get("lockfileVersion") == 1
            what = "is of lockfileVersion 1, which has no `packages`" if old else "is no package-lock.json"
            raise failed(f"{file} {what}", _ANEW)
        self.packages: dict[str, Table] = {at: _table(entry) for at, entry in packages.items()}
        here = Platform.here()
        self._platforms = [*PLATFORMS] + [here] * (here.key not in {one.key for one in PLATFORMS})

    def wanted(self) -> dict[str, str]:
        """What the project depends on: the names, with their ranges."""
        wanted: dict[str, str] = {}
        for key in ("dependencies", "devDependencies", "optionalDependencies"):
            wanted |= {name: str(range_) for name, range_ in _table(self.packages[""].get(key)).items()}
        return wanted

    def locked(self, name: str, at: str, range_: str) -> Locked:
        """One of these, with all that it needs."""
        try:
            needs = self._reached(at)
            required = self._required(at, needs)
            nodes = [self._node(each, needs, each not in required, each == at) for each in sorted(needs)]
            kept = {node.at: node for node in nodes if node is not None}
            if at not in kept:
                raise failed(f"{name} comes with another package, or is for no platform that loop-kit knows")
            root = kept.pop(at)
            if range_.startswith(
                "npm:"
            ):  # of a package by another name, which may be that of a scope: npm:@a/b@^1
                range_ = range_[len("npm:@") :].partition("@")[2]
            asked = Asked.parse(f"npm:{root.name}@{range_}", name.rpartition("/")[2])
            known = {at, *kept}
            return Locked(asked, "nested", "", tuple(_within(node, known) for node in (root, *kept.values())))
        except PackageError as error:
            raise failed(f"{self.file}: {error}", error.hint or _ANEW) from None

    def _reached(self, at: str) -> dict[str, dict[str, bool]]:
        """All that is needed, by folder: the folders that it needs in turn, and whether it can do without."""
        found: dict[str, dict[str, bool]] = {}
        waiting = [at]
        while waiting:
            folder = waiting.pop()
            if folder in found:
                continue
            if len(found) >= _MOST:
                raise failed(f"{at.removeprefix(_HERE)} needs more than {_MOST} packages")
            found[folder] = {}
            for name, optional, peer in self._needs(folder):
                spot = self._spot(folder, name)
                if spot is not None:
                    found[folder][spot] = optional
                    waiting.append(spot)
                elif not optional and not peer:
                    raise failed(f"{folder} needs {name}, which it does not have")
        return found

    def _needs(self, folder: str) -> Iterator[tuple[str, bool, bool]]:
        """What a package needs: the name, whether it can do without, and whether whoever has it brings that along."""
        entry = self.packages.get(folder)
        if entry is None:
            raise failed(f"it does not have {folder}")
        loose = _table(entry.get("optionalDependencies"))
        yield from ((name, True, False) for name in loose)
        yield from ((name, False, False) for name in _table(entry.get("dependencies")) if name not in loose)
        said = _table(entry.get("peerDependenciesMeta"))
        for name in _table(entry.get("peerDependencies")):
            yield name, _table(said.get(name)).get("optional") is True, True

    def _spot(self, folder: str, name: str) -> str | None:
        """Where Node finds a package from a folder."""
        while folder:
            at = f"{folder}/{_HERE}{name}"
            if at in self.packages:
                return at
            folder = folder.rpartition(_HERE)[0].rstrip("/")
        return f"{_HERE}{name}" if f"{_HERE}{name}" in self.packages else None

    @staticmethod
    def _required(at: str, needs: Mapping[str, Mapping[str, bool]]) -> set[str]:
        found, waiting = {at}, [at]
        while waiting:
            more = {spot for spot, optional in needs[waiting.pop()].items() if not optional} - found
            found |= more
            waiting += more
        return found

    def _node(
        self, at: str, needs: Mapping[str, Mapping[str, bool]], optional: bool, root: bool
    ) -> Node | None:
        """A package as it is locked; None, where it comes with another, or is for no platform."""
        entry, name = self.packages[at], at.rpartition(_HERE)[2]
        if entry.get("inBundle") is True:
            return None
        if entry.get("link") is True:
            raise failed(f"{name} is a folder of its repository", "import tools that come from a registry")
        name, version = str(entry.get("name", name)), entry.get("version")
        if not isinstance(version, str):
            raise failed(f"{at} has no version")
        platforms = tuple(sorted(one.key for one in self._platforms if _fits(entry, one)))
        if not platforms:
            if optional:
                return None
            raise failed(f"{name} {version} is for none of the platforms that loop-kit knows")
        bins = None
        if root:
            programs = sorted(_table(entry.get("bin")).items())
            bins = tuple(
                bin_checked(called, str(path).removeprefix("./"), "node") for called, path in programs
            )
            if not bins:
                raise failed(f"{name} has no program", "it is a library; import tools")
        file = File(platforms, self._file(name, version, entry), self._digest(name, version, entry), None, "tar", 1,
                    (), bins)  # fmt: skip
        return Node(name, version, place_checked(at), (file,), tuple(sorted(needs[at])), optional)

    @staticmethod
    def _file(name: str, version: str, entry: Table) -> str:
        resolved = entry.get("resolved")
        if resolved is None:  # npm can leave these out
            return name_checked(f"{name.rpartition('/')[2]}-{version}.tgz")
        parts = urlsplit(str(resolved))
        if parts.scheme not in ("http", "https"):
            raise failed(f"{name} comes from {parts.scheme or 'a folder'}, which is no registry")
        return name_checked(parts.path.rpartition("/")[2])

    @staticmethod
    def _digest(name: str, version: str, entry: Table) -> str:
        said = dict(part.split("-", 1) for part in str(entry.get("integrity", "")).split() if "-" in part)
        for algorithm in _ALGORITHMS:
            try:
                value = base64.b64decode(said[algorithm].partition("?")[0], validate=True).hex()
            except (KeyError, binascii.Error):
                continue
            if is_digest(f"{algorithm}:{value}"):
                return f"{algorithm}:{value}"
        raise failed(
            f"{name} {version} has no integrity by SHA-512 or SHA-256, so nothing says what it must be"
        )


def _within(node: Node, known: set[str]) -> Node:
    """A node without what it needs that is no package of its own here."""
    return replace(node, needs=tuple(need for need in node.needs if need in known))


def _table(value: Any) -> Table:
    return value if isinstance(value, dict) else {}


def _fits(entry: Table, platform: Platform) -> bool:
    """Whether a package is for a platform, by npm's `os`, `cpu` and `libc`."""
    mine = {
        "os": {"windows": "win32"}.get(platform.os, platform.os),
        "cpu": {"x86_64": "x64", "aarch64": "arm64"}.get(platform.arch, platform.arch),
        "libc": {"gnu": "glibc"}.get(platform.libc.partition("-")[0], platform.libc.partition("-")[0]),
    }
    for key, word in mine.items():
        listed = entry.get(key)
        words = [str(one) for one in (listed if isinstance(listed, list) else [listed] if listed else [])]
        named = [one for one in words if not one.startswith("!")]
        if word and (f"!{word}" in words or (named and word not in named and "any" not in named)):
            return False
    return True
