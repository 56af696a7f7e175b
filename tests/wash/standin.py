"""A program in the place of wash, which tells what it is given; and workspaces to be given."""

import json
import os
import sys
from pathlib import Path
from typing import Any

PROGRAM = f"""#!{sys.executable}
import json, os, signal, sys
told = {{"args": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}}
told["pipe"] = signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN
with open("/proc/self/status") as status:
    told["ignored"] = next(line.split()[1] for line in status if line.startswith("SigIgn:"))
told["stdin"] = "" if sys.stdin.isatty() else sys.stdin.read()
with open(os.environ["TOLD"], "w") as file:
    json.dump(told, file)
if "wait" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(41))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(42))
    print("waiting", flush=True)
    signal.pause()
print("out of wash")
print("words of wash", file=sys.stderr)
sys.exit(7 if "fail" in sys.argv else 0)
"""

WIT = """package acme:sums@0.1.0;

interface adder {
  /// Adds two numbers.
  add: func(a: u32, b: u32) -> u32;
}

world sums {
  export adder;
}
"""

TOML = """
[workspace]
registry = "registry.example/acme"

[components.sums]
path = "build/sums.wasm"
"""


def standin(folder: Path) -> Path:
    """The program, in a folder of its own."""
    folder.mkdir()
    program = folder / "wash"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    return program


def told(folder: Path) -> Any:
    """What the program was given the last time."""
    return json.loads((folder / "told.json").read_text())


def environ(folder: Path, **more: str) -> dict[str, str]:
    """An environment in which the program says what it was given, and nothing of wash is set."""
    own = ("WASH_", "WASMCLOUD_", "LOOP_WASH", "LOOP_REGISTRY")
    found = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return found | {"TOLD": str(folder / "told.json")} | more


def workspace(folder: Path, toml: str = TOML, **files: str) -> Path:
    """A workspace with a component that has WIT, and more files: `a__b_wit` is `a/b.wit`."""
    written = {"loop.toml": toml, "wit/sums.wit": WIT}
    written |= {name.replace("__", "/").replace("_", "."): text for name, text in files.items()}
    for name, text in written.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
