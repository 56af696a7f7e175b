(component ;; `n` values of 100 bytes set, and got, in a bucket of `wasi:keyvalue`; keys are 8 letters.
  (import "wasi:keyvalue/store@0.2.0-draft" (instance $store
    (type $error0 (variant (case "no-such-store") (case "access-denied") (case "other" string)))
    (export "error" (type $error (eq $error0)))
    (export "bucket" (type $bucket (sub resource)))
    (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $error)))))
    (export "[method]bucket.set" (func
      (param "self" (borrow $bucket)) (param "key" string) (param "value" (list u8)) (result (result (error $error)))))
    (export "[method]bucket.get" (func
      (param "self" (borrow $bucket)) (param "key" string) (result (result (option (list u8)) (error $error)))))))
  (alias export $store "bucket" (type $bucket))

  (core module $lib
    (memory (export "memory") 2)
    ;; One value at a time: each takes the place of the last.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192)))
  (core instance $lib (instantiate $lib))
  (alias core export $lib "memory" (core memory $memory))
  (alias core export $lib "realloc" (core func $realloc))
  (core func $open (canon lower (func $store "open") (memory $memory) (realloc $realloc)))
  (core func $set (canon lower (func $store "[method]bucket.set") (memory $memory) (realloc $realloc)))
  (core func $get (canon lower (func $store "[method]bucket.get") (memory $memory) (realloc $realloc)))
  (core func $drop (canon resource.drop $bucket))

  (core module $main
    (import "lib" "memory" (memory 2))
    (import "kv" "open" (func $open (param i32 i32 i32)))
    (import "kv" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
    (import "kv" "get" (func $get (param i32 i32 i32 i32)))
    (import "kv" "drop" (func $drop (param i32)))
    (data (i32.const 128) "b")

    (func $bucket (result i32)
      (call $open (i32.const 128) (i32.const 1) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then unreachable))
      (i32.load (i32.const 68)))

    ;; The letters of a number, at 256.
    (func $key (param $n i32) (local $at i32)
      (local.set $at (i32.const 8))
      (loop $next
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (i32.store8 offset=256 (local.get $at)
          (i32.add (i32.const 97) (i32.and (local.get $n) (i32.const 15))))
        (local.set $n (i32.shr_u (local.get $n) (i32.const 4)))
        (br_if $next (local.get $at))))

    (func (export "set") (param $from i32) (param $n i32) (local $bucket i32)
      (local.set $bucket (call $bucket))
      (block $done (loop $next
        (br_if $done (i32.eqz (local.get $n)))
        (call $key (local.get $from))
        (call $set (local.get $bucket) (i32.const 256) (i32.const 8) (i32.const 1024) (i32.const 100) (i32.const 64))
        (if (i32.load8_u (i32.const 64)) (then unreachable))
        (local.set $from (i32.add (local.get $from) (i32.const 1)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $next)))
      (call $drop (local.get $bucket)))

    ;; Of the first 1,000 keys.
    (func (export "get") (param $n i32) (local $bucket i32)
      (local.set $bucket (call $bucket))
      (block $done (loop $next
        (br_if $done (i32.eqz (local.get $n)))
        (call $key (i32.rem_u (local.get $n) (i32.const 1000)))
        (call $get (local.get $bucket) (i32.const 256) (i32.const 8) (i32.const 64))
        (if (i32.load8_u (i32.const 64)) (then unreachable))
        (if (i32.eqz (i32.load8_u (i32.const 68))) (then unreachable))
        (if (i32.ne (i32.load (i32.const 76)) (i32.const 100)) (then unreachable))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $next)))
      (call $drop (local.get $bucket))))
  (core instance $main (instantiate $main
    (with "lib" (instance $lib))
    (with "kv" (instance
      (export "open" (func $open)) (export "set" (func $set)) (export "get" (func $get)) (export "drop" (func $drop))))))
  (func (export "set") (param "from" u32) (param "n" u32) (canon lift (core func $main "set")))
  (func (export "get") (param "n" u32) (canon lift (core func $main "get"))))
