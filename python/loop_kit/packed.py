"""`python -m loop_kit.packed FOLDER MODULE:CLASS …`: serves a Python provider out of its package.

What is installed beside this loop-kit is not found: a package has all that it needs, or says at once that it has not.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import sysconfig
from pathlib import Path

from loop_kit import serve
from loop_kit._host import default_cache

__all__ = ["alone", "main", "paths_of"]


def paths_of(folder: Path) -> list[Path]:
    """Where the modules of a package that was unpacked are: its own, and those of each wheel in it."""
    wheels = folder / "wheels"
    return [folder / "tree", *(sorted(wheels.iterdir()) if wheels.is_dir() else ())]


def alone(paths: list[Path]) -> None:
    """Has modules be found in these folders and the standard library alone, and compiled code be kept elsewhere."""
    standard = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    installed = ("site-packages", "dist-packages")
    kept = [
        path
        for path in sys.path
        if (path.endswith(".zip") or any(Path(os.path.realpath(path)).is_relative_to(at) for at in standard))
        and not set(installed) & set(Path(path).parts)
    ]
    sys.path[:] = [*map(os.fspath, paths), *kept]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
    # the folder of a package is never written to
    sys.pycache_prefix = os.fspath(default_cache().parent / "pycache")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code, as `loop_kit.serve` does."""
    folder, *rest = sys.argv[1:] if arguments is None else arguments
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        with contextlib.suppress(ImportError):
            importlib.import_module("loop_kit.otel")  # which needs what is installed
    alone(paths_of(Path(folder)))
    os.chdir(Path(folder) / "tree")
    return serve.main(rest)


if __name__ == "__main__":
    sys.exit(main())
