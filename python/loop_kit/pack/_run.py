"""Runs what a package is made by: builds, and the clients of registries as their user has configured them."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

from loop_kit.dev._command import Command, run
from loop_kit.errors import PackageError
from loop_kit.pack._plan import Tell, problem

__all__ = ["ran"]

_SHOWN = 12
"""Last lines of what a command wrote that are shown when it failed."""
_TELL = 3.0
_LONGEST = 1800.0


async def ran(command: Command, folder: Path, what: str, tell: Tell, *, hint: str | None = None) -> str:
    """Runs a command to its end, and returns what it wrote.

    Args:
        command: A string for the shell, or an argument list.
        folder: Where it runs.
        what: What it does, for messages: "building kv".
        tell: Told what takes a while.
        hint: What to do where it fails.

    Raises:
        PackageError: It cannot be started, fails, or takes half an hour.
    """
    shown = command if isinstance(command, str) else shlex.join(command)
    telling = asyncio.create_task(_telling(what, tell))
    try:
        async with asyncio.timeout(_LONGEST):
            done = await run(command, folder)
    except OSError as e:
        raise problem(f"{what}: cannot start `{shown[:200]}`: {e.strerror or e}", hint) from None
    except TimeoutError:
        raise PackageError(f"{what}: not done within {_LONGEST / 60:.0f} minutes") from None
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    if not done.ok:
        said = "\n".join(done.output.splitlines()[-_SHOWN:])
        raise problem(f"{what}: `{shown[:200]}` {done.exit.reason}\n{said}", hint)
    return done.output


async def _telling(what: str, tell: Tell) -> None:
    seconds = 0.0
    while True:
        await asyncio.sleep(_TELL)
        seconds += _TELL
        tell(f"{what}: {seconds:.0f} s …")
