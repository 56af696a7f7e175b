"""Guests that move streams and futures."""

from tests.async_guests import BUFFER, MASK, AsyncGuest, future, stream
from tests.wit_types import STRING, U8, U32, Record, Result, Tuple, Type

NEW = """
(local.set $ends (call $s.new))
(call $done-{name} (i32.wrap_i64 (local.get $ends)))
(local.set $out (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
"""


def pumping(item: Type | None) -> AsyncGuest:
    """Moves streams of `item`.

    `pump(s, cap)` gives back what it reads, at most `cap` values a read; `sink(s, cap, limit)` reads to the
    end or until it has `limit` values, drops the stream and returns their number; `source(n, cap)` writes n
    values, at most `cap` at once; `fail(n)` writes n values, then traps; `same(s)` hands its argument back.
    Each write's answer goes to the import `wrote(count, code)`.
    """
    size = item.size if item else 0
    guest = AsyncGuest(pages=256).stream("s", item)
    s = stream(item)
    guest.imports("wrote", [U32, U32], waits=False)
    # memory of its own for each call, since others may run in the same instance
    buffer = (
        "(call $realloc (i32.const 0) (i32.const 0) (i32.const 16) "
        f"(i32.mul (local.get {{count}}) (i32.const {size})))"
    )
    write = f"""
      (call $s.write (local.get $out)
        (i32.add (local.get $at) (i32.mul (local.get $k) (i32.const {size})))
        (i32.sub (local.get $n) (local.get $k)))"""
    guest.exports(
        "pump",
        [s, U32],
        s,
        f"""
        {LOCALS} (local.set $at {buffer.format(count=1)})
        {NEW.format(name="pump")}
        (block $done (loop $more
          (local.set $r (call $s.read (local.get 0) (local.get $at) (local.get 1)))
          (local.set $n (i32.shr_u (local.get $r) (i32.const 4)))
          (local.set $k (i32.const 0))
          (block $all (loop $rest
            (br_if $all (i32.ge_u (local.get $k) (local.get $n)))
            {WROTE.format(write=write)}
            (br_if $done (i32.and (local.get $w) {MASK}))
            (br $rest)))
          (br_if $more (i32.eqz (i32.and (local.get $r) {MASK})))))
        (call $s.drop-readable (local.get 0))
        (call $s.drop-writable (local.get $out))
        """,
    )
    guest.exports(
        "sink",
        [s, U32, U32],
        U32,
        f"""
        {LOCALS} (local.set $at {buffer.format(count=1)})
        (block $done (loop $more
          (br_if $done (i32.ge_u (local.get $n) (local.get 2)))
          (local.set $r (call $s.read (local.get 0) (local.get $at) (local.get 1)))
          (local.set $n (i32.add (local.get $n) (i32.shr_u (local.get $r) (i32.const 4))))
          (br_if $more (i32.eqz (i32.and (local.get $r) {MASK})))))
        (call $s.drop-readable (local.get 0))
        (call $done-sink (local.get $n))
        """,
    )
    guest.exports(
        "source",
        [U32, U32],
        s,
        f"""
        {LOCALS} (local.set $at {buffer.format(count=1)})
        {NEW.format(name="source")}
        (block $done (loop $more
          (br_if $done (i32.eqz (local.get 0)))
          (local.set $k (i32.const 0))
          (local.set $n (select (local.get 0) (local.get 1) (i32.lt_u (local.get 0) (local.get 1))))
          {WROTE.format(write=write)}
          (local.set 0 (i32.sub (local.get 0) (local.get $k)))
          (br_if $more (i32.eqz (i32.and (local.get $w) {MASK})))))
        (call $s.drop-writable (local.get $out))
        """,
    )
    guest.exports("same", [s], s, "(call $done-same (local.get 0))")
    return guest.exports(
        "fail",
        [U32],
        s,
        f"""
        {LOCALS} (local.set $at {buffer.format(count=0)})
        {NEW.format(name="fail")}
        (local.set $n (local.get 0))
        {WROTE.format(write=write)}
        unreachable
        """,
    )


LOCALS = """
(local $ends i64) (local $out i32) (local $at i32)
(local $r i32) (local $w i32) (local $k i32) (local $n i32)"""

WROTE = """
(local.set $w {write})
(local.set $k (i32.add (local.get $k) (i32.shr_u (local.get $w) (i32.const 4))))
(call $wrote (i32.shr_u (local.get $w) (i32.const 4)) (i32.and (local.get $w) (i32.const 15)))
"""


CARGO = Record((("title", STRING), ("body", stream(U8)), ("size", future(U32))), "cargo")


