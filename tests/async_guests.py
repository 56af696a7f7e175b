"""Small asynchronous components for tests, written as WAT.

An `AsyncGuest` is to `async func`, streams and futures what `tests.guests.Guest` is to plain functions:

    guest = AsyncGuest()
    guest.imports("get", [U32], U32)                         # an async func of test:guest/host
    guest.exports("ask", [U32], U32, "(call $done-ask (call $get (local.get 0)))")

Core code calls an import as `$name`, which waits, or as `$name-start`, which gives a subtask for `$await`; an
asynchronous export gives its result to `$done-name`. `stream("s", U8)` makes `$s.new`, `$s.read`, `$s.write`,
`$s.drop-readable`, `$s.drop-writable`, and `$s.read-start`, `$s.write-start`, which do not wait. Memory
from 64 to 4096 and from `BUFFER` to `TOP` is free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from tests.guests import API, HOST, REALLOC, Guest, assemble
from tests.wit_types import (
    NAMED,
    U32,
    Handle,
    List,
    Option,
    Prim,
    Record,
    Result,
    Tuple,
    Type,
    params_flat,
    result_flat,
    returns_by_pointer,
)

BUFFER = 1 << 16
TOP = 1 << 20
MASK = "(i32.const 15)"


@dataclass(frozen=True)
class Carrier(Type):
    """`stream<item>` or `future<item>`."""

    kind: str
    item: Type | None
    size = 4
    align = 4
    flat = ("i32",)

    @property
    def children(self) -> tuple[Type, ...]:
        return (self.item,) if self.item else ()


def stream(item: Type | None = None) -> Carrier:
    return Carrier("stream", item)


def future(item: Type | None = None) -> Carrier:
    return Carrier("future", item)


@dataclass
class Func:
    interface: str
    name: str
    params: list[Type]
    result: Type | None
    body: str | None
    waits: bool

    @property
    def types(self) -> list[Type]:
        return [*self.params, *([self.result] if self.result else [])]


# What every guest may call; unused ones cost nothing.
BUILTINS = {
    "set.new": ("waitable-set.new", "(result i32)"),
    "set.wait": ('waitable-set.wait (memory (core memory $lib "memory"))', "(param i32 i32) (result i32)"),
    "set.drop": ("waitable-set.drop", "(param i32)"),
    "join": ("waitable.join", "(param i32 i32)"),
    "subtask.drop": ("subtask.drop", "(param i32)"),
    "yield": ("thread.yield", "(result i32)"),
}


@dataclass
class AsyncGuest:
    """A component in the making.

    Attributes:
        code: More WAT inside the core module.
        early: WAT in the component before the imports.
        pages: Memory at the start, in pages of 64 KiB.
    """

    code: str = ""
    early: str = ""
    pages: int = 64
    functions: list[Func] = field(default_factory=list)
    builtins: dict[str, tuple[str, str]] = field(default_factory=lambda: dict(BUILTINS))
    _types: dict[Type, str] = field(default_factory=dict)
    _named: list[str] = field(default_factory=list)

    def imports(
        self,
        name: str,
        params: Sequence[Type] = (),
        result: Type | None = None,
        *,
        waits: bool = True,
        of: str = HOST,
    ) -> AsyncGuest:
        """Imports an `async func`, or with `waits=False` a plain one."""
        self.functions.append(Func(of, name, list(params), result, None, waits))
        return self

    def exports(
        self,
        name: str,
        params: Sequence[Type],
        result: Type | None,
        body: str,
        *,
        waits: bool = True,
        of: str = API,
    ) -> AsyncGuest:
        """Exports an `async func` that gives its result to `$done-name`, or a plain one that returns it."""
        self.functions.append(Func(of, name, list(params), result, body, waits))
        return self

    def carrier(self, name: str, carrier: Carrier) -> AsyncGuest:
        """Makes the intrinsics of a stream or future type."""
        kind = carrier.kind
        count = " i32" if kind == "stream" else ""
        access = f"(param i32 i32{count}) (result i32)"
        used = self.ref(carrier)
        options = f'(memory (core memory $lib "memory")) {REALLOC_OPTION}'
        self.builtins[f"{name}.new"] = (f"{kind}.new {used}", "(result i64)")
        for way in ("read", "write"):
            self.builtins[f"{name}.{way}"] = (f"{kind}.{way} {used} {options}", access)
            self.builtins[f"{name}.{way}-start"] = (f"{kind}.{way} {used} async {options}", access)
        for end in ("readable", "writable"):
            self.builtins[f"{name}.drop-{end}"] = (f"{kind}.drop-{end} {used}", "(param i32)")
        return self

    def stream(self, name: str, item: Type | None) -> AsyncGuest:
        return self.carrier(name, stream(item))

    def future(self, name: str, item: Type | None) -> AsyncGuest:
        return self.carrier(name, future(item))

    # ---- text

    def ref(self, t: Type) -> str:
        """The type as it is written where it is used; named and carrier types are declared first."""
        if isinstance(t, Prim):
            return t.wat
        if t not in self._types:
            text = self._structure(t)
            number = len(self._named)
            if isinstance(t, NAMED):
                name = getattr(t, "name", "") or f"t{number}"
                self._named.append(
                    f'(type $D{number} {text}) (import "{name}" (type $T{number} (eq $D{number})))'
                )
                self._types[t] = f"$T{number}"
            elif isinstance(t, Carrier):
                self._named.append(f"(type $T{number} {text})")
                self._types[t] = f"$T{number}"
            else:
                self._types[t] = text
        return self._types[t]

    def _structure(self, t: Type) -> str:
        ref = self.ref
        match t:
            case Carrier():
                return f"({t.kind} {ref(t.item) if t.item else ''})"
            case List():
                return f"(list {ref(t.item)})"
            case Tuple():
                return f"(tuple {' '.join(map(ref, t.items))})"
            case Option():
                return f"(option {ref(t.some)})"
            case Record():
                fields = [f'(field "{n}" {ref(c)})' for n, c in t.fields]
                return f"(record {' '.join(fields)})"
            case Result():
                sides = [ref(t.ok)] if t.ok else []
                sides += [f"(error {ref(t.err)})"] if t.err else []
                return f"(result {' '.join(sides)})"
            case Handle():
                return f"({t.kind} ${t.name})"
        raise TypeError(t)

    def _type(self, f: Func) -> str:
        params = " ".join(f'(param "p{i}" {self.ref(t)})' for i, t in enumerate(f.params))
        result = f" (result {self.ref(f.result)})" if f.result else ""
        return f"{'async ' if f.waits else ''}{params}{result}"

    def wat(self) -> str:
        """The component as text."""
        imported = [f for f in self.functions if f.body is None]
        exported = [f for f in self.functions if f.body is not None]
        for t in chain.from_iterable(f.types for f in self.functions):
            self.ref(t)
        core: list[tuple[str, str, str]] = []  # name, signature, definition
        for name, (canon, signature) in self.builtins.items():
            core.append((name, signature, f"(canon {canon})"))
        for f in imported:
            core.extend(self._lowered(f))
        for f in exported:
            if f.waits:
                core.append(self._returned(f))
        needs = "\n".join(f'(import "host" "{n}" (func ${n} {s}))' for n, s, _ in core)
        given = " ".join(f'(export "{n}" (func $C-{n}))' for n, _, _ in core)
        bodies = "\n".join(f'(func (export "{f.name}") {_core(f)} {f.body})' for f in exported)
        return "\n".join(
            [
                "(component",
                self.early,
                *self._named,
                *self._imports(imported),
                f'(core module $libm (memory (export "memory") {self.pages}) '
                f'(global $top (export "top") (mut i32) (i32.const {TOP})) {REALLOC})',
                "(core instance $lib (instantiate $libm))",
                *(f"(core func $C-{n} {d})" for n, _, d in core),
                f"""(core module $main
                  (import "lib" "memory" (memory $memory 0))
                  (import "lib" "top" (global $top (mut i32)))
                  (import "lib" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
                  {needs}
                  {AWAIT}
                  {self.code}
                  {bodies})""",
                '(core instance $main (instantiate $main (with "lib" (instance $lib))'
                f'(with "host" (instance {given}))))',
                *self._lifted(exported),
                ")",
            ]
        )

    def wasm(self) -> bytes:
        return assemble(self.wat())

    def _imports(self, imported: list[Func]) -> Iterator[str]:
        for number, interface in enumerate(_interfaces(imported)):
            inside = [f for f in imported if f.interface == interface]
            text = " ".join(f'(export "{f.name}" (func {self._type(f)}))' for f in inside)
            yield f'(import "{interface}" (instance $I{number} {text}))'
            yield from (f'(alias export $I{number} "{f.name}" (func $A-{f.name}))' for f in inside)

    def _lowered(self, f: Func) -> Iterator[tuple[str, str, str]]:
        lower = f'(canon lower (func $A-{f.name}) (memory (core memory $lib "memory")) {REALLOC_OPTION}'
        pointer = returns_by_pointer(f.result)
        params = (*params_flat(f.params), *(("i32",) if pointer else ()))
        results = () if pointer or f.result is None else f.result.flat
        yield f.name, _signature(params, results), f"{lower})"
        if not f.waits:
            return
        flat = params_flat(f.params)
        started = (*(flat if len(flat) <= 4 else ("i32",)), *(("i32",) if f.result else ()))
        yield f"{f.name}-start", _signature(started, ("i32",)), f"{lower} async)"

    def _returned(self, f: Func) -> tuple[str, str, str]:
        flat = params_flat([f.result] if f.result else [])
        result = f"(result {self.ref(f.result)})" if f.result else ""
        # without `realloc`, which the builtin does not take
        definition = f'(canon task.return {result} (memory (core memory $lib "memory")))'
        return f"done-{f.name}", _signature(flat, ()), definition

    def _lifted(self, exported: list[Func]) -> Iterator[str]:
        options = f'(memory (core memory $lib "memory")) {REALLOC_OPTION}'
        for f in exported:
            how = "async" if f.waits else ""
            yield (
                f"(func $F-{f.name} {self._type(f)} "
                f'(canon lift (core func $main "{f.name}") {how} {options}))'
            )
        for number, interface in enumerate(_interfaces(exported)):
            inside = [f for f in exported if f.interface == interface]
            text = " ".join(f'(export "{f.name}" (func $F-{f.name}))' for f in inside)
            yield f'(instance $E{number} {text}) (export "{interface}" (instance $E{number}))'


REALLOC_OPTION = '(realloc (core func $lib "realloc"))'

# Waits for a subtask that `$name-start` gave; drops it.
AWAIT = """
(func $await (param $status i32) (local $set i32) (local $task i32)
  (if (i32.ne (i32.and (local.get $status) (i32.const 15)) (i32.const 2)) (then
    (local.set $task (i32.shr_u (local.get $status) (i32.const 4)))
    (local.set $set (call $set.new))
    (call $join (local.get $task) (local.get $set))
    (loop $more
      (drop (call $set.wait (local.get $set) (i32.const 8)))
      (br_if $more (i32.ne (i32.load (i32.const 12)) (i32.const 2))))
    (call $join (local.get $task) (i32.const 0))
    (call $subtask.drop (local.get $task))
    (call $set.drop (local.get $set)))))
"""


def _signature(params: Sequence[str], results: Sequence[str]) -> str:
    return " ".join([*(f"(param {c})" for c in params), *(f"(result {c})" for c in results)])


def _core(f: Func) -> str:
    """The core signature of an export."""
    return _signature(params_flat(f.params), () if f.waits else result_flat(f.result))


def _interfaces(functions: list[Func]) -> list[str]:
    return list(dict.fromkeys(f.interface for f in functions))


# ---- guests


def plain() -> Guest:
    """Calls its plain imports `get`, `now` and `check`."""
    guest = Guest(code="(global $n (mut i32) (i32.const 0))")
    guest.imports("get", [U32], U32).imports("now", [U32], U32).imports("check", [U32], CHECKED)
    guest.exports("ask", [U32], U32, "(call $get (local.get 0))")
    guest.exports("ask-now", [U32], U32, "(call $now (local.get 0))")
    guest.exports("same", [U32], U32, "(local.get 0)")
    guest.exports("next", [], U32, f"{COUNT} (global.get $n)")
    guest.exports("check", [U32], CHECKED, "(call $check (local.get 0) (i32.const 64)) (i32.const 64)")
    guest.exports("spin", [], None, "(drop (call $now (i32.const 0))) (loop $l (br $l)) unreachable")
    return guest.exports("boom", [], None, "unreachable")


def asking() -> AsyncGuest:
    """The same with `async func` imports but for `now`, and more."""
    guest = AsyncGuest(code="(global $n (mut i32) (i32.const 0))")
    guest.imports("get", [U32], U32).imports("check", [U32], CHECKED)
    guest.imports("now", [U32], U32, waits=False)
    guest.exports("ask", [U32], U32, "(call $done-ask (call $get (local.get 0)))")
    guest.exports("ask-now", [U32], U32, "(call $done-ask-now (call $now (local.get 0)))")
    guest.exports("same", [U32], U32, "(call $done-same (local.get 0))")
    guest.exports("next", [], U32, f"{COUNT} (global.get $n)", waits=False)
    guest.exports("check", [U32], CHECKED, CHECK)
    guest.exports("spin", [], None, "(drop (call $now (i32.const 0))) (loop $l (br $l)) unreachable")
    guest.exports("boom", [], None, "unreachable")
    # the result comes first, and the guest runs on
    guest.exports("later", [U32], U32, "(call $done-later (local.get 0)) (drop (call $get (local.get 0)))")
    return guest.exports("all", [U32], U32, ALL)


CHECKED = Result(U32, U32)
COUNT = "(global.set $n (i32.add (global.get $n) (i32.const 1)))"

# Starts `get(0)` to `get(n - 1)`, then waits for each; the sum of their results.
ALL = """
(local $at i32) (local $i i32) (local $sum i32)
(local.set $at (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get 0) (i32.const 8))))
(loop $start
  (i32.store (i32.add (local.get $at) (i32.mul (local.get $i) (i32.const 8)))
    (call $get-start (local.get $i)
      (i32.add (i32.const 4) (i32.add (local.get $at) (i32.mul (local.get $i) (i32.const 8))))))
  (local.set $i (i32.add (local.get $i) (i32.const 1)))
  (br_if $start (i32.lt_u (local.get $i) (local.get 0))))
