"""Small components for tests, written as WAT.

A `Guest` collects imports, exports (both typed by `tests.wit_types`) and core code, and assembles them:

    guest = Guest()
    guest.imports("twice", [U32], U32)                       # of the interface test:guest/host
    guest.exports("four", [U32], U32, "(call $twice (call $twice (local.get 0)))")   # of test:guest/api
    wasm = guest.wasm()

Core code finds its parameters as locals 0, 1, …; every import as `$name`; `$realloc`; `$memory`, whose bytes
from `SCRATCH` to `HEAP` are free; `$top`, the first byte after what `$realloc` has given out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from wasmtime import wat2wasm

from tests.wit_types import (
    NAMED,
    Enum,
    Fixed,
    Flags,
    Handle,
    List,
    Option,
    Prim,
    Record,
    Result,
    Tuple,
    Type,
    Variant,
    params_flat,
    result_flat,
    returns_by_pointer,
)

API = "test:guest/api"
HOST = "test:guest/host"
SCRATCH = 64
HEAP = 4096

# Gives out memory from `$top` on, grows it as needed, and copies what was there.
REALLOC = """
(func $realloc (export "realloc")
  (param $old i32) (param $was i32) (param $align i32) (param $size i32) (result i32)
  (local $p i32) (local $missing i32)
  (local.set $p (i32.and (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
                         (i32.sub (i32.const 0) (local.get $align))))
  (global.set $top (i32.add (local.get $p) (local.get $size)))
  (local.set $missing (i32.sub (i32.shr_u (i32.add (global.get $top) (i32.const 65535)) (i32.const 16))
                               (memory.size)))
  (if (i32.gt_s (local.get $missing) (i32.const 0))
    (then (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then unreachable))))
  (memory.copy (local.get $p) (local.get $old)
    (select (local.get $was) (local.get $size) (i32.lt_u (local.get $was) (local.get $size))))
  (local.get $p))
"""


def assemble(wat: str) -> bytes:
    """A component's binary from its WAT, `(component …)` or only what is inside."""
    text = wat if wat.lstrip().startswith("(component") else f"(component {wat})"
    return bytes(wat2wasm(text))


@dataclass
class Function:
    interface: str
    name: str
    params: list[tuple[str, Type]]
    result: Type | None
    body: str = ""
    options: str = ""

    def signature(self, guest: Guest) -> str:
        params = " ".join(f'(param "{n}" {guest.ref(t)})' for n, t in self.params)
        return params + (f" (result {guest.ref(self.result)})" if self.result else "")

    @property
    def types(self) -> list[Type]:
        return [t for _, t in self.params]

    @property
    def core(self) -> str:
        """The core signature as the guest implements it (exports) or calls it (imports)."""
        params = params_flat(self.types)
        if self.body:
            results = result_flat(self.result)
        else:
            pointer = returns_by_pointer(self.result)
            params += ("i32",) if pointer else ()
            results = () if pointer or self.result is None else self.result.flat
        return " ".join([*(f"(param {c})" for c in params), *(f"(result {c})" for c in results)])


