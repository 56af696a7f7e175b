"""What commands share when they print.

With `--json` a command prints exactly one JSON document to stdout and nothing else there; errors stay lines
on stderr, and exit codes stay the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["dim", "examples", "good", "json_option", "print_json", "strong", "warn"]

_F = TypeVar("_F", bound=Callable[..., Any])


def json_option(command: _F) -> _F:
    """Adds `--json`, which arrives as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def examples(*lines: tuple[str, str]) -> str:
    """Returns a command's epilog: command lines, each with what it is for ("" where it speaks for itself)."""
    width = max((len(line) for line, purpose in lines if purpose), default=0)
    shown = (f"  {line:<{width}}  {purpose}".rstrip() for line, purpose in lines)
    return "\b\nExamples:\n" + "\n".join(shown)  # "\b" keeps click from refilling the lines


def print_json(value: object) -> None:
    """Prints the document; paths become strings."""
    click.echo(json.dumps(value, indent=2, default=str))


def strong(text: str) -> str:
    return click.style(text, bold=True)


def dim(text: str) -> str:
    return click.style(text, dim=True)


def good(text: str) -> str:
    return click.style(text, fg="green")


def warn(text: str) -> str:
    return click.style(text, fg="yellow")
