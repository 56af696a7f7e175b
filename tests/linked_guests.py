"""Guests to link with one another."""

from tests.async_guests import AsyncGuest, stream
from tests.guests import API, HOST, Guest, allocate, assemble
from tests.wit_types import U32, Type, params_flat, returns_by_pointer

DEEP = "test:guest/deep"
SPIN = "(loop $l (br $l)) unreachable"


def passing(t: Type, imported: str, exported: str) -> Guest:
    """`echo(v)` of `exported` asks `echo(v)` of `imported`."""
    guest = Guest().imports("echo", [t], t, of=imported)
    forward = " ".join(f"(local.get {i})" for i in range(len(params_flat([t]))))
    if returns_by_pointer(t):
        body = f"(local $at i32) (local.set $at {allocate(t)}) "
        body += f"(call $echo {forward} (local.get $at)) (local.get $at)"
        return guest.exports("echo", [t], t, body, of=exported)
    return guest.exports("echo", [t], t, f"(call $echo {forward})", of=exported)


def step(number: int, waits: bool) -> bytes:
    """One link of a chain: its `up(v)` adds one to what the `up(v)` with the number below gives."""
    imported, exported = f"test:guest/n{number}", f"test:guest/n{number + 1}"
    if waits:
        guest = AsyncGuest().imports("up", [U32], U32, of=imported)
        body = "(call $done-up (i32.add (i32.const 1) (call $up (local.get 0))))"
        return guest.exports("up", [U32], U32, body, of=exported).wasm()
    plain = Guest().imports("up", [U32], U32, of=imported)
    body = "(i32.add (i32.const 1) (call $up (local.get 0)))"
    return plain.exports("up", [U32], U32, body, of=exported).wasm()


def inner(waits: bool) -> bytes:
    """Serves `HOST`: `get(n)` asks `get` of `DEEP`; `boom`, `spin` and `grow` do as they are called."""
    count = "(global.set $n (i32.add (global.get $n) (i32.const 1)))"
    code = "(global $n (mut i32) (i32.const 0)) (func $deep-down unreachable)"
    if waits:
        guest = AsyncGuest(code=code, pages=16).imports("get", [U32], U32, of=DEEP)
        guest.exports("get", [U32], U32, "(call $done-get (call $get (local.get 0)))", of=HOST)
        guest.exports("next", [], U32, f"{count} (call $done-next (global.get $n))", of=HOST)
        guest.exports("boom", [], None, "(call $deep-down)", of=HOST)
        guest.exports("spin", [], None, SPIN, of=HOST)
        guest.exports(
            "grow", [], None, f"(drop (memory.grow (i32.const 100))) {FILL} (call $done-grow)", of=HOST
        )
        return guest.wasm()
    plain = Guest(code=code).imports("get", [U32], U32, of=DEEP)
    plain.exports("get", [U32], U32, "(call $get (local.get 0))", of=HOST)
    plain.exports("next", [], U32, f"{count} (global.get $n)", of=HOST)
    plain.exports("boom", [], None, "(call $deep-down)", of=HOST)
    plain.exports("spin", [], None, SPIN, of=HOST)
    plain.exports("grow", [], None, f"(drop (memory.grow (i32.const 100))) {FILL}", of=HOST)
    return plain.wasm()


FILL = "(memory.fill (i32.const 6488064) (i32.const 1) (i32.const 9))"  # in the last page but one of the 100


def outer(waits: bool) -> bytes:
    """Passes on to `HOST` what it is asked, and counts in `mine`."""
    count = "(global.set $n (i32.add (global.get $n) (i32.const 1)))"
    code = "(global $n (mut i32) (i32.const 0))"
    names = ("boom", "spin", "grow")
    if waits:
        guest = AsyncGuest(code=code).imports("get", [U32], U32).imports("next", [], U32)
        guest.exports("get", [U32], U32, "(call $done-get (call $get (local.get 0)))")
        guest.exports("next", [], U32, "(call $done-next (call $next))")
        guest.exports("mine", [], U32, f"{count} (call $done-mine (global.get $n))")
        for name in names:
            guest.imports(name).exports(name, [], None, f"(call ${name}) (call $done-{name})")
        return guest.wasm()
    plain = Guest(code=code).imports("get", [U32], U32).imports("next", [], U32)
    plain.exports("get", [U32], U32, "(call $get (local.get 0))")
    plain.exports("next", [], U32, "(call $next)")
    plain.exports("mine", [], U32, f"{count} (global.get $n)")
    for name in names:
        plain.imports(name).exports(name, [], None, f"(call ${name})")
    return plain.wasm()


