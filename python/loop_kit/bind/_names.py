"""What is printed, and under which names: each name once in a module, and always the same for the same WIT."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from itertools import chain
from typing import TypeVar

from loop_kit._types import pascal
from loop_kit.bind._model import Bound, Definition, Function, Interface, Name, Named, Type, plain, walk
from loop_kit.errors import LoadError

__all__ = ["bounded", "exported", "is_option", "reached", "returned", "spread", "types_of", "varies"]

_T = TypeVar("_T", Definition, Interface)
_LEVELS = 3
_LONGEST = 20_000


def types_of(function: Function) -> Iterable[Type | Named | Name | None]:
    """The types of its parameters, and of its result."""
    return (*(param.type for param in function.params), function.result)


def reached(bound: Bound, interfaces: Sequence[Interface]) -> list[Definition]:
    """The types that these define, and all that they use, in the order of the WIT and what is used first."""
    owners = {interface.name: interface for interface in bound.used}
    seen: set[int] = set()
    pending: list[Definition] = [d for interface in interfaces for d in interface.types.values()]
    for interface in interfaces:
        pending += _definitions(interface.functions)
    while pending:
        definition = pending.pop()
        if id(definition) in seen:
            continue
        seen.add(id(definition))
        pending += [
            part.definition
            for part in walk(*(m.type for m in definition.members), named=())
            if isinstance(part, Named)
        ]
        if definition.kind == "resource" and definition.interface in owners:
            pending += _definitions(owners[definition.interface].owned(definition.name))
    return [d for interface in bound.used for d in interface.types.values() if id(d) in seen]


def _definitions(functions: Iterable[Function]) -> list[Definition]:
    types = chain.from_iterable(types_of(function) for function in functions)
    return [part.definition for part in walk(*types, named=()) if isinstance(part, Named)]


def spread(
    items: Sequence[_T], derived: Callable[[_T, str], Sequence[str]], taken: set[str], last: str = "Root"
) -> dict[int, str]:
    """A name for each item, by its id: its own, or with that of its interface or package before it.

    Args:
        items: Definitions or interfaces.
        derived: All names that an item will take for one that is tried.
        taken: Names that are in use; those of these items are added.
        last: What stands for an interface without a name.
    """
    levels = {id(item): 0 for item in items}
    while True:
        names = {id(item): _form(item, levels[id(item)], last) for item in items}
        users: dict[str, list[int]] = {}
        for item in items:
            for name in derived(item, names[id(item)]):
                users.setdefault(name, []).append(id(item))
        crowded: set[int] = set()
        for name, keys in users.items():
            if name in taken or (len(keys) > 1 and levels[keys[0]] < _LEVELS):
                crowded.update(keys)
            elif len(set(keys)) > 1:
                crowded.update(keys[1:])  # nothing tells them apart but their order
        if not crowded:
            taken.update(users)
            return names
        for key in crowded:
            levels[key] += 1


def _form(item: Definition | Interface, level: int, last: str) -> str:
    """Its name, then with more of where it stands the higher the level; then with underscores."""
    name = item.interface if isinstance(item, Definition) else item.name
    bare, _, version = name.partition("@")
    package, _, face = bare.rpartition("/")
    parts = [
        *(["".join(c if c.isalnum() else "-" for c in part)] for part in (f"v-{version}", package, face))
    ]
    flat = [pascal(part[0]) if part[0] not in ("", "v-") else "" for part in parts]
    own = pascal(item.name) if isinstance(item, Definition) else flat.pop() or last
    forms = [own]
    for prefix in reversed(flat[1:]):
        forms.append(prefix + forms[-1])
    forms.append(forms[-1] + flat[0])
    return forms[level] if level < len(forms) else forms[-1] + "_" * (level - len(forms) + 1)


def exported(bound: Bound, definition: Definition) -> bool:
    """Whether the definition is a resource that a component of this world exports, so that its host has handles."""
    return not bound.world or any(definition in interface.types.values() for interface in bound.exports)


def returned(function: Function) -> Type | Named | Name | None:
    """The type that it returns: of a `result` at the top what is good, for the rest is raised."""
    end = plain(function.result)
    return end.parts[0] if isinstance(end, Type) and end.kind == "result" else function.result


def varies(type: Type | Named | Name | None, kinds: Container[str]) -> bool:
    """Whether a type of these kinds is in it, in what is written where it stands: all but what has a name."""
    return any(part.kind in kinds for part in walk(type, named=("alias",)) if isinstance(part, Type))


def bounded(text: str) -> str:
    """A type that is written, unless it is so long that somebody made it so.

    Raises:
        LoadError: It is.
    """
    if len(text) > _LONGEST:
        raise LoadError(
            f"a type is longer than {_LONGEST} letters when its aliases are written out: {text[:60]}…"
        )
    return text


def is_option(type: Type | Named | Name | None) -> bool:
    """Whether it is an option, by whatever name."""
    end = plain(type)
    return isinstance(end, Type) and end.kind == "option"
