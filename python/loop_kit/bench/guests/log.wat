;; Logs a record, as `echo.wat` calls.
(component
  (import "loop:core/log@0.1.0" (instance $log
    (type $level0 (enum "trace" "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level0)))
    (export "log" (func (param "level" $level) (param "target" string) (param "message" string)
      (param "fields" (list (tuple string string)))))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
  ;; What is sent lies at 65536. Answers come behind it, each over the one before.
  (core module $libc
    (memory (export "memory") 2)
    (global $top (mut i32) (i32.const 65536))
    (func $reach (param $end i32) (local $missing i32)
      (local.set $missing
        (i32.sub (i32.shr_u (i32.add (local.get $end) (i32.const 65535)) (i32.const 16)) (memory.size)))
      (if (i32.gt_s (local.get $missing) (i32.const 0))
        (then (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then unreachable)))))
    (func (export "keep") (param $size i32)
      (global.set $top (i32.add (i32.const 65536) (i32.and (i32.add (local.get $size) (i32.const 15)) (i32.const -16))))
      (call $reach (global.get $top)))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (call $reach (i32.add (global.get $top) (local.get 3)))
      (global.get $top)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $now (canon lower (func $clock "now")))
  (core func $log (canon lower (func $log "log") (memory $memory)))
  (core module $guest
    (import "libc" "memory" (memory 1))
    (import "host" "now" (func $now (result i64)))
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32 i32 i32)))
    (data (i32.const 1024) "bencha record of some lengthkeyvalue")
    ;; the field: "key" and "value"
    (data (i32.const 2048) "\1c\04\00\00\03\00\00\00\1f\04\00\00\05\00\00\00")
    ;; Entered at 0, the import called at 8 and answered at 16, left at 24.
    (func $stamp (param $at i32) (i64.store (local.get $at) (call $now)))
    (func $spin (param $ns i64) (local $end i64)
      (local.set $end (i64.add (i64.load (i32.const 0)) (local.get $ns)))
      (loop $on (br_if $on (i64.lt_u (call $now) (local.get $end)))))
    (func (export "log") (param $spin i64) (result i32)
      (call $stamp (i32.const 0))
      (call $spin (local.get $spin))
      (call $stamp (i32.const 8))
      (call $log (i32.const 1) (i32.const 1024) (i32.const 5) (i32.const 1029) (i32.const 23)
        (i32.const 2048) (i32.const 1))
      (call $stamp (i32.const 16))
      (call $stamp (i32.const 24))
      (i32.const 0)))
  (core instance $guest (instantiate $guest
    (with "libc" (instance $libc))
    (with "host" (instance (export "now" (func $now)) (export "log" (func $log))))))
  (func (export "log") (param "spin" u64) (result (tuple u64 u64 u64 u64))
    (canon lift (core func $guest "log") (memory $memory))))
