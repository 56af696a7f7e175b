"""`tools/vendor_wit.py --check`, which says whether somebody has changed WIT that is not ours."""

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOL = "tools/vendor_wit.py"


@pytest.fixture
def drift(tmp_path: Path) -> Callable[[], list[str]]:
    """Checks a copy of what is vendored, in `tmp_path`."""
    (tmp_path / "tools").mkdir()
    for name in (TOOL, "Cargo.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    tool = runpy.run_path(str(tmp_path / TOOL))
    for folder in ("wit/deps", *tool["PACKAGES"]):
        shutil.copytree(ROOT / folder, tmp_path / folder, dirs_exist_ok=True)
    found: Callable[[], list[str]] = tool["drift"]
    return found


def test_what_is_vendored_is_as_it_was_recorded(drift: Callable[[], list[str]]) -> None:
    assert drift() == []


def test_each_difference_is_named(drift: Callable[[], list[str]], tmp_path: Path) -> None:
    folder = tmp_path / "wit/deps/wasi-0.3"
    (folder / "cli.wit").write_text("package wasi:cli;")
    (folder / "http.wit").unlink()
    (folder / "own.wit").write_text("package our:own;")
    (tmp_path / "wit/deps/spin-2.0/world.wit").write_text("// ours: it may change")
    assert drift() == [
        "missing: wit/deps/wasi-0.3/http.wit",
        "too many: wit/deps/wasi-0.3/own.wit",
        "changed: wit/deps/wasi-0.3/cli.wit",
    ]


def test_an_engine_of_another_version_asks_for_its_own(
    drift: Callable[[], list[str]], tmp_path: Path
) -> None:
    lock = tmp_path / "Cargo.lock"
    text = lock.read_text()
    before = text.split('name = "wasmtime"\nversion = "')[1].split('"')[0]
    head = 'name = "wasmtime"\nversion = '
    lock.write_text(text.replace(f'{head}"{before}"', f'{head}"99.0.0"'))
    (line,) = drift()
    assert line.startswith("crates: wit/deps/vendored.json has ")
    assert "'wasmtime-wasi-http': '99.0.0'" in line
    assert line.endswith("run `make wit`")
