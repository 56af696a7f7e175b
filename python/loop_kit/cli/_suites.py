"""`loop conform` of capabilities: the suite of each, with providers in placements."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._output import dim, good, print_json, strong, warn

if TYPE_CHECKING:
    from loop_kit.conform import Outcome, Suite, Way

__all__ = ["is_provider", "list_suites", "run_suites"]

_FORMS = ("builtin:", "python:", "component:")


def is_provider(text: str) -> bool:
    """Whether it is a provider of a capability, and not an address."""
    return text.startswith(_FORMS)


@dataclass
class _Row:
    """What came of one interface of one provider, by placement: how many cases, and those that failed."""

    suite: str
    interface: str
    provider: str
    placements: dict[str, list[Outcome]]


def list_suites(as_json: bool) -> None:
    """Prints what each suite asks of a provider."""
    from loop_kit.conform import suites

    if as_json:
        print_json({suite.capability: [str(case) for case in suite.cases] for suite in suites()})
        return
    for suite in suites():
        click.echo(strong(suite.capability))
        for case in suite.cases:
            click.echo(f"  {case}")


def run_suites(
    provider: str | None, capability: str | None, placements: Sequence[str], patience: float, as_json: bool
) -> None:
    """Runs the suite of one provider, or those of all that ship with loop-kit, and prints what came of it.

    Exits with 1 if a case failed.
    """
    chosen = _chosen(provider, capability, placements)
    rows: dict[tuple[str, str, str], _Row] = {}
    for suite, way in chosen:
        if not as_json:
            click.echo(
                f"{strong(way.provided.name)} {dim(f'of {suite.capability}, {way.placement}')}", err=True
            )
        for outcome in asyncio.run(suite.run(way, patience=patience, on_outcome=_teller(as_json))):
            key = suite.capability, outcome.group, way.provided.name
            row = rows.setdefault(key, _Row(*key, {}))
            row.placements.setdefault(way.placement, []).append(outcome)
    failed = [o for row in rows.values() for all_ in row.placements.values() for o in all_ if o.problem]
    if as_json:
        print_json({"passed": not failed, "rows": [_as_json(row) for row in rows.values()]})
    else:
        click.echo("\n".join(_table(list(rows.values()))))
    if failed:
        raise SystemExit(exit_codes.FAILED)


def _chosen(
    provider: str | None, capability: str | None, placements: Sequence[str]
) -> list[tuple[Suite, Way]]:
    from loop_kit.conform import PLACEMENTS, Way, suite_of, suites, ways
    from loop_kit.trust import own_gate

    for name in placements:
        if name not in PLACEMENTS:
            raise click.UsageError(f"there is no placement {name!r}; there are {', '.join(PLACEMENTS)}")
    if provider is None:
        found = [(suite, way) for suite in suites() for way in ways(suite)]
    else:
        known = [s.capability for s in suites() if any(p.provider == provider for p in s.providers)]
        if not known and capability is None:
            raise click.UsageError(f"say which capability {provider} is of: --capability loop:fsx")
        suite = suite_of(capability or known[0])
        if not known and not provider.startswith("builtin:"):  # it is none that ships with loop-kit
            own_gate().local(provider)
        found = [
            (suite, Way(provided, placement))
            for provided in suite.provided(provider)
            for placement in provided.placements
        ]
    return [(suite, way) for suite, way in found if not placements or way.placement in placements]


def _teller(quiet: bool) -> Any:
    def tell(outcome: Outcome) -> None:
        if outcome.problem is not None:
            click.echo(
                f"  {warn('failed')} {outcome.group}: {outcome.name}\n     {outcome.problem}", err=True
            )

    return (lambda _: None) if quiet else tell


def _as_json(row: _Row) -> dict[str, Any]:
    return {
        "capability": row.suite,
        "interface": row.interface,
        "provider": row.provider,
        "placements": {
            name: {
                "cases": len(outcomes),
                "failed": [{"name": o.name, "problem": o.problem} for o in outcomes if o.problem],
            }
            for name, outcomes in row.placements.items()
        },
    }


def _table(rows: Sequence[_Row]) -> list[str]:
    """Interface × provider × placement: how many cases passed."""
    from loop_kit.conform import PLACEMENTS

    used = [name for name in PLACEMENTS if any(name in row.placements for row in rows)]
    cells = [["interface", "provider", *used]]
    for row in rows:
        cells.append([f"{row.suite}/{row.interface}", row.provider, *(_cell(row, name) for name in used)])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    bad = {
        i for i, row in enumerate(rows, 1) if any(o.problem for all_ in row.placements.values() for o in all_)
    }
    return [
        strong(line.rstrip()) if i == 0 else warn(line.rstrip()) if i in bad else good(line.rstrip())
        for i, line in enumerate(lines)
    ]


def _cell(row: _Row, placement: str) -> str:
    outcomes = row.placements.get(placement)
    if outcomes is None:
        return "-"
    passed = sum(o.problem is None for o in outcomes)
    return f"{passed}" if passed == len(outcomes) else f"{passed} of {len(outcomes)}"