def settling(item: Type | None) -> AsyncGuest:
    """Moves futures of `item`.

    `relay(f)` reads it and settles a new one; `same(f)` hands it back; `never()` gives one that stays open;
    `drop(f)` drops it unread; `fail(f)` waits for it and traps; `put(f)` asks the import `take(f)`; `fetch()`
    relays what the import `give()` returns.
    """
    guest = AsyncGuest().future("s", item)
    f = future(item)
    guest.imports("take", [f], U32).imports("give", [], f)
    out = "(local $ends i64) (local $out i32)"
    guest.exports(
        "relay",
        [f],
        f,
        f"""{out}
        (drop (call $s.read (local.get 0) (i32.const {BUFFER})))
        (call $s.drop-readable (local.get 0))
        {NEW.format(name="relay")}
        (drop (call $s.write (local.get $out) (i32.const {BUFFER})))
        (call $s.drop-writable (local.get $out))""",
    )
    guest.exports("same", [f], f, "(call $done-same (local.get 0))")
    guest.exports("never", [], f, f"{out} {NEW.format(name='never')}")
    guest.exports(
        "fail",
        [f],
        f,
        f"""{out} {NEW.format(name="fail")}
        (drop (call $s.read (local.get 0) (i32.const {BUFFER}))) unreachable""",
    )
    guest.exports("drop", [f], None, "(call $s.drop-readable (local.get 0)) (call $done-drop)")
    guest.exports("put", [f], U32, "(call $done-put (call $take (local.get 0)))")
    return guest.exports(
        "fetch",
        [],
        f,
        f"""{out} (local $in i32)
        (local.set $in (call $give))
        (drop (call $s.read (local.get $in) (i32.const {BUFFER})))
        (call $s.drop-readable (local.get $in))
        {NEW.format(name="fetch")}
        (drop (call $s.write (local.get $out) (i32.const {BUFFER})))
        (call $s.drop-writable (local.get $out))""",
    )


def shipping() -> AsyncGuest:
    """Streams and futures inside other values, and as parameters and results of imports.

    `ship(cargo)` returns `ok((title, body, size))`; `refuse(cargo)` drops both and returns an error.
    `send(n)` writes n bytes to a stream that the import `take(stream)` got, and returns its result;
    `fetch(n)` reads what the import `give(n)` returned to the end and returns the sum of its bytes.
    """
    guest = AsyncGuest(pages=256).stream("s", U8).future("f", U32)
    cargo = Tuple((STRING, stream(U8), future(U32)))
    shipped = Result(cargo, STRING)
    guest.imports("take", [stream(U8)], U32).imports("give", [U32], stream(U8))
    guest.exports(
        "ship",
        [CARGO],
        shipped,
        "(call $done-ship (i32.const 0) (local.get 0) (local.get 1) (local.get 2) (local.get 3))",
    )
    guest.exports(
        "refuse",
        [CARGO],
        shipped,
        """
        (call $s.drop-readable (local.get 2)) (call $f.drop-readable (local.get 3))
        (call $done-refuse (i32.const 1) (local.get 0) (local.get 1) (i32.const 0) (i32.const 0))""",
    )
    guest.exports(
        "send",
        [U32],
        U32,
        f"""
        (local $ends i64) (local $out i32) (local $w i32) (local $task i32)
        (local.set $ends (call $s.new))
        (local.set $task (call $take-start (i32.wrap_i64 (local.get $ends)) (i32.const 64)))
        (local.set $out (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
        (memory.fill (i32.const {BUFFER}) (i32.const 7) (local.get 0))
        (block $done (loop $more
          (br_if $done (i32.eqz (local.get 0)))
          (local.set $w (call $s.write (local.get $out) (i32.const {BUFFER}) (local.get 0)))
          (local.set 0 (i32.sub (local.get 0) (i32.shr_u (local.get $w) (i32.const 4))))
          (br_if $more (i32.eqz (i32.and (local.get $w) {MASK})))))
        (call $s.drop-writable (local.get $out))
        (call $await (local.get $task))
        (call $done-send (i32.load (i32.const 64)))""",
    )
    return guest.exports(
        "fetch",
        [U32],
        U32,
        f"""
        (local $in i32) (local $r i32) (local $n i32) (local $at i32) (local $sum i32)
        (local.set $in (call $give (local.get 0)))
        (loop $more
          (local.set $r (call $s.read (local.get $in) (i32.const {BUFFER}) (i32.const 65536)))
          (local.set $n (i32.shr_u (local.get $r) (i32.const 4)))
          (local.set $at (i32.const {BUFFER}))
          (block $all (loop $next
            (br_if $all (i32.eqz (local.get $n)))
            (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (br $next)))
          (br_if $more (i32.eqz (i32.and (local.get $r) {MASK}))))
        (call $s.drop-readable (local.get $in))
        (call $done-fetch (local.get $sum))""",
    )
