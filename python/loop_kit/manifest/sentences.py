"""What a component may do, in words: grants as sentences, and what differs between two manifests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loop_kit.errors import ManifestError
from loop_kit.manifest._grants import SENTENCES
from loop_kit.manifest._match import ImportName
from loop_kit.manifest._toml import inline
from loop_kit.manifest.model import Component, Link, Manifest

__all__ = ["Difference", "May", "differences", "may", "of_link"]

# What whoever reads it wants to hear of, though nothing grants it.
_POWERS = {
    "touch files": ("loop:fsx", "dirs"),
    "use the network": ("loop:netx", "net"),
    "run programs": ("loop:process", None),
}


@dataclass(frozen=True)
class May:
    """What a component may do.

    Attributes:
        allowed: Each the end of "NAME may".
        denied: Each the end of "NAME may not".
    """

    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """What a change of the manifest does to one component.

    Attributes:
        component: Its name.
        wider: What it may from then on.
        narrower: What it may no longer.
    """

    component: str
    wider: tuple[str, ...]
    narrower: tuple[str, ...]


def may(manifest: Manifest, component: Component, imports: Sequence[str] | None = None) -> May:
    """What the manifest lets a component do.

    Args:
        manifest: The workspace.
        component: One of its components.
        imports: What the component imports; None: everything that the manifest links for it.
    """
    links = _links(manifest, component, imports)
    said = [sentence for package, link in links.items() for sentence in of_link(manifest, package, link)]
    said += _of_wasi(component)
    folder = f"{manifest.path.parent}/"
    allowed = dict.fromkeys(sentence.replace(folder, "./") for sentence in said)
    granted = {package for package, link in links.items() if link.grant}
    denied = [
        power
        for power, (package, key) in _POWERS.items()
        if package not in granted and not (key and getattr(component.wasi, key))
    ]
    return May(tuple(allowed), tuple(denied))


def differences(old: Manifest, new: Manifest) -> list[Difference]:
    """What each component may more, or less, from one manifest to the next; those without a difference are left out."""
    found = []
    for name in dict.fromkeys([*old.components, *new.components]):
        before, after = (
            dict.fromkeys(may(manifest, manifest.components[name]).allowed)
            if name in manifest.components
            else {}
            for manifest in (old, new)
        )
        wider = tuple(sentence for sentence in after if sentence not in before)
        narrower = tuple(sentence for sentence in before if sentence not in after)
        if wider or narrower:
            found.append(Difference(name, wider, narrower))
    return found


def _links(manifest: Manifest, component: Component, imports: Sequence[str] | None) -> dict[str, Link]:
    """The links of a component by the package, or by the import where one has a link of its own."""
    names = [*component.imports, *manifest.links] if imports is None else imports
    found: dict[str, Link] = {}
    for name in names:
        try:
            link = manifest.link_for(component.name, name)
        except ManifestError:
            continue  # a contradiction, which `explain` tells of
        if link is not None and link not in found.values():
            package = ImportName.parse(name).package
            found[name if package in found else package] = link
    return found


def of_link(manifest: Manifest, package: str, link: Link) -> list[str]:
    """What a link of the manifest to a package lets a component do, each the end of "NAME may"."""
    provider = manifest.providers[link.provider]
    where = f" by {provider.use}"
    if provider.inside and not (provider.shipped or provider.sandboxed):
        where += ", TRUSTED with all the rights of the host"
    said = SENTENCES.get(ImportName.parse(package).package)
    if said is None:
        grant = f" under {inline(link.grant)}" if link.grant else ""
        return [f"use {package}{where}{grant}"]
    # what ships with loop-kit and runs here is what everybody expects
    aside = "" if provider.placement == "builtin" else f",{where}"
    return [f"{sentence}{aside}" for sentence in said(link.grant)]


def _of_wasi(component: Component) -> list[str]:
    wasi = component.wasi
    said = [
        f"{'read' if item.mode == 'ro' else 'read and change'} {item.host} (as {item.guest}, by WASI)"
        for item in wasi.dirs
    ]
    said += [f"connect to {rule} (by WASI)" for rule in wasi.net]
    names = [*component.env, *wasi.env]
    if names:
        said.append(f"see the variables {', '.join(names)}")
    if wasi.stdio:
        said.append("use standard input and output")
    return said
