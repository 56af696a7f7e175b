"""`loop call`."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._output import examples, json_option, strong

if TYPE_CHECKING:
    from loop_kit.manifest import Tls

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    epilog=examples(
        ("loop call app.wasm 'add(1, 2)'", "a function at the root, or that one interface has"),
        ("loop call app.wasm 'acme:app/api#greet(\"world\")'", "a function of an interface"),
        ("loop call app.wasm 'move({x: 1, y: 2}, [north, south])' --json", "the result as JSON"),
        ("loop call app.wasm", "what can be called"),
        ("loop call unix:/run/kv.sock 'get(\"colour\")' --wit wit", "a provider of another process"),
    )
)
@click.argument("target", type=click.Path())
@click.argument("call", required=False)
@click.option("--deadline", default="30s", show_default=True, help="How long the call may take.")
@click.option("--wit", type=click.Path(exists=True), help="Of a provider: the file or folder with its WIT.")
@click.option(
    "--token", envvar="LOOP_PROVIDER_TOKEN", help="What the provider asks for; $LOOP_PROVIDER_TOKEN."
)
@click.option("--tls-ca", type=_FILE, help="Authorities to trust, PEM; makes the connection one of TLS.")
@click.option("--tls-certificate", type=_FILE, help="This side's certificate, PEM.")
@click.option("--tls-key", type=_FILE, help="Its private key, PEM.")
@json_option
def call(
    target: str,
    call: str | None,
    deadline: str,
    wit: str | None,
    token: str | None,
    tls_ca: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    as_json: bool,
) -> None:
    """Call one function of a component or provider.

    Arguments and result are written in WAVE, the text form of WIT values: 1, 1.5, true, "text", 'c', [1, 2],
    (1, "a"), {field: 1}, some-case(1), some(1), none, ok(1), err("why"), {flag-a, flag-b}. A component is granted
    nothing: one that imports more than WASI belongs in a workspace. A provider is called without a link, which those
    that serve under grants refuse. A NATS server is logged in to as NATS_USER and NATS_PASSWORD, NATS_TOKEN, or
    NATS_CREDS (a file) say.
    """
    import loop_kit as loop
    from loop_kit._units import parse_duration
    from loop_kit.cli.run import duration
    from loop_kit.manifest import Tls

    try:
        seconds = parse_duration(duration(deadline))
    except ValueError as e:
        raise click.UsageError(str(e)) from None
    if re.match(r"(unix|shm|pipe|stdio|nats|(tcp|quic|http2|wss?):/)", target) and not Path(target).exists():
        if (tls_certificate is None) != (tls_key is None):
            raise click.UsageError("--tls-certificate and --tls-key go together")
        secured = Tls(tls_ca, tls_certificate, tls_key) if tls_ca or tls_certificate else None
        asyncio.run(_peer(target, call, wit, seconds, token, secured, as_json))
        return
    if not Path(target).is_file():
        kinds = "unix:PATH, nats://SERVER/SUBJECT, or tcp:, quic:, http2: or ws://HOST:PORT"
        hint = f"; a provider's address is {kinds}" if "://" in target else ""
        raise click.BadParameter(f"there is no file {target!r}{hint}", param_hint="TARGET")
    _component(target, call, loop.Limits(deadline=seconds), as_json)


def _component(component: str, call: str | None, limits: Any, as_json: bool) -> None:
    import loop_kit as loop
    from loop_kit.trust import own_gate

    own_gate().local(component)
    with loop.blocking.Host() as host:
        app = host.load(component, limits=limits)
        if call is None:
            _listed(app.functions, as_json)
            return
        path, text = _parts(call)
        program = app._program
        try:
            index = program.find(path)
        except KeyError:
            raise loop.errors.NoSuchExport(path, [_path(f) for f in app.functions]) from None
        try:
            args = program.parse_args(index, text)
        except ValueError as e:
            raise click.UsageError(f"{app.functions[index].wit}: {e}") from None
        try:
            result, failed = app.call(path, *args), False
        except loop.Err as e:
            result, failed = e, True
        _say(program, index, app.functions[index], result, failed, as_json)


async def _peer(
    address: str,
    call: str | None,
    wit: str | None,
    deadline: float,
    token: str | None,
    tls: Tls | None,
    as_json: bool,
) -> None:
    """Calls a provider; what it offers is in its WIT."""
    import loop_kit as loop
    from loop_kit import _core, peer
    from loop_kit._login import of_environment
    from loop_kit._session import functions

    if wit is None:
        raise click.UsageError(f"{address}: say what it serves: --wit FILE or --wit FOLDER")
    contract = _core.Contract(Path(wit), [])
    known = [f for interface in contract.interfaces() for f in interface.functions]
    if call is None:
        _listed(known, as_json)
        return
    path, text = _parts(call)
    index = functions(contract).get(path)
    if index is None:
        raise loop.errors.NoSuchExport(path, [_path(f) for f in known])
    try:
        args = contract.parse_args(index, text)
    except ValueError as e:
        raise click.UsageError(f"{known[index].wit}: {e}") from None
    only = known[index].interface
    login = of_environment(address)
    async with await peer.connect(
        address, only, wit=wit, token=token, tls=tls, login=login, identity="loop call"
    ) as there:
        try:
            result, failed = await there.call(f"{only}#{known[index].name}", *args, deadline=deadline), False
        except loop.Err as e:
            result, failed = e, True
        _say(contract, index, known[index], result, failed, as_json)


def _parts(call: str) -> tuple[str, str]:
    """The path of `path(arguments)`, and the arguments."""
    path, paren, rest = call.partition("(")
    if not paren or not rest.rstrip().endswith(")"):
        raise click.UsageError(f"expected a call such as 'add(1, 2)', got {call!r}")
    return path.strip(), rest.rstrip()[:-1]


def _say(types: Any, index: int, function: Any, result: Any, failed: bool, as_json: bool) -> None:
    """Prints what a call gave; exits with 1 where that is the error case of its `result`."""
    if as_json:
        click.echo(json.dumps({"error" if failed else "result": plain(result.value if failed else result)}))
    elif failed or function.result is not None:
        click.echo(types.format_result(index, result, failed))
    if failed:
        raise SystemExit(exit_codes.FAILED)


def _path(function: Any) -> str:
    return f"{function.interface}#{function.name}" if function.interface else str(function.name)


def _listed(functions: Sequence[Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([{"function": _path(f), "wit": f.wit} for f in functions]))
        return
    for function in functions:
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
