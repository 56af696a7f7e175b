"""How providers are made: by a manifest, and not from a grant that does not do."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.capabilities.fsx import Files
from loop_kit.errors import LoadError
from loop_kit.inspect import inspect
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests.capabilities.serving import Serving, guest
from tests.checkout import ROOT

GUESTS = {"core": ["core"], "fsx": ["files", "streaming"]}


def functions(capability: str) -> set[str]:
    """The names of all functions that a package's WIT has."""
    wit = (ROOT / f"python/loop_kit/capabilities/{capability}/wit/{capability}.wit").read_text()
    declared = re.findall(r"^ *%?([a-z0-9-]+): (?:async )?func\(|^ *(constructor)\(", wit, re.MULTILINE)
    return {function or constructor for function, constructor in declared}


@pytest.mark.parametrize("capability", GUESTS)
def test_the_guests_ask_for_what_the_wit_has(capability: str) -> None:
    asked = {
        name for g in GUESTS[capability] for item in inspect(guest(g)).imports for name in item.functions
    }
    # `[method]dir.list` is `list` in the WIT
    short = {"constructor" if "constructor" in name else re.split(r"[].]", name)[-1] for name in asked}
    assert short <= functions(capability)


def test_the_suite_asks_for_all_that_the_wit_has() -> None:
    folder = ROOT / "python/loop_kit/capabilities/fsx"
    asked = "".join(path.read_text() for path in folder.glob("_conform*.py"))
    missing = {name for name in functions("fsx") if not re.search(rf"[.]{name.replace('-', '_')}\b", asked)}
    assert not missing


@pytest.mark.parametrize(
    ("capability", "grant", "key"),
    [
        ("core", {"logs": {}}, "logs"),
        ("core", {"log": 1}, "grant.log"),
        ("core", {"log": ["error", ["x"], 10]}, "grant.log"),
        ("core", {"log": {"level": "loud"}}, "grant.log.level"),
        ("core", {"log": {"levels": "info"}}, "levels"),
        ("core", {"log": {"targets": "site"}}, "grant.log.targets"),
        ("core", {"log": {"targets": [1]}}, "grant.log.targets"),
        ("core", {"log": {"max-record": 0}}, "grant.log.max-record"),
        ("fsx", {"root": {}}, "root"),
        ("fsx", {"roots": []}, "grant.roots"),
        ("fsx", {"roots": {"a": "/"}}, "grant.roots.a"),
        ("fsx", {"roots": {"a": ["/"]}}, "grant.roots.a"),
        ("fsx", {"roots": {"a": {}}}, "grant.roots.a"),
        ("fsx", {"roots": {"a": {"path": "/", "mode": "w"}}}, "grant.roots.a.mode"),
        ("fsx", {"roots": {"a": {"path": "/", "modes": "ro"}}}, "modes"),
        ("fsx", {"roots": {"a": {"path": "/", "links": "make"}}}, "grant.roots.a.links"),
        ("fsx", {"roots": {"a": {"path": "/", "links": "create"}}}, "grant.roots.a.links"),
        ("fsx", {"roots": {"a": {"path": "/", "max-bytes": 1}}}, "grant.roots.a"),
        ("fsx", {"roots": {"a": {"path": "/", "mode": "rw", "max-files": 0}}}, "grant.roots.a.max-files"),
        ("fsx", {"temp": {"path": "tmp"}}, "grant.temp.path: `tmp` is relative"),
        ("fsx", {"temp": {"path": "/no/such"}}, "grant.temp.path"),
        ("fsx", {"temp": {"max-dirs": 0}}, "grant.temp.max-dirs"),
        ("fsx", {"max-streams": 0}, "grant.max-streams"),
        ("fsx", {"roots": {"a": {"path": "."}}}, "grant.roots.a.path: `.` is relative"),
        ("fsx", {"roots": {"a": {"path": "/no/such"}}}, "grant.roots.a.path: `/no/such` cannot be opened"),
        ("fsx", {"max-read": "16MiB"}, "grant.max-read"),
        ("fsx", {"max-read": -1}, "grant.max-read"),
        ("fsx", {"max-entries": 0}, "grant.max-entries"),
    ],
)
def test_what_a_grant_may_not_say_is_named(
    serve: Serving, capability: str, grant: dict[str, Any], key: str
) -> None:
    with pytest.raises((LoadError, ValueError), match=re.escape(key)):
        serve(GUESTS[capability][0], capability, grant)


CONFIGURED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "builtin": lambda config: loop.builtin("fsx", config=config),
    "python": lambda config: Files(config=config),
}


@pytest.mark.parametrize("provider", CONFIGURED)
def test_there_is_nothing_to_configure(provider: str) -> None:
    with pytest.raises((LoadError, ValueError), match="config"), loop.blocking.Host(cache=None) as host:
        host.load(guest("files"), {"loop:fsx": CONFIGURED[provider]({"a": 1})})


def test_a_system_that_cannot_keep_to_a_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "supports_dir_fd", set())
    with pytest.raises(NotImplementedError, match="use `builtin:fsx` here"):
        Files(grant={"roots": {"r": {"path": "/"}}})


MANIFEST = """
[components.site]
path = "site.wasm"
imports."loop:fsx" = { provider = "files", grant = { roots.docs = { path = "." }, max-read = "1MiB", max-entries = 9 } }

[components.plain]
path = "plain.wasm"
imports."loop:core" = { provider = "core", grant.log = { level = "info", targets = ["a"], max-record = "20B" } }

[providers.files]
use = "%s"

[providers.core]
use = "%s"
"""
USES = {
    "builtin": ("builtin:fsx", "builtin:core"),
    "python": ("python:loop_kit.capabilities.fsx:Files", "python:loop_kit.capabilities.core:Core"),
}


@pytest.mark.parametrize("provider", USES)
async def test_a_manifest_names_them(provider: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And they serve every interface of their package."""
    (tmp_path / "loop.toml").write_text(MANIFEST % USES[provider])
    (tmp_path / "site.wasm").write_bytes(guest("streaming"))
    (tmp_path / "plain.wasm").write_bytes(guest("core"))
    before = list(sys.path)
    async with loop.Host(cache=None) as host:
        workspace = Workspace(host, load(tmp_path))
        site, plain = await workspace.load("site"), await workspace.load("plain")
        text, _ = await site.call("stream", "docs", "loop.toml", 0, 100, 1 << 16)
        assert text.decode() == MANIFEST % USES[provider]
        assert await plain.call("count", 8) == 8
        with caplog.at_level(1, "loop_kit.guest"):
            for target in ("a.b", "b"):
                await plain.call("log", "warn", target, "long enough to be cut", [])
        assert [record.getMessage() for record in caplog.records] == ["long enough to be"]
    assert sys.path == before  # code that no manifest trusts must not import from a workspace


def test_what_is_not_used_is_not_imported() -> None:
    code = "import sys, loop_kit; loop_kit.Host, loop_kit.builtin; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not [name for name in loaded.split() if name.startswith("loop_kit.capabilities")]
