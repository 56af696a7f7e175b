"""Commands for WASI preview 1, as core modules in WAT."""

IMPORTS = {
    "args_get": "i32 i32",
    "args_sizes_get": "i32 i32",
    "clock_time_get": "i32 i64 i32",
    "environ_get": "i32 i32",
    "environ_sizes_get": "i32 i32",
    "fd_read": "i32 i32 i32 i32",
    "fd_write": "i32 i32 i32 i32",
    "path_open": "i32 i32 i32 i32 i32 i64 i64 i32 i32",
    "random_get": "i32 i32",
}

# Strings stand from 1024 on, what is read and written from 8192 on.
LIBRARY = r"""
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "hello\n")
  (data (i32.const 1040) "in.txt")
  (data (i32.const 1056) "out.txt")
  (data (i32.const 1072) "../secret")
  (func $print (param $fd i32) (param $at i32) (param $n i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $n))
    (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
  ;; three digits and a new line
  (func $number (param $n i32)
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.div_u (local.get $n) (i32.const 100))))
    (i32.store8 (i32.const 17)
      (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $n) (i32.const 10)) (i32.const 10))))
    (i32.store8 (i32.const 18) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (i32.store8 (i32.const 19) (i32.const 10))
    (call $print (i32.const 1) (i32.const 16) (i32.const 4)))
  ;; reads some bytes to 8192; their number
  (func $read (param $fd i32) (result i32)
    (i32.store (i32.const 0) (i32.const 8192))
    (i32.store (i32.const 4) (i32.const 65536))
    (i32.store (i32.const 8) (i32.const 0))
    (drop (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.load (i32.const 8)))
  ;; opens a path in the first directory, prints the error, and returns the file
  (func $open (param $path i32) (param $n i32) (param $create i32) (param $rights i64) (result i32)
    (call $number (call $path_open (i32.const 3) (i32.const 0) (local.get $path) (local.get $n)
      (local.get $create) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 24)))
    (i32.load (i32.const 24)))
"""

READ, WRITE = "(i64.const 0x2)", "(i64.const 0x40)"
HELLO = "(call $print (i32.const 1) (i32.const 1024) (i32.const 6))"

# What commands do, by name. `exit-N` exits with N.
BODIES = {
    "nothing": "",
    "hello": HELLO,
    "stderr": "(call $print (i32.const 2) (i32.const 1024) (i32.const 6))",
    "trap": f"{HELLO} unreachable",
    "args": """
        (drop (call $args_sizes_get (i32.const 0) (i32.const 32)))
        (drop (call $args_get (i32.const 2048) (i32.const 8192)))
        (call $print (i32.const 1) (i32.const 8192) (i32.load (i32.const 32)))""",
    "env": """
        (drop (call $environ_sizes_get (i32.const 0) (i32.const 32)))
        (drop (call $environ_get (i32.const 2048) (i32.const 8192)))
        (call $print (i32.const 1) (i32.const 8192) (i32.load (i32.const 32)))""",
    "cat": """
        (loop $more
          (if (call $read (i32.const 0))
            (then (call $print (i32.const 1) (i32.const 8192) (i32.load (i32.const 8))) (br $more))))""",
    "read": f"""
        (call $print (i32.const 1) (i32.const 8192)
          (call $read (call $open (i32.const 1040) (i32.const 6) (i32.const 0) {READ})))""",
    "write": f"""
        (call $print (call $open (i32.const 1056) (i32.const 7) (i32.const 1) {WRITE})
          (i32.const 1024) (i32.const 6))""",
    "escape": f"(drop (call $open (i32.const 1072) (i32.const 9) (i32.const 0) {READ}))",
    # 1,600,000,000 s is in 2020
    "clock": """
        (call $number (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 32)))
        (call $number (i64.gt_u (i64.load (i32.const 32)) (i64.const 1600000000000000000)))
        (call $number (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 32)))""",
    "random": """
        (call $number (call $random_get (i32.const 8192) (i32.const 16)))
        (call $number (i64.ne (i64.load (i32.const 8192)) (i64.load (i32.const 8200))))""",
    # 64 MiB more
    "grow": "(call $number (i32.eq (i32.const -1) (memory.grow (i32.const 1024))))",
    "recurse": "(call $recurse)",
}


def command(name: str) -> str:
    """The WAT of a command."""
    exits = f"(call $proc_exit (i32.const {name.removeprefix('exit-')}))"
    imports = (
        f'(import "wasi_snapshot_preview1" "{f}" (func ${f} (param {params}) (result i32)))'
        for f, params in IMPORTS.items()
    )
    body = BODIES.get(name, exits)
    recurse = "(func $recurse (call $recurse) (call $recurse))"
    return f'(module {" ".join(imports)} {LIBRARY} {recurse} (func (export "_start") {body}))'
