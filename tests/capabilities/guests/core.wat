(component ;; Asks `loop:core` what it is asked itself.
  (import "loop:core/log@0.1.0" (instance $log
    (type $level0 (enum "trace" "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level0)))
    (export "log" (func (param "level" $level) (param "target" string) (param "message" string)
      (param "fields" (list (tuple string string)))))))
  (import "loop:core/clock@0.1.0" (instance $clock
    (type $instant0 (record (field "seconds" s64) (field "nanoseconds" u32)))
    (export "instant" (type $instant (eq $instant0)))
    (export "now" (func (result $instant)))
    (export "monotonic-now" (func (result u64)))
    (export "resolution" (func (result u64)))))
  (import "loop:core/random@0.1.0" (instance $random
    (export "bytes" (func (param "len" u32) (result (list u8))))
    (export "u64" (func (result u64)))))
  (import "loop:core/cancel@0.1.0" (instance $cancel
    (export "token" (type $token (sub resource)))
    (export "[constructor]token" (func (result (own $token))))
    (export "[method]token.child" (func (param "self" (borrow $token)) (result (own $token))))
    (export "[method]token.cancel" (func (param "self" (borrow $token))))
    (export "[method]token.is-cancelled" (func (param "self" (borrow $token)) (result bool)))))
  (alias export $log "level" (type $level))
  (alias export $clock "instant" (type $instant))
  (alias export $cancel "token" (type $token))

  (core module $lib
    (memory (export "memory") 2)
    (global $top (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32) (local $missing i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (local.set $missing (i32.sub
        (i32.shr_u (i32.add (global.get $top) (i32.const 65535)) (i32.const 16)) (memory.size)))
      (if (i32.gt_s (local.get $missing) (i32.const 0))
        (then (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then unreachable))))
      (local.get $at)))
  (core instance $lib (instantiate $lib))
  (alias core export $lib "memory" (core memory $memory))
  (alias core export $lib "realloc" (core func $realloc))

  (core func $log (canon lower (func $log "log") (memory $memory) (realloc $realloc)))
  (core func $now (canon lower (func $clock "now") (memory $memory)))
  (core func $monotonic (canon lower (func $clock "monotonic-now")))
  (core func $resolution (canon lower (func $clock "resolution")))
  (core func $bytes (canon lower (func $random "bytes") (memory $memory) (realloc $realloc)))
  (core func $u64 (canon lower (func $random "u64")))
  (core func $new (canon lower (func $cancel "[constructor]token")))
  (core func $child (canon lower (func $cancel "[method]token.child")))
  (core func $cancel (canon lower (func $cancel "[method]token.cancel")))
  (core func $cancelled (canon lower (func $cancel "[method]token.is-cancelled")))
  (core func $drop (canon resource.drop $token))

  (core module $main
    (import "lib" "memory" (memory 2))
    (import "lib" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "core" "log" (func $log (param i32 i32 i32 i32 i32 i32 i32)))
    (import "core" "now" (func $now (param i32)))
    (import "core" "monotonic" (func $monotonic (result i64)))
    (import "core" "resolution" (func $resolution (result i64)))
    (import "core" "bytes" (func $bytes (param i32 i32)))
    (import "core" "u64" (func $u64 (result i64)))
    (import "core" "new" (func $new (result i32)))
    (import "core" "child" (func $child (param i32) (result i32)))
    (import "core" "cancel" (func $cancel (param i32)))
    (import "core" "cancelled" (func $cancelled (param i32) (result i32)))
    (import "core" "drop" (func $drop (param i32)))

    (func (export "log") (param i32 i32 i32 i32 i32 i32 i32)
      (call $log (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5)
        (local.get 6)))
    (func (export "now") (result i32) (call $now (i32.const 64)) (i32.const 64))
    (func (export "resolution") (result i64) (call $resolution))
    (func (export "bytes") (param i32) (result i32)
      (call $bytes (local.get 0) (i32.const 64)) (i32.const 64))
    ;; How many bytes came: fewer cross than when they are handed on.
    (func (export "count") (param i32) (result i32)
      (call $bytes (local.get 0) (i32.const 64)) (i32.load (i32.const 68)))
    (func (export "u64") (result i64) (call $u64))

    ;; The monotonic clock, read so often.
    (func (export "ticks") (param $n i32) (result i32) (local $at i32)
      (local.set $at (call $realloc
        (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get $n) (i32.const 8))))
      (i32.store (i32.const 64) (local.get $at))
      (i32.store (i32.const 68) (local.get $n))
      (block $done (loop $next
        (br_if $done (i32.eqz (local.get $n)))
        (i64.store (local.get $at) (call $monotonic))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $next)))
      (i32.const 64))

    ;; The handle of the token with this number.
    (func $token (param $number i32) (result i32)
      (i32.load offset=256 (i32.mul (local.get $number) (i32.const 4))))

    ;; Does pairs of an operation and a token's number: `n` makes a token and `c` a child, which get the next number;
    ;; `x` cancels, `d` drops, `?` asks. The answers.
    (func (export "tokens") (param $at i32) (param $len i32) (result i32)
      (local $end i32) (local $op i32) (local $number i32) (local $made i32) (local $asked i32) (local $new i32)
      (local.set $end (i32.add (local.get $at) (local.get $len)))
      (block $done (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $op (i32.load8_u (local.get $at)))
        (local.set $number (i32.load8_u offset=1 (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 2)))
        (if (i32.or (i32.eq (local.get $op) (i32.const 110)) (i32.eq (local.get $op) (i32.const 99)))
          (then
            (local.set $new (if (result i32) (i32.eq (local.get $op) (i32.const 110))
              (then (call $new)) (else (call $child (call $token (local.get $number))))))
            (i32.store offset=256 (i32.mul (local.get $made) (i32.const 4)) (local.get $new))
            (local.set $made (i32.add (local.get $made) (i32.const 1)))))
        (if (i32.eq (local.get $op) (i32.const 120)) (then (call $cancel (call $token (local.get $number)))))
        (if (i32.eq (local.get $op) (i32.const 100)) (then (call $drop (call $token (local.get $number)))))
        (if (i32.eq (local.get $op) (i32.const 63))
          (then
            (i32.store8 offset=2048 (local.get $asked) (call $cancelled (call $token (local.get $number))))
            (local.set $asked (i32.add (local.get $asked) (i32.const 1)))))
        (br $next)))
      (i32.store (i32.const 64) (i32.const 2048))
      (i32.store (i32.const 68) (local.get $asked))
      (i32.const 64))

    ;; Whether the last of a line of tokens is cancelled with the first, all between them dropped.
    (func (export "line") (param $n i32) (result i32) (local $first i32) (local $last i32) (local $next i32)
      (local.set $first (call $new))
      (local.set $last (call $child (local.get $first)))
      (loop $more
        (local.set $next (call $child (local.get $last)))
        (call $drop (local.get $last))
        (local.set $last (local.get $next))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br_if $more (local.get $n)))
      (if (call $cancelled (local.get $last)) (then unreachable))
      (call $cancel (local.get $first))
      (call $cancelled (local.get $last))))
  (core instance $main (instantiate $main
    (with "lib" (instance $lib))
    (with "core" (instance
      (export "log" (func $log)) (export "now" (func $now)) (export "monotonic" (func $monotonic))
      (export "resolution" (func $resolution)) (export "bytes" (func $bytes)) (export "u64" (func $u64))
      (export "new" (func $new)) (export "child" (func $child)) (export "cancel" (func $cancel))
      (export "cancelled" (func $cancelled)) (export "drop" (func $drop))))))

  (func $f-log (param "level" $level) (param "target" string) (param "message" string)
    (param "fields" (list (tuple string string)))
    (canon lift (core func $main "log") (memory $memory) (realloc $realloc)))
  (func $f-now (result $instant) (canon lift (core func $main "now") (memory $memory)))
  (func $f-resolution (result u64) (canon lift (core func $main "resolution")))
  (func $f-ticks (param "n" u32) (result (list u64)) (canon lift (core func $main "ticks") (memory $memory)))
  (func $f-bytes (param "len" u32) (result (list u8)) (canon lift (core func $main "bytes") (memory $memory)))
  (func $f-count (param "len" u32) (result u32) (canon lift (core func $main "count")))
  (func $f-u64 (result u64) (canon lift (core func $main "u64")))
  (func $f-tokens (param "script" (list u8)) (result (list bool))
    (canon lift (core func $main "tokens") (memory $memory) (realloc $realloc)))
  (func $f-line (param "n" u32) (result bool) (canon lift (core func $main "line")))
  (instance $api
    (export "log" (func $f-log)) (export "now" (func $f-now)) (export "resolution" (func $f-resolution))
    (export "ticks" (func $f-ticks)) (export "bytes" (func $f-bytes)) (export "count" (func $f-count))
    (export "u64" (func $f-u64)) (export "tokens" (func $f-tokens)) (export "line" (func $f-line)))
  (export "test:guest/api" (instance $api)))
