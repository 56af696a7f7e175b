"""What is said of a package: by the manifest, or by the project's own file."""

from __future__ import annotations

import datetime
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.manifest import Pack
from loop_kit.manifest._pack import is_licence

__all__ = ["Facts", "created", "facts_of"]

_LAST = 253402300799
"""The last second of the year 9999."""


@dataclass(frozen=True)
class Facts:
    """What is said of a package; None where nobody says it."""

    version: str | None = None
    description: str | None = None
    license: str | None = None
    source: str | None = None

    def annotations(self, name: str) -> dict[str, str]:
        """As OCI's own annotations."""
        said = {
            "title": name,
            "version": self.version,
            "description": self.description,
            "licenses": self.license,
            "source": self.source,
            "created": created(),
        }
        return {f"org.opencontainers.image.{key}": value for key, value in said.items() if value is not None}


def created() -> str:
    """When packages are made: as SOURCE_DATE_EPOCH says, else in 1970, so that the same is made each time.

    Raises:
        PackageError: SOURCE_DATE_EPOCH is no number of seconds.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH") or "0"
    if not (text.isascii() and text.isdigit() and int(text) <= _LAST):
        raise PackageError(
            f"the environment variable SOURCE_DATE_EPOCH is {text!r}, no number of seconds since 1970"
        )
    return datetime.datetime.fromtimestamp(int(text), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def facts_of(pack: Pack, project: Path, folder: Path) -> Facts:
    """What the manifest says, and what it leaves out by the nearest project file at or above, in the workspace."""
    found: Facts = Facts()
    for at in (project, *project.parents):
        if not at.is_relative_to(folder):
            break
        if (said := _read(at)) is not None:
            found = said
            break
    return Facts(
        pack.version or found.version,
        pack.description or found.description,
        pack.license or found.license,
        pack.source or found.source,
    )


def _read(folder: Path) -> Facts | None:
    """What a project's own file says; None where there is none."""
    try:
        if (file := folder / "package.json").is_file():
            said = json.loads(file.read_text("utf-8"))
            source = said.get("repository")
            return _facts(said, source.get("url") if isinstance(source, Mapping) else source)
        if (file := folder / "pyproject.toml").is_file():
            said = tomllib.loads(file.read_text("utf-8")).get("project", {})
            urls = said.get("urls", {})
            source = next((url for key, url in urls.items() if key.lower() in ("source", "repository")), None)
            return _facts(said, source)
        if (file := folder / "Cargo.toml").is_file():
            said = tomllib.loads(file.read_text("utf-8")).get("package", {})
            return _facts(said, said.get("repository"))
    except (OSError, ValueError, AttributeError) as e:
        raise PackageError(f"{file} cannot be read: {e}") from None
    return None


def _facts(said: Mapping[str, Any], source: object) -> Facts:
    def text(key: str) -> str | None:
        value = said.get(key)
        return value if isinstance(value, str) and value else None

    # older projects have words, or tables, in its place
    licence = text("license")
    licence = licence if licence is not None and is_licence(licence) else None
    return Facts(text("version"), text("description"), licence, source if isinstance(source, str) else None)