def relaying(t: Type) -> AsyncGuest:
    """`relay(s, cap)` gives back what `pump(s, cap)` of another component gives."""
    guest = AsyncGuest().imports("pump", [stream(t), U32], stream(t), of=API)
    body = "(call $done-relay (call $pump (local.get 0) (local.get 1)))"
    return guest.exports("relay", [stream(t), U32], stream(t), body, of=HOST)


# The resource `$t`, whose destructor calls the import `gone` with its number, and `make(n)` in `$main`.
TELLING = f"""
(import "{HOST}" (instance $host (export "gone" (func (param "n" u32)))))
(core func $gone (canon lower (func $host "gone")))
(core module $lib (import "h" "gone" (func $gone (param i32)))
  (func (export "dtor") (param i32) (call $gone (local.get 0))))
(core instance $lib (instantiate $lib (with "h" (instance (export "gone" (func $gone))))))
(type $t (resource (rep i32) (dtor (core func $lib "dtor"))))
(core func $new (canon resource.new $t))
(core module $main (import "r" "new" (func $new (param i32) (result i32)))
  (func (export "make") (param i32) (result i32) (call $new (local.get 0))))
(core instance $main (instantiate $main (with "r" (instance (export "new" (func $new))))))
"""


def leases() -> bytes:
    """Serves the resource `lease` at `API`; its destructor calls the import `gone` with its number."""
    return assemble(f"""
      {TELLING}
      (func $make (param "n" u32) (result (own $t)) (canon lift (core func $main "make")))
      (component $shape
        (import "lease" (type $t (sub resource)))
        (import "make" (func $make (param "n" u32) (result (own $t))))
        (export $lease "lease" (type $t))
        (export "[constructor]lease" (func $make) (func (param "n" u32) (result (own $lease)))))
      (instance $e (instantiate $shape (with "lease" (type $t)) (with "make" (func $make))))
      (export "{API}" (instance $e))""")


THING = """
(export "thing" (type $thing (sub resource)))
(export "[constructor]thing" (func (param "v" u32) (result (own $thing))))
(export "[method]thing.get" (func (param "self" (borrow $thing)) (result u32)))
(export "join" (func (param "a" (own $thing)) (param "b" (borrow $thing)) (result (own $thing))))
(export "drops" (func (result u32)))
"""


