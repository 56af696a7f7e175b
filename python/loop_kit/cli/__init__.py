"""The `loop` command. `main` is its entry point; each command is one module of this package."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """Runs `loop` and returns its exit code; nothing is raised, not even on Ctrl-C.

    Args:
        args: The arguments after the program's name; those of the process by default.
    """
    args = list(sys.argv[1:] if args is None else args)
    try:
        if args == ["--version"]:
            # Answered before anything heavy is imported: tools ask for it all the time.
            from loop_kit.cli._version import version_line

            with contextlib.suppress(OSError):
                sys.stdout.write(version_line() + "\n")
                sys.stdout.flush()
                return 0
        if args[:1] == ["task"]:
            from loop_kit.cli._fresh import up_to_date

            if up_to_date(args[1:]):
                return 0
        from loop_kit.cli._run import run

        return run(args)
    except KeyboardInterrupt:
        # `run` answers those that come once it runs; this one came while it was being imported.
        from loop_kit.cli.exit_codes import INTERRUPTED

        return INTERRUPTED
