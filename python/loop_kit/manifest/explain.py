"""Who gets which provider, and why: the answer of `loop explain`, as data."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from loop_kit.errors import LoopError, ManifestError
from loop_kit.manifest._match import ImportName, best_match
from loop_kit.manifest._offers import OFFERS
from loop_kit.manifest._scan import Keys
from loop_kit.manifest._shape import did_you_mean, nearest
from loop_kit.manifest._source import dotted
from loop_kit.manifest._toml import inline, key, string
from loop_kit.manifest._wasi import Gate, gate_of, granted
from loop_kit.manifest.model import Artifact, Component, Link, Manifest, Provider
from loop_kit.manifest.sentences import May, may

__all__ = ["ExplainedComponent", "ExplainedImport", "ImportsOf", "explain"]

ImportsOf = Callable[[Path], Sequence[str]]
"""Returns the names of the imports of a component's file; raises `LoopError` or `OSError` if it cannot."""


@dataclass(frozen=True)
class ExplainedImport:
    """One import, and what answers it.

    Attributes:
        name: The import.
        status: `linked` by the manifest, served by the built-in `wasi`, `missing`, or `refused` because the
            manifest contradicts itself about it.
        provider: Name of the provider, or None.
        use: The provider as the manifest writes it, or None.
        placement: Where it runs, or None.
        trusted: Whether it is code of the user's that runs inside the host with all the host's rights.
        transport: What it is reached by where it runs elsewhere, or None.
        process: Program and arguments of a sidecar; () for anything else.
        entrusted: The grants that one process, whose program may use them all, has: place and grant of each link.
        isolated: Whether it has a process for this link alone.
        secured: `tls`, `mutual tls`, `token` and `login`, as far as a remote provider has them.
        grant: What it may touch for this component.
        budget: Seconds that a call should take at most, or None.
        reason: Which key decided and why; or why nothing answers, or what is closed.
        place: `loop.toml:12` of that key, or None.
        add: TOML to add to the manifest, to link or to allow more; None if there is nothing to add.
        artifact: What the provider is fetched as, or None.
    """

    name: str
    status: Literal["linked", "wasi", "missing", "refused"]
    provider: str | None = None
    use: str | None = None
    placement: str | None = None
    trusted: bool = False
    transport: str | None = None
    process: tuple[str, ...] = ()
    entrusted: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    isolated: bool = False
    secured: tuple[str, ...] = ()
    grant: Mapping[str, Any] = field(default_factory=dict)
    budget: float | None = None
    reason: str = ""
    place: str | None = None
    add: str | None = None
    artifact: Artifact | None = None

    @property
    def answered(self) -> bool:
        """Whether the component could be loaded as far as this import goes."""
        return self.status in ("linked", "wasi")


@dataclass(frozen=True)
class ExplainedComponent:
    """A component's imports.

    Attributes:
        name: Its name in the manifest.
        path: Its file.
        imports: What it imports, in its own order; for an unreadable file, what the manifest links.
        unused: Keys of its own `imports` that match nothing it imports, with the nearest import or None.
        unread: Why its file could not be read, or None.
        may: What it may do, in words, and what not.
        commands: The commands that the manifest has of it.
        types: Files with types of its WIT, which `loop bind` writes.
        artifact: What it is fetched as, or None.
    """

    name: str
    path: Path
    imports: tuple[ExplainedImport, ...]
    unused: Mapping[str, str | None] = field(default_factory=dict)
    unread: str | None = None
    may: May = field(default_factory=May)
    commands: tuple[str, ...] = ()
    types: tuple[Path, ...] = ()
    artifact: Artifact | None = None

    @property
    def answered(self) -> bool:
        """Whether the file could be read and every import is answered."""
        return self.unread is None and all(item.answered for item in self.imports)


def explain(
    manifest: Manifest, imports_of: ImportsOf, only: Sequence[str] = ()
) -> tuple[ExplainedComponent, ...]:
    """Explains every import of the workspace's components.

    Args:
        manifest: The workspace.
        imports_of: Reads the imports of a component's file.
        only: Names of components; all of them by default.

    Raises:
        ManifestError: `only` names a component that the manifest does not have.
    """
    for name in only:
        if name not in manifest.components:
            hint = did_you_mean(name, manifest.components)
            raise manifest.error(("components",), f"there is no component {string(name)}", hint)
    chosen = only or tuple(manifest.components)
    return tuple(_component(manifest, manifest.components[name], imports_of) for name in chosen)


def _component(manifest: Manifest, component: Component, imports_of: ImportsOf) -> ExplainedComponent:
    commands = tuple(name for name, of in manifest.commands.items() if of == component.name)
    try:
        _compare(component.artifact)
        names = list(imports_of(component.path))
    except (LoopError, OSError) as error:
        declared = tuple(_import(manifest, component, name) for name in component.imports)
        said = may(manifest, component)
        why = _why(component, error)
        return ExplainedComponent(
            component.name,
            component.path,
            declared,
            unread=why,
            may=said,
            commands=commands,
            types=_types(component),
            artifact=component.artifact,
        )
    unused = {
        link: _nearest_import(link, names)
        for link in component.imports
        if not any(best_match(name, [link]) for name in names)
    }
    imports = tuple(_import(manifest, component, name) for name in names)
    said = may(manifest, component, names)
    return ExplainedComponent(
        component.name,
        component.path,
        imports,
        unused,
        may=said,
        commands=commands,
        types=_types(component),
        artifact=component.artifact,
    )


def _compare(artifact: Artifact | None) -> None:
    """Raises PackageError where the code in the store is not that of the artifact: it would explain something else."""
    if artifact is not None and artifact.entry is not None and artifact.entry.code is not None:
        from loop_kit.oci.blobs import Blobs
        from loop_kit.store import Store

        Blobs(Store().folder).verify(artifact.entry.code)


