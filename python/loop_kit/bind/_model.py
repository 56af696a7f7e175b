"""WIT as data: types whose names are resolved, functions, interfaces, and what a world imports and exports."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "Bound",
    "Definition",
    "Function",
    "Interface",
    "Member",
    "Name",
    "Named",
    "Package",
    "Type",
    "World",
    "plain",
    "resource",
    "walk",
]

NUMBERS = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64")
KINDS = ("record", "variant", "enum", "flags", "resource", "alias")
PRIMITIVES = (*NUMBERS, "bool", "char", "string", "error-context")


@dataclass(slots=True)
class Type:
    """A type without a name of its own.

    Attributes:
        kind: One of PRIMITIVES, `list`, `tuple`, `option`, `result`, `stream`, `future`, `own` or `borrow`.
        parts: What is in the brackets; None where that is `_` or left out. A result has both parts always.
        length: Of a list whose length is part of its type.
    """

    kind: str
    parts: tuple[Type | Named | Name | None, ...] = ()
    length: int | None = None


@dataclass(slots=True)
class Name:
    """A name as it was written, which its interface knows; `place` says where, once somebody asks."""

    text: str
    place: Callable[[], str]


@dataclass(slots=True)
class Named:
    """A type by its definition, whatever it is called where it is used."""

    definition: Definition


@dataclass(slots=True)
class Member:
    """A field of a record, a case of a variant or enum, one of the flags, or a parameter."""

    name: str
    type: Type | Named | Name | None = None
    doc: str = ""


@dataclass(slots=True, eq=False)
class Definition:
    """A type with a name.

    Attributes:
        kind: `record`, `variant`, `enum`, `flags`, `resource` or `alias`.
        members: None for a resource; the one member of an alias is what it stands for.
        interface: The interface, or world, that defines it.
    """

    name: str
    kind: Literal["record", "variant", "enum", "flags", "resource", "alias"]
    doc: str
    members: list[Member] = field(default_factory=list)
    interface: str = ""


@dataclass(slots=True)
class Function:
    """A function.

    Attributes:
        name: As components have it: `get`, `[method]bucket.get`, `[static]bucket.open`, `[constructor]bucket`.
        params: Without `self`.
        resource: Of a method, static or constructor.
    """

    name: str
    params: list[Member]
    result: Type | Named | Name | None
    is_async: bool
    doc: str
    resource: str | None = None

    @property
    def kind(self) -> Literal["function", "method", "static", "constructor"]:
        """What it is, by its name."""
        if self.resource is None:
            return "function"
        if self.name.startswith("[method]"):
            return "method"
        return "static" if self.name.startswith("[static]") else "constructor"

    @property
    def bare(self) -> str:
        """Its own name, without its resource's; that of a constructor is empty."""
        return self.name.partition("]")[2].partition(".")[2] if self.resource else self.name


@dataclass(slots=True, eq=False)
class Interface:
    """An interface.

    Attributes:
        name: `acme:kv/store@0.1.0`; the plain name of one that stands in a world; empty for what a world has itself.
        uses: Names of other interfaces' types: their interface as it was written, and what they are called there.
    """

    name: str
    doc: str = ""
    types: dict[str, Definition] = field(default_factory=dict)
    uses: dict[str, tuple[str, str]] = field(default_factory=dict)
    functions: list[Function] = field(default_factory=list)

    @property
    def bare(self) -> str:
        """`store` of `acme:kv/store@0.1.0`."""
        return self.name.partition("@")[0].rpartition("/")[2]

    @property
    def resources(self) -> list[Definition]:
        """Those that it defines."""
        return [found for found in self.types.values() if found.kind == "resource"]

    def owned(self, resource: str) -> list[Function]:
        """The functions of one of its resources."""
        return [function for function in self.functions if function.resource == resource]


Item = str | Interface
"""What a world imports or exports: an interface by its name as it was written, or one that stands there."""


@dataclass(slots=True, eq=False)
class World:
    """A world as it is written. What it imports and exports itself is `root_imports` and `root_exports`."""

    name: str
    doc: str
    imports: list[Item] = field(default_factory=list)
    exports: list[Item] = field(default_factory=list)
    includes: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    root_imports: Interface = field(default_factory=lambda: Interface(""))
    root_exports: Interface = field(default_factory=lambda: Interface(""))


@dataclass(slots=True, eq=False)
class Package:
    """What one package has, from all its files.

    Attributes:
        name: `acme:kv@0.1.0`; empty while no file has said it.
        aliases: Of `use acme:kv/store as kv;` outside of interfaces.
    """

    name: str
    interfaces: dict[str, Interface] = field(default_factory=dict)
    worlds: dict[str, World] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def full(self, name: str) -> str:
        """`acme:kv/store@0.1.0` for `store`."""
        bare, at, version = self.name.partition("@")
        return f"{bare}/{name}{at}{version}"


@dataclass(slots=True)
class Bound:
    """What to bind.

    Attributes:
        title: Where it comes from: `acme:kv@0.1.0`, or `acme:app/guest@0.1.0` for a world.
        digest: SHA-256 of the WIT, hexadecimal.
        imports: The interfaces that a component asks for, and a provider gives.
        exports: Those that a component gives, and its host calls.
        used: All of them and those whose types they use, what is used before what uses it.
        world: Whether it is one world, whose two sides these are; else each interface is on both.
        component: Whether it is the world of a component.
    """

    title: str
    digest: str
    imports: list[Interface]
    exports: list[Interface]
    used: list[Interface]
    world: bool
    component: bool = False


def plain(type: Type | Named | Name | None) -> Type | Named | None:
    """What an alias ends at: a type without a name, or a definition that is no alias."""
    while isinstance(type, Named) and type.definition.kind == "alias":
        type = type.definition.members[0].type
    assert not isinstance(type, Name), f"{type} was never resolved"
    return type


def resource(handle: Type) -> Definition:
    """The resource of an `own` or `borrow`, whatever it is called there."""
    part = handle.parts[0]
    while True:
        end = plain(part)
        if isinstance(end, Named):
            return end.definition
        assert end is not None, "a handle of nothing"
        part = end.parts[0]


def walk(*types: Type | Named | Name | None, named: Container[str] = KINDS) -> Iterator[Type | Named]:
    """The types and all types within, each definition once; `named` are the kinds of those that are opened."""
    pending, seen = [*types], set[int]()
    while pending:
        type = pending.pop()
        if isinstance(type, Named):
            definition = type.definition
            if id(definition) not in seen:
                seen.add(id(definition))
                yield type
                if definition.kind in named:
                    pending += [member.type for member in definition.members]
        elif isinstance(type, Type):
            yield type
            pending += type.parts
