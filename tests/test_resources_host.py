"""Resources that Python defines for a guest."""

import gc
import sys
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.errors import ArgumentError, CallError, GuestTrap, LinkError, ProviderTypeError
from tests.guests import API, HOST, assemble


@pytest.fixture(scope="module")
def host() -> Iterator[loop.blocking.Host]:
    with loop.blocking.Host(cache=None) as host:
        yield host


FILE = """
  (export "file" (type $file (sub resource)))
  (export "other" (type $other (sub resource)))
  (export "[constructor]file" (func (param "n" u32) (result (own $file))))
  (export "[method]file.size" (func (param "self" (borrow $file)) (result u32)))
  (export "[static]file.temp" (func (result (own $file))))
  (export "open" (func (param "n" u32) (result (own $file))))
  (export "close" (func (param "f" (own $file))))
  (export "peek" (func (param "f" (borrow $file)) (result u32)))
  (export "both" (func (result (tuple (own $file) (own $file)))))
  (export "other" (func (result (own $other))))
""".replace('"other" (func', '"get-other" (func')
LOWERED = {
    "[constructor]file": "(param i32) (result i32)",
    "[method]file.size": "(param i32) (result i32)",
    "[static]file.temp": "(result i32)",
    "open": "(param i32) (result i32)",
    "close": "(param i32)",
    "peek": "(param i32) (result i32)",
    "both": "(param i32)",
    "get-other": "(result i32)",
}
# name: component signature, core signature, body
USES = {
    "make": ('(param "n" u32) (result (own $file))', "(param i32) (result i32)", "(call $f0 (local.get 0))"),
    "temp": ("(result (own $file))", "(result i32)", "(call $f2)"),
    "open": ('(param "n" u32) (result (own $file))', "(param i32) (result i32)", "(call $f3 (local.get 0))"),
    "same": ('(param "f" (own $file)) (result (own $file))', "(param i32) (result i32)", "(local.get 0)"),
    "size": (
        '(param "f" (borrow $file)) (result u32)',
        "(param i32) (result i32)",
        "(call $f1 (local.get 0)) (call $drop (local.get 0))",
    ),
    "peek": (
        '(param "f" (borrow $file)) (result u32)',
        "(param i32) (result i32)",
        "(call $f5 (local.get 0)) (call $drop (local.get 0))",
    ),
    "forget": ('(param "f" (borrow $file))', "(param i32)", "nop"),
    "drop": ('(param "f" (own $file))', "(param i32)", "(call $drop (local.get 0))"),
    "close": ('(param "f" (own $file))', "(param i32)", "(call $f4 (local.get 0))"),
    "close-twice": (
        '(param "f" (own $file))',
        "(param i32)",
        "(call $f4 (local.get 0)) (call $f4 (local.get 0))",
    ),
    "keep": ('(param "f" (own $file))', "(param i32)", "(global.set $kept (local.get 0))"),
    "kept": ("(result u32)", "(result i32)", "(call $f1 (global.get $kept))"),
    "give-back": ("(result (own $file))", "(result i32)", "(global.get $kept)"),
    "forge": ('(param "n" u32) (result u32)', "(param i32) (result i32)", "(call $f1 (local.get 0))"),
    "mix-up": ("(result u32)", "(result i32)", "(call $f1 (call $f7))"),
    "sizes": ("(result u32)", "(result i32)", "(call $f6 (i32.const 64)) (i32.add"
        " (call $f1 (i32.load (i32.const 64))) (call $f1 (i32.load (i32.const 68))))"),
    "boom": ("", "", "unreachable"),
}  # fmt: skip


