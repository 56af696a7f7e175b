"""From an empty folder to a changed site, by the commands of docs/quickstart.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import new_user


@pytest.mark.timeout(600)
def test_the_quickstart_is_what_happens(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    lines = new_user.play(tmp_path / "empty", new_user.environment(tmp_path / "cache"))
    text = new_user.written(lines)
    print(text, f"{lines[-1][0]:.1f} s in all", sep="\n")
    assert new_user.without_times(text) == new_user.without_times(new_user.in_docs())
