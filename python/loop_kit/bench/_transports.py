"""`docs/transports.md`: what there is to choose from, and what it costs, of one run's data."""

from __future__ import annotations

from loop_kit.bench._results import Results, Run
from loop_kit.bench._segments import SEGMENTS
from loop_kit.bench._text import LABELS, amount, duration, rate
from loop_kit.bench._work import WORKLOADS

__all__ = ["transports"]

# What each is for and what it asks for; the order of the table. Figures come from the run alone.
_OPTIONS = {
    "inproc": (
        "the default",
        "nothing is sent: the provider runs in the host's process, and shares its fate",
    ),
    "stdio": (
        "sidecars while they are developed; any language",
        "pipes, so no port and no file; one host a process",
    ),
    "unix": ("sidecars", "the file's owner alone may connect, as the kernel tells; one machine"),
    "pipe": ("sidecars on Windows", "as unix"),
    "shm": ("large values on one machine", "memory that both ends map, over unix"),
    "tcp": ("other machines", "TLS with certificates of both, or a token, where others could connect"),
    "quic": (
        "other machines, many streams, changing networks",
        "always TLS; a lost packet holds up one call alone",
    ),
    "http2": ("what must pass proxies, and be read by `curl`", "a stream a call"),
    "ws": ("browsers, and what must pass proxies", "messages over HTTP/1.1"),
    "nats": (
        "many machines that find each other by a subject",
        "a server in between, which every byte passes",
    ),
}
_INTRODUCTION = """\
# Transports

A provider is moved from one place to another by one line of [`loop.toml`](manifest.md); its code stays as it is. What
a place costs is measured by `loop bench`, on your machine as well: [benchmarks](bench.md) says how.

<!-- Written by `loop bench transports`; edit python/loop_kit/bench/_transports.py. -->
"""


def transports(results: Results) -> str:
    """The page, in Markdown."""
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    parts = [
        _INTRODUCTION,
        f"The figures are of {results.date[:10]}, {machine['cores']} cores of {machine['cpu']}, {machine['system']},\n"
        f"{versions}. Compare columns and rows with each other, not with other machines.\n",
        "## What to choose\n",
        _choices(results),
        "The figures are those of a sidecar in Python, or of a provider in Python in the host's process. A transport\n"
        "without figures was not measured.\n",
        "## All measurements\n",
        "Half of the calls took at most so long; several in flight: calls a second.\n",
        _matrix(results),
        "## Where the time of a small call goes\n",
        "Microseconds of a usual call, one at a time.\n",
        _segments(results),
    ]
    return "\n".join(parts)


def _choices(results: Results) -> str:
    found = {run.key: run for run in results.runs}
    columns = ("echo small", "echo small, 32 in flight", "echo 1 MiB", "stream 16 MiB")
    head = ("Transport", "For", "What to know", "small call", "32 in flight", "1 MiB and back", "stream")
    rows = []
    for transport, (purpose, note) in _OPTIONS.items():
        place = f"{'python' if transport == 'inproc' else 'sidecar'} {transport} python"
        runs = [found.get((column, place)) for column in columns]
        rows.append((f"`{transport}`", purpose, note, *(_cell(run) for run in runs)))
    return _table(head, rows)


def _cell(run: Run | None) -> str:
    if run is None:
        return ""
    if run.workload.startswith("stream"):
        return amount(run.throughput)
    return rate(run.rate) if run.in_flight > 1 else duration(run.p50_us or 0)


def _matrix(results: Results) -> str:
    found = {run.key: run for run in results.runs}
    works = [work.name for work in WORKLOADS if any(run.workload == work.name for run in results.runs)]
    places = list(dict.fromkeys(run.place for run in results.runs))
    rows = [(place, *(_cell(found.get((work, place))) for work in works)) for place in places]
    return _table(("Placement, transport, language", *works), rows)


def _segments(results: Results) -> str:
    rows = [
        (
            run.place,
            *(f"{run.segments_us[name]:.1f}" for name in SEGMENTS),
            f"{sum(run.segments_us.values()):.1f}",
        )
        for run in results.runs
        if run.workload == "echo small" and run.segments_us
    ]
    names = (LABELS.get(name, name) for name in SEGMENTS)
    return _table(("Placement, transport, language", *names, "together"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
