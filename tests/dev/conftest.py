from pathlib import Path

import pytest

from tests.dev.workspaces import Workspace


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path.resolve())
