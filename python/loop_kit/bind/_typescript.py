"""Declarations for TypeScript: what `loop bind --lang typescript` writes.

Those of a provider in Node.js are one module. Those of a guest declare a module for each interface, by the name under
which the guest imports it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from loop_kit._types import pascal
from loop_kit.bind._annotations import Place, View
from loop_kit.bind._model import (
    Bound,
    Definition,
    Function,
    Interface,
    Member,
    Name,
    Named,
    Type,
    plain,
    resource,
)
from loop_kit.bind._names import bounded, exported, is_option, reached, returned, spread, varies

__all__ = ["camel", "declarations", "parameter"]

_RESERVED = frozenset(
    """
    arguments await break case catch class const continue debugger default delete do else enum eval export extends
    false finally for function if implements import in instanceof interface let new null package private protected
    public return static super switch this throw true try typeof var void while with yield
    """.split()  # noqa: SIM905 - as a list it is a page
)
# These are written otherwise in another place.
_VARYING = ("list", "option", "stream", "future", "own", "borrow")
_WIDE = ("u64", "s64")
_FLOATS = MappingProxyType({"f32": "Float32Array", "f64": "Float64Array"})
_PLAIN = {"bool": "boolean", "char": "string", "string": "string", "error-context": "Error"}
_NOTE = {
    View.PROVIDER: "What provides {}.",
    View.CLIENT: "{}, as its user has it.",
}
_Any = Type | Named | Name | None


def declarations(bound: Bound, guest: bool) -> str:
    """The text of a `.d.ts`."""
    return (_Guest if guest else _Provider)(bound).text()


def camel(name: str) -> str:
    """`is-cancelled` as a property: `isCancelled`."""
    first, *rest = name.lower().split("-")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def parameter(name: str) -> str:
    """A parameter's name."""
    called = camel(name)
    return f"{called}_" if called in _RESERVED else called


