"""Runs the command line: turns whatever happens into output and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._app import COMPLETE_VARIABLE, PROGRAM, app

__all__ = ["run"]


def run(args: Sequence[str]) -> int:
    """Runs one command and returns its exit code.

    Errors become lines on stderr; tracebacks appear only where `LOOP_TRACEBACK` is set.
    """
    try:
        code = _guarded(args)
        # Here, where a reader that went away is still ours to handle, and not at interpreter exit.
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        return exit_codes.BROKEN_PIPE
    return code


def _guarded(args: Sequence[str]) -> int:
    try:
        return _invoke(list(args))
    except BrokenPipeError:
        raise
    except (KeyboardInterrupt, click.Abort):
        return exit_codes.INTERRUPTED
    except click.ClickException as error:
        return _usage(error)
    except Exception as error:
        return _failure(error)


def _color() -> bool | None:
    """Returns False where the user asked for no color, else None: click then looks at the terminal."""
    return False if os.environ.get("NO_COLOR") else None


def _invoke(args: list[str]) -> int:
    # Not `app.main`: it swallows broken pipes and exits by itself.
    instruction = os.environ.get(COMPLETE_VARIABLE)
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(app, {}, PROGRAM, COMPLETE_VARIABLE, instruction)
    try:
        with app.make_context(PROGRAM, args, color=_color()) as context:
            app.invoke(context)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else exit_codes.FAILED if stop.code else exit_codes.OK
    return exit_codes.OK


def _usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        _say(error.format_message())
        return exit_codes.USAGE
    _complain(error.format_message())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        _hint(f"`{error.ctx.command_path} --help` shows how to use it")
    return error.exit_code


def _failure(error: Exception) -> int:
    if os.environ.get("LOOP_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    leaf = _leaf(error)
    from loop_kit.errors import LoopError, ManifestError

    if isinstance(leaf, ManifestError):
        for problem in leaf.problems:  # each has its hint with it
            _complain(str(problem))
    elif isinstance(leaf, LoopError):
        text = str(leaf) or type(leaf).__name__
        _complain(text)
        if leaf.hint and leaf.hint not in text:
            _hint(leaf.hint)
    elif isinstance(leaf, OSError):
        where = f": {leaf.filename}" if leaf.filename is not None else ""
        _complain(f"{(leaf.strerror or str(leaf) or type(leaf).__name__)}{where}")
    else:
        _complain(f"unexpected {type(leaf).__name__}: {leaf}")
        _hint("this is a fault in loop-kit; LOOP_TRACEBACK=1 shows where")
    if "already in use" in str(leaf):
        _hint("another program listens there; port 0 takes any that is free")
    return exit_codes.of(leaf)


def _leaf(error: Exception) -> Exception:
    """Returns the first real error inside the groups that task groups raise."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _complain(text: str) -> None:
    _say(click.style("error:", fg="red", bold=True) + f" {text}")


def _hint(text: str) -> None:
    _say(click.style("hint:", fg="cyan") + f" {text}")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads stderr: the exit code still tells
        click.echo(text, err=True, color=_color())


def _silence_stdout() -> None:
    """Lets the interpreter's own last flush succeed."""
    with contextlib.suppress(OSError, ValueError):  # without a file below it nothing is flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
