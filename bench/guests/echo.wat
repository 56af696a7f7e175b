;; Calls an import n times, which is how one that leaves the process is told from the call around it.
(component
  (import "bench:wire/echo" (instance $echo
    (export "add" (func (param "a" u32) (param "b" u32) (result u32)))))
  (core func $add (canon lower (func $echo "add")))
  (core module $guest
    (import "echo" "add" (func $add (param i32 i32) (result i32)))
    (func (export "repeat-add") (param $n i32) (result i32) (local $sum i32)
      (loop $next
        (local.set $sum (call $add (local.get $sum) (i32.const 3)))
        (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
      (local.get $sum)))
  (core instance $guest (instantiate $guest (with "echo" (instance (export "add" (func $add))))))
  (func (export "repeat-add") (param "n" u32) (result u32) (canon lift (core func $guest "repeat-add"))))
