"""`loop conform` of capabilities, and the table of it in the docs."""

import json
import os
from collections import Counter

import pytest

from loop_kit.cli import main
from loop_kit.conform import PLACEMENTS, suites
from tests.checkout import ROOT

PAGE = ROOT / "docs/testing.md"


def matrix() -> str:
    """Interface × provider × placement, with the number of cases; `test_conform` runs each of them."""
    lines = [
        f"| Interface | Provider | {' | '.join(PLACEMENTS)} |",
        f"| --- | --- |{' ---: |' * len(PLACEMENTS)}",
    ]
    for suite in suites():
        for provided in suite.providers:
            label = f" ({provided.label})" if provided.label else ""
            name = f"`{provided.provider}`{label}"
            counts = Counter(case.interface for case in suite.of(provided))
            for interface, count in counts.items():
                cells = " | ".join(str(count) if p in provided.placements else "" for p in PLACEMENTS)
                lines.append(f"| `{suite.capability}/{interface}` | {name} | {cells} |")
    return "\n".join(lines)


def test_the_docs_have_every_provider_in_every_placement() -> None:
    head, mark, rest = PAGE.read_text("utf-8").partition("<!-- matrix -->\n")
    assert mark
    # the table is what stands there until an empty line
    tail = rest[rest.index("\n\n") :] if rest.startswith("|") else f"\n{rest}"
    wanted = f"{head}{mark}{matrix()}{tail}"
    if os.environ.get("LOOP_WRITE_MATRIX"):
        PAGE.write_text(wanted, "utf-8")
    assert PAGE.read_text("utf-8") == wanted, "LOOP_WRITE_MATRIX=1 writes it"


def test_conform_runs_a_suite_and_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "builtin:core", "--placement", "in-process", "--placement", "remote"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["interface", "provider", "in-process", "remote"]
    rows = {line.split()[0]: line.split()[2:] for line in lines[1:]}
    assert {"loop:core/log", "loop:core/clock", "loop:core/cancel"} <= rows.keys()
    assert all(counts[0] == counts[1] != "0" for counts in rows.values())


def test_a_provider_that_does_otherwise_fails(capsys: pytest.CaptureFixture[str]) -> None:
    provider = "python:tests.capabilities.faulty:Constant"
    arguments = ["conform", provider, "--capability", "loop:core", "--placement", "in-process", "--json"]
    assert main(arguments) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] is False
    failed = {
        row["interface"]: [case["name"] for case in row["placements"]["in-process"]["failed"]]
        for row in told["rows"]
    }
    assert failed["random"]
    assert failed["cancel"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["python:acme:Files"], "say which capability python:acme:Files is of"),
        (["builtin:core", "--placement", "moon"], "there is no placement 'moon'"),
        (["--matrix", "builtin:core"], "name no provider"),
        (["unix:/x", "--capability", "loop:core"], "go with a PROVIDER"),
    ],
)
def test_what_makes_no_sense_is_said(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["conform", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_cases_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "--matrix", "--list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {suite.capability for suite in suites()} == set(told)
    assert "cancel: a token cancels what descends from it, and nothing else" in told["loop:core"]
