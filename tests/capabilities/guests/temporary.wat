(component ;; Has a temporary directory of `loop:fsx/temporary`, and traps or returns without dropping it.
  (import "loop:fsx/files@0.1.0" (instance $files
    (type $code0 (variant
      (case "access") (case "file-too-large") (case "invalid") (case "io") (case "is-directory") (case "loop")
      (case "message-size") (case "name-too-long") (case "no-entry") (case "not-directory")
      (case "not-permitted") (case "unsupported") (case "other" (option string)) (case "busy")
      (case "cross-device") (case "exist") (case "insufficient-space") (case "not-empty") (case "quota")
      (case "read-only")))
    (export "error-code" (type $code (eq $code0)))
    (export "dir" (type $dir (sub resource)))))
  (alias export $files "error-code" (type $code))
  (alias export $files "dir" (type $dir))
  (import "loop:fsx/temporary@0.1.0" (instance $temporary
    (export "temp-dir" (func (result (result (own $dir) (error $code)))))))
  (import "loop:fsx/writing@0.1.0" (instance $writing
    (export "write" (func (param "dir" (borrow $dir)) (param "path" string) (param "data" (list u8))
      (result (result (error $code)))))))

  (core module $lib
    (memory (export "memory") 1)
    (data (i32.const 16) "file")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $lib (instantiate $lib))
  (alias core export $lib "memory" (core memory $memory))
  (alias core export $lib "realloc" (core func $realloc))
  (core func $temp-dir (canon lower (func $temporary "temp-dir") (memory $memory) (realloc $realloc)))
  (core func $write (canon lower (func $writing "write") (memory $memory) (realloc $realloc)))
  (core module $main
    (import "lib" "memory" (memory 1))
    (import "fsx" "temp-dir" (func $temp-dir (param i32)))
    (import "fsx" "write" (func $write (param i32 i32 i32 i32 i32 i32)))
    (func (export "use") (param $trap i32)
      (call $temp-dir (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then unreachable))
      (call $write
        (i32.load (i32.const 68)) (i32.const 16) (i32.const 4) (i32.const 16) (i32.const 4) (i32.const 128))
      (if (i32.load8_u (i32.const 128)) (then unreachable))
      (if (local.get $trap) (then unreachable))))
  (core instance $main (instantiate $main
    (with "lib" (instance $lib))
    (with "fsx" (instance (export "temp-dir" (func $temp-dir)) (export "write" (func $write))))))
  (func (export "use") (param "trap" bool) (canon lift (core func $main "use"))))
