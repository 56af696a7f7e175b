"""Native programs behind `loop:toolchain`, and how problems are told."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

__all__ = ["SECONDS", "problem", "ran"]

SECONDS = 120.0
"""Seconds that a program may take."""


async def ran(
    command: list[str], *, folder: Path | None = None, given: bytes = b""
) -> tuple[bytes, bytes, int | None]:
    """Runs a program with nothing but `PATH` in its environment, and ends it with whoever waits for it.

    Args:
        command: Its arguments, the program first.
        folder: Where it runs; None: here.
        given: What it reads.

    Returns:
        What it has written, what it has written to its standard error, and its exit code.

    Raises:
        TimeoutError: It was not done after `SECONDS`.
        OSError: It cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={"PATH": os.environ.get("PATH", os.defpath)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, said = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output, said, process.returncode


def problem(message: str, path: str | None = None, line: int = 0, column: int = 0) -> dict[str, Any]:
    """A `problem` of the interface."""
    return {"message": message, "path": path, "line": line, "column": column}
