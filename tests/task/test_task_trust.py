"""Results of a registry that nobody has signed whom the policy allows are none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop_kit.errors import PackageError
from loop_kit.task._signed import KEY_VARIABLE
from loop_kit.trust import Keyring
from tests import registries
from tests.task.workspaces import PAIR, Workspace, pair

BOTH = ("a:build", "b:build")
RAN, CACHED, FRESH = (dict.fromkeys(BOTH, how) for how in ("ran", "cached", "fresh"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.docker(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def repository(registry: str, request: pytest.FixtureRequest) -> str:
    return f"{registry}/{re.sub('[^a-z]+', '-', request.node.name).strip('-')}"


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP_KEYS", str(tmp_path / "keys"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    ring = Keyring()
    ring.new("ci")
    ring.new("other")


def strictly(made: Workspace, repository: str) -> Workspace:
    """Has a workspace take what `ci` has signed alone."""
    (made.root / "ci.pub").write_text(Keyring().get("ci").public.pem)
    policy = f"""
[trust.signers]
ci = {{ file = "ci.pub" }}
[[trust.rules]]
artifacts = ["{repository}"]
signers = ["ci"]
"""
    made.write("loop.toml", made.read("loop.toml") + policy)
    return made


def sharing(folder: Path, repository: str) -> Workspace:
    made = pair(folder)
    made.write("loop.toml", f'{PAIR}\n[tasks]\ncache = "{repository}"\n')
    return made


def test_what_is_signed_by_who_may_is_taken(
    repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "ci")
    assert sharing(tmp_path / "first", repository).run("build") == RAN
    monkeypatch.delenv(KEY_VARIABLE)
    second = strictly(sharing(tmp_path / "second", repository), repository)
    assert second.judge("build")["a:build"].how == "cached"
    assert second.run("build") == CACHED
    assert second.run("build") == FRESH


@pytest.mark.parametrize("key", ["nobody", "other"])
def test_what_is_not_is_a_miss_and_told(
    key: str, repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key == "other":
        monkeypatch.setenv(KEY_VARIABLE, key)
    sharing(tmp_path / "first", repository).run("build")
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    second = strictly(sharing(tmp_path / "second", repository), repository)
    [*_, reason] = second.judge("build")["a:build"].reasons
    assert reason.startswith(f"its result in {repository} is not used: ")
    told: list[str] = []
    assert second.run("build", tell=told.append) == RAN
    assert len(told) == 1
    assert "is not used" in told[0]


def test_who_may_sign_puts_his_in_the_place_of_what_does_not_count(
    repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharing(tmp_path / "first", repository).run("build")
    monkeypatch.setenv(KEY_VARIABLE, "ci")
    assert strictly(sharing(tmp_path / "second", repository), repository).run("build") == RAN
    monkeypatch.delenv(KEY_VARIABLE)
    assert strictly(sharing(tmp_path / "third", repository), repository).run("build") == CACHED


def test_what_came_without_a_policy_is_not_taken_from_the_cache_with_one(
    repository: str, tmp_path: Path
) -> None:
    sharing(tmp_path / "first", repository).run("build")
    easy = sharing(tmp_path / "easy", repository)
    assert easy.run("build") == CACHED
    strict = strictly(sharing(tmp_path / "strict", repository), repository)
    strict.cache = easy.cache
    assert strict.run("build") == RAN


def test_what_came_without_a_policy_is_not_left_in_its_place_with_one(
    repository: str, tmp_path: Path
) -> None:
    sharing(tmp_path / "first", repository).run("build")
    made = sharing(tmp_path / "second", repository)
    assert made.run("build") == CACHED
    assert made.run("build") == FRESH
    strictly(made, repository)
    assert "[trust] is another" in made.judge("build")["a:build"].reasons
    assert made.run("build") == RAN
    assert made.run("build") == FRESH


def test_a_key_that_is_not_there_is_told(
    repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "nobody")
    with pytest.raises(PackageError, match=f"{KEY_VARIABLE}: .*nobody"):
        sharing(tmp_path, repository).run("build")


def test_the_users_own_policy_counts_where_the_workspace_has_none(
    repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_TRUST", str(tmp_path / "trust.toml"))
    (tmp_path / "trust.toml").write_text('[[trust.rules]]\nartifacts = ["**"]\nunsigned = "allow"\n')
    sharing(tmp_path / "first", repository).run("build")
    made = sharing(tmp_path / "second", repository)
    assert made.run("build") == CACHED
    (tmp_path / "trust.toml").write_text("[trust]\n")  # nobody may sign anything
    assert made.run("build") == RAN
    assert made.run("build") == FRESH