def things() -> bytes:
    """Serves the resource `thing` at `HOST`, each with a number; `drops()` counts destructors."""
    return assemble(f"""
      (core module $dm (global $d (mut i32) (i32.const 0))
        (func (export "dtor") (param i32) (global.set $d (i32.add (global.get $d) (i32.const 1))))
        (func (export "drops") (result i32) (global.get $d)))
      (core instance $di (instantiate $dm))
      (type $thing0 (resource (rep i32) (dtor (core func $di "dtor"))))
      (core func $new (canon resource.new $thing0))
      (core func $rep (canon resource.rep $thing0))
      (core func $drop (canon resource.drop $thing0))
      (core module $m
        (import "r" "new" (func $new (param i32) (result i32)))
        (import "r" "rep" (func $rep (param i32) (result i32)))
        (import "r" "drop" (func $drop (param i32)))
        (func (export "make") (param i32) (result i32)
          (if (i32.eqz (local.get 0)) (then unreachable))
          (call $new (local.get 0)))
        (func (export "get") (param i32) (result i32) (local.get 0))
        (func (export "join") (param i32 i32) (result i32) (local $sum i32)
          (local.set $sum (i32.add (call $rep (local.get 0)) (local.get 1)))
          (call $drop (local.get 0))
          (call $new (local.get $sum))))
      (core instance $i (instantiate $m (with "r" (instance
        (export "new" (func $new)) (export "rep" (func $rep)) (export "drop" (func $drop))))))
      (func $make (param "v" u32) (result (own $thing0)) (canon lift (core func $i "make")))
      (func $get (param "self" (borrow $thing0)) (result u32) (canon lift (core func $i "get")))
      (func $join (param "a" (own $thing0)) (param "b" (borrow $thing0)) (result (own $thing0))
        (canon lift (core func $i "join")))
      (func $drops (result u32) (canon lift (core func $di "drops")))
      (component $shape
        (import "t" (type $t (sub resource)))
        (import "make" (func $make (param "v" u32) (result (own $t))))
        (import "get" (func $get (param "self" (borrow $t)) (result u32)))
        (import "join" (func $join (param "a" (own $t)) (param "b" (borrow $t)) (result (own $t))))
        (import "drops" (func $drops (result u32)))
        (export $thing "thing" (type $t))
        (export "[constructor]thing" (func $make) (func (param "v" u32) (result (own $thing))))
        (export "[method]thing.get" (func $get) (func (param "self" (borrow $thing)) (result u32)))
        (export "join" (func $join)
          (func (param "a" (own $thing)) (param "b" (borrow $thing)) (result (own $thing))))
        (export "drops" (func $drops)))
      (instance $e (instantiate $shape
        (with "t" (type $thing0)) (with "make" (func $make)) (with "get" (func $get))
        (with "join" (func $join)) (with "drops" (func $drops))))
      (export "{HOST}" (instance $e))
    """)


def using_things() -> bytes:
    """`use(a, b)` makes two things, joins them, asks the new one and drops all.

    `hold(n)`, `held()` and `let-go()` keep one between calls; `drops()` asks the import.
    """
    return assemble(f"""
      (import "{HOST}" (instance $h {THING}))
      (alias export $h "thing" (type $thing))
      (alias export $h "[constructor]thing" (func $make))
      (alias export $h "[method]thing.get" (func $get))
      (alias export $h "join" (func $join))
      (alias export $h "drops" (func $drops))
      (core func $C-make (canon lower (func $make)))
      (core func $C-get (canon lower (func $get)))
      (core func $C-join (canon lower (func $join)))
      (core func $C-drops (canon lower (func $drops)))
      (core func $C-drop (canon resource.drop $thing))
      (core module $m
        (import "h" "make" (func $make (param i32) (result i32)))
        (import "h" "get" (func $get (param i32) (result i32)))
        (import "h" "join" (func $join (param i32 i32) (result i32)))
        (import "h" "drops" (func $drops (result i32)))
        (import "h" "drop" (func $drop (param i32)))
        (global $held (mut i32) (i32.const 0))
        (func (export "use") (param i32 i32) (result i32) (local $a i32) (local $b i32) (local $n i32)
          (local.set $a (call $make (local.get 0)))
          (local.set $b (call $make (local.get 1)))
          (local.set $a (call $join (local.get $a) (local.get $b)))
          (local.set $n (call $get (local.get $a)))
          (call $drop (local.get $a))
          (call $drop (local.get $b))
          (local.get $n))
        (func (export "hold") (param i32) (global.set $held (call $make (local.get 0))))
        (func (export "held") (result i32) (call $get (global.get $held)))
        (func (export "let-go") (call $drop (global.get $held)))
        (func (export "drops") (result i32) (call $drops)))
      (core instance $i (instantiate $m (with "h" (instance
        (export "make" (func $C-make)) (export "get" (func $C-get)) (export "join" (func $C-join))
        (export "drops" (func $C-drops)) (export "drop" (func $C-drop))))))
      (func $use (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "use")))
      (func $hold (param "n" u32) (canon lift (core func $i "hold")))
      (func $held (result u32) (canon lift (core func $i "held")))
      (func $let-go (canon lift (core func $i "let-go")))
      (func $d (result u32) (canon lift (core func $i "drops")))
      (instance $e (export "use" (func $use)) (export "hold" (func $hold)) (export "held" (func $held))
        (export "let-go" (func $let-go)) (export "drops" (func $d)))
      (export "{API}" (instance $e))
    """)
