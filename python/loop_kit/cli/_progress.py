"""How far something is that takes more than a moment, on standard error."""

from __future__ import annotations

import sys
import time

import click

from loop_kit.cli._output import dim

__all__ = ["Progress"]

_FIRST = 1.0
"""Seconds until anything is said."""
_AGAIN = 0.2
_PLAIN = 5.0
"""Seconds between lines where they stay, as in a log."""


class Progress:
    """Says how far something is: on a terminal on one line that is written over, else a line now and then.

    As a context manager it leaves the line empty.
    """

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._began = time.monotonic()
        self._next = self._began + _FIRST
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._terminal:
            click.echo("\r\x1b[K", err=True, nl=False)

    @property
    def due(self) -> bool:
        """Whether it is time to say something."""
        return time.monotonic() >= self._next

    def at(self, text: str) -> None:
        """Says it, where it is time to."""
        if not self.due:
            return
        self._next = time.monotonic() + (_AGAIN if self._terminal else _PLAIN)
        self._shown = True
        if self._terminal:
            click.echo(f"\r\x1b[K{dim(text)}", err=True, nl=False)
        else:
            click.echo(text, err=True)

    def say(self, text: str) -> None:
        """Says it at once, on a line of its own."""
        self.__exit__()
        click.echo(dim(text), err=True)
