"""`loop completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from loop_kit.cli._app import COMPLETE_VARIABLE, PROGRAM, app
from loop_kit.cli._output import examples

__all__ = ["completion"]


@click.command(
    epilog=examples(
        ('eval "$(loop completion bash)"', "in ~/.bashrc"),
        ('eval "$(loop completion zsh)"', "in ~/.zshrc"),
        ("loop completion fish > ~/.config/fish/completions/loop.fish", ""),
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes commands in your shell.

    Commands, options, and the names of the components in loop.toml are completed.
    """
    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(app, {}, PROGRAM, COMPLETE_VARIABLE).source())
