"""How a process ended."""

from __future__ import annotations

import signal
from dataclasses import dataclass

__all__ = ["Exit"]


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended; both None where the host has reaped it behind our back.

    Attributes:
        code: What it exited with, or None.
        signal: The signal that killed it, or None.
        lines: The last that it wrote to its standard error.
    """

    code: int | None = None
    signal: int | None = None
    lines: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """`exited with 3` or `killed by SIGKILL`."""
        if self.signal is not None:
            try:
                return f"killed by {signal.Signals(self.signal).name}"
            except ValueError:
                return f"killed by signal {self.signal}"
        return "ended" if self.code is None else f"exited with {self.code}"

    def __str__(self) -> str:
        """The reason, and the last lines below it."""
        return "\n  ".join([self.reason, *self.lines])
