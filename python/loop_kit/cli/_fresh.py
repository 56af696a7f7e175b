"""Answers `loop task NAME...` where there is nothing to do, before anything heavy is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from loop_kit.cli._version import version_line
from loop_kit.task import _fresh
from loop_kit.task._where import locate

__all__ = ["up_to_date"]


def up_to_date(args: Sequence[str]) -> bool:
    """Whether all tasks that are asked for are as they should be, which is told then.

    What it does not understand is not up to date: the command itself answers that, and says what is wrong.

    Args:
        args: What comes after `loop task`: names, and how many run at once.
    """
    names = list(args)
    for option in ("-j", "--jobs"):
        if option in names[:-1]:
            at = names.index(option)
            if not names[at + 1].isdecimal():
                return False
            del names[at : at + 2]
    if not names or names[0] in ("explain", "clean") or any(name.startswith("-") for name in names):
        return False
    try:
        root, member = locate(None)
        found = _fresh.look(root, [member, *names], version_line())
        if found is None:
            return False
        count = len(found["tasks"])
        green, plain = (
            ("\33[32m", "\33[0m") if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else ("", "")
        )
        sys.stderr.write(f"{green}up to date{plain} {count} task{'' if count == 1 else 's'}\n")
        sys.stderr.flush()
    except Exception:
        return False
    return True