def files() -> bytes:
    options = '(memory (core memory $lib "memory"))'
    lowers = [
        f'(core func $l{i} (canon lower (func $host "{name}") {options}))' for i, name in enumerate(LOWERED)
    ]
    needs = [f'(import "h" "f{i}" (func $f{i} {core}))' for i, core in enumerate(LOWERED.values())]
    given = [f'(export "f{i}" (func $l{i}))' for i in range(len(LOWERED))]
    code = [f'(func (export "{name}") {core} {body})' for name, (_, core, body) in USES.items()]
    lifts = [
        f'(func $e-{name} {wit} (canon lift (core func $main "{name}")))' for name, (wit, *_) in USES.items()
    ]
    exports = [f'(export "{name}" (func $e-{name}))' for name in USES]
    return assemble(f"""
      (import "{HOST}" (instance $host {FILE}))
      (alias export $host "file" (type $file))
      (core module $lib (memory (export "memory") 1))
      (core instance $lib (instantiate $lib))
      (core func $drop (canon resource.drop $file))
      {" ".join(lowers)}
      (core module $main
        (import "lib" "memory" (memory 1))
        (import "h" "drop" (func $drop (param i32)))
        {" ".join(needs)}
        (global $kept (mut i32) (i32.const 0))
        {" ".join(code)})
      (core instance $main (instantiate $main
        (with "lib" (instance $lib)) (with "h" (instance (export "drop" (func $drop)) {" ".join(given)}))))
      {" ".join(lifts)}
      (instance $api {" ".join(exports)})
      (export "{API}" (instance $api))""")


class Files:
    """A provider whose resources count themselves."""

    def __init__(self) -> None:
        files = self
        self.exited: list[int] = []
        self.closed: list[Any] = []

        class File:
            def __init__(self, n: int) -> None:
                self.n = n

            def size(self) -> int:
                return self.n * 10

            @staticmethod
            def temp() -> Any:
                return File(99)

            def __exit__(self, *_: object) -> None:
                files.exited.append(self.n)

        self.File = File

    def open(self, n: int) -> Any:
        return self.File(n)

    def close(self, f: Any) -> None:
        self.closed.append(f)

    def peek(self, f: Any) -> int:
        return int(f.n)

    def both(self) -> tuple[Any, Any]:
        return self.File(1), self.File(2)

    def get_other(self) -> object:
        return object()


@pytest.fixture(scope="module")
def file_wasm() -> bytes:
    return files()


def load(host: loop.blocking.Host, file_wasm: bytes) -> tuple[Any, Files]:
    provider = Files()
    limits = loop.Limits(instances="shared")
    return host.load(file_wasm, {HOST: provider}, limits=limits).exports[API], provider


def test_python_objects_go_in_and_come_back_themselves(host: loop.blocking.Host, file_wasm: bytes) -> None:
    api, provider = load(host, file_wasm)
    made = api.make(5)
    assert (type(made), made.n) == (provider.File, 5)
    assert api.temp().n == 99
    assert api.open(6).n == 6
    assert api.same(made) is made
    assert (api.size(made), api.peek(made)) == (50, 5)
    assert api.sizes() == 30
    api.close(made)
    assert provider.closed == [made]
    assert provider.exited == []


def test_what_the_guest_drops_is_exited(host: loop.blocking.Host, file_wasm: bytes) -> None:
    api, provider = load(host, file_wasm)
    api.drop(provider.File(3))
    assert provider.exited == [3]
    api.keep(provider.File(4))
    assert api.kept() == 40
    assert api.give_back().n == 4
    with pytest.raises(GuestTrap):
        api.give_back()
    assert provider.exited == [3]


def test_an_object_without_exit_may_be_dropped(host: loop.blocking.Host, file_wasm: bytes) -> None:
    class Plain:
        def __init__(self, n: int) -> None:
            self.n = n

        def size(self) -> int:
            return 1

        @staticmethod
        def temp() -> Any:
            return Plain(1)

    provider = Files()
    provider.File = Plain  # type: ignore[assignment]
    api = host.load(file_wasm, {HOST: provider}).exports[API]
    api.drop(Plain(1))
    assert api.size(Plain(1)) == 1


def test_an_exit_that_raises_is_the_calls_error(host: loop.blocking.Host, file_wasm: bytes) -> None:
    api, provider = load(host, file_wasm)
    bad = provider.File(1)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("on the way out")

    provider.File.__exit__ = fail  # type: ignore[method-assign]
    with pytest.raises((ZeroDivisionError, CallError), match="on the way out"):
        api.drop(bad)


