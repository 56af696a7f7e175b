"""Whatever is asked of `loop:fsx/files`, every provider answers the same."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loop_kit as loop
from tests.capabilities.serving import PROVIDERS, Host, Serving
from tests.capabilities.trees import special, tangled

Answers = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def answers(hosts: dict[str, Host], tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What each provider answers to one question."""
    top = tmp_path_factory.mktemp("agreement") / "top"
    tangled(top)
    special(top)
    grant = {"roots": {"r": {"path": str(top)}}}
    calls = [Serving(provide, hosts["blocking"])("files", "fsx", grant) for provide in PROVIDERS.values()]
    return lambda *question: [answer(partial(call, *question)) for call in calls]


def answer(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except loop.Err as e:
        code: Any = e.value
        return f"error: {code.case}"


def all_equal(told: list[Any]) -> bool:
    return [repr(answer) for answer in told] == [repr(told[0])] * len(told)


pieces = st.sampled_from([
    "a", "b", "c", "d", "é", ".", ",", "-", "*", "**", "?", "/", "**/", "/**", "/**/", "[", "]", "[a]", "[!a]",
    "[^b]", "[a-c]", "[]]", "[-a]", "[é-ü]", "[b-a]", "{", "}", "{a,b}", "{a", ",b}", "{,a}", "{**/a,b}", "{a,**}",
    "\\", "\\*", "\\[", "\\ ", " ", "!", "#", "\0",
])  # fmt: skip


@given(st.lists(pieces, max_size=8).map("".join))
def test_patterns(answers: Answers, pattern: str) -> None:
    told = answers("glob", "r", pattern)
    assert all_equal(told), told


parts = st.sampled_from([
    "a", "b", "c", "d", "l", "up", "out", "back", "abs", "r", "x", "s", "fs", "é", ".a", "..", ".", "", "pipe",
    "socket", "none", "\0", "a" * 256,
])  # fmt: skip
paths = st.lists(parts, min_size=1, max_size=7).map("/".join)


@given(st.sampled_from(["list", "stat", "read"]), paths)
def test_paths(answers: Answers, function: str, path: str) -> None:
    told = answers(function, "r", path)
    assert all_equal(told), told


@given(paths, st.integers(0, 20) | st.integers(0, (1 << 64) - 1), st.integers(0, 20) | st.just((1 << 32) - 1))
def test_ranges(answers: Answers, path: str, offset: int, length: int) -> None:
    told = answers("read-range", "r", path, offset, length)
    assert all_equal(told), told
