"""`loop run`."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._locked import CODE, fetched, lock_options, made_ready, trust_option
from loop_kit.cli._output import examples
from loop_kit.cli._serving import serve_until_stopped

if TYPE_CHECKING:
    from loop_kit.host import App
    from loop_kit.wasi import Dir


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        ("loop run app.wasm -- --name world", "a wasi:cli command, with arguments"),
        ("loop run --dir .::/ --env LANG=C app.wasm", "… that sees this folder and one variable"),
        ("loop run --allow-net 127.0.0.1:5432 app.wasm", "… that may connect to one address"),
        ("loop run oci:registry.example/acme/tool:1.2", "… of a registry; --offline takes what was pulled"),
        (
            "loop run --trust policy.toml oci:registry.example/acme/tool:1.2",
            "… if it is signed by whom that names",
        ),
        ("loop run examples/site", "a workspace: what its components' `run` says"),
        ("loop run --locked --offline examples/site", "… of what loop.lock pins and the store has, alone"),
        ("loop run --audit examples/site", "… with each use of a grant on standard error"),
    ),
)
@click.option("--dir", "dirs", multiple=True, metavar="HOST::GUEST[:ro]", help="Show a directory.")
@click.option(
    "--env", "env", multiple=True, metavar="NAME=VALUE", help="Set a variable; NAME passes on the host's."
)
@click.option(
    "--allow-net", "net", multiple=True, metavar="HOST:PORT", help="Allow connections and wasi:http requests."
)
@click.option("--memory", default="1GiB", show_default=True, help="Memory of the guest.")
@click.option("--deadline", help="Stop the guest after this time.  [default: never]")
@click.option("--audit", is_flag=True, help="Of a workspace: log each use of a grant to standard error.")
@lock_options
@trust_option
@click.argument("target", type=CODE)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(
    ctx: click.Context,
    dirs: tuple[str, ...],
    env: tuple[str, ...],
    net: tuple[str, ...],
    memory: str,
    deadline: str | None,
    audit: bool,
    locked: bool,
    offline: bool,
    policy: Path | None,
    target: str,
    args: tuple[str, ...],
) -> None:
    """Run a command, or a workspace.

    A component that exports wasi:cli/run (0.2 or 0.3), or a core module for WASI preview 1, runs with this terminal's
    standard streams and nothing else that is not granted here; its exit code is passed on. A folder with a loop.toml
    is run as its components' `run` says: served until Ctrl-C, or run to its end; those that `watch` do so until then.
    """
    path = Path(target)
    if path.is_dir() or path.suffix == ".toml":
        if dirs or env or net or args:
            raise click.UsageError("grants of a workspace stand in its loop.toml, not on the command line")
        if policy is not None:
            raise click.UsageError(
                "who may sign what a workspace loads stands in its [trust], or your trust.toml"
            )
        _workspace(path, audit, locked=locked, offline=offline)
        return
    if audit:
        raise click.UsageError("--audit is of a workspace, whose components have grants")
    code = fetched(target, locked=locked, offline=offline, policy=policy)
    import loop_kit as loop
    from loop_kit.wasi import Wasi

    try:
        limits = loop.Limits(
            memory=size(memory),
            deadline=None if deadline is None else duration(deadline),
            cpu=None,
            instances="per-call",
        )
        wasi = Wasi(
            args=(path.name, *(args[1:] if args[:1] == ("--",) else args)),
            env=variables(env),
            dirs=tuple(_dir(text) for text in dirs),
            net=rules(net),
            http=rules(net),
            stdin="inherit",
            stdout="inherit",
            stderr="inherit",
        )
    except ValueError as e:
        raise click.UsageError(str(e)) from None
    with loop.blocking.Host() as host:
        ctx.exit(_command(host.command(code, limits=limits, wasi=wasi)))


def building(what: str) -> None:
    """Tells what may take a while."""
    click.echo(what, err=True)


def run_app(app: App) -> int:
    """Runs a loaded `wasi:cli` command to its end, and returns its exit code."""
    return _command(app._program)


def _command(program: Any) -> int:
    import loop_kit as loop

    try:
        return int(program.run())
    except loop.errors.GuestTrap as e:
        click.echo(f"{click.style('error:', fg='red')} {e}", err=True)
        return int(getattr(e, "exit_code", 1))


def rules(net: tuple[str, ...]) -> tuple[str, ...]:
    """`*` alone stands for every address."""
    return tuple("*:*" if rule == "*" else rule for rule in net)


def size(text: str) -> int | str:
    """A number alone is one of bytes."""
    return int(text) if text.isdecimal() else text


def duration(text: str) -> float | str:
    """A number alone is one of seconds."""
    with contextlib.suppress(ValueError):
        return float(text)
    return text


def _dir(text: str) -> Dir:
    from loop_kit.wasi import Dir

    host, colons, guest = text.partition("::")
    read_only = guest.endswith(":ro")
    guest = guest.removesuffix(":ro")
    if not colons or not host or not guest:
        raise ValueError(f"expected --dir HOST::GUEST or HOST::GUEST:ro, got {text!r}")
    return Dir(host, guest, not read_only)


def variables(env: tuple[str, ...]) -> dict[str, str]:
    """What `--env` sets; a name alone that the host has no value for stays unset."""
    found: dict[str, str] = {}
    for text in env:
        name, equals, value = text.partition("=")
        if not name:
            raise ValueError(f"expected --env NAME=VALUE, got {text!r}")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def audit_to_stderr() -> None:
    """Has each use of a grant told on standard error."""
    import logging

    class Echo(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            click.echo(f"{click.style('audit:', fg='cyan')} {record.getMessage()}", err=True)

    audit = logging.getLogger("loop_kit.audit")
    audit.addHandler(Echo())
    audit.setLevel(logging.INFO)
    audit.propagate = False


def _workspace(path: Path, audit: bool, *, locked: bool, offline: bool) -> None:
    import asyncio

    from loop_kit.dev import _host
    from loop_kit.manifest import load

    manifest = made_ready(load(path), locked=locked, offline=offline)
    if audit:
        audit_to_stderr()
    attending = contextlib.nullcontext(_host.Attending(building))
    work = _host.run(manifest, serve_until_stopped, run_app, lambda _: attending, audit=audit)
    sys.exit(asyncio.run(work))
