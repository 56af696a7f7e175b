;; stream<u8> both ways, in pieces of 64 KiB, whose bytes the guest neither makes nor looks at.
(component
  (core module $libc (memory (export "memory") 2))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (type $bytes (stream u8))
  (core func $new (canon stream.new $bytes))
  (core func $read (canon stream.read $bytes (memory $memory)))
  (core func $write (canon stream.write $bytes (memory $memory)))
  (core func $drop-readable (canon stream.drop-readable $bytes))
  (core func $drop-writable (canon stream.drop-writable $bytes))
  (core func $return-stream (canon task.return (result $bytes)))
  (core func $return-u64 (canon task.return (result u64)))
  (core module $guest
    (import "libc" "memory" (memory 1))
    (import "stream" "new" (func $new (result i64)))
    (import "stream" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "stream" "write" (func $write (param i32 i32 i32) (result i32)))
    (import "stream" "drop-readable" (func $drop-readable (param i32)))
    (import "stream" "drop-writable" (func $drop-writable (param i32)))
    (import "stream" "return-stream" (func $return-stream (param i32)))
    (import "stream" "return-u64" (func $return-u64 (param i64)))
    ;; reads and writes give how much was moved, times 16, plus whether the other end is still there (0)
    (func (export "take") (param $in i32) (local $moved i32) (local $sum i64)
      (loop $next
        (local.set $moved (call $read (local.get $in) (i32.const 0) (i32.const 65536)))
        (local.set $sum
          (i64.add (local.get $sum) (i64.extend_i32_u (i32.shr_u (local.get $moved) (i32.const 4)))))
        (br_if $next (i32.eqz (i32.and (local.get $moved) (i32.const 15)))))
      (call $drop-readable (local.get $in))
      (call $return-u64 (local.get $sum)))
    (func (export "give") (param $left i32) (local $ends i64) (local $out i32) (local $moved i32)
      (local.set $ends (call $new))
      (call $return-stream (i32.wrap_i64 (local.get $ends)))
      (local.set $out (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
      (block $done
        (loop $next
          (br_if $done (i32.eqz (local.get $left)))
          (local.set $moved
            (call $write (local.get $out) (i32.const 0)
              (select (local.get $left) (i32.const 65536) (i32.lt_u (local.get $left) (i32.const 65536)))))
          (local.set $left (i32.sub (local.get $left) (i32.shr_u (local.get $moved) (i32.const 4))))
          (br_if $next (i32.eqz (i32.and (local.get $moved) (i32.const 15))))))
      (call $drop-writable (local.get $out))))
  (core instance $guest (instantiate $guest
    (with "libc" (instance $libc))
    (with "stream" (instance
      (export "new" (func $new)) (export "read" (func $read)) (export "write" (func $write))
      (export "drop-readable" (func $drop-readable)) (export "drop-writable" (func $drop-writable))
      (export "return-stream" (func $return-stream)) (export "return-u64" (func $return-u64))))))
  (func (export "take") async (param "data" $bytes) (result u64)
    (canon lift (core func $guest "take") async (memory $memory)))
  (func (export "give") async (param "size" u32) (result $bytes)
    (canon lift (core func $guest "give") async (memory $memory))))
