"""The report: one page with tables and plots that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from math import ceil, floor, log10

from loop_kit.bench._results import Results, Run
from loop_kit.bench._segments import SEGMENTS
from loop_kit.bench._text import LABELS, amount, duration, figure, rate
from loop_kit.bench._work import WORKLOADS

__all__ = ["html"]

# Told apart by those who see colours differently, too (Okabe and Ito).
_COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#b8a800", "#7f7f7f", "#8c564b")
# Where there are more lines than colours.
_DASHES = (("solid", ""), ("dashed", "7 4"), ("dotted", "2 3"))
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --text: #1b1b1b; --back: #fff; --dim: #666 }
@media (prefers-color-scheme: dark) { :root { --text: #eee; --back: #161616; --dim: #aaa } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 2rem auto;
  max-width: 68rem; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.5rem }
p, figcaption { color: var(--dim) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left }
figure { margin: 1rem 0 } svg { width: 100%; height: auto } svg text { font-size: 12px; fill: currentColor }
.grid { stroke: var(--line) } .legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: 13px }
.legend i { display: inline-block; width: 1.6em; margin-right: .4em; vertical-align: middle }
"""
_WIDTH = 960


def html(results: Results) -> str:
    """The report of a run, as a page of its own."""
    machine = results.machine
    about = [
        results.date,
        f"{machine['cores']} cores of {machine['cpu']}",
        str(machine["system"]),
        f"load {machine['load']} at the end",
        *(f"{name} {version}" for name, version in results.versions.items()),
        "measured quickly" if results.quick else "measured in full",
    ]
    places = list(dict.fromkeys(run.place for run in results.runs))
    strokes = {
        place: (_COLORS[i % len(_COLORS)], *_DASHES[i // len(_COLORS) % len(_DASHES)])
        for i, place in enumerate(places)
    }
    body = [
        "<h1>What calls cost</h1>",
        f"<p>{escape(' · '.join(about))}</p>",
        "<h2>All measurements</h2><p>Half of the calls took at most so long; several in flight: calls a second.</p>",
        _matrix(results, places),
        "<h2>Where the time of a call goes</h2>",
        *(
            _stacked(results, work)
            for work in ("echo small", "echo 64 KiB", "echo 1 MiB", "fsx read 64 KiB", "log")
        ),
        "<h2>Larger values</h2>",
        _lines(
            "How long a value takes there and back, by its size; both axes are logarithmic.",
            _series(results, places, "payload"),
            strokes,
            duration,
            _size,
        ),
        "<h2>More calls at once</h2>",
        _lines(
            "Small calls a second, by how many are in flight; both axes are logarithmic.",
            _series(results, places, "in_flight"),
            strokes,
            rate,
            lambda n: f"{n:.0f}",
        ),
        "<h2>Each measurement</h2>",
        _each(results),
        _skipped(results),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>loop bench, {escape(results.date)}</title><style>{_STYLE}</style></head>\n"
        f"<body>{''.join(part for part in body if part)}</body></html>\n"
    )


def _matrix(results: Results, places: Sequence[str]) -> str:
    found = {run.key: run for run in results.runs}
    works = [work.name for work in WORKLOADS if any(run.workload == work.name for run in results.runs)]
    rows = [
        (place, *(figure(found[work, place]) if (work, place) in found else "" for work in works))
        for place in places
    ]
    return _table(("place", *works), rows)


def _each(results: Results) -> str:
    head = ("place", "workload", "calls", "p50", "p99", "calls/s", "bytes/s", *SEGMENTS, "over budget")
    rows = []
    for run in results.runs:
        parts = run.segments_us or {}
        rows.append(
            (
                f"{run.place} ({run.topology})",
                run.workload,
                str(run.calls),
                "" if run.p50_us is None else duration(run.p50_us),
                "" if run.p99_us is None else duration(run.p99_us),
                rate(run.rate),
                amount(run.throughput) if run.payload else "",
                *(duration(parts[name]) if name in parts else "" for name in SEGMENTS),
                "" if run.over_budget is None else str(run.over_budget),
            )
        )
    return _table(tuple(LABELS.get(name, name) for name in head), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _skipped(results: Results) -> str:
    items = "".join(f"<li>{escape(place)}: {escape(why)}</li>" for place, why in results.skipped)
    return f"<h2>Not measured</h2><ul>{items}</ul>" if items else ""


def _stacked(results: Results, workload: str) -> str:
    """Bars of the segments, one a place."""
    runs = [run for run in results.runs if run.workload == workload and run.segments_us]
    if not runs:
        return ""
    most = max(sum((run.segments_us or {}).values()) for run in runs)
    left, right, step = 200, 90, 24
    bars = []
    for row, run in enumerate(runs):
        y, x = row * step + 4, float(left)
        bars.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(run.place)}</text>')
        for name, color in zip(SEGMENTS, _COLORS, strict=False):
            us = (run.segments_us or {})[name]
            width = us / most * (_WIDTH - left - right)
            title = f"{LABELS.get(name, name)}: {duration(us)}"
            bars.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{step - 8}" fill="{color}">'
                f"<title>{escape(title)}</title></rect>"
            )
            x += width
        bars.append(
            f'<text x="{x + 6:.1f}" y="{y + 12}">{duration(sum((run.segments_us or {}).values()))}</text>'
        )
    legend = _legend(
        [(LABELS.get(name, name), color, "solid") for name, color in zip(SEGMENTS, _COLORS, strict=False)]
    )
    return _figure(workload, len(runs) * step + 8, bars, legend)


def _series(results: Results, places: Sequence[str], axis: str) -> dict[str, list[tuple[float, float]]]:
    """By place, the points of a plot over `payload` (microseconds) or `in_flight` (calls a second)."""
    series: dict[str, list[tuple[float, float]]] = {}
    for place in places:
        runs = [run for run in results.runs if run.place == place and run.workload.startswith("echo ")]
        points = _over_payload(runs) if axis == "payload" else _over_in_flight(runs)
        if len(points) > 1:
            series[place] = sorted(points)
    return series


def _over_payload(runs: Sequence[Run]) -> list[tuple[float, float]]:
    named = (run for run in runs if run.workload.endswith("iB"))
    return [(run.payload, run.p50_us) for run in named if run.p50_us is not None]


def _over_in_flight(runs: Sequence[Run]) -> list[tuple[float, float]]:
    return [(run.in_flight, run.rate) for run in runs if not run.payload]


def _lines(
    caption: str,
    series: dict[str, list[tuple[float, float]]],
    strokes: dict[str, tuple[str, str, str]],
    show_y: Callable[[float], str],
    show_x: Callable[[float], str],
) -> str:
    if not series:
        return ""
    left, right, top, height = 80, 20, 10, 320
    xs = sorted({x for points in series.values() for x, _ in points})
    ys = [y for points in series.values() for _, y in points]
    low, high = floor(log10(min(ys))), max(ceil(log10(max(ys))), floor(log10(min(ys))) + 1)

    def at(x: float, y: float) -> tuple[float, float]:
        across = log10(x / xs[0]) / (log10(xs[-1] / xs[0]) or 1)
        up = (log10(y) - low) / (high - low)
        return left + across * (_WIDTH - left - right), top + (1 - up) * height

    parts = []
    for power in range(low, high + 1):
        _, y = at(xs[0], 10.0**power)
        parts.append(f'<line class="grid" x1="{left}" x2="{_WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{show_y(10.0**power)}</text>')
    for x in xs:
        across, bottom = at(x, 10.0**low)
        parts.append(f'<text x="{across:.1f}" y="{bottom + 20:.1f}" text-anchor="middle">{show_x(x)}</text>')
    for place, points in series.items():
        placed = [at(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        color, _, dash = strokes[place]
        line = f'fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"'
        parts.append(f'<polyline points="{path}" {line}/>')
        for (x, y), point in zip(placed, points, strict=True):
            title = f"{place}, {show_x(point[0])}: {show_y(point[1])}"
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}">'
                f"<title>{escape(title)}</title></circle>"
            )
    return _figure(
        caption,
        top + height + 30,
        parts,
        _legend([(place, strokes[place][0], strokes[place][1]) for place in series]),
    )


def _figure(caption: str, height: float, parts: Sequence[str], legend: str) -> str:
    box = f'viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(caption)}"'
    drawing = f"<svg {box}>{''.join(parts)}</svg>"
    return f"<figure><figcaption>{escape(caption)}</figcaption>{drawing}{legend}</figure>"


def _legend(items: Sequence[tuple[str, str, str]]) -> str:
    entries = "".join(
        f'<span><i style="border-top: 4px {line} {color}"></i>{escape(name)}</span>'
        for name, color, line in items
    )
    return f'<div class="legend">{entries}</div>'


def _size(size: float) -> str:
    for unit, bytes_ in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= bytes_:
            return f"{size / bytes_:.0f} {unit}"
    return f"{size:.0f} B"
