"""A Python module of types: what `loop bind --lang python` writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set

from loop_kit._types import constant, pascal, snake
from loop_kit.bind._annotations import Annotations, Place, View
from loop_kit.bind._model import Bound, Definition, Function, Interface, Type, plain
from loop_kit.bind._names import exported, reached, returned, spread

__all__ = ["Module", "imports", "module", "parameter", "signature"]

_NOTE = {
    View.PROVIDER: "What provides {}: a class with these methods, each `def` or `async def`.",
    View.CLIENT: "{}, called from an event loop.",
    View.BLOCKING: "{}, called through `loop_kit.blocking`.",
}
_RESOURCE = {
    View.PROVIDER: "A `{}`, as its provider has it.",
    View.CLIENT: "A `{}`, as its user has it on an event loop.",
    View.BLOCKING: "A `{}`, as its user has it through `loop_kit.blocking`.",
}


def module(bound: Bound) -> str:
    """The module's text."""
    return Module(bound).text()


def signature(function: Function, write: Annotations, view: View, name: str | None = None) -> str:
    """The `def` of a function without its colon: `def get(self, key: str, /) -> types.Answer[str | None]`."""
    ours, theirs = (Place.GIVEN, Place.TAKEN) if view is View.PROVIDER else (Place.TAKEN, Place.GIVEN)
    params = ["self"]
    params += [f"{parameter(param.name)}: {write.of(param.type, ours)}" for param in function.params]
    if len(params) > 1:
        params.append("/")
    result = write.of(returned(function), theirs)
    if view is View.PROVIDER and function.kind != "constructor":
        result = f"{write.known('types.Answer')}[{result}]"
    elif view is View.CLIENT:
        result = f"{write.known('collections.abc.Awaitable')}[{result}]"
    return f"def {name or snake(function.bare)}({', '.join(params)}) -> {result}"


def parameter(name: str) -> str:
    """A parameter's name: one called `self` is another than that of a method."""
    return "self_" if name == "self" else snake(name)


def imports(body: str, hidden: Set[str]) -> list[str]:
    """The imports that annotations in `body` need; `hidden` are those that it has by names with an underscore."""
    found: list[str] = []
    for known, path in (("builtins", "builtins"), ("collections", "collections.abc"), ("typing", "typing")):
        if re.search(rf"(?<![\w.]){known}\.", body):
            found.append(f"import {path}")
        if known in hidden:
            found.append(f"import {known} as _{known}")
    found += ["", "import loop_kit as loop"]
    found += ["import loop_kit as _loop"] if "loop" in hidden else []
    found += ["from loop_kit import types"]
    return found + (["from loop_kit import types as _types"] if "types" in hidden else [])


