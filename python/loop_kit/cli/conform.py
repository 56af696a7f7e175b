"""`loop conform`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong, warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from loop_kit.conform import Outcome, Target


def _complete_group(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from loop_kit.conform import names

    groups = dict.fromkeys(group for group, _ in names())
    return [group for group in groups if group.startswith(incomplete)]


@click.command(
    epilog=examples(
        ("loop conform unix:/run/conform.sock", "drive what serves there"),
        ("loop conform stdio: -- node conform.js", "start a provider, and drive it over its pipes"),
        ("loop conform tcp://127.0.0.1:0 -- ./conform", "the same at any free port"),
        ("loop conform builtin:fsx", "the suite of loop:fsx, in every placement"),
        ("loop conform python:acme.files:Files --capability loop:fsx", "the same of a provider of yours"),
        ("loop conform --matrix", "every capability, provider and placement in one table"),
        ("loop conform --list", "what is asked of a provider"),
        ("loop conform --print-wit > wit/conform.wit", "what it must serve"),
    )
)
@click.argument("address", required=False, metavar="[ADDRESS | PROVIDER]")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--wit", type=click.Path(exists=True), help="The conformance WIT, if not the one that is shipped."
)
@click.option(
    "--token", envvar="LOOP_PROVIDER_TOKEN", help="What the provider asks for; $LOOP_PROVIDER_TOKEN."
)
@click.option(
    "--only",
    "groups",
    multiple=True,
    metavar="GROUP",
    shell_complete=_complete_group,
    help="Cases of that group alone; see --list.",
)
@click.option(
    "--patience",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="For each case.",
)
@click.option(
    "--capability", metavar="NAME", help="With a PROVIDER: whose suite, if it is none of loop-kit's own."
)
@click.option(
    "--placement",
    "placements",
    multiple=True,
    metavar="NAME",
    help="With a PROVIDER or --matrix: in-process, sidecar or remote alone.",
)
@click.option("--matrix", is_flag=True, help="Run the suites of all capabilities that ship with loop-kit.")
@click.option("--list", "list_only", is_flag=True, help="List the cases, and drive nothing.")
@click.option(
    "--print-wit", is_flag=True, help="Print the WIT that a provider must serve, and drive nothing."
)
@json_option
def conform(
    address: str | None,
    command: tuple[str, ...],
    wit: str | None,
    token: str | None,
    groups: tuple[str, ...],
    patience: float,
    capability: str | None,
    placements: tuple[str, ...],
    matrix: bool,
    list_only: bool,
    print_wit: bool,
    as_json: bool,
) -> None:
    """Check that a provider does what it should.

    With a PROVIDER (builtin:NAME, python:module:Class, component:FILE) it runs the suite of its capability, with the
    provider in this process, as a sidecar and over TCP, and prints a table: how many cases passed.

    With an ADDRESS it checks the SDK that the provider is written with. The provider serves loop:conform: values of
    every type, streams, futures, resources, errors, links. A run calls it as hosts do and, where hosts never would, by
    hand. With a COMMAND after `--` the program is started as a sidecar is, at ADDRESS, and ended when the run is over.

    Exits with 1 if a case failed.
    """
    from loop_kit import conform as conforming
    from loop_kit.cli._suites import is_provider, list_suites, run_suites
    from loop_kit.trust import own_gate

    if matrix or (address is not None and is_provider(address)):
        if matrix and address is not None:
            raise click.UsageError("--matrix is of everything that ships with loop-kit: name no provider")
        if list_only:
            list_suites(as_json)
        else:
            run_suites(address, capability, placements, patience, as_json)
        return
    if capability or placements:
        raise click.UsageError("--capability and --placement go with a PROVIDER or --matrix")
    known = dict.fromkeys(group for group, _ in conforming.names())
    for group in groups:
        if group not in known:
            raise click.UsageError(f"there is no group {group!r}; there are {', '.join(known)}")
    chosen = frozenset(groups) or None
    if print_wit:
        click.echo((conforming.WIT / "conform.wit").read_text("utf-8").rstrip())
        return
    if list_only:
        _list(conforming.names(chosen), as_json)
        return
    if address is None:
        raise click.UsageError(
            "say where the provider is: unix:PATH, tcp://HOST:PORT, or stdio: with a COMMAND"
        )
    if command:
        own_gate().local(command[0])
    target = conforming.Target(address, command=command, token=token, wit=wit or conforming.WIT)
    tell = (lambda _: None) if as_json else _teller()
    outcomes = asyncio.run(_run(target, chosen, patience, tell))
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    if as_json:
        cases = [
            {"group": o.group, "name": o.name, "problem": o.problem, "seconds": round(o.seconds, 6)}
            for o in outcomes
        ]
        print_json({"address": target.address, "passed": len(outcomes) - len(failed), "cases": cases})
    else:
        took = sum(outcome.seconds for outcome in outcomes)
        text = f"{len(outcomes) - len(failed)} of {len(outcomes)} cases passed in {took:.1f} s"
        click.echo(f"\n{warn(text) if failed else good(text)}")
    if failed:
        raise SystemExit(exit_codes.FAILED)


async def _run(
    target: Target, groups: frozenset[str] | None, patience: float, tell: Callable[[Outcome], None]
) -> list[Outcome]:
    from loop_kit.conform import run

    async with target:
        return await run(target, groups=groups, patience=patience, on_outcome=tell)


def _teller() -> Callable[[Outcome], None]:
    """Prints each case as it ends, below the name of its group."""
    last = ""

    def tell(outcome: Outcome) -> None:
        nonlocal last
        if outcome.group != last:
            last = outcome.group
            click.echo(strong(last))
        mark = good("ok") if outcome.problem is None else warn("failed")
        click.echo(f"  {mark} {outcome.name} {dim(f'{outcome.seconds * 1e3:.0f} ms')}")
        if outcome.problem is not None:
            click.echo(f"     {outcome.problem}")

    return tell


def _list(cases: list[tuple[str, str]], as_json: bool) -> None:
    if as_json:
        print_json([{"group": group, "name": name} for group, name in cases])
        return
    last = ""
    for group, name in cases:
        if group != last:
            last = group
            click.echo(strong(group))
        click.echo(f"  {name}")
