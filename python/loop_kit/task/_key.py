"""What a result depends on, and its key: of the same parts it is the same, on every machine of a kind."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loop_kit.task._looks import Looks
from loop_kit.task._plan import Plan, Task
from loop_kit.task._where import FILE, path_of, real_program

if TYPE_CHECKING:
    from loop_kit.pkg import Tools

__all__ = ["Parts", "differences", "environment", "installed", "packages", "program", "told", "tools_of"]

FORMAT = 1

PASSED = (
    "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TERM", "TZ", "NO_COLOR", "CI",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "SSH_AUTH_SOCK",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
"""Variables that every task sees, and that do not count. There are PATH and TMPDIR besides."""

_INSTALLED = (".package-lock.json", ".modules.yaml", ".yarn-state.yml")
"""What says which packages are installed in a folder that is no input."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the result of a task depends on.

    Attributes:
        command: What runs, where, and what it makes; on which kind of machine.
        env: Digests of the variables that count; None for one that is not set.
        tools: Versions, or digests, of the programs that count.
        inputs: Digests of its inputs by path, from the workspace's folder.
        deps: Keys of the tasks before it.
    """

    command: dict[str, Any]
    env: dict[str, str | None]
    tools: dict[str, str]
    inputs: dict[str, str | None]
    deps: dict[str, str]

    def key(self) -> str:
        """The key, in hex."""
        # what tasks are called counts for nothing, as what folders lead to the workspace
        parts = [FORMAT, self.command, self.env, self.tools, self.inputs, sorted(self.deps.values())]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def json(self) -> dict[str, Any]:
        """As `differences` takes it."""
        return {
            "command": self.command,
            "env": self.env,
            "tools": self.tools,
            "inputs": self.inputs,
            "deps": self.deps,
        }


def told(looks: Looks, task: Task, deps: Mapping[str, str], tools: Mapping[str, str]) -> Parts:
    """What the result of a task depends on now.

    Args:
        looks: The workspace's files.
        task: The task.
        deps: Keys of the tasks before it.
        tools: What `program` says of its tools.
    """
    machine = os.uname()
    run = list(task.run) if isinstance(task.run, tuple) else task.run
    command: dict[str, Any] = {"run": run, "at": task.at, "outputs": sorted(task.outputs)}
    if task.run is not None:
        command["on"] = f"{machine.sysname}-{machine.machine}"
    inputs = {path: looks.digest(path) for path in looks.inputs(task)}
    for path in installed(looks, task):
        if (digest := looks.digest(path)) is not None:
            inputs[path] = digest
    return Parts(
        command,
        {name: _digest(os.environ.get(name)) for name in sorted(task.env)},
        dict(tools),
        inputs,
        dict(deps),
    )


def installed(looks: Looks, task: Task) -> list[str]:
    """Files that say which packages a task finds in `node_modules`, of its folder and those above.

    Where there is no such folder, its own path.
    """
    found: list[str] = []
    at = task.at
    while task.run is not None:
        folder = f"{at}/node_modules" if at else "node_modules"
        if looks.is_folder(folder):
            found += [f"{folder}/{name}" for name in _INSTALLED]
        else:
            found.append(folder)
        if not at:
            break
        at = os.path.dirname(at)
    return found


def _digest(value: str | None) -> str | None:
    # the value may be a secret
    return None if value is None else hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()


def environment(task: Task, scratch: str) -> dict[str, str]:
    """The variables that a task sees.

    Args:
        task: The task.
        scratch: A folder for its temporary files.
    """
    found = {name: os.environ[name] for name in (*PASSED, *task.env) if name in os.environ}
    return found | {"PATH": path_of(), "TMPDIR": scratch}


def tools_of(task: Task) -> list[str]:
    """The programs that count: those that it names, and those that its command has as `{tool:NAME}`."""
    if "{tool:" not in str(task.run):
        return list(task.tools)
    from loop_kit.pkg import named

    return list(dict.fromkeys((*task.tools, *named(task.run))))


def packages(plan: Plan, at: str) -> Tools:
    """What `{tool:NAME}` means in a folder of the workspace: by its own packages, or those of the workspace."""
    from pathlib import Path

    from loop_kit.pkg import Asked, Scope, Tools

    def scope(at: str) -> Scope:
        asked = {alias: Asked.parse(text, alias) for alias, text in plan.packages.get(at, {}).items()}
        return Scope(Path(plan.root, at, FILE), asked)

    return Tools(scope(at), lambda: scope("") if at else None)


def program(looks: Looks, tools: Tools, name: str, *, installed: bool) -> tuple[str, str]:
    """What a tool is: its path, "" for one that is installed, and its version or the digest of its contents.

    Args:
        looks: The workspace's files.
        tools: Those of the task's folder.
        name: Of a tool, or else of a program of PATH.
        installed: Whether it may not be one of PATH.

    Raises:
        NoTool: There is none.
        LoadError: It is not locked, or there is none of this name in PATH.
    """
    if installed or tools.has(name):
        return "", tools.identity(name)
    found = real_program(name)
    if found is None:
        from loop_kit.errors import LoadError

        error = LoadError(f"there is no program {name!r} in PATH, and no tool of this name")
        error.hint = "install it, or take it out of `tool`"
        raise error
    path = os.path.relpath(found, looks.root)
    return path, looks.digest(path) or "gone"


def differences(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Iterator[str]:
    """What is another than it was, in words."""
    if before is None:
        yield "it has not run here yet"
        return
    for what in sorted(before["command"].keys() | now["command"].keys()):
        if before["command"].get(what) != now["command"].get(what):
            words = {"run": "command", "outputs": "list of outputs", "at": "folder", "on": "kind of machine"}
            yield f"the {words.get(what, what)} is another"
    for kind, noun in (
        ("env", "variable"),
        ("tools", "tool"),
        ("inputs", "file"),
        ("deps", "task before it"),
    ):
        then, today = before[kind], now[kind]
        for name in sorted(then.keys() | today.keys()):
            if then.get(name) == today.get(name):
                continue
            absent = (None, "")
            if then.get(name) in absent:
                yield f"{noun} {name} is new"
            elif today.get(name) in absent:
                yield f"{noun} {name} is gone"
            else:
                yield f"{noun} {name} has changed"
