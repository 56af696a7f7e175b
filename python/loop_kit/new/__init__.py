"""New projects: `create` writes a provider's in one of the languages that there is an SDK for."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from loop_kit.errors import LoadError
from loop_kit.new import _skeletons

__all__ = ["LANGUAGES", "NAME", "create"]

LANGUAGES = ("python", "node", "rust")
NAME = re.compile("[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""What a project may be called: as npm and Cargo have it."""

_TEMPLATES = Path(__file__).parent / "templates"
_DEPENDENCIES: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    # file, what stands there, and what stands there for an SDK in a folder
    "python": (),
    "node": (("package.json", '"@loop-kit/provider": "^0.1.0"', '"@loop-kit/provider": "file:{sdk}"'),),
    "rust": (
        ("Cargo.toml", 'loop-provider = "0.1.0"', 'loop-provider = {{ path = "{sdk}" }}'),
        ("Cargo.toml", 'loop-provider-build = "0.1.0"', 'loop-provider-build = {{ path = "{sdk}/codegen" }}'),
    ),
}
_CODE = {
    "python": ("provider.py", "test_provider.py"),
    "node": ("src/provider.js", "test/provider.test.js"),
    "rust": ("src/main.rs", "src/tests.rs", "build.rs"),
}
_MADE = ("__pycache__", "node_modules", "target")


def create(
    language: str,
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    wit: str | os.PathLike[str] | None = None,
    sdk: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Writes a provider's project, which `make test` tests and `make run` serves.

    Args:
        language: One of LANGUAGES.
        folder: Where; it must not exist, or be empty.
        name: What it is called, if not as its folder.
        wit: A file or folder of WIT, whose interfaces it is to serve: the functions are there and to be written. None:
            a store of texts, as an example.
        sdk: The folder of the SDK that it depends on, instead of the published package; not for Python.

    Returns:
        The files that were written, relative to the folder.

    Raises:
        ValueError: The name or the language is none.
        FileExistsError: There is something in the folder.
        LoadError: The WIT is not sound, or has no interface with functions.
    """
    into = Path(folder)
    called = into.resolve().name if name is None else name
    if not NAME.fullmatch(called):
        raise ValueError(f"{called!r} is no name for a project: small letters, digits, and - between them")
    if language not in LANGUAGES:
        raise ValueError(f"{language!r} is none of {', '.join(LANGUAGES)}")
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise FileExistsError(17, "is there already, and not empty", str(into))
    files = _example(language) if wit is None else _served(language, Path(wit))
    if sdk is not None:
        where = Path(sdk).resolve()
        if not where.is_dir():
            raise LoadError(f"{sdk}: there is no SDK in this folder")
        for file, published, local in _DEPENDENCIES[language]:
            files[file] = files[file].replace(published, local.format(sdk=where.as_posix()))
    for path, text in files.items():
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        (into / path).write_text(text.replace("my-provider", called), "utf-8")
    if wit is not None:
        _copy_wit(Path(wit), into / "wit")
    return sorted(path.relative_to(into) for path in into.rglob("*") if path.is_file())


def _example(language: str) -> dict[str, str]:
    template = _TEMPLATES / language
    found = (path for path in template.rglob("*") if path.is_file() and not set(path.parts) & set(_MADE))
    files = {path.relative_to(template).as_posix(): path.read_text("utf-8") for path in found}
    files["wit/store.wit"] = (_TEMPLATES / "wit" / "store.wit").read_text("utf-8")
    return files


def _served(language: str, wit: Path) -> dict[str, str]:
    """The same project with other WIT: what the example does is left out."""
    files = _example(language)
    del files["wit/store.wit"]
    for path in _CODE[language]:
        del files[path]
    return files | _skeletons.written(language, wit)


def _copy_wit(wit: Path, into: Path) -> None:
    if wit.is_dir():
        shutil.copytree(wit, into)
    else:
        into.mkdir()
        shutil.copy(wit, into)
