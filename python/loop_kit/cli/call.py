"""`loop call`."""

from __future__ import annotations

import dataclasses
import enum
import json
from array import array
from typing import Any

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._output import examples, json_option, strong


@click.command(
    epilog=examples(
        ("loop call app.wasm 'add(1, 2)'", "a function at the root, or that one interface has"),
        ("loop call app.wasm 'acme:app/api#greet(\"world\")'", "a function of an interface"),
        ("loop call app.wasm 'move({x: 1, y: 2}, [north, south])' --json", "the result as JSON"),
        ("loop call app.wasm", "what can be called"),
    )
)
@click.argument("component", type=click.Path(exists=True, dir_okay=False))
@click.argument("call", required=False)
@click.option("--deadline", default="30s", show_default=True, help="How long the call may take.")
@json_option
def call(component: str, call: str | None, deadline: str, as_json: bool) -> None:
    """Call one function of a component.

    Arguments and result are written in WAVE, the text form of WIT values: 1, 1.5, true, "text", 'c', [1, 2],
    (1, "a"), {field: 1}, some-case(1), some(1), none, ok(1), err("why"), {flag-a, flag-b}. The component is granted
    nothing: one that imports more than WASI belongs in a workspace.
    """
    import loop_kit as loop
    from loop_kit.cli.run import duration

    try:
        limits = loop.Limits(deadline=duration(deadline))
    except ValueError as e:
        raise click.UsageError(str(e)) from None
    with loop.blocking.Host() as host:
        app = host.load(component, limits=limits)
        if call is None:
            _list(app, as_json)
            return
        path, paren, rest = call.partition("(")
        if not paren or not rest.rstrip().endswith(")"):
            raise click.UsageError(f"expected a call such as 'add(1, 2)', got {call!r}")
        program = app._program
        try:
            index = program.find(path.strip())
        except KeyError:
            raise loop.errors.NoSuchExport(path.strip(), [_path(f) for f in app.functions]) from None
        try:
            args = program.parse_args(index, rest.rstrip()[:-1])
        except ValueError as e:
            raise click.UsageError(f"{app.functions[index].wit}: {e}") from None
        try:
            result, failed = app.call(path.strip(), *args), False
        except loop.Err as e:
            result, failed = e, True
        if as_json:
            click.echo(
                json.dumps({"error" if failed else "result": plain(result.value if failed else result)})
            )
        elif failed or app.functions[index].result is not None:
            click.echo(program.format_result(index, result, failed))
        if failed:
            raise SystemExit(exit_codes.FAILED)


def _path(function: Any) -> str:
    return f"{function.interface}#{function.name}" if function.interface else str(function.name)


def _list(app: Any, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([{"function": _path(f), "wit": f.wit} for f in app.functions]))
        return
    for function in app.functions:
        click.echo(f"{strong(_path(function))}: {function.wit}")


def plain(value: Any) -> Any:
    """A WIT value as JSON has it: records as objects, cases as `{"case": value}` or their name, bytes as numbers."""
    import loop_kit as loop

    if isinstance(value, (bytes, array)):
        return list(value)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, enum.Flag):
        return [
            member.name.lower().replace("_", "-") for member in type(value) if member in value and member.name
        ]
    if isinstance(value, enum.Enum):
        return value.name.lower().replace("_", "-")
    if isinstance(value, loop.Ok):
        return {"ok": plain(value.value)}
    if isinstance(value, loop.Err):
        return {"err": plain(value.value)}
    if isinstance(value, loop.Some):
        return {"some": plain(value.value)}
    if hasattr(value, "case"):
        return {value.case: plain(value.value)} if hasattr(value, "value") else value.case
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if (isinstance(value, float) and value != value) or value in (float("inf"), float("-inf")):
        return str(value)  # JSON has no such numbers
    return value
