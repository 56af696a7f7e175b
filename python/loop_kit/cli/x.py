"""`loop x`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from loop_kit.cli._app import COMMANDS, app
from loop_kit.cli._hosts import ask, complete_member, host_of
from loop_kit.cli._output import dim, examples, json_option, print_json, strong
from loop_kit.cli._workspace import manifest_file, manifest_option
from loop_kit.errors import LoopError

if TYPE_CHECKING:
    from loop_kit.dev._record import Record

_QUIET = 1.0
"""Seconds before it says what it waits for."""
_INTERFACE = "loop:devserver/command"

T = TypeVar("T")


def _complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the name of a command, from the manifest alone: nothing is loaded."""
    from loop_kit.dev._registry import offered

    try:
        found = offered(_declared(manifest_file(ctx.params.get("manifest_path"))))
    except Exception:
        found = offered({})  # the shell has nowhere to show an error
    return [
        CompletionItem(name, help=COMMANDS.get(name) or f"of the component {one.component}")
        for name, one in found.items()
        if name.startswith(incomplete)
    ]


def _complete_argument(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    takes = ctx.params.get("name") in ("logs", "restart", "swap")
    return complete_member(ctx, parameter, incomplete) if takes else []


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        ("loop x", "what the workspace offers"),
        ("loop x tree", "who uses whom, and where it runs"),
        ("loop x traffic", "what went over each link"),
        ("loop x seed 12 --fast", "`seed` of [commands] in loop.toml; all that follows is its own"),
        ("loop x --json seed 12", "its exit code and output, for programs"),
        ("loop x restart --help", "`loop restart`, as every command of loop's own that is about a workspace"),
    ),
)
@manifest_option
@json_option
@click.argument("name", required=False, shell_complete=_complete)
@click.argument("args", nargs=-1, type=click.UNPROCESSED, shell_complete=_complete_argument)
def x(manifest_path: Path | None, as_json: bool, name: str | None, args: tuple[str, ...]) -> None:
    """Run a command that the workspace offers.

    [commands] in loop.toml names the commands that its components make; `tree` and `traffic` are there anyway, and
    may be replaced. Where the workspace runs, a command runs in its host; else its component is built and loaded here,
    with what it is linked to. Its exit code is passed on: 124 if it took longer than its deadline, 134 if it trapped.
    It gets no standard input, and what it says comes when it has ended.
    """
    if name is None:
        _list(manifest_path, as_json)
        return
    from loop_kit.dev._registry import BUILT_IN, offered
    from loop_kit.manifest._shape import nearest

    file = manifest_file(manifest_path)
    if name in BUILT_IN:
        _ours(name, [*(["--json"] if as_json else []), *args], manifest_path)
        return
    try:
        known = offered(_declared(file))
    except (OSError, ValueError):
        from loop_kit.manifest import load

        known = offered(load(file).commands)  # which says what is wrong with it
    if name not in known:
        near = nearest(name, known)
        hint = f" (did you mean {near!r}?)" if near else f"; there are {', '.join(known)}"
        raise click.UsageError(f"{file}: there is no command {name!r}{hint}")
    code, output = _run(manifest_path, name, args)
    if as_json:
        print_json({"command": name, "args": args, "code": code, "output": output})
    else:
        click.echo(output, nl=not output.endswith("\n") and bool(output))
    sys.exit(code)


def _ours(name: str, args: list[str], manifest: Path | None) -> None:
    """Runs one of `loop`'s own commands, on the same workspace."""
    command = app.get_command(click.get_current_context(), name)
    assert command is not None
    takes = any(parameter.name == "manifest_path" for parameter in command.params)
    chosen = ["-m", str(manifest)] if takes and manifest is not None else []
    with command.make_context(f"loop {name}", [*chosen, *args]) as context:
        command.invoke(context)


def _declared(file: Path) -> Mapping[str, str]:
    """`[commands]` of a manifest that need not be sound otherwise.

    Raises:
        OSError, ValueError: It cannot be read, or is no TOML.
    """
    import tomllib

    declared = tomllib.loads(file.read_text("utf-8")).get("commands", {})
    if not isinstance(declared, dict):
        return {}
    return {name: component for name, component in declared.items() if isinstance(component, str)}


def _run(manifest: Path | None, name: str, args: Sequence[str]) -> tuple[int, str]:
    from loop_kit import Err

    record = _running(manifest)
    try:
        if record is not None:
            told = ask(record, lambda peer: _waiting(name, peer.call(f"{_INTERFACE}#run", name, [*args])))
            return told[0], told[1]
        from loop_kit.cli._version import version_line
        from loop_kit.cli._workspace import open_manifest
        from loop_kit.dev import _still

        here = _still.run(open_manifest(manifest), version_line().split()[1], name, args)
        return asyncio.run(_waiting(name, here))
    except Err as error:
        raise LoopError(str(error.value)) from None


def _list(manifest: Path | None, as_json: bool) -> None:
    record = _running(manifest)
    if record is not None:
        told: Any = ask(record, lambda peer: _waiting("the host", peer.call(f"{_INTERFACE}#commands")))
        commands = [{key: getattr(one, key) for key in ("name", "summary", "usage")} for one in told]
    else:
        from loop_kit.cli._version import version_line
        from loop_kit.cli._workspace import open_manifest
        from loop_kit.dev import _still

        here = _still.commands(open_manifest(manifest), version_line().split()[1])
        commands = asyncio.run(_waiting("the components", here))
    if as_json:
        print_json({"commands": commands})
        return
    width = max(len(_shown(one)) for one in commands)
    for one in commands:
        rest = f" {one['usage']}" if one["usage"] else ""
        space = " " * (width - len(_shown(one)))
        click.echo(f"{strong(one['name'])}{dim(rest)}{space}  {one['summary']}")


def _shown(command: Mapping[str, str]) -> str:
    return f"{command['name']} {command['usage']}".rstrip()


def _running(manifest: Path | None) -> Record | None:
    """The host that runs the workspace, if one does."""
    from loop_kit.dev import _record

    _, record = host_of(manifest)
    return record if record is not None and _record.alive(record) else None


async def _waiting(name: str, work: Awaitable[T]) -> T:
    """What comes of some work; what is waited for is said after a while, to whoever sits there."""
    asked = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([asked], timeout=_QUIET)
        if not done and sys.stderr.isatty():
            click.echo(f"waiting for {name} …", err=True)
        return await asked
    finally:
        asked.cancel()