def _types(component: Component) -> tuple[Path, ...]:
    bind = component.bind
    return () if bind is None else tuple(file for file in (bind.python, bind.typescript) if file is not None)


def _import(manifest: Manifest, component: Component, name: str) -> ExplainedImport:
    try:
        link = manifest.link_for(component.name, name)
    except ManifestError as error:
        problem = error.problems[0]
        reason = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
        return ExplainedImport(name, "refused", reason=reason, place=f"{problem.path}:{problem.line}")
    if link is not None:
        provider = manifest.providers[link.provider]
        return ExplainedImport(
            name,
            "linked",
            provider=link.provider,
            use=provider.use,
            placement=provider.placement,
            trusted=provider.inside and not (provider.shipped or provider.sandboxed),
            transport=provider.transport or None,
            process=provider.argv() if provider.placement == "sidecar" else (),
            entrusted=_entrusted(manifest, provider, link),
            isolated=provider.isolate,
            secured=_secured(provider),
            grant=link.grant,
            budget=link.budget,
            reason=link.reason,
            place=_place(manifest, link.keys),
            artifact=provider.artifact,
        )
    gate = gate_of(name)
    if gate is None:
        reason = "no key of the manifest matches it"
        return ExplainedImport(name, "missing", reason=reason, add=_link_to_add(manifest, component, name))
    return _wasi(manifest, component, name, gate)


def _wasi(manifest: Manifest, component: Component, name: str, gate: Gate) -> ExplainedImport:
    grant, place, add = granted(gate, component), None, None
    keys = ("components", component.name, "wasi")
    if gate.key is None:
        reason = "this part needs no grant"
    elif grant:
        reason, place = f"[{dotted(keys)}] grants it", _place(manifest, (*keys, gate.key))
    else:
        reason, add = gate.without, _to_paste(manifest, keys, {gate.key: gate.example})
    return ExplainedImport(
        name, "wasi", "wasi", placement="builtin", grant=grant, reason=reason, place=place, add=add
    )


def _entrusted(
    manifest: Manifest, provider: Provider, link: Link
) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """The links whose grants one process holds: the program enforces them itself, so it could use any of them."""
    if provider.inside:
        return ()
    links = [link] if provider.isolate else _links_to(manifest, provider)
    return tuple((dotted(item.keys), item.grant) for item in links)


def _links_to(manifest: Manifest, provider: Provider) -> list[Link]:
    own = [link for component in manifest.components.values() for link in component.imports.values()]
    return [link for link in (*own, *manifest.links.values()) if link.provider == provider.name]


def _secured(provider: Provider) -> tuple[str, ...]:
    tls = () if provider.tls is None else ("mutual tls" if provider.tls.certificate else "tls",)
    shown = {"token": provider.token, "login": provider.login}
    return (*tls, *(name for name, value in shown.items() if value is not None))


def _place(manifest: Manifest, keys: Keys) -> str | None:
    position = manifest.position(keys)
    return f"{manifest.source.shown}:{position[0]}" if position else None


def _link_to_add(manifest: Manifest, component: Component, name: str) -> str:
    """Returns TOML that links an import."""
    package = ImportName.parse(name).package
    short = package.rpartition(":")[2]
    offer = OFFERS.get(package)
    if offer is not None:
        use = offer.use
    elif short in manifest.components and short != component.name:
        use = f"component:{short}"
    else:
        use = f"component:{short}.wasm"
    provider = next((item.name for item in manifest.providers.values() if item.use == use), None)
    chosen = provider or _free_name(short, manifest.providers)
    link: dict[str, Any] = {"provider": chosen}
    if offer is not None:
        link["grant"] = offer.granted(component.name)
    snippet = _to_paste(manifest, ("components", component.name, "imports", package), link)
    return snippet if provider else f"{snippet}\n{_to_paste(manifest, ('providers', chosen), {'use': use})}"


def _to_paste(manifest: Manifest, keys: tuple[str, ...], values: Mapping[str, Any]) -> str:
    """Returns TOML for the end of the manifest, or, where only that is possible, for a named place in it."""
    lines = "".join(f"{key(name)} = {inline(value)}\n" for name, value in values.items())
    snippet = f"[{dotted(keys)}]\n{lines}"
    try:
        tomllib.loads(f"{manifest.source.text}\n{snippet}")
    except tomllib.TOMLDecodeError:
        there = _existing(manifest, keys)
        if there == keys:
            return f"# in [{dotted(keys)}]\n{lines}"
        # It is written inline, and TOML lets nobody add to such a table from outside.
        first, *rest = keys[len(there) :]
        for name in reversed(rest):
            values = {name: values}
        return f"# in {dotted(there)}\n{key(first)} = {inline(values)}\n"
    return snippet


def _existing(manifest: Manifest, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Returns as many of the keys as lead to a table of the manifest."""
    table: Any = manifest.source.parse()
    for depth, name in enumerate(keys):
        if name not in table:
            return keys[:depth]
        table = table[name]
    return keys


def _free_name(name: str, taken: Mapping[str, Provider]) -> str:
    while name in taken:
        name += "-2"
    return name


def _nearest_import(link: str, names: Sequence[str]) -> str | None:
    shorter = [name for full in names for name in (full, full.partition("@")[0], full.partition("/")[0])]
    return nearest(link, shorter)


def _why(component: Component, error: Exception) -> str:
    if component.artifact is not None and not component.path.is_file():
        return "not fetched yet: loop pull"
    if isinstance(error, FileNotFoundError):
        build = component.build if isinstance(component.build, str) else " ".join(component.build or ())
        return f"not built yet: {build}" if build else "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
