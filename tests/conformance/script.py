"""Runs the scripts (`.wast`) of the component model's test suite through loop-kit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import wasmtime

import loop_kit as loop
from loop_kit._types import constant, pascal
from loop_kit.errors import CallError, GuestTrap, LinkError, LoadError
from tests.conformance import values
from tests.conformance.sexpr import Node, SyntaxFault, Text, line_of, parse

DEFINITION = re.compile(r"\(component\s+definition\b")
# A pool of one: an instance keeps its state from one invocation to the next, and has one caller at a time, as a script
# is. The deadline turns a hang into a failure.
LIMITS = loop.Limits(instances=1, deadline=10.0)
# What the rule "never enter an instance that trapped" says in wasmtime's words.
POISONED = "cannot enter component instance"

# Where wasmtime words a trap differently than the scripts do; its own runner takes these for the same.
ALIKE = ("cannot write", "cannot read")


class DirectiveFailed(Exception):
    """A directive does not hold."""


class Rejected(Exception):
    """A component's text cannot be assembled."""


class App(Protocol):
    """What a script needs of a loaded component."""

    functions: Any
    exports: Any


class Blocking:
    """The blocking host."""

    name = "blocking"

    def __init__(self) -> None:
        self._host = loop.blocking.Host(cache=None)

    def load(self, wasm: bytes, imports: dict[str, Any]) -> loop.blocking.App:
        return self._host.load(wasm, imports, limits=LIMITS)

    def call(self, app: Any, name: str, arguments: list[Any]) -> Any:
        return app.call(name, *arguments)

    def close(self) -> None:
        self._host.close()


class Asyncio:
    """The asynchronous host, on an event loop of its own."""

    name = "asyncio"

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._host = loop.Host(cache=None)

    def load(self, wasm: bytes, imports: dict[str, Any]) -> loop.App:
        return self._runner.run(self._host.load(wasm, imports, limits=LIMITS))

    def call(self, app: Any, name: str, arguments: list[Any]) -> Any:
        async def call() -> Any:
            return await app.call(name, *arguments)

        return self._runner.run(call())

    def close(self) -> None:
        self._runner.run(self._host.aclose())
        self._runner.close()


HOSTS: dict[str, type[Blocking] | type[Asyncio]] = {h.name: h for h in (Blocking, Asyncio)}


@dataclass(slots=True)
class Instance:
    """An instance that a script made. loop-kit drops one that trapped: nothing can enter it again."""

    app: App
    trapped: bool = False


