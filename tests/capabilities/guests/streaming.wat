(component ;; Reads streams of `loop:fsx/streaming`.
  (import "loop:fsx/files@0.1.0" (instance $files
    (type $code0 (variant
      (case "access") (case "file-too-large") (case "invalid") (case "io") (case "is-directory") (case "loop")
      (case "message-size") (case "name-too-long") (case "no-entry") (case "not-directory")
      (case "not-permitted") (case "unsupported") (case "other" (option string)) (case "busy")
      (case "cross-device") (case "exist") (case "insufficient-space") (case "not-empty") (case "quota")
      (case "read-only")))
    (export "error-code" (type $code (eq $code0)))
    (export "dir" (type $dir (sub resource)))
    (export "root" (func (param "name" string) (result (result (own $dir) (error $code)))))))
  (alias export $files "error-code" (type $code))
  (alias export $files "dir" (type $dir))
  (type $bytes (stream u8))
  (type $end (future (result (error $code))))
  (import "loop:fsx/streaming@0.1.0" (instance $streaming
    (export "read-stream" (func async (param "dir" (borrow $dir)) (param "path" string) (param "offset" u64)
      (result (result (tuple $bytes $end) (error $code)))))))

  (core module $lib
    (memory (export "memory") 512)
    (global $top (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $lib (instantiate $lib))
  (alias core export $lib "memory" (core memory $memory))
  (alias core export $lib "realloc" (core func $realloc))

  (core func $root (canon lower (func $files "root") (memory $memory) (realloc $realloc)))
  (core func $open (canon lower (func $streaming "read-stream") (memory $memory) (realloc $realloc)))
  (core func $drop (canon resource.drop $dir))
  (core func $read (canon stream.read $bytes (memory $memory)))
  (core func $stop (canon stream.drop-readable $bytes))
  (core func $ended (canon future.read $end (memory $memory) (realloc $realloc)))
  (core func $forget (canon future.drop-readable $end))
  (core func $return (canon task.return
    (result (result (tuple (list u8) (result (error $code))) (error $code))) (memory $memory)))
  (core func $return-both (canon task.return
    (result (result (tuple (list u8) (list u8)) (error $code))) (memory $memory)))

  (core module $main
    (import "lib" "memory" (memory 512))
    (import "fsx" "root" (func $root (param i32 i32 i32)))
    (import "fsx" "open" (func $open (param i32 i32 i32 i64 i32)))
    (import "fsx" "drop" (func $drop (param i32)))
    (import "fsx" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "fsx" "stop" (func $stop (param i32)))
    (import "fsx" "ended" (func $ended (param i32 i32) (result i32)))
    (import "fsx" "forget" (func $forget (param i32)))
    (import "fsx" "return" (func $return (param i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "fsx" "return-both" (func $return-both (param i32 i32 i32 i32 i32)))

    ;; Opens a stream into 128, where its answer stands; whether that is one.
    (func $opened (param i32 i32 i32 i32 i64) (result i32) (local $dir i32)
      (call $root (local.get 0) (local.get 1) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then unreachable))
      (local.set $dir (i32.load (i32.const 68)))
      (call $open (local.get $dir) (local.get 2) (local.get 3) (local.get 4) (i32.const 128))
      (call $drop (local.get $dir))
      (i32.eqz (i32.load8_u (i32.const 128))))

    ;; At most so many bytes at once to an address, until the end or a limit; their number.
    (func $drain (param $stream i32) (param $at i32) (param $once i32) (param $limit i32) (result i32)
      (local $got i32) (local $r i32)
      (block $done (loop $more
        (br_if $done (i32.ge_u (local.get $got) (local.get $limit)))
        (local.set $r (call $read
          (local.get $stream) (i32.add (local.get $at) (local.get $got)) (local.get $once)))
        (local.set $got (i32.add (local.get $got) (i32.shr_u (local.get $r) (i32.const 4))))
        (br_if $more (i32.eqz (i32.and (local.get $r) (i32.const 15))))))
      (local.get $got))

    ;; The bytes of a stream, dropped at a limit, and how it ended.
    (func (export "stream")
      (param $root i32) (param i32) (param $path i32) (param i32) (param $offset i64) (param $once i32)
      (param $limit i32) (local $got i32)
      (if (i32.eqz (call $opened (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4)))
        (then
          (call $return (i32.const 1) (i32.load8_u (i32.const 132)) (i32.load8_u (i32.const 136))
            (i32.load (i32.const 140)) (i32.load (i32.const 144)) (i32.const 0) (i32.const 0) (i32.const 0))
          (return)))
      (local.set $got (call $drain
        (i32.load (i32.const 132)) (i32.const 65536) (local.get $once) (local.get $limit)))
      (call $stop (i32.load (i32.const 132)))
      (drop (call $ended (i32.load (i32.const 136)) (i32.const 192)))
      (call $forget (i32.load (i32.const 136)))
      (call $return (i32.const 0) (i32.const 65536) (local.get $got)
        (i32.load8_u (i32.const 192)) (i32.load8_u (i32.const 196)) (i32.load8_u (i32.const 200))
        (i32.load (i32.const 204)) (i32.load (i32.const 208))))

    ;; Two streams of one file at once, which take turns at every read; the futures are dropped unread.
    (func (export "both") (param i32 i32 i32 i32 i32)
      (local $a i32) (local $b i32) (local $got-a i32) (local $got-b i32) (local $r i32)
      (if (i32.eqz (call $opened (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i64.const 0)))
        (then unreachable))
      (local.set $a (i32.load (i32.const 132)))
      (call $forget (i32.load (i32.const 136)))
      (if (i32.eqz (call $opened (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i64.const 0)))
        (then unreachable))
      (local.set $b (i32.load (i32.const 132)))
      (call $forget (i32.load (i32.const 136)))
      (loop $more
        (local.set $r (call $read
          (local.get $a) (i32.add (i32.const 65536) (local.get $got-a)) (local.get 4)))
        (local.set $got-a (i32.add (local.get $got-a) (i32.shr_u (local.get $r) (i32.const 4))))
        (local.set $r (call $read
          (local.get $b) (i32.add (i32.const 16777216) (local.get $got-b)) (local.get 4)))
        (local.set $got-b (i32.add (local.get $got-b) (i32.shr_u (local.get $r) (i32.const 4))))
        (br_if $more (i32.eqz (i32.and (local.get $r) (i32.const 15)))))
      (call $stop (local.get $a))
      (call $stop (local.get $b))
      (call $return-both (i32.const 0) (i32.const 65536) (local.get $got-a)
        (i32.const 16777216) (local.get $got-b))))
  (core instance $main (instantiate $main
    (with "lib" (instance $lib))
    (with "fsx" (instance
      (export "root" (func $root)) (export "open" (func $open)) (export "drop" (func $drop))
      (export "read" (func $read)) (export "stop" (func $stop)) (export "ended" (func $ended))
      (export "forget" (func $forget)) (export "return" (func $return))
      (export "return-both" (func $return-both))))))

  (func $f-stream async
    (param "root" string) (param "path" string) (param "offset" u64) (param "once" u32) (param "limit" u32)
    (result (result (tuple (list u8) (result (error $code))) (error $code)))
    (canon lift (core func $main "stream") async (memory $memory) (realloc $realloc)))
  (func $f-both async (param "root" string) (param "path" string) (param "once" u32)
    (result (result (tuple (list u8) (list u8)) (error $code)))
    (canon lift (core func $main "both") async (memory $memory) (realloc $realloc)))
  (instance $api (export "stream" (func $f-stream)) (export "both" (func $f-both)))
  (export "test:guest/api" (instance $api)))
