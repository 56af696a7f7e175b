"""What one manifest says otherwise than another, for whoever runs by the first."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loop_kit.manifest import Component, Link, Manifest, Secret
from loop_kit.manifest._match import ImportName
from loop_kit.manifest.sentences import of_link

__all__ = ["Change", "changes", "components_anew", "providers_anew"]

_NO_CODE = ("name", "trusted", "sources", "bind")
"""What of a provider does not matter to one that runs."""
_ON_START = ("run", "serve", "watch", "sources", "bind")
"""What of a component matters when the workspace starts, or to who builds it."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an exchange changes of a member, in words.

    Attributes:
        member: Its name; with what of it changes (`files.config`), or the import of a component
            (`site/loop:fsx/files`).
        before: What was; "" where there was nothing.
        after: What is; "" where there is nothing.
    """

    member: str
    before: str
    after: str


def providers_anew(old: Manifest, new: Manifest) -> set[str]:
    """The providers of both that must be started anew."""
    found = {
        name
        for name, provider in new.providers.items()
        if name in old.providers and any(_fields(old.providers[name], provider, _NO_CODE))
    }
    if old.limits != new.limits:
        # a component that has no table has the workspace's limits
        found |= {name for name, one in new.providers.items() if name in old.providers and one.sandboxed}
    return found


def components_anew(old: Manifest, new: Manifest) -> set[str]:
    """The components of both that must be loaded anew, whatever they are linked to."""
    return {
        name
        for name, component in new.components.items()
        if name in old.components
        and any(_fields(old.components[name], component, ("name", "imports", *_ON_START)))
    }


def changes(old: Manifest, new: Manifest) -> list[Change]:
    """All that is said otherwise, by kind and name. Secrets are named, never read."""
    found = [*_members(old.providers, new.providers, _NO_CODE[:1])]
    found += _members(old.components, new.components, ("name", "imports"))
    for name in sorted({*old.components, *new.components}):
        before, after = (each.components.get(name) for each in (old, new))
        found += _links(old, new, name, before, after)
    found += _linked(old, new, "links", old.links, new.links)
    if old.limits != new.limits:
        found.append(Change("limits", _text(old.limits), _text(new.limits)))
    for name in sorted({*old.commands, *new.commands}):
        change = Change(f"commands.{name}", old.commands.get(name, ""), new.commands.get(name, ""))
        if change.before != change.after:
            found.append(change)
    return found


def _members(old: Mapping[str, Any], new: Mapping[str, Any], but: tuple[str, ...]) -> Iterator[Change]:
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before is None or after is None:
            yield Change(name, _source(before), _source(after))
            continue
        if _source(before) != _source(after):
            yield Change(name, _source(before), _source(after))
        for field in _fields(before, after, but):
            # what follows from `use`, as the placement does, goes without saying
            if field not in ("use", "placement", "target", "path", "transport", "artifact"):
                yield Change(f"{name}.{field}", *(_text(getattr(each, field)) for each in (before, after)))


def _source(member: Any) -> str:
    if member is None:
        return ""
    if member.artifact is not None and member.artifact.entry is not None:
        entry = member.artifact.entry
        return f"{member.artifact.reference} {entry.version} ({entry.digest[:19]}…)"
    return str(getattr(member, "use", "") or member.path)


def _links(
    old: Manifest, new: Manifest, name: str, before: Component | None, after: Component | None
) -> Iterator[Change]:
    if before is not None and after is not None:
        yield from _linked(old, new, name, before.imports, after.imports)


def _linked(
    old: Manifest, new: Manifest, where: str, before: Mapping[str, Link], after: Mapping[str, Link]
) -> Iterator[Change]:
    for key in sorted({*before, *after}):
        was, now = before.get(key), after.get(key)
        if was is None or now is None or any(_fields(was, now, ("keys", "reason"))):
            yield Change(f"{where}/{key}", _said(old, was), _said(new, now))


def _said(manifest: Manifest, link: Link | None) -> str:
    if link is None:
        return ""
    grants = "; ".join(of_link(manifest, ImportName.parse(link.name).package, link))
    budget = "" if link.budget is None else f", within {link.budget:g} s"
    return f"{link.provider}: {grants}{budget}"


def _fields(old: Any, new: Any, but: tuple[str, ...]) -> Iterator[str]:
    for field in dataclasses.fields(old):
        if field.name not in but and getattr(old, field.name) != getattr(new, field.name):
            yield field.name


def _text(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    match value:
        case Secret():
            return {"env": value.env} if value.file is None else {"file": str(value.file)}
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            items = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
            return {name: _plain(item) for name, item in items if item is not None}
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)
