"""A workspace, and a server for all sources; nothing else is asked, and nothing of the user's is touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop_kit import manifest
from loop_kit.pkg import Packages, Platform
from tests.pkg.servers import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


class Workspace:
    """A folder with a `loop.toml`, and what `loop pkg` does there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[str] = []

    def wants(self, *lines: str, more: str = "") -> None:
        """Has its manifest ask for packages."""
        text = "\n".join(['[workspace]\nname = "tools"\n', "[packages]", *lines, "", more])
        (self.folder / "loop.toml").write_text(text)

    @property
    def packages_here(self) -> Platform:
        """This machine."""
        return Platform.here()

    def packages(self) -> Packages:
        return Packages(manifest.load(self.folder), self.told.append)

    async def install(self, *, offline: bool = False, locked: bool = False) -> dict[str, tuple[str, ...]]:
        """The commands of all programs, by name."""
        async with self.packages() as packages:
            programs = await packages.install(offline=offline, locked=locked)
        return {program.name: program.command for program in programs}


@pytest.fixture
def workspace(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in list(os.environ):
        if name.lower().startswith(("pip_", "npm_config", "cargo_registr", "github_", "gh_", "goflags")):
            monkeypatch.delenv(name)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "site"
    folder.mkdir()
    return Workspace(folder)
