"""What commands share that bring artifacts from one place to another."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from loop_kit.cli._progress import Progress

if TYPE_CHECKING:
    from loop_kit.oci.model import Descriptor, Platform

__all__ = ["Transfer", "amount", "complete_place", "jobs_option", "platform_option", "size_option"]

_F = TypeVar("_F", bound=Callable[..., Any])
_LAYOUT = "oci-layout:"


class Transfer(Progress):
    """Says how far a transfer is; it is a `tell` of `loop_kit.oci.transfer`."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what
        self._sizes: dict[str, int] = {}
        self._done: dict[str, int] = {}

    def __enter__(self) -> Transfer:
        return self

    def __call__(self, blob: Descriptor, count: int) -> None:
        self._sizes[blob.digest] = blob.size
        self._done[blob.digest] = self._done.get(blob.digest, 0) + count
        if self.due:
            come, whole = amount(sum(self._done.values())), amount(sum(self._sizes.values()))
            ready = sum(self._done[digest] >= size for digest, size in self._sizes.items())
            self.at(f"{self._what}: {come} of {whole}, {ready} of {len(self._sizes)} blobs")


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


def jobs_option(command: _F) -> _F:
    """Adds `--jobs`: how many blobs are on their way at once."""
    return click.option(
        "-j",
        "--jobs",
        type=click.IntRange(1, 64),
        default=4,
        show_default=True,
        help="Blobs on their way at once.",
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
