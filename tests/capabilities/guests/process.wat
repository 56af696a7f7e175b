(component ;; Asks `loop:process/commands` what it is asked itself.
  (import "loop:process/commands@0.1.0" (instance $commands
    (type $directory0 (record (field "root" string) (field "path" string)))
    (export "directory" (type $directory (eq $directory0)))
    (type $command0 (record
      (field "program" string) (field "args" (list string)) (field "env" (list (tuple string string)))
      (field "cwd" (option $directory)) (field "timeout" (option u64))))
    (export "command" (type $command (eq $command0)))
    (type $status0 (variant (case "exited" u32) (case "signaled" u32) (case "timed-out")))
    (export "status" (type $status (eq $status0)))
    (type $output0 (record (field "status" $status) (field "stdout" (list u8)) (field "stderr" (list u8))))
    (export "output" (type $output (eq $output0)))
    (type $code0 (variant
      (case "access") (case "busy") (case "invalid") (case "message-size") (case "no-entry") (case "not-directory")
      (case "not-permitted" string) (case "pipe") (case "quota") (case "unsupported") (case "other" (option string))))
    (export "error-code" (type $code (eq $code0)))
    (export "programs" (func (result (list string))))
    (export "run" (func (param "command" $command) (param "stdin" (list u8))
      (result (result $output (error $code)))))))
  (alias export $commands "directory" (type $directory))
  (alias export $commands "command" (type $command))
  (alias export $commands "status" (type $status))
  (alias export $commands "output" (type $output))
  (alias export $commands "error-code" (type $code))

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

  (core func $programs (canon lower (func $commands "programs") (memory $memory) (realloc $realloc)))
  (core func $run (canon lower (func $commands "run") (memory $memory) (realloc $realloc)))

  (core module $main
    (import "process" "programs" (func $programs (param i32)))
    (import "process" "run" (func $run
      (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32)))
    (func (export "programs") (result i32) (call $programs (i32.const 64)) (i32.const 64))
    (func (export "run") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
      (call $run
        (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5) (local.get 6)
        (local.get 7) (local.get 8) (local.get 9) (local.get 10) (local.get 11) (local.get 12) (local.get 13)
        (local.get 14) (i32.const 64))
      (i32.const 64)))
  (core instance $main (instantiate $main (with "process" (instance
    (export "programs" (func $programs)) (export "run" (func $run))))))

  (export $directory* "directory" (type $directory))
  (export $command* "command" (type $command))
  (export $status* "status" (type $status))
  (export $output* "output" (type $output))
  (export $code* "error-code" (type $code))
  (func (export "programs") (result (list string))
    (canon lift (core func $main "programs") (memory $memory) (realloc $realloc)))
  (func (export "run") (param "command" $command*) (param "stdin" (list u8))
    (result (result $output* (error $code*)))
    (canon lift (core func $main "run") (memory $memory) (realloc $realloc))))
