"""What is asked for, and what is locked."""

from __future__ import annotations

import platform as _machine
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loop_kit.errors import PackageError

__all__ = ["MOST", "NAMES", "PLATFORMS", "Asked", "File", "Locked", "Node", "Platform", "failed"]

NAMES: Mapping[str, str] = {
    "bat": "github:sharkdp/bat",
    "black": "pypi:black",
    "componentize-py": "pypi:componentize-py",
    "componentize-qjs": "npm:componentize-qjs",
    "esbuild": "npm:esbuild",
    "fd": "github:sharkdp/fd",
    "gh": "github:cli/cli",
    "hyperfine": "github:sharkdp/hyperfine",
    "jq": "github:jqlang/jq",
    "just": "github:casey/just",
    "mypy": "pypi:mypy",
    "prettier": "npm:prettier",
    "ripgrep": "github:BurntSushi/ripgrep",
    "rolldown": "npm:rolldown",
    "ruff": "pypi:ruff",
    "typescript": "npm:typescript",
    "uv": "pypi:uv",
}
"""Where what many know by its bare name is."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SOURCE = re.compile(r"([a-z][a-z0-9_-]*):(.+)", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST = 512
MOST = 2 << 30
"""Bytes of one file."""


def failed(message: str, hint: str | None = None) -> PackageError:
    """The error, with what to do about it."""
    error = PackageError(message)
    if hint is not None:
        error.hint = hint
    return error


@dataclass(frozen=True)
class Platform:
    """A machine that something is to run on, as `loop:pkg` has it."""

    os: str
    arch: str
    libc: str = ""
    python: str = ""

    @classmethod
    def here(cls) -> Platform:
        """This machine."""
        os = {"linux": "linux", "darwin": "darwin", "win32": "windows"}.get(sys.platform, sys.platform)
        known = {"amd64": "x86_64", "arm64": "aarch64"}
        arch = known.get(_machine.machine().lower(), _machine.machine().lower())
        libc = ""
        if os == "linux":
            name, version = _machine.libc_ver()
            libc = f"gnu-{version}" if name == "glibc" else "musl"
        return cls(os, arch, libc, _python())

    @property
    def key(self) -> str:
        """Its name in a lock: `linux-x86_64-gnu`."""
        return "-".join(part for part in (self.os, self.arch, self.libc.partition("-")[0]) if part)

    def record(self) -> dict[str, str]:
        """As `loop:pkg` takes it."""
        return {"os": self.os, "arch": self.arch, "libc": self.libc, "python": self.python}


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


PLATFORMS = (
    Platform("darwin", "aarch64"),
    Platform("darwin", "x86_64"),
    Platform("linux", "aarch64", "gnu-2.28"),
    Platform("linux", "aarch64", "musl"),
    Platform("linux", "x86_64", "gnu-2.28"),
    Platform("linux", "x86_64", "musl"),
    Platform("windows", "x86_64"),
)
"""Those that a lock has checksums for."""


@dataclass(frozen=True)
class Asked:
    """A package that a workspace wants: `npm:esbuild@^0.28`.

    Attributes:
        alias: What the workspace calls it.
        source: Which resolver knows it.
        name: What that calls it.
        range: Which versions do; empty: any.
    """

    alias: str
    source: str
    name: str
    range: str = ""

    @classmethod
    def parse(cls, text: str, alias: str | None = None) -> Asked:
        """Reads `SOURCE:NAME@RANGE`, `NAME@RANGE` where NAME is well known, either after `ALIAS=`.

        Raises:
            PackageError: It is none of these.
        """
        given = text
        if len(text) > _LONGEST or _CONTROL.search(text):
            raise failed(f"{text[:40]!r} is no package", "write one such as npm:esbuild@^0.28")
        if alias is None and (match := re.fullmatch(r"([A-Za-z0-9_.-]+)=([a-z].*)", text)):
            alias, text = match[1], match[2]
        match = _SOURCE.fullmatch(text)
        if match is None:
            name, _, wanted = text.partition("@")
            if name not in NAMES:
                raise failed(f"nobody knows where {given!r} is", f"say its source: {_suggest(text)}")
            match = _SOURCE.fullmatch(NAMES[name] + (f"@{wanted}" if wanted else ""))
            alias = alias or name
            assert match is not None
        source, rest = match[1], match[2]
        at = rest.rfind("@")
        name, wanted = (rest[:at], rest[at + 1 :]) if at > 0 else (rest, "")
        alias = alias or re.split(r"[/:]", name.partition("[")[0])[-1]
        if not name or not _NAME.fullmatch(alias):
            raise failed(f"{given!r} is no package", "write one such as npm:esbuild@^0.28")
        return cls(alias, source, name, wanted)

    def __str__(self) -> str:
        return f"{self.source}:{self.name}" + (f"@{self.range}" if self.range else "")


def _suggest(text: str) -> str:
    return ", ".join(f"{source}:{text}" for source in ("npm", "pypi", "crates"))


@dataclass(frozen=True)
class File:
    """The file of a package for some platforms.

    Attributes:
        platforms: Keys of these.
        file: Its name.
        digest: `sha256:…` or `sha512:…`.
        size: Its bytes, if they are known.
        archive: How it is packed: `plain`, `tar` or `zip`.
        strip: Folders that are left off.
        only: What of it is wanted; empty: all.
        bins: Its programs, if they are known: name, path and what runs them.
    """

    platforms: tuple[str, ...]
    file: str
    digest: str
    size: int | None
    archive: str
    strip: int = 0
    only: tuple[str, ...] = ()
    bins: tuple[tuple[str, str, str], ...] | None = None

    @property
    def key(self) -> list[Any]:
        """What decides how it looks unpacked."""
        return [
            self.digest,
            self.archive,
            self.strip,
            list(self.only),
            self.file if self.archive == "plain" else "",
        ]


@dataclass(frozen=True)
class Node:
    """A package of a tree.

    Attributes:
        name: What the source calls it.
        version: Which one.
        at: Its folder in the tool.
        files: What it is, for the platforms that it is for.
        needs: The folders, or names, of those that it needs.
        optional: Whether it is left out where there is nothing for the platform.
    """

    name: str
    version: str
    at: str
    files: tuple[File, ...]
    needs: tuple[str, ...] = ()
    optional: bool = False

    def file_for(self, platform: Platform) -> File | None:
        """What is for a platform; where nobody has looked into it yet, its programs are those of another platform's."""
        file = next((file for file in self.files if platform.key in file.platforms), None)
        if file is not None and file.bins is None:
            return replace(file, bins=next((other.bins for other in self.files if other.bins), None))
        return file


@dataclass(frozen=True)
class Locked:
    """A package as it is pinned: itself first, then all that it needs.

    Attributes:
        asked: What the manifest says.
        layout: Where what it needs goes: `alone`, `flat` or `nested`.
        python: The version of Python that it is for; empty: it does not matter.
        nodes: Itself and what it needs.
        signed: Who has signed it, by their names in the policy that judged it; empty: nobody was asked for.
    """

    asked: Asked
    layout: str
    python: str
    nodes: tuple[Node, ...] = field(repr=False)
    signed: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The version of the package itself."""
        return self.nodes[0].version

    def here(self, platform: Platform) -> bool:
        """Whether all that it takes on a platform is known."""
        fits = not self.python or self.python == platform.python
        return fits and self.nodes[0].file_for(platform) is not None