@dataclass
class Guest:
    """A component in the making.

    Attributes:
        encoding: Of strings: utf8, utf16 or latin1+utf16.
        pages: Memory at the start, in pages of 64 KiB.
        realloc: WAT of `$realloc`; the default grows memory without end.
        code: More WAT inside the core module: functions, globals, tables.
        early: WAT in the component before the imports.
    """

    encoding: str = "utf8"
    pages: int = 2
    realloc: str = REALLOC
    code: str = ""
    early: str = ""
    functions: list[Function] = field(default_factory=list)
    _types: dict[Type, str] = field(default_factory=dict)

    def imports(
        self,
        name: str,
        params: Sequence[Type | tuple[str, Type]] = (),
        result: Type | None = None,
        of: str = HOST,
    ) -> Guest:
        """Imports a function; the core code calls it as `$name`."""
        return self._add(Function(of, name, _named(params), result))

    def exports(
        self,
        name: str,
        params: Sequence[Type | tuple[str, Type]],
        result: Type | None,
        body: str,
        of: str = API,
        options: str = "",
    ) -> Guest:
        """Exports a function whose core function has `body`; `of=""` exports it at the root."""
        return self._add(Function(of, name, _named(params), result, body or "nop", options))

    def _add(self, function: Function) -> Guest:
        self.functions.append(function)
        return self

    def ref(self, t: Type) -> str:
        """The type as it is written where it is used."""
        if isinstance(t, Prim):
            return t.wat
        if t in self._types:
            return self._types[t]
        return self._structure(t)

    def _structure(self, t: Type) -> str:
        ref = self.ref
        match t:
            case List():
                return f"(list {ref(t.item)})"
            case Fixed():
                return f"(list {ref(t.item)} {t.count})"
            case Tuple():
                return f"(tuple {' '.join(map(ref, t.items))})"
            case Record():
                fields = [f'(field "{n}" {ref(c)})' for n, c in t.fields]
                return f"(record {' '.join(fields)})"
            case Option():
                return f"(option {ref(t.some)})"
            case Result():
                sides = [ref(t.ok)] if t.ok else []
                sides += [f"(error {ref(t.err)})"] if t.err else []
                return f"(result {' '.join(sides)})"
            case Variant():
                cases = [f'(case "{n}" {ref(c) if c else ""})' for n, c in t.named]
                return f"(variant {' '.join(cases)})"
            case Enum() | Flags():
                names = " ".join(f'"{n}"' for n in t.names)
                return f"({'enum' if isinstance(t, Enum) else 'flags'} {names})"
            case Handle():
                return f"({t.kind} ${t.name})"
        raise TypeError(t)

    def _declarations(self) -> list[tuple[Type, str, str]]:
        """Types to name: type, name and definition, in order of use."""
        found: list[tuple[Type, str, str]] = []
        every = chain.from_iterable(chain(f.types, [f.result] if f.result else []) for f in self.functions)
        for t in chain.from_iterable(t.walk() for t in every):
            if isinstance(t, NAMED) and t not in self._types:
                name = t.name or f"t{len(self._types)}"
                found.append((t, name, self._structure(t)))
                self._types[t] = f"$T-{name}"
        return found

    def wat(self) -> str:
        """The component as text."""
        self._types.clear()
        named = self._declarations()
        imported = [f for f in self.functions if not f.body]
        exported = [f for f in self.functions if f.body]
        return "\n".join(
            [
                "(component",
                self.early,
                *self._import_text(named, imported),
                self._memory_text(),
                *(self._lower_text(f) for f in imported),
                self._core_text(imported, exported),
                *(self._lift_text(f) for f in exported),
                *self._export_text([] if imported else named, exported),
                ")",
            ]
        )

    def wasm(self) -> bytes:
        """The component as a binary."""
        return assemble(self.wat())

    @property
    def _options(self) -> str:
        return (
            f'(memory (core memory $lib-instance "memory")) string-encoding={self.encoding} '
            '(realloc (core func $lib-instance "realloc"))'
        )

    def _import_text(self, named: list[tuple[Type, str, str]], imported: list[Function]) -> Iterator[str]:
        if not imported:
            yield from (f"(type $T-{name} {definition})" for _, name, definition in named)
            return
        for number, interface in enumerate(_interfaces(imported)):
            types = [f'(type $D-{n} {d}) (export "{n}" (type $T-{n} (eq $D-{n})))' for _, n, d in named]
            inside = [f for f in imported if f.interface == interface]
            functions = [f'(export "{f.name}" (func {f.signature(self)}))' for f in inside]
            # the first one names the types for all
            text = " ".join(functions if number else types + functions)
            yield f'(import "{interface}" (instance $I{number} {text}))'
            if not number:
                yield from (f'(alias export $I0 "{n}" (type $T-{n}))' for _, n, _ in named)

    def _memory_text(self) -> str:
        return (
            f'(core module $lib (memory $memory (export "memory") {self.pages}) '
            f'(global $top (export "top") (mut i32) (i32.const {HEAP})) {self.realloc})'
            "(core instance $lib-instance (instantiate $lib))"
        )

    def _lower_text(self, f: Function) -> str:
        number = _interfaces([g for g in self.functions if not g.body]).index(f.interface)
        return f'(core func $C-{f.name} (canon lower (func $I{number} "{f.name}") {self._options}))'

    def _core_text(self, imported: list[Function], exported: list[Function]) -> str:
        needs = " ".join(f'(import "host" "{f.name}" (func ${f.name} {f.core}))' for f in imported)
        given = " ".join(f'(export "{f.name}" (func $C-{f.name}))' for f in imported)
        code = "\n".join(f'(func (export "{f.interface}#{f.name}") {f.core} {f.body})' for f in exported)
        return f"""
          (core module $main
            (import "lib" "memory" (memory $memory 0))
            (import "lib" "top" (global $top (mut i32)))
            (import "lib" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
            {needs}
            {self.code}
            {code})
          (core instance $main (instantiate $main
            (with "lib" (instance $lib-instance)) (with "host" (instance {given}))))"""

    def _lift_text(self, f: Function) -> str:
        return (
            f"(func $F-{self.functions.index(f)} {f.signature(self)} "
            f'(canon lift (core func $main "{f.interface}#{f.name}") {self._options} {f.options}))'
        )

    def _export_text(self, named: list[tuple[Type, str, str]], exported: list[Function]) -> Iterator[str]:
        for number, interface in enumerate(_interfaces(exported)):
            inside = [f for f in exported if f.interface == interface]
            if not interface:
                yield from (f'(export $X-{n} "{n}" (type $T-{n}))' for _, n, _ in named)
                yield from (f'(export "{f.name}" (func $F-{self.functions.index(f)}))' for f in inside)
                continue
            types = " ".join(f'(export "{n}" (type $T-{n}))' for _, n, _ in named)
            functions = " ".join(f'(export "{f.name}" (func $F-{self.functions.index(f)}))' for f in inside)
            yield f'(instance $E{number} {types} {functions}) (export "{interface}" (instance $E{number}))'


def _interfaces(functions: list[Function]) -> list[str]:
    return list(dict.fromkeys(f.interface for f in functions))


def _named(params: Sequence[Type | tuple[str, Type]]) -> list[tuple[str, Type]]:
    return [p if isinstance(p, tuple) else (f"p{i}", p) for i, p in enumerate(params)]


def allocate(t: Type) -> str:
    """An expression: the address of new memory for a `t`."""
    return f"(call $realloc (i32.const 0) (i32.const 0) (i32.const {t.align}) (i32.const {t.size}))"


def echo(t: Type, encoding: str = "utf8", name: str = "echo") -> Guest:
    """A guest whose `echo(v)` asks the import `echo(v)` of the host, and returns what that returns."""
    guest = Guest(encoding=encoding).imports(name, [t], t)
    forward = " ".join(f"(local.get {i})" for i in range(len(params_flat([t]))))
    if returns_by_pointer(t):
        body = f"(local $at i32) (local.set $at {allocate(t)}) "
        return guest.exports(name, [t], t, f"{body} (call ${name} {forward} (local.get $at)) (local.get $at)")
    return guest.exports(name, [t], t, f"(call ${name} {forward})")
