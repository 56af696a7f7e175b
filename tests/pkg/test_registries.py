"""Real tools from the registries that the clients here are configured for; nothing else in these tests asks them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli import LOOP

TOOLS = {
    "ruff": ("pypi:ruff@0.12.12", ("--version",), "ruff 0.12.12"),
    "esbuild": ("npm:esbuild@0.28.2", ("--version",), "0.28.2"),
    "rustfilt": ("crates:rustfilt@0.2.1", ("--version",), "0.2.1"),
    "hello": ("go:golang.org/x/example/hello", ("-g", "Hi"), "Hi"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TOOLS)
def test_a_real_tool(name: str, tmp_path: Path) -> None:
    """Installed, run, and installed once more from the store alone."""
    asked, args, said = TOOLS[name]
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "loop.toml").write_text(f'[packages]\n{name} = "{asked}"\n')
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}

    def loop(*words: str) -> str:
        command = (LOOP, "pkg", *words)
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    loop("install")
    assert said in loop("run", name, "--", *args)
    text = (folder / "loop.lock").read_text()
    assert text.count("darwin-aarch64") >= 1
    shutil.rmtree(tmp_path / "data/loop-kit/packages")
    loop("install", "--offline")
    assert said in loop("run", name, "--", *args)
    assert (folder / "loop.lock").read_text() == text
