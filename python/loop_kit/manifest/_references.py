"""Names in a manifest that must lead somewhere.

Works on the document as parsed from TOML, not on what the shapes made of it, so that a dangling name is
reported together with every other problem. Values of a wrong type are the shapes' to report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loop_kit.dev._registry import BUILT_IN
from loop_kit.manifest._scan import Keys
from loop_kit.manifest._shape import Cursor, did_you_mean
from loop_kit.manifest._toml import string
from loop_kit.manifest._use import BUILTINS, is_file, is_shipped

__all__ = ["check_references"]

Raw = Mapping[str, Any]


def check_references(raw: Raw, at: Cursor) -> None:
    """Reports providers and components that do not exist, and components that need each other to start."""
    providers, components = dict(_tables(raw, "providers")), dict(_tables(raw, "components"))
    for keys, link in _links(raw):
        name = link.get("provider")
        if isinstance(name, str) and name not in providers:
            hint = _missing_provider(name, providers)
            _report(at, keys, "provider", f"there is no provider {string(name)}", hint)
    for name, provider in providers.items():
        target = _component_of(provider)
        if target is not None and target not in components:
            hint = did_you_mean(target, components) or "a path needs a / or ends in .wasm"
            _report(at, ("providers", name), "use", f"there is no component {string(target)}", hint)
    _check_circles(components, providers, at)
    _check_commands(raw, components, at)


def _check_commands(raw: Raw, components: Mapping[str, Raw], at: Cursor) -> None:
    commands = raw.get("commands")
    for name, component in commands.items() if isinstance(commands, dict) else ():
        if name in BUILT_IN:
            message = f"{string(name)} is a command of loop-kit's own, which {string(str(component))} cannot replace"
            _report(at, ("commands",), name, message, "give it another name")
        elif isinstance(component, str) and component not in components:
            hint = did_you_mean(component, components) or "a command is made by one of [components]"
            _report(at, ("commands",), name, f"there is no component {string(component)}", hint)


def _check_circles(components: Mapping[str, Raw], providers: Mapping[str, Raw], at: Cursor) -> None:
    """Follows explicit links only: whether a default of [links] applies depends on a component's imports."""
    needs: dict[str, dict[str, Keys]] = {}
    for name, component in components.items():
        needs[name] = {}
        for key, link in _tables(component, "imports"):
            target = _component_of(providers.get(str(link.get("provider")), {}))
            if target is not None and target in components:
                needs[name].setdefault(target, ("components", name, "imports", key))
    done: set[str] = set()
    for start in components:
        # Depth first, without recursion: a manifest may chain more components than Python has stack.
        path, branches = [start], [iter(needs[start])]
        while branches and start not in done:
            following = next(branches[-1], None)
            if following is None:
                done.add(path.pop())
                branches.pop()
            elif following in path:
                circle = [*path[path.index(following) :], following]
                keys = needs[path[-1]][following]
                message = f"components need each other to start: {' → '.join(circle)}"
                _report(at, keys, "provider", message, None)
            elif following not in done:
                path.append(following)
                branches.append(iter(needs[following]))


def _links(raw: Raw) -> Iterator[tuple[Keys, Raw]]:
    for name, link in _tables(raw, "links"):
        yield ("links", name), link
    for component, table in _tables(raw, "components"):
        for name, link in _tables(table, "imports"):
            yield ("components", component, "imports", name), link


def _tables(raw: Raw, key: str) -> Iterator[tuple[str, Raw]]:
    table = raw.get(key)
    if isinstance(table, dict):
        for name, value in table.items():
            if isinstance(value, dict):
                yield name, value


def _component_of(provider: Raw) -> str | None:
    use = provider.get("use")
    if not isinstance(use, str) or not use.startswith("component:"):
        return None
    target = use.removeprefix("component:")
    return None if not target or is_file(target) or is_shipped(target) else target


def _missing_provider(name: str, providers: Mapping[str, Raw]) -> str:
    near = did_you_mean(name, providers)
    if near:
        return near
    builtin = name.removeprefix("builtin:")
    use = (
        f'"builtin:{builtin}"'
        if builtin in BUILTINS
        else '"builtin:…", "python:…", "component:…", "sidecar:…", "remote:…" or "oci:…"'
    )
    return f"add [providers.{builtin if builtin in BUILTINS else 'NAME'}] with use = {use}"


def _report(at: Cursor, keys: Keys, child: str, message: str, hint: str | None) -> None:
    at.report.append(at.source.problem(keys, message, hint, at="value", place=(*keys, child)))
