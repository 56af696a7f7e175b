"""`loop bench`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong, warn

if TYPE_CHECKING:
    from loop_kit.bench import Results

_FILE = click.Path(dir_okay=False, path_type=Path)
_THERE = click.Path(exists=True, dir_okay=False, path_type=Path)
# A change of less is as likely noise.
_NOISE = 0.1


@click.group(
    invoke_without_command=True,
    epilog=examples(
        ("loop bench --quick", "every placement and transport, in less than two minutes"),
        ("loop bench --save now.json --html now.html", "in full, with a report"),
        ("loop bench --only sidecar --only 'echo small'", "what holds both words"),
        ("loop bench --remote tcp://127.0.0.1:7000", "a provider that is served elsewhere"),
        ("loop bench compare before.json now.json", "what changed"),
    ),
)
@click.option("--quick", is_flag=True, help="Measure for a shorter time, and fewer places.")
@click.option("--only", multiple=True, metavar="WORD", help="Only what has WORD in its place and workload.")
@click.option("--save", type=_FILE, metavar="FILE", help="Write the results there, as JSON.")
@click.option("--html", "report", type=_FILE, metavar="FILE", help="Write a report with plots there.")
@click.option("--remote", metavar="URL", help="Measure the provider that is served at URL, and nothing else.")
@click.option("--token-file", type=_THERE, metavar="FILE", help="The token that it asks for.")
@click.option("--ca", type=_THERE, metavar="FILE", help="Authorities that its certificate must be of.")
@click.option("--cert", type=_THERE, metavar="FILE", help="Our certificate, for mutual TLS.")
@click.option("--key", type=_THERE, metavar="FILE", help="The key of our certificate.")
@click.option("--budget", metavar="TIME", help="Count calls that take longer, such as 5ms.")
@json_option
@click.pass_context
def bench(
    ctx: click.Context,
    quick: bool,
    only: tuple[str, ...],
    save: Path | None,
    report: Path | None,
    remote: str | None,
    token_file: Path | None,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    budget: str | None,
    as_json: bool,
) -> None:
    """Measure what calls cost in each placement, over each transport.

    The same components call the same provider in the host's process, as a sidecar and as somebody else's, in each
    language at hand, and tell where the time went. A program `loop-bench-wrpc` on the PATH, which serves the same in
    plain wRPC, is measured as well. The provider for --remote is served by `python -m loop_kit.serve
    loop_kit.bench.providers:Bench --on ADDRESS`.
    """
    if ctx.invoked_subcommand is not None:
        return
    from loop_kit._units import parse_duration
    from loop_kit.bench import Options, Remote, html, run

    if remote is None and (token_file or ca or cert or key):
        raise click.UsageError("--token-file, --ca, --cert and --key are for --remote")
    if (cert is None) != (key is None):
        raise click.UsageError("--cert and --key go together")
    if remote is not None:
        _check_address(remote)
    # said now, and not when all is measured
    for file in filter(None, (save, report)):
        if not file.parent.is_dir():
            raise click.UsageError(f"{file}: there is no folder {str(file.parent)!r}")
    if budget is not None:
        try:
            parse_duration(budget)
        except ValueError as e:
            raise click.UsageError(f"--budget: {e}") from None
    where = None if remote is None else Remote(remote, token_file, ca, cert, key)
    results = asyncio.run(run(Options(quick, only, where, budget), _progress()))
    if save is not None:
        results.write(save)
    if report is not None:
        report.write_text(html(results))
    if as_json:
        print_json(results.json())
    else:
        _print(results)
    if not results.runs:
        if not results.skipped:
            raise click.UsageError("there is nothing with all these words: " + " ".join(only))
        raise SystemExit(1)


@bench.command(epilog=examples(("loop bench compare before.json now.json", "runs that --save wrote")))
@click.argument("before", type=_THERE)
@click.argument("after", type=_THERE)
@json_option
def compare(before: Path, after: Path, as_json: bool) -> None:
    """Show what changed between two runs.

    Times are those that half of the calls took at most; where several were in flight, those between two answers.
    """
    from loop_kit.bench import compare as changes
    from loop_kit.bench._compare import differences
    from loop_kit.bench._text import duration

    old, new = _read(before), _read(after)
    if as_json:
        rows = [
            {
                "workload": c.workload,
                "place": c.place,
                "before_us": c.before,
                "after_us": c.after,
                "ratio": c.ratio,
            }
            for c in changes(old, new)
        ]
        print_json({"differences": differences(old, new), "changes": rows})
        return
    for line in differences(old, new):
        click.echo(warn(f"not the same {line}"))
    shown = []
    for change in changes(old, new):
        times = [duration(us) if us is not None else "-" for us in (change.before, change.after)]
        shown.append([change.workload, change.place, *times, _verdict(change.ratio)])
    _table(["workload", "place", "before", "after", "after / before"], shown)


@bench.command(epilog=examples(("loop bench report now.json --html now.html", "a page with plots")))
@click.argument("results", type=_THERE)
@click.option("--html", "report", type=_FILE, metavar="FILE", help="Write a report with plots there.")
def report(results: Path, report: Path | None) -> None:
    """Show a run that was saved."""
    from loop_kit.bench import html

    read = _read(results)
    if report is not None:
        report.write_text(html(read))
    _print(read)


@bench.command(
    epilog=examples(("loop bench transports now.json > docs/transports.md", "as this site has it"))
)
@click.argument("results", type=_THERE)
def transports(results: Path) -> None:
    """Print the page that compares transports, in Markdown."""
    from loop_kit.bench import transports as page

    click.echo(page(_read(results)), nl=False)


def _check_address(text: str) -> None:
    from loop_kit._address import EXAMPLES, Address

    try:
        found = Address.parse(text)
    except ValueError:
        found = None
    if found is None or found.scheme == "stdio" or (found.host and not found.port):
        raise click.UsageError(f"--remote: expected an address such as {EXAMPLES[1]}, got {text!r}")


def _read(path: Path) -> Results:
    from loop_kit.bench import Results
    from loop_kit.bench._results import BadResults

    try:
        return Results.read(path)
    except BadResults as error:
        raise click.UsageError(f"{error}; `loop bench --save FILE` writes them") from None


def _progress() -> Callable[[int, int, str], None]:
    """One line that changes on a terminal, else a line for each place."""
    last = ""

    def show(done: int, total: int, what: str) -> None:
        nonlocal last
        place = what.partition(":")[0]
        if sys.stderr.isatty():
            line = "" if done == total else f"{done + 1:3}/{total}  {what}"
            click.echo(f"\r\x1b[K{line}", nl=False, err=True)
        elif place != last and done < total:
            click.echo(f"{done + 1:3}/{total}  {place}", err=True)
        last = place

    return show


def _print(results: Results) -> None:
    from loop_kit.bench import SEGMENTS, WORKLOADS
    from loop_kit.bench._text import LABELS, duration, rate

    places = list(dict.fromkeys(run.place for run in results.runs))
    for title, several in (("How long a call takes: half of them at most", False), ("Calls a second", True)):
        runs = [run for run in results.runs if (run.in_flight > 1) == several]
        works = [work.name for work in WORKLOADS if any(run.workload == work.name for run in runs)]
        cells = {run.key: rate(run.rate) if several else duration(run.p50_us or 0) for run in runs}
        rows = [
            [place, *(cells.get((work, place), "") for work in works)]
            for place in places
            if any((work, place) in cells for work in works)
        ]
        if rows:
            click.echo(f"\n{strong(title)}")
            _table(["", *(work.removeprefix("echo small, ").removeprefix("echo ") for work in works)], rows)
    divided = [run for run in results.runs if run.segments_us and run.workload == "echo small"]
    if divided:
        click.echo(f"\n{strong('Where the time of a small call goes')} {dim('(microseconds)')}")
        names = [LABELS.get(name, name) for name in SEGMENTS]
        parts = [run.segments_us or {} for run in divided]
        _table(
            ["", *names],
            [
                [run.place, *(f"{of[n]:.1f}" for n in SEGMENTS)]
                for run, of in zip(divided, parts, strict=True)
            ],
        )
    over = [run for run in results.runs if run.over_budget]
    if over:
        click.echo(f"\n{strong('Calls over the budget')}")
        _table(["", "workload", "over"], [[run.place, run.workload, str(run.over_budget)] for run in over])
    for place, why in results.skipped:
        click.echo(warn(f"\nnot measured: {place}: {why}"))


def _verdict(ratio: float | None) -> str:
    if ratio is None:
        return ""
    text = f"{ratio:.2f}"
    return good(text) if ratio < 1 - _NOISE else warn(text) if ratio > 1 + _NOISE else text


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    lines = [head, *rows]
    widths = [max(len(click.unstyle(line[i])) for line in lines) for i in range(len(head))]
    for number, line in enumerate(lines):
        cells = []
        for i, (cell, width) in enumerate(zip(line, widths, strict=True)):
            space = " " * (width - len(click.unstyle(cell)))
            cells.append(cell + space if i == 0 or not _is_number(lines, i) else space + cell)
        text = "  ".join(cells).rstrip()
        click.echo(dim(text) if number == 0 else text)


def _is_number(lines: Sequence[Sequence[str]], column: int) -> bool:
    cells = [click.unstyle(line[column]) for line in lines[1:] if line[column]]
    return all(cell[:1].isdigit() or cell == "-" for cell in cells)
