"""Programs that builds need: fetched when one is first asked for, at the versions that this loop-kit is tested with.

A `build` of `loop.toml` names one as `{tool:componentize-qjs}`; `loop tool` fetches and runs them too. What is fetched
is in the user's cache folder, is checked against the digests in `locks`, and needs no network from then on.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable

from loop_kit.errors import LoadError
from loop_kit.tools._store import Tool, ensure, place_of

__all__ = ["TOOLS", "Tool", "ensure", "named", "place_of", "prepared", "tool", "unknown"]

TOOLS = {
    known.name: known
    for known in (
        Tool("componentize-py", "pip", "Python, as WebAssembly components"),
        Tool("componentize-qjs", "npm", "JavaScript, as WebAssembly components"),
        Tool("esbuild", "npm", "JavaScript, as bundles"),
    )
}

_NAMED = re.compile(r"\{tool:([^{}]*)\}")


def tool(name: str) -> Tool:
    """A tool by its name.

    Raises:
        LoadError: There is none.
    """
    if name not in TOOLS:
        error = LoadError(f"there is no tool {name!r}")
        error.hint = unknown(name)
        raise error
    return TOOLS[name]


def unknown(name: str) -> str:
    """What to do about a name that is no tool's."""
    near = difflib.get_close_matches(name, TOOLS, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(TOOLS)}"


def named(command: str | tuple[str, ...]) -> list[str]:
    """The names that stand in a build as `{tool:NAME}`, each once."""
    words = (command,) if isinstance(command, str) else command
    return list(dict.fromkeys(name for word in words for name in _NAMED.findall(word)))


async def prepared(
    command: str | tuple[str, ...], tell: Callable[[str], object] = lambda text: None
) -> str | tuple[str, ...]:
    """A build as it can be run: with programs in the place of tools, which are fetched where they are not there yet.

    Args:
        command: For the shell, or an argument list; in one a tool is an argument of its own.
        tell: Told, in words, what takes a while.

    Raises:
        LoadError: There is no such tool, or it cannot be fetched.
    """
    found = {f"{{tool:{name}}}": await ensure(tool(name), tell) for name in named(command)}
    if isinstance(command, str):
        return _NAMED.sub(lambda match: shlex.join(found[match[0]]), command)
    return tuple(part for word in command for part in found.get(word, (word,)))
