"""What is added to a workspace that is there: a capability of a component, a provider, a component.

Each function says what would be written, a `Plan`, and writes nothing; `Plan.carry_out` does, all of it or nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_kit import inspect
from loop_kit.dev._command import work_of
from loop_kit.errors import LoopError
from loop_kit.manifest import Component, Manifest
from loop_kit.manifest._match import ImportName
from loop_kit.manifest._offers import OFFERS, Offer
from loop_kit.manifest._shape import did_you_mean
from loop_kit.manifest.edit import Addition, added, save
from loop_kit.manifest.sentences import of_link
from loop_kit.new import MANIFEST, free, parts, writing

__all__ = ["Plan", "capability", "component", "offered", "provider"]

_CAPABILITIES = Path(__file__).parents[1] / "capabilities"


@dataclass(frozen=True)
class Plan:
    """What is to be written.

    Attributes:
        before: The manifest as it is.
        after: The manifest as it will be.
        files: New files, with their texts.
        folders: Folders that must be there.
        may: What a component may then do, each the end of "NAME may".
        then: What is left to be done by hand, in words.
    """

    before: Manifest
    after: Manifest
    files: Mapping[Path, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    may: tuple[str, ...] = ()
    then: tuple[str, ...] = ()

    def carry_out(self) -> None:
        """Writes it.

        Raises:
            ManifestError: The manifest has changed meanwhile, or cannot be written; nothing has been then.
            OSError: A file is there already, or cannot be written; nothing has been then.
        """
        with writing(self.files):
            for folder in self.folders:
                folder.mkdir(parents=True, exist_ok=True)
            save(self.before, self.after)


def offered(name: str) -> str:
    """The package that is meant by `loop:fsx`, by `fsx`, or by an interface of it.

    Raises:
        LoopError: Nothing that ships with loop-kit serves it.
    """
    short = re.split("[/@]", name)[0]
    for package in OFFERS:
        if short in (package, package.partition(":")[2]):
            return package
    shorts = [package.partition(":")[2] for package in OFFERS]
    error = LoopError(f"loop-kit has no capability {name!r}")
    error.hint = did_you_mean(short, [*OFFERS, *shorts]) or f"it has {', '.join(OFFERS)}"
    raise error


def capability(manifest: Manifest, name: str, to: str, *, use: str | None = None) -> Plan:
    """Links a component's import to a provider, with the least grant that it can do something with.

    Args:
        manifest: The workspace.
        name: The package, or what `offered` takes for it.
        to: The component.
        use: Another provider than the native one, as `use` of a manifest.

    Raises:
        LoopError: Nothing that ships with loop-kit serves it.
        ManifestError: There is no such component, it has that link already, or the manifest must not say so.
    """
    package = offered(name)
    offer, importer = OFFERS[package], _component(manifest, to)
    for key, link in importer.imports.items():
        if ImportName.parse(key).package == package:
            raise manifest.error(link.keys, f"{to} is linked to it already", "change its grant there")
    additions = []
    use = use or offer.use
    serving = next((one.name for one in manifest.providers.values() if one.use == use), None)
    if serving is None:
        serving = _free(offer.name, manifest)
        config = {"config": offer.config} if use == offer.use and offer.config else {}
        additions.append(Addition(("providers", serving), {"use": use, **config}))
    grant = offer.granted(to)
    keys = ("components", to, "imports", package)
    link_ = {"provider": serving, "grant": grant}
    after = added(manifest, [*additions, Addition(keys, link_, (offer.why,), table=False)])
    files, then = _wit(manifest, importer, package, offer)
    folders = tuple(manifest.folder / path for path in offer.folders if not (manifest.folder / path).exists())
    return Plan(manifest, after, files, folders, tuple(_said(after, to, package)), then)


def provider(
    manifest: Manifest,
    name: str,
    *,
    use: str | None = None,
    language: str | None = None,
    wit: str | os.PathLike[str] | None = None,
    sdk: str | os.PathLike[str] | None = None,
    trusted: bool = False,
) -> Plan:
    """Adds a provider: what `use` says, or one to be written in a `language`, in a folder of its name.

    Args:
        manifest: The workspace.
        name: What it is called.
        use: As in a manifest.
        language: As `create` takes it.
        wit: As `create` takes it.
        sdk: As `create` takes it.
        trusted: The user's statement that code of a `python:` may run in the host.

    Raises:
        ValueError: The name or the language is none.
        FileExistsError: There is something in the folder.
        ManifestError: There is a provider of that name, or the manifest must not say so.
        LoadError: The WIT is not sound, or has no interface with functions.
    """
    if use is not None:
        trust = {"trusted": True} if trusted else {}
        return Plan(manifest, added(manifest, [Addition(("providers", name), {"use": use, **trust})]))
    assert language is not None
    # Python imports it by the folder's name
    folder = name.replace("-", "_") if language == "python" else name
    found = parts("provider", language, name, wit=wit, sdk=sdk)
    table = _own(found, "providers", name, folder)
    if language == "python":
        table["use"] = f"sidecar:python:{folder}.provider:Provider"
        found = {path: _in_package(text, folder) for path, text in found.items()}
    after = added(manifest, [Addition(("providers", name), table)])
    make = {
        "node": f"`make -C {folder} test` installs what runs it",
        "rust": f"`make -C {folder} test` tests it; cargo makes it as it starts",
    }
    then = (make[language],) if language in make else (f"`make -C {folder} test` tests it",)
    return Plan(manifest, after, _placed(manifest, found, folder), then=then)


def component(manifest: Manifest, name: str, *, language: str | None = None, path: str | None = None) -> Plan:
    """Adds a component: a file, from the manifest's folder, or one to be written, in a folder of its name.

    Args:
        manifest: The workspace.
        name: What it is called.
        language: What to write it in, as `create` takes it.
        path: The file.

    Raises:
        ValueError: The name or the language is none.
        FileExistsError: There is something in the folder.
        ManifestError: There is a component of that name, or the manifest must not say so.
    """
    if path is not None:
        after = added(manifest, [Addition(("components", name), {"path": path})])
        then = _imports_of(after.components[name])
        return Plan(manifest, after, then=then)
    assert language is not None
    found = parts("component", language, name)
    table = _own(found, "components", name, name)
    found = {
        file: text.replace("Path(__file__).parent\n", "Path(__file__).parents[1]\n")
        for file, text in found.items()
    }
    after = added(manifest, [Addition(("components", name), table)])
    then = (f"`make -C {name} test` builds and tests it",)
    return Plan(manifest, after, _placed(manifest, found, name), then=then)


def _component(manifest: Manifest, name: str) -> Component:
    if name not in manifest.components:
        hint = did_you_mean(name, manifest.components) or "name one with --to"
        raise manifest.error(("components",), f'there is no component "{name}"', hint)
    return manifest.components[name]


def _free(name: str, manifest: Manifest) -> str:
    while name in manifest.providers:
        name += "-2"
    return name


def _said(manifest: Manifest, name: str, package: str) -> list[str]:
    link = manifest.link_for(name, package)
    assert link is not None
    return [said.replace(f"{manifest.folder}/", "./") for said in of_link(manifest, package, link)]


def _own(files: dict[str, str], kind: str, name: str, folder: str) -> dict[str, Any]:
    """Takes a template's own manifest away, and returns what it says, as seen from the folder above."""
    import tomllib

    table: dict[str, Any] = tomllib.loads(files.pop(MANIFEST))[kind][name]

    def beneath(path: str) -> str:
        return f"!{folder}/{path[1:]}" if path.startswith("!") else f"{folder}/{path}"

    if "path" in table:
        table["path"] = beneath(table["path"])
    if "build" in table:
        table["build"] = f"cd {folder} && {table['build']}"
    if "sources" in table:
        table["sources"] = [beneath(source) for source in table["sources"]]
    if "bind" in table:
        table["bind"] = {language: beneath(file) for language, file in table["bind"].items()}
    if "pack" in table:
        table["pack"] = {
            "build": f"cd {folder} && {table['pack']['build']}",
            "program": beneath(table["pack"]["program"]),
            "wit": f"{folder}/wit",
        }
    if "use" in table:
        table["use"] = table["use"].replace("sidecar:./", f"sidecar:./{folder}/")
    there = {part for path in files for part in (path, path.partition("/")[0])}
    for words in table.keys() & {"args", "command"}:
        table[words] = [beneath(word) if word in there else word for word in table[words]]
    return table