@pytest.mark.parametrize("wrong", [None, 5, "file", object()], ids=["none", "int", "str", "object"])
def test_only_objects_of_the_class_will_do(host: loop.blocking.Host, file_wasm: bytes, wrong: Any) -> None:
    api, provider = load(host, file_wasm)
    kept = provider.File(4)
    api.keep(kept)
    for call in (api.size, api.drop, api.same):
        with pytest.raises(ArgumentError) as caught:
            call(wrong)
        assert "file" in caught.value.expected
    assert api.kept() == 40
    provider.open = lambda n: wrong  # type: ignore[method-assign]
    with pytest.raises(ProviderTypeError) as result:
        host.load(file_wasm, {HOST: provider}).exports[API].open(1)
    assert (result.value.interface, result.value.function, result.value.expected) == (HOST, "open", "file")


def test_handles_that_the_guest_makes_up(host: loop.blocking.Host, file_wasm: bytes) -> None:
    for attempt in (
        lambda api, _: api.forge(0),
        lambda api, _: api.forge(123),
        lambda api, _: api.forge(2**32 - 1),
        lambda api, f: api.close_twice(f),
        lambda api, f: api.forget(f),
        lambda api, _: api.mix_up(),
    ):
        api, provider = load(host, file_wasm)
        with pytest.raises(GuestTrap):
            attempt(api, provider.File(1))
        assert api.make(2).n == 2


def test_nothing_is_left_after_ten_thousand_rounds(host: loop.blocking.Host, file_wasm: bytes) -> None:
    api, provider = load(host, file_wasm)
    one = provider.File(7)
    before = sys.getrefcount(one)
    for _ in range(10_000):
        api.size(one)
        api.same(one)
    assert sys.getrefcount(one) == before
    seen: list[weakref.ref[Any]] = []
    for n in range(2_000):
        f = provider.File(n)
        seen.append(weakref.ref(f))
        (api.drop, api.peek, api.same, api.size)[n % 4](f)
    del f
    gc.collect()
    assert [r for r in seen if r() is not None] == []
    assert len(provider.exited) == 500


def test_a_failed_call_leaves_no_object_behind(host: loop.blocking.Host, file_wasm: bytes) -> None:
    api, provider = load(host, file_wasm)
    f = provider.File(1)
    seen = weakref.ref(f)
    api.keep(f)
    with pytest.raises(GuestTrap):
        api.boom()
    assert api.make(1).n == 1
    del f
    gc.collect()
    assert seen() is None


def test_members_that_a_class_lacks_are_named(host: loop.blocking.Host, file_wasm: bytes) -> None:
    provider = Files()
    del provider.File.size, provider.File.temp
    with pytest.raises(LinkError) as caught:
        host.load(file_wasm, {HOST: provider})
    assert [p.item for p in caught.value.problems] == ["File.size", "File.temp"]
    assert "func(self: borrow<file>) -> u32" in str(caught.value)


def test_a_resource_in_a_record_of_an_interface_that_is_imported_and_exported(
    host: loop.blocking.Host,
) -> None:
    """Both sides have a record of that name, with a resource of their own."""
    wasm = assemble("""
      (import "a:b/c" (instance $i
        (export "counter" (type $c (sub resource)))
        (type $r (record (field "c" (own $c))))
        (export "held" (type $h (eq $r)))
        (export "make" (func (result $h)))))
      (type $own (resource (rep i32)))
      (core func $new (canon resource.new $own))
      (core module $m (import "r" "new" (func $new (param i32) (result i32)))
        (func (export "make") (result i32) (call $new (i32.const 7))))
      (core instance $mi (instantiate $m (with "r" (instance (export "new" (func $new))))))
      (type $held (record (field "c" (own $own))))
      (func $made (result $held) (canon lift (core func $mi "make")))
      (component $shape
        (import "t" (type $t (sub resource)))
        (type $r (record (field "c" (own $t))))
        (import "h" (type $h (eq $r)))
        (import "make" (func $make (result $h)))
        (export $counter "counter" (type $t))
        (type $r2 (record (field "c" (own $counter))))
        (export $held "held" (type $r2))
        (export "make" (func $make) (func (result $held))))
      (instance $e (instantiate $shape (with "t" (type $own)) (with "h" (type $held)) (with "make" (func $made))))
      (export "a:b/c" (instance $e))""")
    app = host.load(wasm, {"a:b/c": SimpleNamespace(make=lambda: None)})
    held = app.call("a:b/c#make")
    assert type(held).__name__ == "Held"