class _Declarations:
    """What both have in common; `_Provider` and `_Guest` say where they differ.

    Attributes:
        wide: What a 64-bit integer is.
        none: What is there instead of the value of an option.
        floats: What lists of floats are, where they are no arrays.
        absent: What the `val` may be of a case of a result that has none.
    """

    wide = "bigint"
    none = "undefined"
    absent = "undefined"
    floats: Mapping[str, str] = _FLOATS
    views: Sequence[tuple[View, list[Interface]]]

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._lines: list[str] = []
        self._home = ""
        self._said: dict[tuple[int, Place, View, str], str] = {}
        self._owners = {id(d): i for i in bound.used for d in i.types.values()}
        self._chosen = list({id(i): i for i in (*bound.imports, *bound.exports)}.values())
        self._definitions = reached(bound, self._chosen)

    def text(self) -> str:
        raise NotImplementedError

    def name(self, definition: Definition) -> str:
        raise NotImplementedError

    def last(self, view: View, function: Function) -> str | None:
        """The parameter after all others."""
        raise NotImplementedError

    def answer(self, view: View, function: Function, result: str) -> str:
        """What a function returns whose result is that."""
        raise NotImplementedError

    def handle(self, definition: Definition, view: View) -> str | None:
        """What a resource is called in this view; None: nothing is known of it."""
        raise NotImplementedError

    def _head(self) -> str:
        return (
            f"// Made by `loop bind` from {self._bound.title}, and made anew when that changes.\n"
            f"// WIT sha256:{self._bound.digest}\n/* eslint-disable */\n\n"
        )

    def _put(self, *lines: str) -> None:
        self._lines.extend(lines)

    def type(self, type: _Any, place: Place, view: View) -> str:
        if not isinstance(type, Named):
            return bounded(self._type(type, place, view))
        key = id(type.definition), place, view, self._home
        if key not in self._said:
            self._said[key] = bounded(self._type(type, place, view))
        return self._said[key]

    def _type(self, type: _Any, place: Place, view: View) -> str:
        if type is None:
            return "undefined"
        if isinstance(type, Named):
            return self._named(type, place, view)
        assert isinstance(type, Type)
        parts = [self.type(part, place, view) for part in type.parts]
        match type.kind:
            case "own" | "borrow":
                target = resource(type)
                return (self.handle(target, view) if place is not Place.WITHIN else None) or "any"
            case "list":
                return self._list(type, parts[0], place)
            case "tuple":
                return f"[{', '.join(parts)}]"
            case "option" if is_option(type.parts[0]):
                return f"{{ tag: 'some'; val: {parts[0]} }} | {{ tag: 'none' }}"
            case "option":
                return f"{parts[0]} | {self.none if place is Place.GIVEN else 'null | undefined'}"
            case "result":
                cases = zip(("ok", "err"), type.parts, parts, strict=True)
                return " | ".join(
                    f"{{ tag: '{tag}'; {f'val: {text}' if part else f'val?: {self.absent}'} }}"
                    for tag, part, text in cases
                )
            case "stream":
                item = self._item(type, place, view)
                return f"AsyncIterable<{item}>" + (f" | Iterable<{item}>" if place is Place.TAKEN else "")
            case "future":
                inner = parts[0]
                return f"PromiseLike<{inner}> | {inner}" if place is Place.TAKEN else f"Promise<{inner}>"
            case kind:
                return self.wide if kind in _WIDE else _PLAIN.get(kind, "number")

    def _named(self, named: Named, place: Place, view: View) -> str:
        name = self.name(named.definition)
        if named.definition.kind != "alias":
            return name
        target = plain(named)
        return self.type(target, place, view) if varies(target, _VARYING) else name

    def _item(self, stream: Type, place: Place, view: View) -> str:
        of = plain(stream.parts[0])
        if of is None:
            return "[]"
        in_bytes = isinstance(of, Type) and of.kind == "u8"
        return "Uint8Array" if in_bytes else self.type(stream.parts[0], place, view)

    def _list(self, type: Type, element: str, place: Place) -> str:
        of = plain(type.parts[0])
        kind = of.kind if isinstance(of, Type) else ""
        block = "Uint8Array" if kind == "u8" else self.floats.get(kind)
        if block:
            return f"{block} | readonly number[]" if place is Place.TAKEN else block
        wrapped = f"({element})" if re.search(r"\||^readonly ", element) else element
        return f"{wrapped}[]" if place is Place.GIVEN else f"readonly {wrapped}[]"

    def _definition(self, definition: Definition, indent: str) -> None:
        """A type that is no resource."""
        name = self.name(definition)
        put, pad = self._put, f"{indent}  "
        put(*_doc(definition.doc, indent))
        if definition.kind == "alias":
            put(f"{indent}export type {name} = {self.within(definition.members[0].type)};", "")
        elif definition.kind == "enum":
            put(f"{indent}export type {name} =")
            for member in definition.members:
                put(*_doc(member.doc, pad), f"{pad}| '{member.name}'")
            self._lines[-1] += ";"
            put("")
        elif definition.kind == "variant":
            put(f"{indent}export type {name} =")
            for member in definition.members:
                val = f"; val: {self.within(member.type)}" if member.type else ""
                put(*_doc(member.doc, pad), f"{pad}| {{ tag: '{member.name}'{val} }}")
            self._lines[-1] += ";"
            put("")
        else:
            put(f"{indent}export interface {name} {{")
            for member in definition.members:
                put(*_doc(member.doc, pad), f"{pad}{self._field(definition, member)}")
            put(f"{indent}}}", "")

    def within(self, type: _Any) -> str:
        """The type in something that may go either way."""
        return self.type(type, Place.WITHIN, View.PROVIDER)

    def _field(self, definition: Definition, member: Member) -> str:
        name = camel(member.name)
        if definition.kind == "flags":
            return f"{name}?: boolean | undefined;"
        end = plain(member.type)
        absent = isinstance(end, Type) and end.kind == "option" and not is_option(end.parts[0])
        return f"{name}{'?' if absent else ''}: {self.within(member.type)};"

    def _signature(self, function: Function, view: View) -> str:
        ours, theirs = (Place.GIVEN, Place.TAKEN) if view is View.PROVIDER else (Place.TAKEN, Place.GIVEN)
        params = []
        for param in function.params:
            params.append(f"{parameter(param.name)}: {self.type(param.type, ours, view)}")
        last = self.last(view, function)
        if last:
            while any(param.partition(":")[0] == last.partition(":")[0].rstrip("?") for param in params):
                last = f"_{last}"
            params.append(last)
        result = "void" if returned(function) is None else self.type(returned(function), theirs, view)
        if function.kind == "constructor":
            return f"({', '.join(params)}): {self.constructed(view, result)};"
        return f"({', '.join(params)}): {self.answer(view, function, result)};"

    def constructed(self, view: View, result: str) -> str:
        """What a constructor returns."""
        return result

    def _resource(self, definition: Definition, view: View, indent: str) -> None:
        name = f"{self.name(definition)}{view.value}"
        owned = self._owners[id(definition)].owned(definition.name)
        methods = [function for function in owned if function.kind == "method"]
        made = [function for function in owned if function.kind != "method"]
        optional = "?" if view is View.PROVIDER else ""
        self._put(*_doc(definition.doc, indent), f"{indent}export interface {name} {{")
        self._functions(methods, view, f"{indent}  ")
        self._put(f"{indent}  [Symbol.dispose]{optional}(): void;", f"{indent}}}", "")
        if not methods and not made:
            return
        self._put(
            f"{indent}/** The class of `{definition.name}`. */", f"{indent}export interface {name}Class {{"
        )
        # what checks a provider's class looks for its methods in its prototype
        self._put(f"{indent}  readonly prototype: {name};")
        self._functions(made, view, f"{indent}  ")
        self._put(f"{indent}}}", "")

    def _functions(self, functions: Sequence[Function], view: View, indent: str) -> None:
        for function in functions:
            name = camel(function.bare) if function.kind != "constructor" else self.constructor(view)
            self._put(
                *_doc(self._told(function, view), indent), f"{indent}{name}{self._signature(function, view)}"
            )

    def constructor(self, view: View) -> str:
        return "new "

    def _told(self, function: Function, view: View) -> str:
        end = plain(function.result)
        if not (isinstance(end, Type) and end.kind == "result"):
            return function.doc
        error = self.type(end.parts[1], Place.TAKEN if view is View.PROVIDER else Place.GIVEN, view)
        return f"{function.doc}\n\n{self.thrown(error, view)}".strip("\n")

    def thrown(self, error: str, view: View) -> str:
        """What is said of the error of a result."""
        raise NotImplementedError

    def _interface(self, interface: Interface, name: str, view: View, indent: str) -> None:
        note = _NOTE[view].format(f"`{interface.name}`" if interface.name else "what the world has itself")
        note = note[0].upper() + note[1:]
        self._put(
            *_doc(f"{interface.doc}\n\n{note}".strip("\n"), indent), f"{indent}export interface {name} {{"
        )
        for definition in interface.resources:
            if interface.owned(definition.name):
                cls = f"{self.name(definition)}{view.value}Class"
                self._put(f"{indent}  readonly {pascal(definition.name)}: {cls};")
        self._functions([f for f in interface.functions if f.resource is None], view, f"{indent}  ")
        self._put(f"{indent}}}", "")


