"""The command group: commands by name, each imported only when it is needed."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import click

__all__ = ["COMMANDS", "COMPLETE_VARIABLE", "PROGRAM", "app"]

PROGRAM = "loop"
COMPLETE_VARIABLE = "_LOOP_COMPLETE"

# A command is a module of this package with a click command of the same name. Its summary stands here too, so
# that `loop --help` imports none of them.
COMMANDS = {
    "new": "Start a project that runs and tests itself.",
    "add": "Add to the workspace that is there.",
    "run": "Run a command, or a workspace.",
    "dev": "Run a workspace, and swap in what you change.",
    "up": "Run a workspace that other commands can look after.",
    "ps": "Show the members of a workspace that runs.",
    "logs": "Show what a workspace and its members say.",
    "restart": "End a member in good order and start it again.",
    "swap": "Exchange a provider or component while calls go on.",
    "down": "End a workspace that runs.",
    "x": "Run a command that the workspace offers.",
    "serve": "Serve HTTP, or a capability, by a component; or a folder.",
    "call": "Call one function of a component or provider.",
    "inspect": "Show what a component, a package or an OCI layout is made of.",
    "copy": "Copy an artifact between registries and folders.",
    "mirror": "Copy artifacts with their signatures, where missing.",
    "explain": "Show what a component may do, and who provides its imports.",
    "pack": "Make packages of components and providers.",
    "push": "Pack a component or provider, and put it into a registry.",
    "conform": "Check that a provider does what it should.",
    "bind": "Write types of WIT or a component, for Python or TypeScript.",
    "wit": "Check that WIT still links what was built for it.",
    "wire": "Turn values into the bytes of the wire, and back.",
    "bench": "Measure what calls cost in each placement, over each transport.",
    "pull": "Fetch what a workspace names, and pin it in loop.lock.",
    "update": "Look for newer artifacts, and show what changes.",
    "registry": "Serve a registry of your own.",
    "store": "Look after what was fetched and packed.",
    "sign": "Sign an artifact as a release.",
    "verify": "Check an artifact, and by whom it is signed.",
    "key": "Make and show the keys that sign what you ship.",
    "task": "Run tasks of the workspace, as far as something has changed.",
    "pkg": "Install the tools of a workspace, pinned and checked.",
    "wash": "Run `wash` with the world and registry of the workspace.",
    "toolchain": "Bundle, compile, link and run by a provider of `loop:toolchain`.",
    "doctor": "Check what this machine has for building and running components.",
    "completion": "Print a script that completes commands in your shell.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"loop_kit.cli.{cmd_name.replace('-', '_')}")
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # click looks for near names among the commands that it holds itself: none here.
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            ctx.fail(f"there is no command {args[0]!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from loop_kit.cli._version import version_line

        click.echo(version_line())
        ctx.exit()


@click.command(
    PROGRAM,
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 manifest, 4 not loadable, 124 deadline, 130 interrupted.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def app(**_: Any) -> None:
    """Run WebAssembly components and link what they import.

    A workspace is a folder with a loop.toml: it names the components, what provides their imports, and what
    each may touch. `loop COMMAND --help` explains a command and shows examples.
    """
