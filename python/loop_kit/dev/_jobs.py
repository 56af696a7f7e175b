"""What is being done for members, and how long one waits for what."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field

from loop_kit.dev._command import Ran
from loop_kit.dev._events import Done, Failed
from loop_kit.dev._inputs import Inputs

__all__ = ["Job", "Run", "marked", "pause", "since"]

PAUSE, LONGEST = 0.3, 60.0
"""Seconds without a change before a build is repeated that may have changed its inputs itself: the second time twice as
long as it takes, and so on."""


@dataclass(eq=False)
class Run:
    """A command that runs.

    Attributes:
        inputs: What its member was made of when it was started.
        snapshot: Its inputs when it was started.
        patient: Files that may change meanwhile, since it may write them itself.
        command: The command.
        cause: What changed and had it cancelled, or empty.
    """

    inputs: Inputs
    snapshot: dict[str, str | None]
    patient: frozenset[str]
    command: asyncio.Task[Ran]
    cause: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Job:
    """What is being done for a member."""

    task: asyncio.Task[Done | Failed] | None = None
    run: Run | None = None
    touched: set[str] = field(default_factory=set)
    """What has changed since the last run."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    at: float = 0.0
    """When its inputs changed last."""
    failed: tuple[str, Failed] | None = None
    """With what inputs it failed last, and how."""
    waits: bool = False
    """Whether it waits for types of WIT, and looks at its files only then."""


def since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def pause(rounds: int, took: int) -> float:
    """How long nobody must write what a build is suspected of: somebody who saves now and then is to be noticed."""
    return min(max(PAUSE, took / 1000 * 2**rounds), LONGEST) if rounds else PAUSE


def marked(path: str) -> tuple[int, int, int] | None:
    """What is another one once a file was written, even as it was."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns
