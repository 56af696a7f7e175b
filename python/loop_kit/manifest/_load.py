"""Finds and reads `loop.toml`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loop_kit.errors import ManifestError, Problem
from loop_kit.manifest._artifact import resolved
from loop_kit.manifest._declare import MANIFEST
from loop_kit.manifest._policy import with_policy
from loop_kit.manifest._provider import means
from loop_kit.manifest._shape import Cursor
from loop_kit.manifest._source import MAX_BYTES, Source
from loop_kit.manifest.model import Limits, Login, Manifest, Provider, Secret

__all__ = ["FILE_NAME", "find", "load", "loads", "reveal", "with_use"]

FILE_NAME = "loop.toml"


def find(start: str | os.PathLike[str] = ".") -> Path:
    """Returns the nearest `loop.toml` at or above a folder.

    Raises:
        ManifestError: There is none.
    """
    folder = Path(start).absolute()
    for candidate in (folder, *folder.parents):
        path = candidate / FILE_NAME
        if path.is_file():
            return path
    hint = "name a manifest, or go to a folder that has one"
    raise ManifestError([Problem(FILE_NAME, None, None, "", f"not found in {folder} or above", hint)])


def load(path: str | os.PathLike[str]) -> Manifest:
    """Reads a manifest; `path` is the file or its folder.

    One that has no `[trust]` has the user's own policy, if the user has one: `trust.toml` beside the keys.

    Raises:
        ManifestError: It cannot be read, is not TOML, or says something that is not allowed. Every problem is
            reported, not only the first.
    """
    file = Path(path)
    if file.is_dir():
        file /= FILE_NAME
    shown = _shown(file)
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        # The folder is resolved, so that ".." in paths means the same to us and to the operating system; a
        # manifest that is itself a link stands where the link is.
        real = file.parent.resolve(strict=True) / file.name
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise ManifestError([Problem(shown, None, None, "", message)]) from None
    return with_policy(loads(data, real, shown=shown))


def loads(
    data: bytes | str, path: str | os.PathLike[str] = FILE_NAME, *, shown: str | None = None
) -> Manifest:
    """Reads a manifest from memory, as if it stood at `path`.

    Args:
        data: Its contents.
        path: Where it would be: relative paths in it start from this file's folder.
        shown: How errors name the file; `path` by default.

    Raises:
        ManifestError: As `load`.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    source = Source.decode(Path(path).absolute(), shown or str(path), raw)
    try:
        return _read(source)
    except RecursionError:
        raise ManifestError([Problem(source.shown, None, None, "", "nested too deeply")]) from None


def with_use(manifest: Manifest, provider: str, use: str) -> Manifest:
    """The manifest with another `use` for one provider; keys of its table that mean nothing there are left out.

    Raises:
        ManifestError: What would then stand there is not allowed, as in the file itself.
        KeyError: There is no such provider.
    """
    if provider not in manifest.providers:
        raise KeyError(provider)
    # one after the other: what others have become stays
    source = dataclasses.replace(manifest.source, uses={**manifest.source.uses, provider: use})
    document = source.parse()
    providers = {**document["providers"]}
    for name, wanted in source.uses.items():
        kept = {key: value for key, value in providers[name].items() if means(key, wanted)}
        providers[name] = {**kept, "use": wanted}
    made = _read(source, {**document, "providers": providers})
    return dataclasses.replace(made, trust=manifest.trust, trust_source=manifest.trust_source)


def reveal(value: Any) -> Any:
    """Returns a value such as `provider.config` with every secret in it read.

    Raises:
        ManifestError: A secret cannot be read.
    """
    match value:
        case Secret():
            return value.reveal()
        case Login():
            return Login(**reveal(vars(value)))
        case Mapping():
            return {key: reveal(item) for key, item in value.items()}
        case list() | tuple():
            return [reveal(item) for item in value]
        case _:
            return value


def _read(source: Source, raw: Mapping[str, Any] | None = None) -> Manifest:
    cursor = Cursor(source, [])
    document = MANIFEST.check(source.parse() if raw is None else raw, cursor)
    if cursor.report:
        raise ManifestError(cursor.report)
    limits: Limits = document.get("limits", Limits())
    components = {
        name: dataclasses.replace(component, limits=component.limits.over(limits))
        for name, component in document.get("components", {}).items()
    }
    providers: dict[str, Provider] = dict(document.get("providers", {}))
    resolved(source, components, providers, cursor)
    if cursor.report:
        raise ManifestError(cursor.report)
    workspace, tasks = document.get("workspace", {}), dict(document.get("tasks", {}))
    return Manifest(
        source,
        name=workspace.get("name") or source.path.parent.name,
        components=components,
        providers=providers,
        links=document.get("links", {}),
        limits=limits,
        commands=document.get("commands", {}),
        trust=document.get("trust"),
        results=tasks.pop("cache", None),
        tasks=tasks,
        members=workspace.get("members", ()),
        member_tasks=workspace.get("tasks", {}),
        depends=workspace.get("depends", ()),
        registry=workspace.get("registry"),
        packages=document.get("packages", {}),
        resolvers=document.get("resolvers", {}),
    )


def _shown(file: Path) -> str:
    """The shorter of the path as given and relative to the current folder."""
    try:
        relative = os.path.relpath(file)
    except (OSError, ValueError):  # another drive, or the current folder is gone
        return str(file)
    return min(str(file), relative, key=len)
