"""Exit codes of `loop`; `docs/cli.md` says the same.

`loop run` passes on what the guest exits with; every other command uses these alone.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BROKEN_PIPE", "CONFIG", "DEADLINE", "FAILED", "INTERRUPTED", "LOAD", "OK", "USAGE", "of",
]  # fmt: skip

OK: Final = 0
FAILED: Final = 1
"""The guest or the command failed."""
USAGE: Final = 2
"""The command line is wrong."""
CONFIG: Final = 3
"""The manifest, or another configuration, is wrong."""
LOAD: Final = 4
"""A component could not be loaded or linked."""
DEADLINE: Final = 124
"""A deadline passed; as with `timeout`."""
INTERRUPTED: Final = 130
"""Ctrl-C; as shells have it, 128 + SIGINT."""
BROKEN_PIPE: Final = 141
"""Whoever read the output went away; as shells have it, 128 + SIGPIPE."""

# By name, so that deciding on a code imports no more than what raised the error already did.
_BY_ERROR: Final = {
    "ManifestError": CONFIG,
    "LoadError": LOAD,
    "NoSuchExport": USAGE,
    "DeadlineExceeded": DEADLINE,
}


def of(error: BaseException) -> int:
    """Returns the exit code for an error: that of the nearest class in its ancestry that has one."""
    for cls in type(error).__mro__:
        if cls.__name__ in _BY_ERROR:
            return _BY_ERROR[cls.__name__]
    return FAILED
