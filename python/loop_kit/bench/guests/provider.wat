;; Answers `loop:bench/echo` as a component.
(component
  (core module $guest
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $missing i32)
      (local.set $missing (i32.sub
        (i32.shr_u (i32.add (local.get 3) (i32.const 131071)) (i32.const 16)) (memory.size)))
      (if (i32.gt_s (local.get $missing) (i32.const 0))
        (then (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then unreachable))))
      (i32.const 65536))
    (func (export "small") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "typed") (param i32 i32 i32) (result i32)
      (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1))
      (i32.store (i32.const 8) (local.get 2)) (i32.const 0))
    (func (export "bytes") (param i32 i32) (result i32)
      (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1)) (i32.const 0)))
  (core instance $guest (instantiate $guest))
  (alias core export $guest "memory" (core memory $memory))
  (alias core export $guest "realloc" (core func $realloc))
  (func $small (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $guest "small")))
  (func $bytes (param "data" (list u8)) (result (list u8))
    (canon lift (core func $guest "bytes") (memory $memory) (realloc $realloc)))
  (type $item (record (field "id" u32) (field "name" string)))
  (func $typed (param "value" $item) (result $item)
    (canon lift (core func $guest "typed") (memory $memory) (realloc $realloc)))
  (instance $echo
    (export "item" (type $item)) (export "small" (func $small)) (export "echo" (func $bytes))
    (export "typed" (func $typed)))
  (export "loop:bench/echo@0.1.0" (instance $echo)))