class _Provider(_Declarations):
    """For a provider in Node.js, and for whoever calls one."""

    def __init__(self, bound: Bound) -> None:
        super().__init__(bound)
        # a world's provider has its imports, and the same SDK calls what is exported
        self.views = [(View.PROVIDER, bound.imports), (View.CLIENT, bound.exports)]
        self._served = {view: {id(d) for d in reached(bound, faces)} for view, faces in self.views}
        taken = {"Provides", "Imports", "Answer", "CallContext", "CallOptions", "LinkInfo"}
        self._names = spread(self._definitions, _all_names, taken)
        faces = [interface for interface in self._chosen if interface.functions]
        self._faces = spread(faces, lambda _, name: [f"{name}Provider", f"{name}Client"], taken)

    def name(self, definition: Definition) -> str:
        return self._names[id(definition)]

    def handle(self, definition: Definition, view: View) -> str | None:
        known = id(definition) in self._served[view] and (
            view is View.PROVIDER or exported(self._bound, definition)
        )
        return f"{self.name(definition)}{view.value}" if known else None

    def last(self, view: View, function: Function) -> str | None:
        return "context: CallContext" if view is View.PROVIDER else "options?: CallOptions"

    def answer(self, view: View, function: Function, result: str) -> str:
        return f"Answer<{result}>" if view is View.PROVIDER else f"Promise<{result}>"

    def constructed(self, view: View, result: str) -> str:
        return result if view is View.PROVIDER else f"Promise<{result}>"

    def constructor(self, view: View) -> str:
        return "new " if view is View.PROVIDER else "construct"

    def thrown(self, error: str, view: View) -> str:
        return f"@throws ResultError whose `payload` is {error}"

    def text(self) -> str:
        for definition in self._definitions:
            if definition.kind != "resource":
                self._definition(definition, "")
        maps: dict[View, list[str]] = {}
        for view, interfaces in self.views:
            for definition in self._definitions:
                if definition.kind == "resource" and self.handle(definition, view):
                    self._resource(definition, view, "")
            for interface in interfaces:
                if interface.functions:
                    name = f"{self._faces[id(interface)]}{view.value}"
                    self._interface(interface, name, view, "")
                    made = (
                        f"{name} | ((link: LinkInfo) => {name} | Promise<{name}>)"
                        if view is View.PROVIDER
                        else name
                    )
                    if interface.name:
                        maps.setdefault(view, []).append(f"  '{interface.name}': {made};")
        for view, name, doc in (
            (View.PROVIDER, "Provides", "What `serve` takes as `provides`, or a part of it."),
            (View.CLIENT, "Imports", "What `connect` gives as `imports`, where all of these were asked for."),
        ):
            if view in maps:
                self._put(f"/** {doc} */", f"export interface {name} {{", *maps[view], "}", "")
        body = "\n".join(self._lines).rstrip("\n") + "\n"
        used = [
            name for name in ("CallContext", "CallOptions", "LinkInfo") if re.search(rf"\b{name}\b", body)
        ]
        head = self._head()
        if used:
            head += f"import type {{ {', '.join(used)} }} from '@loop-kit/provider';\n\n"
        if "Answer<" in body:
            head += "/** What a function returns: it may be async. */\nexport type Answer<T> = T | PromiseLike<T>;\n\n"
        return head + body + ("" if used or "export " in body else "export {};\n")


