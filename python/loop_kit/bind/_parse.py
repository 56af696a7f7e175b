"""Reads WIT that the core has found sound: it says what is wrong with the rest, and where."""

from __future__ import annotations

from typing import Literal

from loop_kit.bind._lex import Lexer
from loop_kit.bind._model import (
    PRIMITIVES,
    Definition,
    Function,
    Interface,
    Member,
    Name,
    Named,
    Package,
    Type,
    World,
)

__all__ = ["parse"]

_Kind = Literal["record", "variant", "enum", "flags"]
_KINDS: tuple[_Kind, ...] = ("record", "variant", "enum", "flags")
_Type = Type | Named | Name | None


def parse(text: str, file: str) -> list[Package]:
    """The packages of a file: its own first, then those that stand within.

    Raises:
        LoadError: It is no WIT; says where.
    """
    return _Parser(text, file).file()


class _Parser:
    def __init__(self, text: str, file: str) -> None:
        self._lex = Lexer(text, file)
        self._nested: list[Package] = []

    def file(self) -> list[Package]:
        lex = self._lex
        own = Package("")
        self._gates()
        if lex.take("package"):
            name = self._package_name()
            if lex.peek("{"):
                self._braced_package(name)
            else:
                lex.expect(";")
                own.name = name
        self._items(own)
        if not lex.done:
            raise lex.error("expected `interface`, `world`, `use` or `package`")
        return [own, *self._nested]

    def _braced_package(self, name: str) -> None:
        package = Package(name)
        self._nested.append(package)
        self._lex.expect("{")
        self._items(package)
        self._lex.expect("}")

    def _items(self, into: Package) -> None:
        lex = self._lex
        while True:
            doc, kept = self._gates()
            if lex.take("interface"):
                name = lex.name()
                made = self._interface(doc)
                if kept:
                    into.interfaces[name] = made
            elif lex.take("world"):
                name = lex.name()
                world = self._world(name, doc)
                if kept:
                    into.worlds[name] = world
            elif lex.take("package"):
                self._braced_package(self._package_name())
            elif lex.take("use"):
                path = self._path()
                short = path.partition("@")[0].rpartition("/")[2]
                into.aliases[lex.name() if lex.take("as") else short] = path
                lex.expect(";")
            else:
                return

    def _gates(self) -> tuple[str, bool]:
        """The documentation of what follows, and whether it is there: what is unstable is not, to the core."""
        lex = self._lex
        doc, kept = lex.doc, True
        while lex.take("@"):
            kept &= lex.name() != "unstable"
            if lex.take("("):
                while not lex.take(")"):
                    key = lex.name()
                    lex.expect("=")
                    _ = lex.version() if key == "version" else lex.name()
                    lex.take(",")
            doc = doc or lex.doc
        return doc, kept

    def _package_name(self) -> str:
        lex = self._lex
        name = lex.name()
        lex.expect(":")
        name += f":{lex.name()}"
        return f"{name}@{lex.version()}" if lex.take("@") else name

    def _path(self) -> str:
        """`store`, or `acme:kv/store@0.1.0`."""
        lex = self._lex
        return self._path_after(lex.name())

    def _path_after(self, first: str) -> str:
        lex = self._lex
        if not lex.take(":"):
            return first
        path = f"{first}:{lex.name()}"
        lex.expect("/")
        path += f"/{lex.name()}"
        return f"{path}@{lex.version()}" if lex.take("@") else path

    def _interface(self, doc: str) -> Interface:
        lex = self._lex
        made = Interface("", doc)
        lex.expect("{")
        while True:
            doc, kept = self._gates()
            if lex.take("}"):
                return made
            into = made if kept else Interface("")
            if not self._definition(into, doc):
                name = lex.name()
                lex.expect(":")
                into.functions.append(self._function(name, doc))

    def _definition(self, into: Interface, doc: str) -> bool:
        """Reads a `use` or a type; whether there was one."""
        lex = self._lex
        if lex.take("use"):
            self._use(into)
        elif lex.take("type"):
            name = lex.name()
            lex.expect("=")
            into.types[name] = Definition(name, "alias", doc, [Member(name, self._type())])
            lex.expect(";")
        elif lex.take("resource"):
            self._resource(into, doc)
        else:
            kind = next((kind for kind in _KINDS if lex.take(kind)), None)
            if kind is None:
                return False
            name = lex.name()
            into.types[name] = Definition(name, kind, doc, self._members(kind))
        return True

    def _use(self, into: Interface) -> None:
        lex = self._lex
        path = self._path()
        lex.expect(".")
        lex.expect("{")
        while not lex.take("}"):
            name = lex.name()
            into.uses[lex.name() if lex.take("as") else name] = path, name
            if not lex.peek("}"):
                lex.expect(",")
        lex.expect(";")

    def _resource(self, into: Interface, doc: str) -> None:
        lex = self._lex
        resource = lex.name()
        into.types[resource] = Definition(resource, "resource", doc)
        if lex.take(";"):
            return
        lex.expect("{")
        while True:
            doc, kept = self._gates()
            if lex.take("}"):
                return
            if lex.peek("constructor"):
                place = lex.place()
                lex.expect("constructor")
                params = self._params()
                made: _Type = self._type() if lex.take("->") else Name(resource, place)
                lex.expect(";")
                function = Function(f"[constructor]{resource}", params, made, False, doc, resource)
            else:
                name = lex.name()
                lex.expect(":")
                kind = "static" if lex.take("static") else "method"
                function = self._function(f"[{kind}]{resource}.{name}", doc, resource)
            if kept:
                into.functions.append(function)

    def _function(self, name: str, doc: str, resource: str | None = None) -> Function:
        """What follows the colon, to the semicolon."""
        lex = self._lex
        is_async = lex.take("async")
        lex.expect("func")
        params = self._params()
        result = self._type() if lex.take("->") else None
        lex.expect(";")
        return Function(name, params, result, is_async, doc, resource)

    def _params(self) -> list[Member]:
        lex = self._lex
        found: list[Member] = []
        lex.expect("(")
        while not lex.take(")"):
            name = lex.name()
            lex.expect(":")
            found.append(Member(name, self._type()))
            if not lex.peek(")"):
                lex.expect(",")
        return found

    def _members(self, kind: _Kind) -> list[Member]:
        lex = self._lex
        found: list[Member] = []
        lex.expect("{")
        while True:
            doc, kept = self._gates()
            if lex.take("}"):
                return found
            member = Member(lex.name(), None, doc)
            if kind == "record":
                lex.expect(":")
                member.type = self._type()
            elif kind == "variant" and lex.take("("):
                member.type = self._type()
                lex.expect(")")
            if kept:
                found.append(member)
            if not lex.peek("}"):
                lex.expect(",")

    def _type(self) -> Type | Named | Name:
        lex = self._lex
        place = lex.place()
        kind = next((word for word in PRIMITIVES if lex.take(word)), None)
        if kind is not None:
            return Type(kind)
        if lex.take("list"):
            lex.expect("<")
            of = self._type()
            length = lex.number() if lex.take(",") else None
            lex.expect(">")
            return Type("list", (of,), length)
        for kind in ("tuple", "option"):
            if lex.take(kind):
                return Type(kind, self._arguments())
        for kind in ("stream", "future"):
            if lex.take(kind):
                return Type(kind, self._arguments() if lex.peek("<") else (None,))
        if lex.take("result"):
            ok, err = (*self._arguments(), None)[:2] if lex.peek("<") else (None, None)
            return Type("result", (ok, err))
        for kind in ("borrow", "own"):
            if lex.take(kind):
                return Type(kind, self._arguments())
        return Name(lex.name(), place)

    def _arguments(self) -> tuple[_Type, ...]:
        lex = self._lex
        found: list[_Type] = []
        lex.expect("<")
        while not lex.take(">"):
            found.append(None if lex.take("_") else self._type())
            if not lex.peek(">"):
                lex.expect(",")
        return tuple(found)

    def _world(self, name: str, doc: str) -> World:
        lex = self._lex
        made = World(name, doc)
        lex.expect("{")
        while True:
            doc, kept = self._gates()
            if lex.take("}"):
                return made
            into = made if kept else World(name, "")
            if lex.take("import"):
                self._item(into.imports, into.root_imports, doc)
            elif lex.take("export"):
                self._item(into.exports, into.root_exports, doc)
            elif lex.take("include"):
                into.includes.append((self._path(), self._renames()))
                lex.take(";")
            elif not self._definition(into.root_imports, doc):
                raise lex.error("expected `import`, `export`, `include`, `use` or a type")

    def _item(self, named: list[str | Interface], root: Interface, doc: str) -> None:
        lex = self._lex
        first = lex.name()
        if not lex.take(":"):
            named.append(first)
            lex.expect(";")
        elif lex.take("interface"):
            made = self._interface(doc)
            made.name = first
            named.append(made)
        elif lex.peek("func") or lex.peek("async"):
            root.functions.append(self._function(first, doc))
        else:
            path = f"{first}:{lex.name()}"
            lex.expect("/")
            path += f"/{lex.name()}"
            named.append(f"{path}@{lex.version()}" if lex.take("@") else path)
            lex.expect(";")

    def _renames(self) -> dict[str, str]:
        lex = self._lex
        found: dict[str, str] = {}
        if lex.take("with"):
            lex.expect("{")
            while not lex.take("}"):
                old = lex.name()
                lex.expect("as")
                found[old] = lex.name()
                if not lex.peek("}"):
                    lex.expect(",")
        return found
