"""What each member of a workspace is made of."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_kit._modules import file_of
from loop_kit.capabilities.fsx._pattern import Pattern
from loop_kit.dev._bindings import Declared, declared
from loop_kit.dev._command import work_and_words
from loop_kit.dev._events import Member
from loop_kit.dev._files import NEVER, below
from loop_kit.dev.engine import recipe
from loop_kit.manifest import Component, Login, Manifest, Provider, Secret
from loop_kit.manifest._use import is_shipped
from loop_kit.pkg import Tools, named

__all__ = ["BUILT", "Inputs", "Rule", "given", "inputs_of", "secrets_of"]

BUILT = frozenset(("build", "dist", "target"))
"""Folders of what was built: no inputs by default."""

_WILD = re.compile(r"[*?\[{\\]")


@dataclass(frozen=True)
class Rule:
    """Which files count; of several rules the last one that matches decides.

    Attributes:
        base: The folder that it is about, or the file.
        pattern: What a path from there must match; "" for everything.
        take: Whether what matches counts, or does not.
        ignored: Whether what git ignores counts, since this place is named.
        plain: Whether folders of what was built are left out.
    """

    base: str
    pattern: str = ""
    take: bool = True
    ignored: bool = False
    plain: bool = False

    def matches(self, path: str, compiled: dict[str, Pattern]) -> bool:
        """Whether it is about a path; `compiled` keeps patterns."""
        if not below(path, self.base):
            return False
        rest = path[len(self.base.rstrip("/")) + 1 :]
        folders = rest.split("/")[:-1]
        if not NEVER.isdisjoint(folders) or (self.plain and not BUILT.isdisjoint(folders)):
            return False
        if not self.pattern:
            return True
        pattern = compiled.get(self.pattern)
        if pattern is None:
            pattern = compiled[self.pattern] = Pattern(self.pattern)
        return pattern.step(pattern.start, rest.encode("utf-8", "surrogateescape")).accepts


@dataclass(frozen=True)
class Inputs:
    """What a member is made of.

    Attributes:
        member: The member.
        definition: What the manifest says that a build depends on; it counts like a file.
        rules: Which files of which folders count.
        files: Files that count wherever they are: of a component with a build, those that it is loaded with.
        entry: The file whose imports count too, or None.
        output: What a build makes, or None.
    """

    member: Member
    definition: str = ""
    rules: tuple[Rule, ...] = ()
    files: frozenset[str] = field(default_factory=frozenset)
    entry: Path | None = None
    output: Path | None = None


def inputs_of(manifest: Manifest) -> dict[Member, Inputs]:
    """The inputs of all members that have any."""
    folder = manifest.folder
    lock = manifest.path.with_suffix(".lock")
    found = [Inputs(Member("manifest", manifest.path.name), files=_texts(manifest.path, lock))]
    found += [_of_bindings(made) for made in declared(manifest)]
    tools = Tools.of(manifest)
    found += [_of_component(component, folder, tools) for component in manifest.components.values()]
    found += [_of_provider(provider, folder) for provider in manifest.providers.values()]
    return {inputs.member: inputs for inputs in found}


def _of_bindings(made: Declared) -> Inputs:
    # WIT that was fetched may well be left out by git
    pattern = "" if made.wit.suffix in (".wit", ".wasm") else "**/*.wit"
    rule = Rule(str(made.wit), pattern, ignored=True)
    return Inputs(Member("bind", made.name), repr(made), (rule,))


def _of_component(component: Component, folder: Path, tools: Tools) -> Inputs:
    member = Member("component", component.name)
    loaded = frozenset(secrets_of((component.args, component.env)))
    if component.build is None:
        return Inputs(member, files=loaded | _texts(component.path))
    versions = tools.identities(named(component.build))
    definition = repr((component.build, str(component.path), *versions))
    if component.dev is not None:
        definition += recipe(tools)
    if component.sources:
        rules = given(component.sources, folder)
    else:
        work, words = work_and_words(component.build, folder)
        rules = (Rule(str(work), plain=True), *_named(words, work, folder, component.path))
    return Inputs(member, definition, rules, loaded, None, component.path)


def _of_provider(provider: Provider, folder: Path) -> Inputs:
    member = Member("provider", provider.name)
    said: tuple[Any, ...] = (provider.config, provider.env, provider.token, provider.login)
    files = set(secrets_of(said))
    if provider.tls is not None:
        tls = (provider.tls.ca, provider.tls.certificate, provider.tls.key)
        files |= _texts(*(path for path in tls if path is not None))
    rules: tuple[Rule, ...] = ()
    entry: Path | None = None
    if provider.sources:
        rules = given(provider.sources, folder)
    elif provider.shipped or provider.shipped_aside or is_shipped(provider.target):
        pass
    elif (module := provider.module) is not None:
        entry = file_of(module, folder) or folder.joinpath(*module.split(".")).with_suffix(".py")
        rules = (Rule(str(entry.parent / "wit"), "**/*.wit"),)
    elif provider.placement == "sidecar" and provider.target.startswith("node:"):
        assert provider.path is not None
        entry, at = provider.path, provider.path.parent
        rules = tuple(
            Rule(str(above / "wit"), "**/*.wit")
            for above in (at, at.parent)
            if below(str(above), str(folder))
        )
    elif provider.path is not None:
        files |= _texts(provider.path)
    elif provider.command:
        files |= {
            rule.base for rule in _named(provider.command, folder, folder, None) if os.path.isfile(rule.base)
        }
        script = next(
            (path for path in sorted(files) if path.endswith((".py", ".js", ".mjs", ".cjs", ".ts"))), None
        )
        entry = None if script is None else Path(script)
    return Inputs(member, "", rules, frozenset(files), entry)


def given(sources: Iterable[str], folder: Path) -> tuple[Rule, ...]:
    """Patterns of a manifest: from its folder on, and a folder's name stands for all that is in it."""
    rules = []
    for source in sources:
        take, text = not source.startswith("!"), source.removeprefix("!").rstrip("/")
        *_, literal = _literal(text)
        rest = text[len(literal) :].lstrip("/")
        base = os.path.normpath(os.path.join(folder, literal))
        # a pattern without a slash would match at any depth
        rules.append(Rule(base, f"/{rest}" if rest and not rest.startswith("**") else rest, take, not rest))
    return tuple(rules)


