"""What commands share that bring artifacts from one place to another."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from loop_kit.cli._output import dim

if TYPE_CHECKING:
    from loop_kit.oci.model import Descriptor, Platform

__all__ = ["Progress", "amount", "complete_place", "platform_option", "size_option"]

_F = TypeVar("_F", bound=Callable[..., Any])
_QUIET = 1.0
"""Seconds before it shows how far it is."""
_OFTEN, _SELDOM = 0.1, 5.0
_LAYOUT = "oci-layout:"


class Progress:
    """Shows how far a transfer is, once it takes over a second: a line that changes, or a new one now and then.

    Used in a `with`; it is a `tell` of `loop_kit.oci.transfer`.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._sizes: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._terminal = sys.stderr.isatty()
        self._next = time.monotonic() + _QUIET
        self._shown = False

    def __call__(self, blob: Descriptor, count: int) -> None:
        self._sizes[blob.digest] = blob.size
        self._done[blob.digest] = self._done.get(blob.digest, 0) + count
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (_OFTEN if self._terminal else _SELDOM)
        self._shown = True
        all_of_it = sum(self._sizes.values())
        ready = sum(self._done[digest] >= size for digest, size in self._sizes.items())
        line = (
            f"{amount(sum(self._done.values()))} of {amount(all_of_it)}, {ready} of {len(self._sizes)} blobs"
        )
        if self._terminal:
            click.echo(f"\r\x1b[K{dim(f'{self._what}: {line}')}", nl=False, err=True)
        else:
            click.echo(f"{self._what}: {line}", err=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._terminal:
            click.echo("\r\x1b[K", nl=False, err=True)


def amount(count: int) -> str:
    """Bytes as people read them."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def platform_option(command: _F) -> _F:
    """Adds `--platform`, which arrives as `platform`; None, if it is not given."""

    def read(_: click.Context, __: click.Parameter, text: str | None) -> Platform | None:
        if text is None:
            return None
        from loop_kit.errors import PackageError
        from loop_kit.oci.platform import parse_platform

        try:
            return parse_platform(text)
        except PackageError as error:
            raise click.BadParameter(str(error)) from None

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        usual = (
            "linux/amd64",
            "linux/arm64",
            "linux/arm/v7",
            "darwin/amd64",
            "darwin/arm64",
            "windows/amd64",
        )
        return [name for name in usual if name.startswith(incomplete)]

    return click.option(
        "--platform",
        metavar="OS/ARCH",
        callback=read,
        shell_complete=complete,
        help="Of an artifact for several platforms only this part.",
    )(command)


def size_option(command: _F) -> _F:
    """Adds `--max-size`, which arrives as `most`, in bytes."""

    def read(_: click.Context, __: click.Parameter, text: str) -> int:
        from loop_kit._units import parse_size

        try:
            return parse_size(int(text) if text.isdigit() else text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return click.option(
        "--max-size",
        "most",
        metavar="SIZE",
        default="64GiB",
        show_default=True,
        callback=read,
        help="What one artifact may have, all its parts together.",
    )(command)


def complete_place(_: click.Context, __: click.Parameter, incomplete: str) -> list[Any]:
    """Completes `oci-layout:` and the folders behind it; names in registries are not asked for."""
    from click.shell_completion import CompletionItem

    if not incomplete.startswith(_LAYOUT):
        return [CompletionItem(_LAYOUT)] if incomplete and _LAYOUT.startswith(incomplete) else []
    path = incomplete.removeprefix(_LAYOUT)
    folder, begun = os.path.split(path)
    try:
        names = [
            each.name
            for each in os.scandir(folder or ("/" if path.startswith("/") else "."))
            if each.is_dir()
        ]
    except OSError:
        return []
    start = f"{_LAYOUT}{path[: len(path) - len(begun)]}"
    return [CompletionItem(f"{start}{name}") for name in sorted(names) if name.startswith(begun)]
