"""`[tasks.NAME]` and what `[workspace]` says of them: what `loop task` runs, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loop_kit.manifest import model
from loop_kit.manifest._shape import Bool, Cursor, Either, Field, ListOf, MapOf, Shape, Table, Text
from loop_kit.manifest._text import ENV_NAME, NAME, SOURCE
from loop_kit.manifest._toml import string

__all__ = ["DEPENDS", "MEMBERS", "RESERVED", "task_table", "tasks"]

RESERVED = ("explain",)
"""Words that mean something else to `loop task`."""

_DEP = Text(
    'a task such as "codegen", "^build" or "member:task"',
    r"^(\^|[A-Za-z0-9][A-Za-z0-9_-]*:)?[A-Za-z0-9][A-Za-z0-9_-]*$",
    examples=("codegen", "^build", "web:build"),
)
_TOOL = Text("the name of a tool, or of a program in PATH", r"^[^\u0000\s/]+$", examples=("esbuild", "cargo"))
_FOLDER = Text(
    'a folder of the workspace, such as "packages/*"',
    r"^(?!/)(?!.*(^|/)\.\.(/|$))[^\u0000!]+$",
    examples=("packages/*", "apps/web"),
)
_REMOTE = Text(
    'a repository such as "registry.example/team/cache"',
    r"^[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$",
    examples=("registry.example/team/cache",),
)


def _inside(pattern: str, at: Cursor) -> str:
    if pattern.startswith("!"):
        at.problem("outputs are taken, not left out", "name what is written: several patterns may be given")
    elif ".." in pattern.split("/"):
        at.problem(
            "outputs are in the folder of loop.toml, or below", "give a task to the member whose folder it is"
        )
    elif pattern.split("/")[0] == "**":
        at.problem(
            "outputs are not everywhere",
            'name their folder, such as "dist/**", or their names, such as "*.js"',
        )
    else:
        return str(SOURCE.check(pattern, at))
    return pattern


_OUTPUT = Text('a pattern such as "dist/**"', r"^[^\u0000/][^\u0000]*$", _inside, ("dist/**",))


def _nothing_to_do(raw: Mapping[str, Any], at: Cursor) -> None:
    if "run" not in raw and not raw.get("deps"):
        at.problem(
            'neither "run" nor "deps": there is nothing to do', 'add run = ["PROGRAM", "ARGUMENT"]', at="key"
        )
    if "run" not in raw and "outputs" in raw:
        at.problem('"outputs" are what "run" writes, and there is none', "add it", at="key", child="outputs")


def task_table(word: Shape, command: Shape, whole: Callable[[Sequence[str], Cursor], None]) -> Table:
    """The table of a task, of which `run` is written as `build` of a component is."""
    return Table(
        "task",
        "A task: a command, what it reads and what it writes.",
        model.Task,
        {
            "run": Field(
                Either((ListOf(word, verify=whole, minimum=1), command)),
                "The command, run in the folder of loop.toml. A string goes to `sh`. `{tool:NAME}` is as in `build`.",
            ),
            "inputs": Field(
                ListOf(SOURCE),
                "Patterns of the files that it reads; by default all of the folder that git does not ignore.",
            ),
            "outputs": Field(
                ListOf(_OUTPUT), "Patterns of the files that it writes, which are kept and restored."
            ),
            "deps": Field(
                ListOf(_DEP),
                'Tasks that come before: "NAME" of the same member, "^NAME" of all members that this one depends on, '
                '"MEMBER:NAME".',
            ),
            "env": Field(ListOf(ENV_NAME), "Environment variables that it sees, and that count."),
            "tool": Field(
                Either((_TOOL, ListOf(_TOOL))),
                "Programs that count by what they are: a tool by its version, a program of PATH by its contents.",
            ),
            "cache": Field(Bool(), "Whether its result is kept; without, it runs each time.", default=True),
            "sandbox": Field(
                Bool(),
                "Whether it is kept from reading files of the workspace that it does not name.",
                default=True,
            ),
        },
        named=True,
        verify=_nothing_to_do,
    )


class _Tasks(MapOf):
    """Tasks by name."""

    def read(self, value: dict[str, object], at: Cursor) -> dict[str, Any]:
        for name in RESERVED:
            if isinstance(value.get(name), dict):
                at.problem(f"{string(name)} cannot be a task's name", "give it another", at="key", child=name)
        return super().read(value, at)


def tasks(table: Table, *, settings: bool) -> MapOf:
    """Tasks by name; with `settings`, those of a manifest as a whole, beside the repository of their results."""
    special = {"^cache$": _REMOTE} if settings else {}
    return _Tasks(table, special, key_pattern=NAME.pattern, key_expects=NAME.expects)


MEMBERS = Field(ListOf(_FOLDER), "Patterns of the folders of members, each with a loop.toml of its own.")
DEPENDS = Field(
    ListOf(NAME), "Members that this one depends on: `^NAME` among the `deps` of a task means theirs."
)