(local.set $i (i32.const 0))
(loop $end
  (call $await (i32.load (local.get $at)))
  (local.set $sum (i32.add (local.get $sum) (i32.load offset=4 (local.get $at))))
  (local.set $at (i32.add (local.get $at) (i32.const 8)))
  (local.set $i (i32.add (local.get $i) (i32.const 1)))
  (br_if $end (i32.lt_u (local.get $i) (local.get 0))))
(call $done-all (local.get $sum))
"""

# Asks with a place of its own for the answer, since others may run in the same instance.
CHECK = """
(local $at i32)
(local.set $at (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 8)))
(call $check (local.get 0) (local.get $at))
(call $done-check (i32.load8_u (local.get $at)) (i32.load offset=4 (local.get $at)))
"""


def keeping(waits: bool) -> bytes:
    """`keep(thing)` takes a resource of the host's, calls the import `get`, and traps."""
    how = "async" if waits else ""
    return assemble(f"""
      (import "{HOST}" (instance $h
        (export "thing" (type $thing (sub resource)))
        (export "get" (func {how} (param "n" u32) (result u32)))))
      (alias export $h "thing" (type $thing))
      (alias export $h "get" (func $get))
      (core func $C-get (canon lower (func $get)))
      (core module $m
        (import "h" "get" (func $get (param i32) (result i32)))
        (func (export "keep") (param i32) (drop (call $get (i32.const 1))) unreachable))
      (core instance $i (instantiate $m (with "h" (instance (export "get" (func $C-get))))))
      (func (export "keep") {how} (param "t" (own $thing)) (canon lift (core func $i "keep") {how}))
    """)