def _literal(text: str) -> Iterator[str]:
    """The folders that a pattern begins with, longer and longer."""
    yield ""
    parts = text.split("/")
    for count in range(1, len(parts) + 1):
        if _WILD.search(parts[count - 1]):
            return
        yield "/".join(parts[:count])


def _named(words: Iterable[str], work: Path, folder: Path, output: Path | None) -> Iterator[Rule]:
    """Files and folders of the workspace, outside of where the build works, that its command names."""
    root, at, made = str(folder), str(work), str(output)
    for word in words:
        for part in {word, word.rpartition("=")[2]}:
            if not part or part[0] in "-<>&|;" or "\0" in part:
                continue
            path = os.path.normpath(os.path.join(at, part))
            if path == root or not below(path, root) or below(at, path):
                continue
            # all that is where the build works counts anyway
            if output is not None and (below(path, at) or below(made, path)):
                continue
            if os.path.exists(path):
                yield Rule(path, plain=True)


def secrets_of(value: Any) -> Iterator[str]:
    """The files of all secrets in a value."""
    match value:
        case Secret(file=Path() as file):
            yield str(file)
        case Login():
            yield from secrets_of(list(vars(value).values()))
        case Mapping():
            yield from secrets_of(list(value.values()))
        case list() | tuple():
            for item in value:
                yield from secrets_of(item)


def _texts(*paths: Path) -> frozenset[str]:
    return frozenset(map(str, paths))
