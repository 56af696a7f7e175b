"""Users' own modules: found by name, and read again when they have changed."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loop_kit.errors import LoadError

__all__ = ["file_of", "find", "find_anew", "lies_in"]

_STANDARD = os.path.join(os.path.dirname(os.__file__), "")
"""Where the modules of the standard library are."""


def find(module: str, name: str) -> object:
    """Imports what `MODULE:NAME` means; a class within another has dots in its name.

    Raises:
        LoadError: There is no such module, or nothing of that name in it.
    """
    try:
        with _uncompiled():
            found: object = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # one that the module itself imports
        raise LoadError(f"there is no module {error.name!r} in {Path.cwd()}, nor installed") from None
    for part in name.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise LoadError(f"there is no {name!r} in the module {module!r}{hint}")
        found = getattr(found, part)
    return found


def find_anew(module: str, name: str, folder: Path) -> object:
    """The same as the code is now: every module of the folder is read again.

    Raises whatever the code does; then the modules are as they were.
    """
    mine = {
        key: found
        for key, found in sys.modules.items()
        if lies_in(getattr(found, "__file__", None), folder) and key != "__main__"
    }
    for key in mine:
        del sys.modules[key]
    importlib.invalidate_caches()
    try:
        return find(module, name)
    except BaseException:
        sys.modules.update(mine)
        raise


def file_of(module: str, folder: Path) -> Path | None:
    """The file of a module in a folder, or None if it is none of the folder's."""
    base = folder.joinpath(*module.split("."))
    for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if path.is_file():
            return path
    return None


def lies_in(file: str | None, folder: Path) -> bool:
    """Whether a module's file is one of the folder, and not installed there."""
    # without a look at the disk for nearly all that there are: it would hold up everybody for milliseconds
    if not file or file.startswith(_STANDARD) or "site-packages" in Path(file).parts:
        return False
    return Path(file).resolve().is_relative_to(folder.resolve())


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Leaves no compiled code.

    It is found by the second in which its source was written, so that Python would not see another edit in the same
    second.
    """
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
