"""Builds build/site.wasm: the code, mistune, and CPython to run them, as a WebAssembly component."""

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

import componentize_py

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
OUTPUT = HERE / "build" / "site.wasm"

# Where the packages live that wit/world.wit names. They are gathered for each build, so that no copy can go
# stale.
PACKAGES = [
    "python/loop_kit/capabilities/core/wit",
    "python/loop_kit/capabilities/fsx/wit",
    "wit/deps/wasi-0.2",
]


def gather_wit(folder: Path) -> None:
    """Lay out the world and all that it needs as WIT tools want it."""
    shutil.copytree(HERE / "wit", folder)
    (folder / "deps").mkdir()
    for package in PACKAGES:
        for file in (REPOSITORY / package).glob("*.wit"):
            shutil.copy(file, folder / "deps")


def gather_library(name: str, folder: Path) -> None:
    """Copy an installed package: everything in a folder given to componentize-py goes into the component."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{name} is not installed here: `make setup` does that")
    shutil.copytree(Path(spec.origin).parent, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def main() -> None:
    """Build it."""
    OUTPUT.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        gather_wit(scratch / "wit")
        gather_library("mistune", scratch / "lib")
        # It has no interface but its command line, which it reads from here.
        sys.argv = ["componentize-py", "--quiet", "-d", str(scratch / "wit"), "componentize"]
        sys.argv += ["-p", str(HERE / "src"), "-p", str(scratch / "lib"), "-o", str(OUTPUT), "app"]
        componentize_py.script()
    print(f"build/site.wasm: {OUTPUT.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
