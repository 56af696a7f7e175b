"""The wheel as a user gets it: installed alone, with no checkout, Rust or Node in reach."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.checkout import ROOT, files

PACKAGE = ROOT / "python"


class Alone:
    """An environment that holds the wheel and what the wheel asks for, in a folder far from the checkout."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        # pip sees the user's own configuration; what runs afterwards sees nothing of it.
        outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        install = [str(self.bin / "python"), "-m", "pip", "install", "--quiet", str(wheel)]
        subprocess.run(install, cwd=folder, env=outside, check=True)

    def run(self, program: str, *args: str) -> str:
        """What a program of the environment prints; its exit code must be 0."""
        env = {"PATH": str(self.bin), "HOME": str(self.folder), "LANG": "C.UTF-8"}
        done = subprocess.run(
            [self.bin / program, *args], cwd=self.folder, env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheel() -> Path:
    wheels = list((ROOT / "dist").glob("*.whl"))
    assert len(wheels) == 1, f"`make wheel` leaves one wheel in dist/, here are {len(wheels)}"
    return wheels[0]


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    return Alone(tmp_path_factory.mktemp("alone"), wheel)


def test_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert "-cp311-abi3-" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    ours = {path.relative_to(PACKAGE) for path in files("python/loop_kit")}
    expected = {path.as_posix() for path in ours if "tests" not in path.parts}
    assert held == expected | {"loop_kit/_core.abi3.so"}
    assert held >= {"loop_kit/py.typed", "loop_kit/_core.pyi"}


def test_imports_and_has_its_command(alone: Alone, wheel: Path) -> None:
    for tool in ("cargo", "node"):
        assert shutil.which(tool, path=str(alone.bin)) is None
    origin = alone.run("python", "-c", "import loop_kit; print(loop_kit.__file__)")
    assert Path(origin).is_relative_to(alone.folder)
    assert wheel.name.split("-")[1] in alone.run("loop", "--version")


def test_runs_the_embedding_example(alone: Alone) -> None:
    folder = ROOT / "examples"
    script = (folder / "embed.py").read_text()
    shutil.copy(folder / "embed.py", alone.folder)
    for name in re.findall(r"[\w/.-]+\.(?:wasm|toml)", script):
        shutil.copy(folder / name, alone.folder)
    assert alone.run("python", "embed.py")
