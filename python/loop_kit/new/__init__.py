"""New projects, from `templates`: `create` writes one in any of the languages that there is a template for.

Each is a workspace, with tests of its own. `parts` is the same without its `loop.toml`, for a workspace that is there.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from loop_kit.errors import LoadError
from loop_kit.new import _skeletons

__all__ = ["LANGUAGES", "MANIFEST", "NAME", "Kind", "create", "free", "parts", "writing"]

Kind = Literal["app", "component", "provider", "resolver"]

LANGUAGES: Mapping[Kind, tuple[str, ...]] = {
    "app": ("js", "python"),
    "component": ("js", "python", "rust"),
    "provider": ("python", "node", "rust"),
    "resolver": ("js", "python"),
}
"""What each may be written in."""

NAME = re.compile("[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""What a project may be called: as npm and Cargo have it."""

MANIFEST = "loop.toml"

_HERE = Path(__file__).parent
_CAPABILITIES = _HERE.parent / "capabilities"
_MADE = ("__pycache__", "node_modules", "target", "build")
_RENAMED = {"gitignore": ".gitignore"}  # one of that name would be git's own here
_USED: Mapping[Kind, Mapping[str, Path]] = {
    "app": {"loop-": _CAPABILITIES / "core" / "wit", "wasi-": _HERE / "wit" / "wasi-0.3"},
    "resolver": {
        "netx/": _CAPABILITIES / "netx" / "wit",
        "pkg/": _CAPABILITIES / "pkg" / "wit",
        "provider/": _HERE.parent / "wit",
    },
}
"""The WIT of others that each is built from, by how its files are called in `wit/deps`."""
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


def create(
    kind: Kind,
    language: str,
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    wit: str | os.PathLike[str] | None = None,
    sdk: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Writes a project: a workspace, which `loop dev` runs and `make test` tests.

    Args:
        kind: An `app` is a site with a page and a provider of its own; a `component`, a `provider` and a
            `resolver` of packages are alone.
        language: One of LANGUAGES of that kind; of an app, what its component is written in.
        folder: Where; it must not exist, or be empty.
        name: What it is called, if not as its folder.
        wit: A file or folder of WIT, whose interfaces a provider is to serve: the functions are there and to be written.
            None: a store of texts, as an example.
        sdk: The folder of the SDK that a provider depends on, instead of the published package; not for Python.

    Returns:
        The files that were written, relative to the folder.

    Raises:
        ValueError: The name or the language is none.
        FileExistsError: There is something in the folder.
        LoadError: The WIT is not sound, or has no interface with functions.
        OSError: A file cannot be written; those that were are gone.
    """
    into = Path(folder)
    files = parts(kind, language, into.resolve().name if name is None else name, wit=wit, sdk=sdk)
    free(into)
    with writing({into / path: text for path, text in files.items()}):
        pass
    return sorted(Path(path) for path in files)


def parts(
    kind: Kind,
    language: str,
    name: str,
    *,
    wit: str | os.PathLike[str] | None = None,
    sdk: str | os.PathLike[str] | None = None,
) -> dict[str, str]:
    """The text of each file of a project, its `loop.toml` (MANIFEST) among them, by paths with `/`.

    Raises as `create`, but for what is about files.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a project: small letters, digits, and - between them")
    if language not in LANGUAGES[kind]:
        raise ValueError(f"{language!r} is none of {', '.join(LANGUAGES[kind])}")
    files = _read(_HERE / "templates" / kind / "common") | _read(_HERE / "templates" / kind / language)
    for start, folder in _USED.get(kind, {}).items():
        files |= {f"wit/deps/{start}{file.name}": file.read_text("utf-8") for file in folder.glob("*.wit")}
    if kind == "provider" and wit is not None:
        files = _served(language, files, Path(wit))
    if sdk is not None:
        where = Path(sdk).resolve()
        if not where.is_dir():
            raise LoadError(f"{sdk}: there is no SDK in this folder")
        for path, published, local in _DEPENDENCIES[language]:
            files[path] = files[path].replace(published, local.format(sdk=where.as_posix()))
    return {path: text.replace(f"my-{kind}", name) for path, text in files.items()}


def free(folder: Path) -> None:
    """Raises FileExistsError where a folder is there, and not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(17, "is there already, and not empty", str(folder))


@contextlib.contextmanager
def writing(files: Mapping[Path, str]) -> Iterator[None]:
    """Writes files, none of which may be there; where that fails, or what is done meanwhile, they are gone again.

    Raises:
        OSError: One is there, or cannot be written.
    """
    made: list[Path] = []
    try:
        for target, text in files.items():
            for above in reversed(target.parents):
                if not above.exists():
                    above.mkdir()
                    made.append(above)
            with target.open("x", encoding="utf-8") as file:  # never over what somebody else writes meanwhile
                made.append(target)
                file.write(text)
        yield
    except BaseException:
        for there in reversed(made):
            with contextlib.suppress(OSError):
                there.rmdir() if there.is_dir() else there.unlink()
        raise


def _read(folder: Path) -> dict[str, str]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    inside = {path.relative_to(folder): path for path in found}
    return {
        path.with_name(_RENAMED.get(path.name, path.name)).as_posix(): file.read_text("utf-8")
        for path, file in inside.items()
        if not set(path.parts) & set(_MADE)
    }


def _served(language: str, example: dict[str, str], wit: Path) -> dict[str, str]:
    """The same project with other WIT: what the example does is left out."""
    kept = {path: text for path, text in example.items() if not path.startswith("wit/")}
    for path in _CODE[language]:
        del kept[path]
    base = wit if wit.is_dir() else wit.parent
    found = sorted(wit.rglob("*.wit")) if wit.is_dir() else [wit]
    texts = {f"wit/{file.relative_to(base).as_posix()}": file.read_text("utf-8") for file in found}
    if language == "python":
        kept[MANIFEST] = f'{kept[MANIFEST].rstrip()}\nbind = {{ python = "bindings.py" }}\n'
    return kept | _skeletons.written(language, wit) | texts
