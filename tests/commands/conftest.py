from pathlib import Path

import pytest

from tests.commands.workspaces import MANIFEST, guest


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The component with commands, as a file."""
    return guest(tmp_path_factory.mktemp("tools"))


@pytest.fixture
def folder(tmp_path: Path, tools: Path) -> Path:
    """A workspace whose commands are that component's."""
    (tmp_path / "tools.wasm").write_bytes(tools.read_bytes())
    (tmp_path / "loop.toml").write_text(MANIFEST)
    return tmp_path
