"""`loop doctor`."""

from __future__ import annotations

import dataclasses

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong, warn

__all__ = ["doctor"]


@click.command(
    epilog=examples(
        ("loop doctor", ""),
        ("loop doctor --json | jq -r '.checks[] | select(.found == null).fix'", ""),
    )
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check what this machine has for building and running components.

    Each line says what was found, or what it is needed for and the command that mends it. Only Python and the
    compiled core are needed to run components; exits with 1 if one of them is missing.
    """
    from loop_kit.cli._checks import run_checks

    checks = run_checks()
    healthy = all(check.found is not None for check in checks if check.required)
    if as_json:
        print_json({"ok": healthy, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            name = strong(f"{check.name:<{width}}")
            if check.found is not None:
                click.echo(f"{good('ok     ')}  {name}  {dim(check.found)}")
            else:
                click.echo(f"{warn('missing')}  {name}  {check.needed}; run: {check.fix}")
    if not healthy:
        ctx.exit(exit_codes.FAILED)
