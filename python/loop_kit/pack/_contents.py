"""What would be in a package, without building or fetching anything."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from loop_kit.pack import _native, _node, _python
from loop_kit.pack._plan import Plan, problem

__all__ = ["contents"]

_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)


def contents(plan: Plan, targets: Sequence[str] = ()) -> tuple[list[tuple[str, int | None]], list[str]]:
    """What is to be packed.

    Returns:
        The files by their paths in the package, with their bytes (None: to be built); and, in words, what comes along
        from elsewhere.

    Raises:
        PackageError: A lock is not there, or cannot be read.
    """
    files: list[tuple[str, int | None]] = [(name, _size(path)) for name, path in plan.files.items()]
    more: list[str] = []
    if plan.wasm is not None:
        built = plan.component is not None and plan.component.build is not None
        files.append((f"{plan.name}.wasm", None if built else _size(plan.wasm)))
        if built and plan.component is not None and plan.component.build is not None:
            more.append(f"built by `{_shown(plan.component.build)}`")
    elif plan.kind == "python":
        if plan.pack.wheel is not None:
            files.append((plan.pack.wheel.name, _size(plan.pack.wheel)))
        lock = _python.requirements_of(plan)
        if lock is not None:
            found = _PINNED.findall(lock.read_text("utf-8", "replace"))
            more += [f"{name} {version}, as a wheel" for name, version in found]
    elif plan.kind == "node":
        project = _node.project_of(plan)
        package = None if project is None else _node.lock_of(project, plan.name)
        for name, said in sorted((package or {}).get("packages", {}).items()):
            if name and not said.get("dev"):
                more.append(f"{name.rpartition('node_modules/')[2]} {said.get('version', '')}, by npm")
    else:
        for triple in _native.triples(plan, targets):
            program = _native.program_of(plan, triple)
            files.append(
                (f"bin/{program.name} for {triple}", _size(program) if plan.pack.build is None else None)
            )
        if plan.pack.build is not None:
            more.append(f"built by `{_shown(plan.pack.build)}`")
    return sorted(files), more


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError as e:
        raise problem(f"there is no {path}: {e.strerror}", "build it first") from None


def _shown(command: str | tuple[str, ...]) -> str:
    return command if isinstance(command, str) else shlex.join(command)
