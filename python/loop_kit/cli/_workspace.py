"""What commands share when they work on a workspace."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from loop_kit.manifest import Manifest

__all__ = ["complete_component", "manifest_file", "manifest_option", "open_manifest"]

_F = TypeVar("_F", bound=Callable[..., Any])


def manifest_option(command: _F) -> _F:
    """Adds `--manifest`, which arrives as `manifest_path`; `open_manifest` takes it."""
    return click.option(
        "-m",
        "--manifest",
        "manifest_path",
        type=click.Path(path_type=Path),
        help="The loop.toml or its folder.  [default: the nearest at or above this folder]",
    )(command)


def open_manifest(path: Path | None) -> Manifest:
    """Loads the manifest that `--manifest` names, or the nearest one.

    Raises:
        ManifestError: There is none, or it is wrong.
    """
    from loop_kit.manifest import find, load

    return load(find() if path is None else path)


def manifest_file(path: Path | None) -> Path:
    """The file that `--manifest` names, or the nearest one, which need not be sound.

    Raises:
        ManifestError: There is none.
    """
    from loop_kit.manifest import FILE_NAME, find

    return find() if path is None else path / FILE_NAME if path.is_dir() else path


def complete_component(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Completes the name of a component of the manifest, for `click.argument(shell_complete=...)`."""
    try:
        names = _component_names(ctx.params.get("manifest_path"))
    except Exception:
        return []  # the shell has nowhere to show an error
    return [name for name in names if name.startswith(incomplete)]


def _component_names(path: Path | None) -> list[str]:
    file = manifest_file(path)
    # Not `load`: names are of use while the rest of the file is still being written.
    return list(tomllib.loads(file.read_text("utf-8")).get("components", {}))