class Module:
    """A module in the making."""

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._lines: list[str] = []
        both = [(View.PROVIDER, bound.imports), (View.CLIENT, bound.exports), (View.BLOCKING, bound.exports)]
        self._sides = [(view, [i for i in faces if i.functions]) for view, faces in both]
        chosen = list({id(i): i for i in (*bound.imports, *bound.exports)}.values())
        self._definitions = reached(bound, chosen)
        self._served = {view: {id(d) for d in reached(bound, faces)} for view, faces in self._sides}
        taken = {"Imports", "Exports", "BlockingExports"}
        self._names = spread(self._definitions, self._all_names, taken)
        self._faces = spread(
            [i for i in chosen if i.functions], lambda _, n: [n + v.value for v in View], taken
        )
        self._owners = {id(d): i for i in bound.used for d in i.types.values()}
        self._hidden: set[str] = set()
        self._plain = self._write(View.PROVIDER)

    @staticmethod
    def _all_names(definition: Definition, name: str) -> list[str]:
        if definition.kind == "resource":
            return [f"{name}{view.value}{end}" for view in View for end in ("", "Class")]
        return [name, f"Any{name}"] if definition.kind == "variant" else [name]

    def _handle(self, resource: Definition, view: View) -> str | None:
        if view is not View.PROVIDER and not exported(self._bound, resource):
            return None
        return f"{self._names[id(resource)]}{view.value}"

    def _write(self, view: View, members: Iterable[str] = ()) -> Annotations:
        return Annotations(self.values(), view, self._handle, frozenset(members), self._hidden)

    def values(self, module: str = "") -> dict[int, str]:
        """What values of each definition are, said outside of the module by its name with a dot."""
        found = {}
        for definition in self._definitions:
            name = self._names[id(definition)]
            found[id(definition)] = (
                f"{module}Any{name}" if definition.kind == "variant" else f"{module}{name}"
            )
        return found

    def text(self) -> str:
        """The whole module."""
        for definition in self._definitions:
            if definition.kind != "resource":
                self._definition(definition)
        for view, interfaces in self._sides:
            for definition in self._definitions:
                if definition.kind == "resource" and id(definition) in self._served[view]:
                    self._resource(definition, view)
            for interface in interfaces:
                self._interface(interface, view)
        if self._bound.world:
            self._maps()
        body = "\n".join(self._lines).rstrip("\n")
        head = [
            f"# Made by `loop bind` from {self._bound.title}, and made anew when that changes.",
            f"# WIT sha256:{self._bound.digest}",
            "# fmt: off",
            "# ruff: noqa",
            f'"""Types of {self._bound.title}."""',
            "",
            "from __future__ import annotations",
            "",
            *imports(body, self._hidden),
        ]
        return "\n".join(head) + "\n\n\n" + body + "\n"

    def _put(self, *lines: str) -> None:
        self._lines.extend(lines)

    def _definition(self, definition: Definition) -> None:
        name = self._names[id(definition)]
        doc = _doc(definition.doc, "    ")
        match definition.kind:
            case "alias":
                target = self._plain.of(definition.members[0].type, Place.WITHIN)
                self._put(f"{name}: typing.TypeAlias = {_quoted(target)}", *_doc(definition.doc, ""), "", "")
            case "record":
                fields = [snake(member.name) for member in definition.members]
                write = self._write(View.PROVIDER, fields)
                self._put(f'@types.record("{definition.name}")', f"class {name}:", *doc)
                for field, member in zip(fields, definition.members, strict=True):
                    self._put(
                        f"    {field}: {write.of(member.type, Place.WITHIN)}", *_doc(member.doc, "    ")
                    )
                self._put("", "")
            case "enum" | "flags":
                base = "Enum" if definition.kind == "enum" else "Flags"
                self._put(f"class {name}(types.{base}):", *doc)
                for number, member in enumerate(definition.members):
                    value = str(number) if base == "Enum" else f"1 << {number}"
                    self._put(f"    {constant(member.name)} = {value}", *_doc(member.doc, "    "))
                self._put("", "")
            case "variant":
                self._variant(definition, name, doc)

    def _variant(self, definition: Definition, name: str, doc: list[str]) -> None:
        self._put(f'@types.variant("{definition.name}")', f"class {name}:", *doc)
        cases: list[str] = []
        for member in definition.members:
            called = pascal(member.name)
            while called in cases:
                called += "_"
            cases.append(called)
            self._put("", "    @types.case", f"    class {called}:", *_doc(member.doc, "        "))
            self._put(f'        case: typing.ClassVar[typing.Literal["{member.name}"]] = "{member.name}"')
            if member.type is not None:
                value = self._plain.of(member.type, Place.WITHIN)
                self._put(f"        value: {value}")
        self._put("", "")
        self._put(f"Any{name}: typing.TypeAlias = {' | '.join(f'{name}.{case}' for case in cases)}", "", "")

    def _resource(self, resource: Definition, view: View) -> None:
        name = self._handle(resource, view)
        if name is None:
            return
        owned = self._owners[id(resource)].owned(resource.name)
        methods = [function for function in owned if function.kind == "method"]
        made = [function for function in owned if function.kind != "method"]
        # a method `close` of its own takes the place of that which drops it
        own = view is View.PROVIDER or any(function.bare == "close" for function in methods)
        bases = "typing.Protocol" if own else "types.Handle, typing.Protocol"
        note = _RESOURCE[view].format(resource.name)
        self._protocol(name, bases, f"{resource.doc}\n\n{note}" if resource.doc else note, methods, view)
        if made:
            self._protocol(
                f"{name}Class", "typing.Protocol", f"Makes and knows `{resource.name}`.", made, view
            )

    def _interface(self, interface: Interface, view: View) -> None:
        note = _NOTE[view].format(f"`{interface.name}`" if interface.name else "what the world has itself")
        note = note[0].upper() + note[1:]
        functions = [function for function in interface.functions if function.resource is None]
        classes = [
            (pascal(resource.name), f"{self._handle(resource, view)}Class")
            for resource in interface.resources
            if any(function.kind != "method" for function in interface.owned(resource.name))
            and self._handle(resource, view)
        ]
        doc = f"{interface.doc}\n\n{note}" if interface.doc else note
        self._protocol(
            self._faces[id(interface)] + view.value, "typing.Protocol", doc, functions, view, classes
        )

    def _protocol(
        self,
        name: str,
        bases: str,
        doc: str,
        functions: Sequence[Function],
        view: View,
        classes: Sequence[tuple[str, str]] = (),
    ) -> None:
        members = {snake(function.bare) for function in functions} | {name for name, _ in classes}
        write = self._write(view, members)
        self._put(f"class {name}({bases}):", *_doc(doc, "    "))
        for attribute, cls in classes:
            self._put("", f"    @{write.known('property')}", f"    def {attribute}(self) -> {cls}: ...")
        for function in functions:
            called = "__call__" if function.kind == "constructor" else None
            head = f"    {signature(function, write, view, called)}:"
            text = _doc(_told(function, write, view), "        ")
            self._put("", *([head, *text, "        ..."] if text else [f"{head} ..."]))
        self._put("", "")

    def _maps(self) -> None:
        """What `host.load` takes, and what `app.exports` has, by the interfaces' names."""
        note = {
            View.PROVIDER: ("Imports", "What the component imports, as `imports` of `load` takes it."),
            View.CLIENT: ("Exports", "What the component exports: `typing.cast(Exports, app.exports)`."),
            View.BLOCKING: ("BlockingExports", "The same through `loop_kit.blocking`."),
        }
        for view, interfaces in self._sides:
            entries = [(i.name, self._faces[id(i)] + view.value) for i in interfaces]
            # what the world has itself goes by no name; such a key is none of a TypedDict either
            entries = [entry for entry in entries if entry[0]]
            name, doc = note[view]
            if entries:
                self._put(f"{name} = typing.TypedDict(", f'    "{name}",', "    {")
                self._put(*(f'        "{key}": "{value}",' for key, value in entries))
                self._put("    },", "    total=False,", ")", *_doc(doc, ""), "", "")


def _told(function: Function, write: Annotations, view: View) -> str:
    end = plain(function.result)
    if not (isinstance(end, Type) and end.kind == "result"):
        return function.doc
    place = Place.TAKEN if view is View.PROVIDER else Place.GIVEN
    error = write.of(end.parts[1], place)
    return f"{function.doc}\n\nRaises:\n    loop_kit.Err: With {error}.".strip("\n")


def _doc(text: str, indent: str) -> list[str]:
    """A docstring, or nothing."""
    if not text:
        return []
    text = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    lines = text.splitlines()
    if lines[-1].endswith('"'):
        lines[-1] += " "
    if len(lines) == 1:
        return [f'{indent}"""{lines[0]}"""']
    rest = [f"{indent}{line}".rstrip() for line in lines[1:]]
    return [f'{indent}"""{lines[0]}', *rest, f'{indent}"""']


def _quoted(text: str) -> str:
    return f'"{text}"'
