"""`loop conform`: each SDK passes the same run, and a provider with a fault does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loop_kit import conform
from loop_kit.errors import PeerError
from tests.checkout import ROOT
from tests.cli import LOOP, loop

PYTHON = (sys.executable, "-m", "loop_kit.conform.provider")
NODE = ("node", str(ROOT / "sdk/node/test/conform-provider.js"))


@pytest.fixture(scope="session")
def rust() -> tuple[str, ...]:
    """The provider in Rust, which `make test` has built already."""
    build = (
        "cargo",
        "build",
        "--release",
        "--locked",
        "--message-format=json",
        "-p",
        "loop-provider-conform",
    )
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    said = (json.loads(line) for line in done.stdout.splitlines())
    programs = [message["executable"] for message in said if message.get("executable")]
    assert len(programs) == 1
    return tuple(programs)


def run(address: str, *command: str, patience: float = 60) -> dict[str, Any]:
    """What a run says, and its exit code, as JSON."""
    arguments = (LOOP, "conform", address, "--json", "--patience", str(patience), "--", *command)
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout, done.stderr
    return {**json.loads(done.stdout), "code": done.returncode}


def problems(report: dict[str, Any]) -> dict[str, str]:
    return {f"{one['group']}: {one['name']}": one["problem"] for one in report["cases"] if one["problem"]}


@pytest.mark.timeout(900)  # the first to run builds the provider in Rust
@pytest.mark.parametrize("transport", ["unix", "tcp", "stdio"])
@pytest.mark.parametrize("language", ["python", "node", "rust"])
def test_every_sdk_passes(
    language: str, transport: str, rust: tuple[str, ...], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    command = {"python": PYTHON, "node": NODE, "rust": rust}[language]
    address = {"unix": f"unix:{tmp_path / 's'}", "tcp": "tcp://127.0.0.1:0", "stdio": "stdio:"}[transport]
    report = run(address, *command)
    assert problems(report) == {}
    assert (report["code"], report["passed"]) == (0, len(conform.names()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        ("FlipsABit", {"values: u16 at its bounds": "expected 32768, got 33024"}),
        ("LosesTheSign", {"values: f64, with zeros, infinities and NaN": "expected '-0.0', got '0.0'"}),
        (
            "SwapsErrors",
            {"errors: the error of a result, with its payload": "{'too-long': 11}, got 'missing'"},
        ),
        ("HidesWhy", {"errors: a failure, with its message and fields": "told `it was Tuesday`"}),
        ("StopsShort", {"streams: a stream of numbers comes whole": "count(100000)"}),
        ("KeepsResources", {"resources: what is dropped is dropped at the provider": "not through within"}),
        (
            "ReadsAhead",
            {"back-pressure: a provider that reads slowly holds its caller": "at most 4194304 may be"},
        ),
        ("TakesAnyGrant", {"links: a grant that the provider refuses": "expected NotGranted"}),
        ("NeverReloads", {"reload: new calls are served by the new code": "cannot reload"}),
        (
            "AsksForNoToken",
            {"handshake: a token that is asked for must be shown": "expected Unauthenticated"},
        ),
        (
            "GoesOnWhenCancelled",
            {"cancel: a call that is cancelled ends at the provider": "not through within"},
        ),
    ],
)
def test_a_fault_is_found(fault: str, failed: dict[str, str]) -> None:
    report = run("tcp://127.0.0.1:0", sys.executable, "-m", "tests.conform.faulty", fault, patience=3)
    found = problems(report)
    for name, why in failed.items():
        assert why in found.pop(name)
    # what belongs to the same thing may fail with it, and nothing else
    groups = {name.partition(":")[0] for name in failed} | {"deadline"}
    assert {name for name in found if name.partition(":")[0] not in groups} == set()
    assert report["code"] == 1


def test_people_are_told_case_by_case() -> None:
    done = loop("conform", "stdio:", "--only", "futures", "--only", "links", "--", *PYTHON)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("futures\n  ok a future goes there and back ")
    assert f"{len(conform.names(frozenset({'futures', 'links'})))} of " in done.stdout.splitlines()[-1]
    done = loop("conform", "tcp://127.0.0.1:0", "--only", "values", "--", sys.executable, "-m", "tests.conform.faulty",
                "FlipsABit", cwd=ROOT)  # fmt: skip
    assert done.returncode == 1
    assert "failed u16 at its bounds" in done.stdout
    assert "echo-u16: expected 32768, got 33024" in done.stdout


def test_the_cases_and_the_wit_can_be_had_without_a_provider() -> None:
    listed = loop("conform", "--list")
    assert listed.returncode == 0
    for group, name in conform.names():
        assert f"\n{group}\n" in f"\n{listed.stdout}"
        assert f"\n  {name}\n" in listed.stdout
    assert json.loads(loop("conform", "--list", "--json", "--only", "cancel").stdout) == [
        {"group": "cancel", "name": "a call that is cancelled ends at the provider"}
    ]
    assert (
        loop("conform", "--print-wit").stdout.rstrip() == (conform.WIT / "conform.wit").read_text().rstrip()
    )


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((), 2, "say where the provider is"),
        (("stdio:",), 1, "stdio: needs the program to start"),
        (("ftp://x",), 1, "expected unix:PATH, tcp://HOST:PORT or stdio:"),
        (("nats://127.0.0.1:4222/x",), 1, "reaches unix:, tcp: and stdio: alone"),
        (("unix:/nowhere/s",), 1, "unix:/nowhere/s: No such file or directory"),
        (("--only", "colour", "--list"), 2, "there is no group 'colour'; there are values, "),
        (("unix:s", "--", "/no/such/program"), 4, "cannot start '/no/such/program'"),
        (("unix:s", "--", "false"), 4, "exited with 1 before it was ready"),
    ],
)
def test_what_cannot_be_driven_is_refused(
    arguments: tuple[str, ...], code: int, text: str, tmp_path: Path
) -> None:
    done = loop("conform", *arguments, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert text in done.stderr


def test_a_provider_of_something_else_is_told_apart() -> None:
    command = (sys.executable, "-m", "loop_kit.serve", "tests.sessions.kv.store:Store")
    done = loop("conform", "stdio:", "--", *command, cwd=ROOT)
    assert done.returncode == 1
    assert "loop:conform/values@0.1.0 is not offered" in done.stderr


async def test_a_provider_that_somebody_else_has_started(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 's'}"
    ready, say = os.pipe()
    with subprocess.Popen(
        (*PYTHON, "--on", address), pass_fds=(say,), env={**os.environ, "LOOP_PROVIDER_READY": str(say)}
    ) as process:
        os.close(say)
        with os.fdopen(ready) as said:
            assert said.readline().strip() == address
        async with conform.Target(address) as target:
            outcomes = await conform.run(target, groups=frozenset({"links", "handshake"}))
        assert [outcome.problem for outcome in outcomes if outcome.problem] == []
        assert process.poll() is None
        process.terminate()
    with pytest.raises(PeerError, match="No such file"):
        async with conform.Target(address) as target:
            await conform.run(target)
