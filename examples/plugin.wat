;; The plugin of embed.py, written by hand to be small; any language that makes components will do.
;;
;;   package acme:plugin;
;;   interface host { log: func(message: string); }
;;   interface filter { shout: func(text: string) -> string; spin: func(); }
;;   world plugin { import host; export filter; }
(component
  (import "acme:plugin/host" (instance $host (export "log" (func (param "message" string)))))
  (core module $libc
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    ;; a bump allocator: each call gets a fresh instance, so nothing need be freed
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $next) (i32.shl (memory.size) (i32.const 16))))
        (br_if $fits (i32.ne (i32.const -1) (memory.grow
          (i32.add (i32.const 1) (i32.shr_u (local.get 3) (i32.const 16))))))
        unreachable)
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (alias export $host "log" (func $log))
  (core func $log (canon lower (func $log) (memory $memory)))
  (core module $code
    (import "libc" "memory" (memory 1))
    (import "host" "log" (func $log (param i32 i32)))
    (data (i32.const 16) "shouting")
    (func (export "shout") (param $p i32) (param $n i32) (result i32)
      (local $i i32) (local $c i32)
      (call $log (i32.const 16) (i32.const 8))
      (block $done
        (loop $each
          (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
          (local.set $c (i32.load8_u (i32.add (local.get $p) (local.get $i))))
          (if (i32.lt_u (i32.sub (local.get $c) (i32.const 97)) (i32.const 26))
            (then (i32.store8 (i32.add (local.get $p) (local.get $i)) (i32.sub (local.get $c) (i32.const 32)))))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br $each)))
      (i32.store (i32.const 0) (local.get $p))
      (i32.store (i32.const 4) (local.get $n))
      (i32.const 0))
    (func (export "spin") (loop $for-ever (br $for-ever))))
  (core instance $code (instantiate $code
    (with "libc" (instance $libc))
    (with "host" (instance (export "log" (func $log))))))
  (func $shout (param "text" string) (result string)
    (canon lift (core func $code "shout") (memory $memory) (realloc $realloc)))
  (func $spin (canon lift (core func $code "spin")))
  (instance $filter (export "shout" (func $shout)) (export "spin" (func $spin)))
  (export "acme:plugin/filter" (instance $filter)))
