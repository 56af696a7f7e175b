#!/usr/bin/env python3
"""Assembles the guests of `loop bench` beside their sources."""

from __future__ import annotations

from pathlib import Path

import wasmtime

GUESTS = Path(__file__).resolve().parents[1] / "python" / "loop_kit" / "bench" / "guests"


def stale() -> list[tuple[Path, bytes]]:
    """The components that are not what their sources make, with what they should be."""
    made = {
        source.with_suffix(".wasm"): bytes(wasmtime.wat2wasm(source.read_text()))
        for source in sorted(GUESTS.glob("*.wat"))
    }
    return [(path, wasm) for path, wasm in made.items() if not path.is_file() or path.read_bytes() != wasm]


if __name__ == "__main__":
    for path, wasm in stale():
        path.write_bytes(wasm)
