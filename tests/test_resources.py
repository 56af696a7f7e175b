"""Resources that a guest defines."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.errors import ArgumentError, GuestTrap, ProviderGone
from tests.guests import API, HOST, assemble
from tests.linked_guests import TELLING

FUNCTIONS = {
    "[constructor]thing": '(param "n" u32) (result (own $thing))',
    "[method]thing.get": '(param "self" (borrow $thing)) (result u32)',
    "[method]thing.add": '(param "self" (borrow $thing)) (param "n" u32) (result u32)',
    "[static]thing.merge": '(param "a" (own $thing)) (param "b" (own $thing)) (result (own $thing))',
    "[method]other.get": '(param "self" (borrow $other)) (result u32)',
    "make-other": '(param "n" u32) (result (own $other))',
    "peek": '(param "t" (borrow $thing)) (result u32)',
    "take": '(param "t" (own $thing)) (result u32)',
    "same": '(param "t" (own $thing)) (result (own $thing))',
    "many": '(param "n" u32) (result (list (own $thing)))',
    "sum": '(param "things" (list (borrow $thing))) (result u32)',
    "take-all": '(param "things" (list (own $thing))) (result u32)',
    "twice": '(param "t" (own $thing)) (result (tuple (own $thing) (own $thing)))',
    "forge": '(param "handle" u32) (result (own $thing))',
    "disguise": '(param "t" (own $thing)) (result (own $other))',
    "drops": "(result u32)",
    "calls": "(result u32)",
    "boom": "",
}

# The representation of a resource is where its number lies.
CORE = """
  (import "lib" "memory" (memory 1))
  (import "lib" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
  (import "lib" "drops" (global $drops (mut i32)))
  (import "r" "new" (func $new (param i32) (result i32)))
  (import "r" "drop" (func $drop (param i32)))
  (import "r" "rep" (func $rep (param i32) (result i32)))
  (import "r" "new-other" (func $new-other (param i32) (result i32)))
  (global $calls (mut i32) (i32.const 0))
  (func $at (param $n i32) (result i32) (local $p i32)
    (local.set $p (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 4)))
    (i32.store (local.get $p) (local.get $n))
    (local.get $p))
  (func $make (export "[constructor]thing") (param i32) (result i32) (call $new (call $at (local.get 0))))
  (func (export "make-other") (param i32) (result i32) (call $new-other (call $at (local.get 0))))
  (func $get (export "[method]thing.get") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "[method]other.get") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "[method]thing.add") (param i32 i32) (result i32)
    (i32.store (local.get 0) (i32.add (i32.load (local.get 0)) (local.get 1)))
    (i32.load (local.get 0)))
  (func (export "[static]thing.merge") (param i32 i32) (result i32)
    (call $make (i32.add (call $take (local.get 0)) (call $take (local.get 1)))))
  (func (export "peek") (param i32) (result i32) (i32.load (local.get 0)))
  (func $take (export "take") (param i32) (result i32)
    (i32.load (call $rep (local.get 0)))
    (call $drop (local.get 0)))
  (func (export "same") (param i32) (result i32) (local.get 0))
  (func (export "many") (param $n i32) (result i32) (local $i i32) (local $p i32)
    (local.set $p (call $realloc
      (i32.const 0) (i32.const 0) (i32.const 4) (i32.mul (local.get $n) (i32.const 4))))
    (i32.store (i32.const 64) (local.get $p))
    (i32.store (i32.const 68) (local.get $n))
    (loop $next (if (i32.lt_u (local.get $i) (local.get $n)) (then
      (i32.store (local.get $p) (call $make (local.get $i)))
      (local.set $p (i32.add (local.get $p) (i32.const 4)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next))))
    (i32.const 64))
  (func (export "sum") (param $p i32) (param $n i32) (result i32) (local $sum i32)
    (loop $next (if (local.get $n) (then
      (local.set $sum (i32.add (local.get $sum) (i32.load (i32.load (local.get $p)))))
      (local.set $p (i32.add (local.get $p) (i32.const 4)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $next))))
    (local.get $sum))
  (func (export "take-all") (param $p i32) (param $n i32) (result i32) (local $sum i32)
    (loop $next (if (local.get $n) (then
      (local.set $sum (i32.add (local.get $sum) (call $take (i32.load (local.get $p)))))
      (local.set $p (i32.add (local.get $p) (i32.const 4)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $next))))
    (local.get $sum))
  (func (export "twice") (param i32) (result i32)
    (i32.store (i32.const 64) (local.get 0)) (i32.store (i32.const 68) (local.get 0)) (i32.const 64))
  (func (export "forge") (param i32) (result i32) (local.get 0))
  (func (export "disguise") (param i32) (result i32) (local.get 0))
  (func (export "drops") (result i32) (global.get $drops))
  (func (export "calls") (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls))
  (func (export "boom") unreachable)
"""


def things() -> bytes:
    options = '(memory (core memory $lib "memory")) (realloc (core func $lib "realloc"))'
    lifts, inside, outside, given = [], [], [], []
    for number, (name, signature) in enumerate(FUNCTIONS.items()):
        lifts.append(f'(func $f{number} {signature} (canon lift (core func $main "{name}") {options}))')
        imported = signature.replace("$thing", "$i-thing").replace("$other", "$i-other")
        inside.append(f'(import "f{number}" (func $f{number} {imported}))')
        outside.append(f'(export "{name}" (func $f{number}) (func {signature}))')
        given.append(f'(with "f{number}" (func $f{number}))')
    return assemble(f"""
      (core module $lib
        (memory (export "memory") 16)
        (global $top (mut i32) (i32.const 4096))
        (global $drops (export "drops") (mut i32) (i32.const 0))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (global.get $top)
          (global.set $top (i32.add (global.get $top) (i32.and (i32.add (local.get 3) (i32.const 7))
                                                               (i32.const -8)))))
        (func (export "dtor") (param i32) (global.set $drops (i32.add (global.get $drops) (i32.const 1)))))
      (core instance $lib (instantiate $lib))
      (type $thing (resource (rep i32) (dtor (core func $lib "dtor"))))
      (type $other (resource (rep i32)))
      (core func $new (canon resource.new $thing))
      (core func $drop (canon resource.drop $thing))
      (core func $rep (canon resource.rep $thing))
      (core func $new-other (canon resource.new $other))
      (core module $main {CORE})
      (core instance $main (instantiate $main (with "lib" (instance $lib)) (with "r" (instance
        (export "new" (func $new)) (export "drop" (func $drop)) (export "rep" (func $rep))
        (export "new-other" (func $new-other))))))
      {" ".join(lifts)}
      (component $api
        (import "thing" (type $i-thing (sub resource)))
        (import "other" (type $i-other (sub resource)))
        {" ".join(inside)}
        (export $thing "thing" (type $i-thing))
        (export $other "other" (type $i-other))
        {" ".join(outside)})
      (instance $api (instantiate $api
        (with "thing" (type $thing)) (with "other" (type $other)) {" ".join(given)}))
      (export "{API}" (instance $api))""")


@pytest.fixture(scope="module")
def wasm() -> bytes:
    return things()


@pytest.fixture(scope="module")
def host() -> Iterator[loop.blocking.Host]:
    with loop.blocking.Host(cache=None) as host:
        yield host


@pytest.fixture
def api(host: loop.blocking.Host, wasm: bytes) -> Any:
    return host.load(wasm).exports[API]


def test_constructor_methods_and_statics(api: Any) -> None:
    thing = api.Thing(5)
    assert isinstance(thing, api.Thing)
    assert (thing.get(), thing.add(3), thing.get(), api.peek(thing)) == (5, 8, 8, 8)
    merged = api.Thing.merge(thing, api.Thing(100))
    assert merged.get() == 108
    assert api.drops() == 2
    other = api.make_other(7)
    assert isinstance(other, api.Other)
    assert other.get() == 7
    with pytest.raises(TypeError, match="no constructor"):
        api.Other(1)
    with pytest.raises(ArgumentError, match="takes 1 arguments, got 2"):
        api.Thing(1, 2)


def test_handles_within_values(api: Any) -> None:
    made = api.many(10)
    assert [t.get() for t in made] == list(range(10))
    assert api.sum(made) == 45
    assert api.sum(made[:3] * 2) == 6
    assert api.take_all(made[4:]) == sum(range(4, 10))
    assert api.drops() == 6
    assert [t.get() for t in made[:4]] == [0, 1, 2, 3]
    assert api.many(0) == []


def test_one_resource_twice_in_one_call(api: Any) -> None:
    thing, kept = api.Thing(1), api.Thing(2)
    with pytest.raises(ArgumentError, match="moved"):
        api.take_all([thing, thing])
    assert kept.get() == 2


def test_a_moved_resource_is_gone(api: Any) -> None:
    thing = api.Thing(5)
    assert api.take(thing) == 5
    assert api.drops() == 1
    assert "gone" in repr(thing)
    for function, argument in (
        (type(thing).get, thing),
        (api.peek, thing),
        (api.take, thing),
        (api.sum, [thing]),
    ):
        with pytest.raises(ArgumentError, match="moved or dropped"):
            function(argument)
    thing.close()
    del thing
    gc.collect()
    assert api.drops() == 1


def test_a_resource_that_comes_back(api: Any) -> None:
    thing = api.Thing(5)
    back = api.same(thing)
    assert back.get() == 5
    with pytest.raises(ArgumentError, match="moved"):
        thing.get()
    assert api.drops() == 0


def test_dropped_once_however_it_is_dropped(api: Any) -> None:
    thing = api.Thing(1)
    thing.close()
    thing.close()
    assert api.drops() == 1
    with api.Thing(2) as thing:
        assert thing.get() == 2
    assert api.drops() == 2
    api.Thing(3)
    gc.collect()
    assert api.drops() == 3
    thing = api.Thing(4)
    cycle: list[Any] = [thing]
    cycle.append(cycle)
    del thing, cycle
    gc.collect()
    assert api.drops() == 4
    with pytest.raises(ZeroDivisionError), api.Thing(5):
        _ = 1 // 0
    assert api.drops() == 5


def test_dropped_on_another_thread(api: Any) -> None:
    made = api.many(20)
    threads = [threading.Thread(target=t.close) for t in made]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert api.drops() == 20


def test_ten_thousand_come_and_go(api: Any) -> None:
    """Fewer than that fit into memory at once, so handles and their tables are freed."""
    for _ in range(10_000):
        api.Thing(1).close()
    assert api.drops() == 10_000
    assert api.calls() == 1


WRONG = {
    "other type": lambda api, _: api.make_other(1),
    "other instance": lambda _, elsewhere: elsewhere.Thing(1),
    "moved": lambda api, _: _moved(api),
    "dropped": lambda api, _: _dropped(api),
    "no resource": lambda *_: object(),
    "none": lambda *_: None,
    "number": lambda *_: 1,
}


def _moved(api: Any) -> Any:
    thing = api.Thing(1)
    api.take(thing)
    return thing


def _dropped(api: Any) -> Any:
    thing = api.Thing(1)
    thing.close()
    return thing


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("function", ["peek", "take", "sum", "take_all"])
def test_a_wrong_handle_costs_no_state(
    host: loop.blocking.Host, wasm: bytes, kind: str, function: str
) -> None:
    api, elsewhere = host.load(wasm).exports[API], host.load(wasm).exports[API]
    kept = api.Thing(42)
    assert api.calls() == 1
    wrong = WRONG[kind](api, elsewhere)
    with pytest.raises(ArgumentError) as caught:
        getattr(api, function)([wrong] if function in ("sum", "take_all") else wrong)
    assert caught.value.path == ("[0]" if function in ("sum", "take_all") else "")
    assert "thing" in caught.value.expected
    assert api.calls() == 2
    assert kept.get() == 42


def test_owned_handles_of_a_refused_call_stay(api: Any) -> None:
    thing = api.Thing(1)
    with pytest.raises(ArgumentError):
        api.take_all([thing, None])
    assert thing.get() == 1


def test_handles_that_the_guest_does_not_have(host: loop.blocking.Host, wasm: bytes) -> None:
    for attempt in (
        lambda api: api.forge(77),
        lambda api: api.forge(0),
        lambda api: api.forge(2**32 - 1),
        lambda api: api.disguise(api.Thing(1)),
        lambda api: api.twice(api.Thing(1)),
    ):
        api = host.load(wasm).exports[API]
        with pytest.raises(GuestTrap):
            attempt(api)
        assert api.Thing(3).get() == 3


def test_handles_of_an_instance_that_trapped(api: Any) -> None:
    thing = api.Thing(1)
    with pytest.raises(GuestTrap):
        api.boom()
    for _ in range(2):
        with pytest.raises(ProviderGone):
            thing.get()
        assert api.Thing(2).get() == 2
    thing.close()


def test_a_resource_keeps_its_own_instance(host: loop.blocking.Host, wasm: bytes) -> None:
    api = host.load(wasm, limits=loop.Limits(instances="per-call")).exports[API]
    first, second = api.Thing(1), api.Thing(2)
    assert (first.add(10), second.add(10)) == (11, 12)
    assert (first.get(), second.get()) == (11, 12)
    assert api.calls() == api.calls() == 1
    with pytest.raises(ArgumentError, match="another component instance"):
        api.peek(first)


def test_a_pool_serves_resources(host: loop.blocking.Host, wasm: bytes) -> None:
    api = host.load(wasm, limits=loop.Limits(instances=2)).exports[API]
    first, second = api.Thing(1), api.Thing(2)
    assert (first.add(10), second.add(10), first.get()) == (11, 12, 11)


def test_resources_outlive_their_app(host: loop.blocking.Host, wasm: bytes) -> None:
    thing = host.load(wasm).exports[API].Thing(5)
    gc.collect()
    assert thing.get() == 5


def plain() -> bytes:
    """`make` makes a resource that has no functions; its destructor calls the import `gone`."""
    return assemble(f"""
      {TELLING}
      (export $thing "thing" (type $t))
      (func $make (param "n" u32) (result (own $thing)) (canon lift (core func $main "make")))
      (export "make" (func $make))""")


def test_closing_runs_the_destructor_at_once(host: loop.blocking.Host) -> None:
    gone: list[int] = []
    app = host.load(plain(), {HOST: SimpleNamespace(gone=gone.append)})
    thing = app.call("make", 5)
    getattr(thing, "_loop_handle", thing).drop()
    assert gone == [5]
    app.call("make", 6)
    assert gone == [5]


def test_a_resource_without_functions_is_closed_as_any_other(host: loop.blocking.Host) -> None:
    gone: list[int] = []
    app = host.load(plain(), {HOST: SimpleNamespace(gone=gone.append)})
    with app.call("make", 1):
        pass
    app.call("make", 2).close()
    app.call("make", 3)
    assert gone[:2] == [1, 2]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("instances", ["shared", "per-call"])
async def test_on_a_loop_the_destructor_waits_for_no_other_call(waits: bool, instances: Any) -> None:
    gone: asyncio.Queue[int] = asyncio.Queue()

    async def later(n: int) -> None:
        await asyncio.sleep(0)
        await gone.put(n)

    limits = loop.Limits(instances=instances)
    async with loop.Host(cache=None) as host, asyncio.timeout(30):
        ending = SimpleNamespace(gone=later if waits else gone.put_nowait)
        app = await host.load(plain(), {HOST: ending}, limits=limits)
        thing = await app.call("make", 5)
        thing.close()
        assert await gone.get() == 5
        await app.call("make", 6)  # and dropped here
        assert await gone.get() == 6


def beside_async() -> bytes:
    """As `plain`, with an export that is asynchronous, so that many calls are in the instance at once."""
    return assemble(f"""
      {TELLING}
      (export $thing "thing" (type $t))
      (func $make (param "n" u32) (result (own $thing)) (canon lift (core func $main "make")))
      (export "make" (func $make))
      (core func $return (canon task.return))
      (core module $nothing (import "" "return" (func $return))
        (func (export "run") (result i32) (call $return) (i32.const 0))
        (func (export "on") (param i32 i32 i32) (result i32) (i32.const 0)))
      (core instance $nothing (instantiate $nothing (with "" (instance (export "return" (func $return))))))
      (func (export "nothing") async
        (canon lift (core func $nothing "run") async (callback (func $nothing "on"))))""")


@pytest.mark.parametrize("waits", [False, True])
async def test_the_destructor_runs_beside_asynchronous_exports(waits: bool) -> None:
    gone: asyncio.Queue[int] = asyncio.Queue()

    async def later(n: int) -> None:
        await gone.put(n)

    async with loop.Host(cache=None) as host, asyncio.timeout(30):
        ending = SimpleNamespace(gone=later if waits else gone.put_nowait)
        app = await host.load(beside_async(), {HOST: ending}, limits=loop.Limits(instances="shared"))
        for n in range(20):  # whatever the moment of the epoch
            thing = await app.call("make", n)
            await asyncio.sleep(0.003)
            thing.close()
            assert await gone.get() == n
            await app.call("nothing")
