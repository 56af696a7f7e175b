"""What `loop doctor` looks at."""

from __future__ import annotations

import importlib
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Check", "run_checks"]

MINIMUM_PYTHON = (3, 11)
MINIMUM_NODE = 18

_TIMEOUT = 20.0
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was looked for.
        found: Its version or place; None if it is missing.
        needed: What it is needed for.
        fix: The command that mends it.
        required: Whether nothing runs without it.
    """

    name: str
    found: str | None
    needed: str
    fix: str
    required: bool = False


def run_checks() -> list[Check]:
    """Runs every check that applies here: a checkout of loop-kit needs more than an installed package."""
    checks = [_python(), _core(), _node(), _npm(), _componentize_qjs(), _componentize_py()]
    checkout = _checkout()
    if checkout is not None:
        checks += [_cargo(checkout), _chromium()]
    return checks


def _python() -> Check:
    name = f"{platform.python_implementation()} {platform.python_version()}"
    usable = sys.version_info >= MINIMUM_PYTHON and sys.implementation.name == "cpython"
    wanted = ".".join(map(str, MINIMUM_PYTHON))
    fix = _install(apt="python3", brew="python", winget="Python.Python.3.13")
    return Check("python", name if usable else None, f"loop-kit needs CPython {wanted} or newer", fix, True)


def _core() -> Check:
    try:
        core = importlib.import_module("loop_kit._core")
        found = str(getattr(core, "__file__", None) or "imports")
        problem = ""
    except Exception as error:
        found, problem = None, f" ({error})"
    fix = "make setup" if _checkout() else f"{_pip()} --force-reinstall loop-kit"
    return Check("compiled core", found, f"everything that runs components{problem}", fix, True)


def _node() -> Check:
    found = _version("node")
    if found and _numbers(found) < (MINIMUM_NODE,):
        found = None
    needed = f"building JavaScript components (version {MINIMUM_NODE} or newer)"
    return Check("node", found, needed, _install(apt="nodejs", brew="node", winget="OpenJS.NodeJS"))


def _npm() -> Check:
    fix = _install(apt="npm", brew="node", winget="OpenJS.NodeJS")
    return Check("npm", _version("npm"), "installing JavaScript toolchains", fix)


def _componentize_qjs() -> Check:
    name = "componentize-qjs"
    folders = (Path.cwd(), *Path.cwd().parents)
    local = (shutil.which(name, path=str(folder / "node_modules" / ".bin")) for folder in folders)
    place = next(filter(None, local), None) or shutil.which(name) or _fetched(name)
    return Check(name, place, "building JavaScript components; builds install it", _by_pkg(name))


def _componentize_py() -> Check:
    name = "componentize-py"
    # Beside this Python first: an activated environment is not the only way to use one.
    place = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    found = (place and _version(place)) or place or _fetched(name)
    return Check(name, found, "building Python components; builds install it", _by_pkg(name))


def _by_pkg(name: str) -> str:
    # `loop pkg install` would have it there only where a build names it
    return f"loop pkg run {name} -- --help"


def _fetched(name: str) -> str | None:
    """Where the tool is that `{tool:NAME}` of a build means, where its workspace has no other."""
    try:
        place = importlib.import_module("loop_kit.pkg").Tools().place(name)
    except Exception:
        return None  # without the core nothing is built, and that is said already
    return str(place) if place.is_dir() else None


def _cargo(checkout: Path) -> Check:
    workspace = tomllib.loads((checkout / "Cargo.toml").read_text("utf-8")).get("workspace", {})
    wanted = str(workspace.get("package", {}).get("rust-version", "1"))
    found = _version("cargo")  # "cargo 1.95.0 (…)"
    if found and _numbers(found.removeprefix("cargo ")) < _numbers(wanted):
        found = None
    fix = "rustup update stable"
    if shutil.which("rustup") is None:
        install = _install(apt="rustup", brew="rustup", winget="Rustlang.Rustup")
        fix = f"{install} && rustup toolchain install stable"
    return Check("cargo", found, f"building the core of this checkout (version {wanted} or newer)", fix)


def _chromium() -> Check:
    place = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    fix = _install(apt="chromium", brew="chromium", winget="Google.Chrome")
    return Check("chromium", place, "the browser tests of this checkout", fix)


def _version(program: str) -> str | None:
    """Returns what `program --version` says, on one line; None if it cannot be run."""
    place = shutil.which(program)
    if place is None:
        return None
    try:
        done = subprocess.run(
            [place, "--version"], capture_output=True, timeout=_TIMEOUT, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return lines[0] if lines else place


def _numbers(version: str) -> tuple[int, ...]:
    """Returns the leading numbers of a version such as `v20.20.2` or `1.95.0 (f2d3ce0bd)`."""
    found = re.match(r"v?([0-9]+(?:\.[0-9]+)*)", version)
    return tuple(map(int, found[1].split("."))) if found else ()


def _checkout() -> Path | None:
    """Returns the checkout that this package runs from, if it does."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "Cargo.toml").is_file() and (root / "crates").is_dir() else None


def _pip() -> str:
    return f"{Path(sys.executable).name} -m pip install"


def _install(*, apt: str, brew: str, winget: str) -> str:
    by_platform = {"darwin": f"brew install {brew}", "win32": f"winget install {winget}"}
    return by_platform.get(sys.platform, f"sudo apt-get install {apt}")
