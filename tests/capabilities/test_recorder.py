"""The component `process/recorder`: what it records, holds back, and does not run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.placements.component import Settings
from tests.capabilities.serving import guest

GRANT = {
    "programs": {
        "sh": {"path": "/bin/sh", "args": [["-c", "{text}"]]},
        "echo": {"path": "/bin/echo", "args": [["{word}"]]},
    }
}


def command(program: str, *args: str) -> dict[str, Any]:
    return {"program": program, "args": list(args), "env": [], "cwd": None, "timeout": None}


def recorded(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, str]]]:
    return [
        (record.message.partition(" program=")[0], dict(record.fields))  # type: ignore[attr-defined]
        for record in caplog.records
        if record.name == "loop_kit.guest.loop.process"
    ]


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    """Runs commands in a component that is linked to a recorder with this config."""

    async def ask(config: dict[str, Any], *commands: dict[str, Any]) -> list[Any]:
        below = {"loop:process": loop.builtin("process", **GRANT), "loop:core": loop.builtin("core")}
        below["loop:provider/settings"] = Settings(config)  # type: ignore[assignment]
        answers: list[Any] = []
        async with loop.Host(cache=tmp_path) as host:
            recorder = await host.load(loop.shipped("process/recorder"), imports=below)
            app = await host.load(guest("process"), imports={"loop:process": recorder})
            answers.append(await app.call("programs"))
            for each in commands:
                try:
                    answers.append(await app.call("run", each, b""))
                except loop.Err as error:
                    answers.append(error.value)
        return answers

    return ask


async def test_what_runs_is_recorded_with_its_end(ask: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    names, ran, refused = await ask({}, command("sh", "-c", "echo hi; exit 3"), command("echo", "-n"))
    assert names == ["echo", "sh"]
    assert (ran.stdout, ran.status.value) == (b"hi\n", 3)
    assert refused.case == "not-permitted"
    (first, said), (second, why) = recorded(caplog)
    assert (first, said["program"], said["args"]) == ("ran", "sh", '["-c", "echo hi; exit 3"]')
    assert said["answer"] == "Status::Exited(3), 3 bytes of output, 0 of errors"
    assert (second, why["program"]) == ("ran", "echo")
    assert "`grant.programs.echo.args`" in why["answer"]


async def test_a_dry_run_runs_nothing(ask: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    _, output = await ask({"dry": True}, command("sh", "-c", "echo hi"))
    assert (output.status.case, output.status.value, output.stdout) == ("exited", 0, b"")
    assert [message for message, _ in recorded(caplog)] == ["would run"]


async def test_only_some_programs_pass(ask: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    names, held, passed = await ask({"programs": ["echo"]}, command("sh", "-c", ""), command("echo", "a"))
    assert names == ["echo"]
    assert (held.case, "`config.programs`" in held.value) == ("not-permitted", True)
    assert passed.stdout == b"a\n"
    assert [message for message, _ in recorded(caplog)] == ["not passed on", "ran"]


async def test_a_config_that_it_does_not_know_is_refused(ask: Any) -> None:
    with pytest.raises(loop.LoopError, match="unknown field `dyr`"):
        await ask({"dyr": True})