@dataclass
class Script:
    """One run of a script on one host."""

    source: str
    host: Blocking | Asyncio
    definitions: dict[str, bytes] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    registered: dict[str, Instance] = field(default_factory=dict)

    def run(self) -> Iterator[tuple[int, str | None]]:
        """Runs every directive; yields its line, and what is wrong with it, if anything."""
        try:
            nodes = parse(self.source)
        except SyntaxFault as e:
            yield 1, f"this runner cannot read it: {e}"
            return
        for node in nodes:
            line = line_of(self.source, node.start)
            try:
                self._run(node)
            except DirectiveFailed as e:
                yield line, str(e)
            except Rejected as e:
                yield line, f"the assembler refused it: {e}"
            except (LinkError, LoadError) as e:
                yield line, f"refused at load: {e}"
            except Exception as e:  # a case must not end the run of the others
                yield line, f"{type(e).__name__}: {e}"
            else:
                yield line, None

    def _run(self, node: Node) -> None:
        match node.head:
            case "component":
                self._component(node)
            case "register":
                name, *which = node.items[1:]
                self.registered[str(name)] = self._instance(str(which[0]) if which else "")
            case "invoke":
                self._invoke(node)
            case "assert_return":
                self._returns(_child(node, 1), [_child(node, i) for i in range(2, len(node.items))])
            case "assert_trap" | "assert_exhaustion":
                self._traps(_child(node, 1), str(node.items[2]))
            case "assert_invalid" | "assert_malformed":
                self._refused(_child(node, 1), str(node.items[2]))
            case "assert_unlinkable":
                self._unlinkable(_child(node, 1), str(node.items[2]))
            case head:
                raise DirectiveFailed(f"this runner does not know the directive {head!r}")

    def _component(self, node: Node) -> None:
        words = [w for w in node.items[1:4] if isinstance(w, str)]
        kind = words[0] if words and words[0] in ("definition", "instance") else ""
        names = [w for w in words if w.startswith("$")]
        if kind == "instance":
            name, definition = (names[0] if names else ""), names[1] if len(names) > 1 else ""
            self._instantiate(name, self.definitions[definition])
            return
        wasm = self._assemble(node)
        name = names[0] if names else ""
        self.definitions[name] = self.definitions[""] = wasm
        if kind == "definition":
            self._define(wasm)
        else:
            self._instantiate(name, wasm)

    def _define(self, wasm: bytes) -> None:
        with suppress(LinkError):  # it is valid: only what it imports is not there
            self.host.load(wasm, {})

    def _instantiate(self, name: str, wasm: bytes) -> None:
        instance = Instance(self._load(wasm))
        self.instances[name] = self.instances[""] = instance
        self._start(wasm)

    def _load(self, wasm: bytes) -> App:
        try:
            return self.host.load(wasm, {})
        except LinkError as e:
            known = {p.interface: self.registered.get(p.interface) for p in e.problems}
            if None in known.values():
                raise
            return self.host.load(wasm, {name: i.app for name, i in known.items() if i})

    def _start(self, wasm: bytes) -> None:
        """Instantiates a component at once, within a probe; loop-kit itself does so at the first call."""
        if not self.registered:
            self.host.call(self.host.load(probe(wasm), {}), "probe", [])

    def _assemble(self, node: Node) -> bytes:
        text = self.source[node.start : node.end]
        if "quote" in node.items[1:3]:
            quoted = b"".join(item.value for item in node.items if isinstance(item, Text))
            text = f"(component {quoted.decode()})"
        try:
            return bytes(wasmtime.wat2wasm(DEFINITION.sub("(component", text, count=1)))
        except wasmtime.WasmtimeError as e:
            raise Rejected(str(e)) from e

    def _instance(self, name: str) -> Instance:
        if name not in self.instances:
            raise DirectiveFailed(f"there is no instance {name or 'yet'}")
        return self.instances[name]

    def _invoke(self, node: Node) -> Any:
        """The result of an invocation, a `result` as Ok or Err."""
        words = list(node.items[1:])
        name = str(words.pop(0)) if isinstance(words[0], str) else ""
        instance, export = self._instance(name), str(words.pop(0))
        if instance.trapped:
            raise GuestTrap(export, f"{POISONED}: it trapped, so loop-kit dropped it", None, None)
        function = next((f for f in instance.app.functions if f.name == export), None)
        if function is None:
            raise DirectiveFailed(f"no function {export!r} is exported")
        kinds = [kind for _, kind in function.parameters]
        arguments = []
        for kind, word in zip(kinds, words, strict=True):
            flag_bits = _flag_bits(instance.app, kind)
            arguments.append(values.argument(values.node(word), flag_bits))
        try:
            result = self.host.call(instance.app, export, arguments)
        except loop.Err as e:
            return e
        except CallError:
            instance.trapped = True
            raise
        fallible = (function.result or "").partition("<")[0] == "result"
        return loop.Ok(result) if fallible else result

    def _returns(self, call: Node, expected: list[Node]) -> None:
        try:
            got = self._invoke(call)
        except CallError as e:
            raise DirectiveFailed(f"{type(e).__name__}: {e}") from e
        fits = values.same(expected[0], got) if expected else got is None
        if not fits:
            wanted = " ".join(self.source[n.start : n.end] for n in expected) or "nothing"
            raise DirectiveFailed(f"expected {wanted}, got {got!r}")

    def _traps(self, action: Node, message: str) -> None:
        try:
            if action.head == "component":
                self._start(self._assemble(action))
                got: Any = "an instance"
            else:
                got = repr(self._invoke(action))
        except GuestTrap as e:
            _check_message(message, str(e))
            return
        except CallError as e:
            raise DirectiveFailed(f"expected a trap with {message!r}, got {type(e).__name__}: {e}") from e
        raise DirectiveFailed(f"expected a trap with {message!r}, got {got}")

    def _refused(self, component: Node, message: str) -> None:
        try:
            self._define(self._assemble(component))
        except (LoadError, Rejected, SyntaxFault) as e:
            _check_message(message, str(e))
            return
        raise DirectiveFailed(f"expected a refusal with {message!r}, but it loads")

    def _unlinkable(self, component: Node, message: str) -> None:
        try:
            self._load(self._assemble(component))
        except LinkError as e:
            _check_message(message, str(e))
            return
        raise DirectiveFailed(f"expected a refusal to link with {message!r}, but it links")


def probe(wasm: bytes) -> bytes:
    """A component that instantiates another, one without imports, and exports a `probe` that does nothing."""
    shell = bytes(
        wasmtime.wat2wasm(
            '(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))'
            ' (func (export "probe") (canon lift (core func $i "f"))))'
        )
    )
    # section 4: a component; section 5: one instance, made of component 0 without arguments
    return shell[:8] + b"\4" + _leb(len(wasm)) + wasm + b"\5\4\1\0\0\0" + shell[8:]


def _leb(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _check_message(expected: str, got: str) -> None:
    alike = any(words in expected and words in got for words in ALIKE)
    if not alike and expected not in got:
        raise DirectiveFailed(f"expected {expected!r} in the message, got: {got}")


def _child(node: Node, index: int) -> Node:
    return values.node(node.items[index])


def _flag_bits(app: App, kind: str) -> values.FlagBits:
    """Sets of flags as the number that loop-kit takes, for a parameter of the type `kind`."""

    def bits(names: list[str]) -> int:
        cls = getattr(app.exports[""], pascal(kind))
        return sum(cls[constant(name)].value for name in names)

    return bits


def run(source: str, host: str) -> list[tuple[int, str | None]]:
    """Runs a script on the named host; returns the line of each directive and what is wrong with it."""
    made = HOSTS[host]()
    try:
        return list(Script(source, made).run())
    finally:
        made.close()
