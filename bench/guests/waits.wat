;; Component-model async: an import that may wait, called by a guest that blocks and by one that has an event loop.
(component
  (import "bench:guest/host" (instance $host
    (export "add" (func async (param "a" u32) (param "b" u32) (result u32)))))
  (core module $libc (memory (export "memory") 1))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $add (canon lower (func $host "add")))
  (core func $begin-add (canon lower (func $host "add") async (memory $memory)))
  (core func $return (canon task.return))
  (core func $return-u32 (canon task.return (result u32)))
  (core func $set-new (canon waitable-set.new))
  (core func $join (canon waitable.join))
  (core func $drop (canon subtask.drop))
  (core module $guest
    (import "libc" "memory" (memory 1))
    (import "host" "add" (func $add (param i32 i32) (result i32)))
    (import "host" "begin-add" (func $begin-add (param i32 i32 i32) (result i32)))
    (import "async" "return" (func $return))
    (import "async" "return-u32" (func $return-u32 (param i32)))
    (import "async" "set-new" (func $set-new (result i32)))
    (import "async" "join" (func $join (param i32 i32)))
    (import "async" "drop" (func $drop (param i32)))
    (global $left (mut i32) (i32.const 0))
    (global $sum (mut i32) (i32.const 0))
    (global $set (mut i32) (i32.const 0))

    (func (export "noop") (result i32) (call $return) (i32.const 0))

    (func (export "repeat-add") (param $n i32) (local $sum i32)
      (loop $next
        (local.set $sum (call $add (local.get $sum) (i32.const 3)))
        (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
      (call $return-u32 (local.get $sum)))

    ;; What bindings for async languages do: start the import, hand control back to the host until it has returned.
    (func (export "await-add") (param $n i32) (result i32)
      (global.set $left (local.get $n))
      (global.set $sum (i32.const 0))
      (if (i32.eqz (global.get $set)) (then (global.set $set (call $set-new))))
      (call $go))
    (func $go (result i32) (local $status i32)
      (loop $next
        (if (i32.eqz (global.get $left))
          (then (call $return-u32 (global.get $sum)) (return (i32.const 0)))) ;; exit
        (global.set $left (i32.sub (global.get $left) (i32.const 1)))
        (local.set $status (call $begin-add (global.get $sum) (i32.const 3) (i32.const 16)))
        (if (i32.eq (i32.and (local.get $status) (i32.const 15)) (i32.const 2)) ;; returned at once
          (then (global.set $sum (i32.load (i32.const 16))) (br $next))))
      (call $join (i32.shr_u (local.get $status) (i32.const 4)) (global.get $set))
      (call $wait))
    (func $wait (result i32) (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))
    (func (export "woken") (param $event i32) (param $subtask i32) (param $status i32) (result i32)
      (if (i32.ne (local.get $status) (i32.const 2)) (then (return (call $wait)))) ;; started, not yet returned
      (call $drop (local.get $subtask))
      (global.set $sum (i32.load (i32.const 16)))
      (call $go)))
  (core instance $guest (instantiate $guest
    (with "libc" (instance $libc))
    (with "host" (instance (export "add" (func $add)) (export "begin-add" (func $begin-add))))
    (with "async" (instance
      (export "return" (func $return)) (export "return-u32" (func $return-u32))
      (export "set-new" (func $set-new)) (export "join" (func $join)) (export "drop" (func $drop))))))
  (func (export "noop") async
    (canon lift (core func $guest "noop") async (callback (core func $guest "woken"))))
  (func (export "repeat-add") async (param "n" u32) (result u32)
    (canon lift (core func $guest "repeat-add") async))
  (func (export "await-add") async (param "n" u32) (result u32)
    (canon lift (core func $guest "await-add") async (callback (core func $guest "woken")))))
