"""Each use of a grant can be told: `Host.load(audit=…)`, `Workspace(audit=True)` and `loop run --audit`."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.capabilities.fsx import Files
from loop_kit.cli import main
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests.capabilities.serving import guest

Told = list[tuple[str, str, str]]

LIST = "[method]dir.list"


async def used(provider: Any, folder: Path) -> Told:
    """What is told where a guest lists a directory and reads a file."""
    told: Told = []
    (folder / "f").write_text("x")
    async with loop.Host(cache=None) as host:
        app = await host.load(guest("files"), {"loop:fsx": provider}, audit=lambda *call: told.append(call))
        assert await app.call("read", "r", "f") == b"x"
        await app.call("list", "r", ".")
    return told


async def test_calls_are_told_with_their_arguments(tmp_path: Path) -> None:
    grant = {"r": {"path": str(tmp_path)}}
    told = await used(loop.builtin("fsx", roots=grant), tmp_path)
    files = {interface for interface, _, _ in told}
    assert files == {"loop:fsx/files@0.1.0"}
    calls = [(function, arguments) for _, function, arguments in told]
    assert ("root", '"r"') in calls
    assert ("[method]dir.read", '<a resource>, "f"') in calls
    assert (LIST, '<a resource>, "."') in calls


def test_a_blocking_host_tells_the_same(tmp_path: Path) -> None:
    told: Told = []
    (tmp_path / "f").write_text("x")
    with loop.blocking.Host(cache=None) as host:
        provider = loop.builtin("fsx", roots={"r": {"path": str(tmp_path)}})
        app = host.load(guest("files"), {"loop:fsx": provider}, audit=lambda *call: told.append(call))
        assert app.call("read", "r", "f") == b"x"
    assert told[-1] == ("loop:fsx/files@0.1.0", "[method]dir.read", '<a resource>, "f"')


async def test_those_of_a_provider_in_python_too(tmp_path: Path) -> None:
    told = await used(Files(grant={"roots": {"r": {"path": str(tmp_path)}}}), tmp_path)
    arguments = {function: arguments for _, function, arguments in told}
    assert arguments["root"] == "str 'r'"
    assert arguments[LIST].endswith("str '.'")


async def test_what_is_refused_is_told_as_well(tmp_path: Path) -> None:
    told: Told = []
    async with loop.Host(cache=None) as host:
        provider = loop.builtin("fsx", roots={"r": {"path": str(tmp_path)}})
        app = await host.load(guest("files"), {"loop:fsx": provider}, audit=lambda *call: told.append(call))
        with pytest.raises(loop.Err):
            await app.call("read", "r", "../secret")
    assert told[-1][1:] == ("[method]dir.read", '<a resource>, "../secret"')


async def test_what_audits_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call goes on; whoever audits is told of its own mistake."""
    mistakes: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", mistakes.append)

    def fails(*_: str) -> None:
        raise ZeroDivisionError("in the audit")

    (tmp_path / "f").write_text("x")
    async with loop.Host(cache=None) as host:
        provider = loop.builtin("fsx", roots={"r": {"path": str(tmp_path)}})
        app = await host.load(guest("files"), {"loop:fsx": provider}, audit=fails)
        assert await app.call("read", "r", "f") == b"x"
    assert {type(mistake.exc_value) for mistake in mistakes} == {ZeroDivisionError}


MANIFEST = """
[components.site]
path = "site.wasm"
imports."loop:fsx" = { provider = "files", grant.roots.r = { path = "." } }

[providers.files]
use = "%s"
"""


@pytest.mark.parametrize(
    ("use", "shown"), [("builtin:fsx", '"r"'), ("sidecar:builtin:fsx", "…")], ids=["here", "elsewhere"]
)
async def test_a_workspace_logs_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, use: str, shown: str
) -> None:
    (tmp_path / "loop.toml").write_text(MANIFEST % use)
    (tmp_path / "site.wasm").write_bytes(guest("files"))
    for audit in (False, True):
        caplog.clear()
        with caplog.at_level(logging.INFO, "loop_kit.audit"):
            async with (
                loop.Host(cache=None) as host,
                Workspace(host, load(tmp_path), audit=audit) as workspace,
            ):
                site = await workspace.load("site")
                assert b"components.site" in bytes(await site.call("read", "r", "loop.toml"))
        said = [record.getMessage() for record in caplog.records if record.name == "loop_kit.audit"]
        assert bool(said) == audit
    assert f"site uses loop:fsx/files@0.1.0#root({shown})" in said
    record = next(r for r in caplog.records if r.name == "loop_kit.audit")
    assert (vars(record)["component"], vars(record)["function"]) == ("site", "root")


def test_a_command_has_no_grants_to_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.wasm").write_bytes(b"")
    assert main(["run", "--audit", str(tmp_path / "a.wasm")]) == 2
    assert "--audit is of a workspace" in capsys.readouterr().err