def _in_package(text: str, folder: str) -> str:
    """A Python provider's file where its modules are those of a package."""
    text = re.sub("^import bindings$", f"from {folder} import bindings", text, flags=re.MULTILINE)
    text = text.replace("from provider import", f"from {folder}.provider import")
    text = text.replace("-m unittest", f"-m unittest {folder}.test_provider")
    text = re.sub("(?<=loop_kit.serve )provider:|(?<=python:)provider:", f"{folder}.provider:", text)
    return re.sub(r"^\t(?=\$\(PYTHON\))", "\tcd .. && ", text, flags=re.MULTILINE)


def _placed(manifest: Manifest, files: Mapping[str, str], folder: str) -> dict[Path, str]:
    free(manifest.folder / folder)
    return {manifest.folder / folder / path: text for path, text in files.items()}


def _wit(
    manifest: Manifest, importer: Component, package: str, offer: Offer
) -> tuple[dict[Path, str], tuple[str, ...]]:
    """The package's WIT where the component's is, and what to add to its world; nothing where it imports it already."""
    with contextlib.suppress(OSError, LoopError):
        if any(ImportName.parse(name).package == package for name in inspect.imports(importer.path)):
            return {}, ()
    source = _CAPABILITIES / package.partition(":")[2] / "wit"
    texts = {file.name: file.read_text("utf-8") for file in sorted(source.glob("*.wit"))}
    version = next(
        found[1] for text in texts.values() if (found := re.search(r"^package [^@;]+(@[^;]+)?;", text, re.M))
    )
    wanted = f"import {package}/{offer.interface}{version or ''};"
    others = sorted(
        {name for text in texts.values() for name in re.findall(r"^interface ([\w-]+) \{", text, re.M)}
    )
    also = ", ".join(name for name in others if name not in (offer.interface, "types"))
    note = f"(`{package}` also has {also})" if also else ""
    folder = work_of(importer.build, manifest.folder) / "wit" if importer.build is not None else None
    if folder is None or not any(folder.glob("*.wit")):
        return {}, (f"have {importer.name} import it: `{wanted}` in its world {note}".rstrip(),)
    there = (file.read_text("utf-8", "replace") for file in folder.rglob("*.wit"))
    have = re.compile(rf"^package {re.escape(package)}[@;]", re.MULTILINE)
    known = any(have.search(text) for text in there)
    into = folder / "deps" / package.replace(":", "-")
    shown = folder.relative_to(manifest.folder) if folder.is_relative_to(manifest.folder) else folder
    files = {} if known else {into / name: text for name, text in texts.items()}
    return files, (f"put `{wanted}` into the world in {shown} {note}".rstrip(),)


def _imports_of(added_: Component) -> tuple[str, ...]:
    """What a component that was added still has to be linked to."""
    try:
        names = inspect.imports(added_.path)
    except OSError:
        return (f"there is no {added_.path} yet",)
    except LoopError as error:
        return (f"{added_.path} cannot be loaded: {error}",)
    packages = dict.fromkeys(ImportName.parse(name).package for name in names)
    return tuple(
        f"`loop add capability {package} --to {added_.name}` links its import {package}"
        for package in packages
        if package in OFFERS
    )
