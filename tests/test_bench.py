"""`loop bench`: what it measures, prints, writes and compares."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from loop_kit.bench import WORKLOADS, Results, compare, html, places, transports
from loop_kit.cli._app import app
from tests.checkout import ROOT
from tests.cli import loop

DATA = ROOT / "docs" / "transports.json"
ONLY = ("--quick", "--only", "sidecar unix python", "--only", "echo")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "now.json"
    done = loop("bench", *ONLY, "--save", str(path), "--html", str(path.with_suffix(".html")))
    assert done.returncode == 0, done.stderr
    for text in ("How long a call takes", "Calls a second", "Where the time of a small call goes"):
        assert text in done.stdout
    assert re.fullmatch(r" *1/\d+  sidecar unix python\n", done.stderr), "progress, a line a place"
    return path


def test_each_run_says_what_it_depends_on(saved: Path) -> None:
    said = json.loads(saved.read_text())
    assert {"cpu", "cores", "system", "load"} <= said["machine"].keys()
    expected = {work.name for work in WORKLOADS if work.name.startswith("echo ")}
    assert {run["workload"] for run in said["runs"]} == expected
    for run in said["runs"]:
        assert (run["placement"], run["transport"], run["language"]) == ("sidecar", "unix", "python")
        assert run["topology"] == "two processes, one machine"
        assert {"loop-kit", "python"} <= run["versions"].keys()
        assert run["calls"] > 0
        assert run["rate"] > 0
    assert said["skipped"] == []


def test_segments_are_what_the_call_took(saved: Path) -> None:
    alone = [run for run in Results.read(saved).runs if run.in_flight == 1]
    assert alone
    for run in alone:
        parts = run.segments_us
        assert parts is not None
        assert min(parts.values()) >= 0
        for name in ("guest", "lift_lower", "encode", "write", "provider", "decode"):
            assert parts[name] > 0, (run.workload, name)


def test_a_program_of_the_official_crates_is_measured_where_it_is_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `make test` builds it beside this one
    at_hand = Path(os.environ["WRPC_KV"]).parent
    assert (at_hand / "loop-bench-wrpc").is_file()
    path = tmp_path / "plain.json"
    only = ("--quick", "--only", "wrpc", "--only", "small")
    monkeypatch.setenv("PATH", f"{at_hand}:{os.environ['PATH']}")
    done = loop("bench", *only, "--save", str(path))
    assert done.returncode == 0, done.stderr
    (run,) = (run for run in Results.read(path).runs if run.in_flight == 1)
    assert (run.workload, run.placement, run.transport) == ("echo small", "sidecar", "unix")
    assert run.segments_us is not None
    # it does not tell how long it took
    assert run.segments_us["provider"] == 0 < run.segments_us["write"]


def test_results_are_read_as_they_were_written(saved: Path, tmp_path: Path) -> None:
    results = Results.read(saved)
    results.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == saved.read_text()


def test_two_runs_are_compared(saved: Path, tmp_path: Path) -> None:
    twice: dict[str, Any] = json.loads(saved.read_text())
    for run in twice["runs"]:
        run["rate"] /= 2
        if run["p50_us"] is not None:
            run["p50_us"] *= 2
    gone = twice["runs"].pop()
    twice["machine"]["cores"] = 99
    after = tmp_path / "after.json"
    after.write_text(json.dumps(twice))
    changes = compare(Results.read(saved), Results.read(after))
    missing = [change for change in changes if change.after is None]
    assert [change.workload for change in missing] == [gone["workload"]]
    assert {round(change.ratio, 3) for change in changes if change.ratio is not None} == {2.0}
    shown = loop("bench", "compare", str(saved), str(after))
    assert shown.returncode == 0
    assert re.search(r"^echo small +sidecar unix python .* 2\.00$", shown.stdout, re.MULTILINE)
    assert "not the same machine cores" in shown.stdout
    rows = json.loads(loop("bench", "compare", str(saved), str(after), "--json").stdout)
    assert rows["changes"][0]["ratio"] == pytest.approx(2)


def test_the_report_needs_nothing_else(saved: Path) -> None:
    page = saved.with_suffix(".html").read_text()
    assert page == html(Results.read(saved))
    assert not re.search(r"(src|href)=|url\(|@import|<script", page)
    assert page.count("<svg") >= 4
    assert "nan" not in page


def test_what_is_no_file_of_results_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    for text in ("", "[]", "{}", '{"benchmark": "loop bench", "format": 0}'):
        bad.write_text(text)
        done = CliRunner().invoke(app, ["bench", "report", str(bad)])
        assert done.exit_code == 2, text
        assert "bad.json: not results of" in done.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--token-file", str(DATA)], "are for --remote"),
        (["--remote", "stdio:"], "expected an address such as tcp://"),
        (["--remote", "tcp://here"], "expected an address such as tcp://"),
        (["--quick", "--only", "nothing of the kind"], "there is nothing with all these words"),
        (["--quick", "--save", "no/such/now.json"], "there is no folder 'no/such'"),
        (["--quick", "--budget", "5 minutes"], "--budget: "),
    ],
)
def test_a_wrong_command_line_is_told(args: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["bench", *args])
    assert done.exit_code == 2
    assert message in done.output


def test_where_nobody_answers_nothing_is_measured_and_it_is_said() -> None:
    done = loop("bench", "--quick", "--remote", "tcp://127.0.0.1:9", "--only", "echo small", "--json")
    assert done.returncode == 1
    ((place, why),) = json.loads(done.stdout)["skipped"]
    assert place.startswith("remote tcp")
    assert "127.0.0.1:9" in why


def test_quick_has_every_placement_and_transport() -> None:
    def kinds(quick: bool) -> set[tuple[str, str]]:
        return {
            (place.placement, place.transport) for place in places(quick=quick) if place.placement != "remote"
        }

    assert kinds(quick=True) == kinds(quick=False)


def test_the_page_of_transports_is_made_of_its_data() -> None:
    page = (ROOT / "docs" / "transports.md").read_text()
    assert page == transports(Results.read(DATA)), "run `loop bench transports docs/transports.json`"
    assert CliRunner().invoke(app, ["bench", "transports", str(DATA)]).output == page


def test_guests_are_what_their_sources_make() -> None:
    from tools.bench_guests import stale

    assert stale() == []