class _Guest(_Declarations):
    """For a component in JavaScript, built by componentize-qjs."""

    wide = "number"
    none = "null"
    absent = "null | undefined"
    floats: Mapping[str, str] = MappingProxyType({})  # lists of numbers are arrays there

    def __init__(self, bound: Bound) -> None:
        super().__init__(bound)
        self.views = [(View.CLIENT, bound.imports), (View.PROVIDER, bound.exports)]
        self._names: dict[int, str] = {}
        for interface in bound.used:
            self._names |= spread(
                list(interface.types.values()), _all_names, {_face(interface, v) for v, _ in self.views}
            )
        self._now: Interface | None = None

    def name(self, definition: Definition) -> str:
        name, owner = self._names[id(definition)], self._owners[id(definition)]
        return name if owner is self._now else f"import('{self._module(owner)}').{name}"

    def _module(self, interface: Interface) -> str:
        return interface.name or self._bound.title

    def handle(self, definition: Definition, view: View) -> str | None:
        owner = self._owners[id(definition)]
        imports, exports = self._bound.imports, self._bound.exports
        ours = owner in exports and (view is View.PROVIDER or owner not in imports)
        return f"{self.name(definition)}{(View.PROVIDER if ours else View.CLIENT).value}"

    def last(self, view: View, function: Function) -> str | None:
        return None

    def answer(self, view: View, function: Function, result: str) -> str:
        if not function.is_async:
            return result
        return f"{result} | PromiseLike<{result}>" if view is View.PROVIDER else f"Promise<{result}>"

    def thrown(self, error: str, view: View) -> str:
        # what it throws is the error itself; what is thrown to it has it as `payload`
        return f"@throws {error}" if view is View.PROVIDER else f"@throws an error whose `payload` is {error}"

    def text(self) -> str:
        shown = {id(definition) for definition in self._definitions}
        for interface in self._bound.used:
            found = [d for d in interface.types.values() if id(d) in shown]
            views = [view for view, faces in self.views if interface in faces and interface.functions]
            if not found and not views:
                continue
            self._now, self._home = interface, interface.name
            self._put(f"declare module '{self._module(interface)}' {{")
            for definition in found:
                if definition.kind != "resource":
                    self._definition(definition, "  ")
            for view in self._views_of(interface, found):
                for definition in found:
                    if definition.kind == "resource":
                        self._resource(definition, view, "  ")
                if view in views:
                    name = _face(interface, view)
                    self._interface(interface, name, view, "  ")
                    if view is View.CLIENT:
                        self._put(f"  const imported: {name};", "  export default imported;")
                        self._put(
                            *(f"  export const {m}: {name}['{m}'];" for m in self._members(interface)), ""
                        )
            while self._lines[-1] == "":
                self._lines.pop()
            self._put("}", "")
        return self._head() + "\n".join(self._lines).rstrip("\n") + "\n"

    def _members(self, interface: Interface) -> list[str]:
        """What may be imported by its own name."""
        functions = [camel(function.name) for function in interface.functions if function.resource is None]
        classes = [
            pascal(resource.name) for resource in interface.resources if interface.owned(resource.name)
        ]
        return [name for name in (*classes, *functions) if name not in _RESERVED]

    def _views_of(self, interface: Interface, found: list[Definition]) -> list[View]:
        views = [view for view, faces in self.views if interface in faces]
        # resources that the others use are their users', unless it is this guest that provides them
        return views or ([View.CLIENT] if any(d.kind == "resource" for d in found) else [])


def _face(interface: Interface, view: View) -> str:
    return (pascal(interface.bare) or "Root") + view.value


def _all_names(definition: Definition, name: str) -> list[str]:
    if definition.kind != "resource":
        return [name]
    return [f"{name}{view}{end}" for view in ("Provider", "Client") for end in ("", "Class")]


def _doc(text: str, indent: str) -> list[str]:
    if not text:
        return []
    lines = text.replace("*/", "*\\/").splitlines()
    if len(lines) == 1:
        return [f"{indent}/** {lines[0]} */"]
    return [f"{indent}/**", *(f"{indent} * {line}".rstrip() for line in lines), f"{indent} */"]
