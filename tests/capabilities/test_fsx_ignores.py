"""What git answered about `.gitignore` files, from `tests/data/glob/cases.json`, asked of a walk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loop_kit.testing import client
from tests.checkout import ROOT

CASES = json.loads((ROOT / "tests/data/glob/cases.json").read_text())["cases"]
IGNORES = [case for case in CASES if case["kind"] == "gitignore"]


def named(case: dict[str, Any]) -> str:
    return f"{case['area']}-{case['path']}"


@pytest.mark.parametrize("case", IGNORES, ids=named)
async def test_what_git_ignores_is_left_out(tmp_path: Path, case: dict[str, Any]) -> None:
    path = case["path"].rstrip("/")
    target = tmp_path / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if case["is_dir"]:
        target.mkdir()
    else:
        target.touch()
    for name, lines in case["ignore_files"].items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines))
    # where ripgrep reads a line otherwise than git, so do we
    ignored = case.get("tools_disagree", {}).get("ripgrep", case["ignored"])
    found = set()
    async with client("loop:fsx", grant={"roots": {"r": {"path": str(tmp_path)}}}) as fsx:
        root = await fsx.files.root("r")
        options = {"globs": [], "gitignore": True, "hidden": True, "max_depth": None}
        stream, _ = await fsx.walking.walk(root, ".", options)
        async for folder in stream:
            above = "" if folder.path == "." else f"{folder.path}/"
            found |= {above + name for name in (*folder.files, *folder.directories)}
    assert (path not in found) == ignored


def test_all_cases_are_run() -> None:
    assert (len(IGNORES), len(CASES)) == (98, 125)
