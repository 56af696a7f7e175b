"""Guests that count and spin, and what is needed to call them on many threads and in other processes."""

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import loop_kit as loop
from tests.guests import HOST, Guest
from tests.wit_types import STRING, U8, U32, List

SPIN = "(loop $l (br $l)) unreachable"
UNLIMITED = loop.Limits(deadline=None, cpu=None)


def counter() -> Guest:
    """`next()` counts the calls of its instance; `ask()` calls the import `ask`, and so on."""
    guest = Guest(code="(global $n (mut i32) (i32.const 0)) (global $id (mut i32) (i32.const 0))")
    guest.imports("ask", [], U32).imports("name", [], U32)
    guest.exports("next", [], U32, "(global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)")
    guest.exports("ask", [], U32, "(call $ask)")
    guest.exports(
        "who",
        [],
        U32,
        "(if (i32.eqz (global.get $id)) (then (global.set $id (call $name))))"
        "(drop (call $ask)) (global.get $id)",
    )
    guest.exports("take", [U8, List(STRING)], None, "nop")
    return guest.exports("boom", [], None, "unreachable")


def asking(ask: Any = lambda: 0, name: Any = lambda: 1) -> dict[str, Any]:
    return {HOST: SimpleNamespace(ask=ask, name=name)}


def start(*targets: Any) -> None:
    """Runs all at once and passes on what one raises."""
    failed: list[BaseException] = []

    def guarded(target: Any) -> None:
        try:
            target()
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=guarded, args=(t,)) for t in targets]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failed:
        raise failed[0]


def run(
    tmp_path: Path, body: str, guest: Guest | bytes, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Runs `body` in a process of its own, with `wasm` and the usual names at hand."""
    (tmp_path / "guest.wasm").write_bytes(guest if isinstance(guest, bytes) else guest.wasm())
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys, threading, multiprocessing\nfrom types import SimpleNamespace\n"
        "import loop_kit as loop\nfrom loop_kit.errors import *\n"
        f"HOST = {HOST!r}\nwasm = open({str(tmp_path / 'guest.wasm')!r}, 'rb').read()\n{body}"
    )
    command = [sys.executable, "-X", "faulthandler", str(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=tmp_path)
