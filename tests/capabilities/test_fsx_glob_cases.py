"""The patterns of `tests/data/glob/cases.json`, against every provider in every host."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.capabilities.serving import Serving
from tests.capabilities.trees import grow
from tests.checkout import ROOT

DATA = json.loads((ROOT / "tests/data/glob/cases.json").read_text())

# By kind, or by pattern where it is one case.
APPLY_NOT = {
    "gitignore": "a matter of walks: see `test_fsx_ignores.py`",
    "{a.txt,src/{b,deep/c}.rs}": "ripgrep 13 refused braces within braces, today's ripgrep takes them",
}
APPLY = [case for case in DATA["cases"] if not {case["kind"], case.get("pattern")} & APPLY_NOT.keys()]


def test_which_cases_apply() -> None:
    by_kind = {case["kind"] for case in APPLY}
    assert (len(DATA["cases"]), len(APPLY), by_kind) == (125, 26, {"glob", "glob-full"})


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grow(tmp_path_factory.mktemp("tree"), dict.fromkeys(DATA["format"]["tree"], ""))


@pytest.mark.parametrize("case", APPLY, ids=lambda case: f"{case['kind']}-{case['pattern']}")
def test_a_case(serve: Serving, tree: Path, case: dict[str, Any]) -> None:
    # what fd's pattern of a whole path means, ours means when it is tied to the root
    pattern = case["pattern"] if case["kind"] == "glob" else f"/{case['pattern']}"
    call = serve("files", "fsx", {"roots": {"r": {"path": str(tree)}}})
    assert call("glob", "r", pattern) == case["matches"]
