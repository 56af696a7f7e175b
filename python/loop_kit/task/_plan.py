"""What tasks there are: the manifests of a workspace and its members, each read again only when it has changed."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loop_kit.task._stat import signature
from loop_kit.task._where import FILE

__all__ = ["Plan", "Task", "plan"]

MOST_MEMBERS = 10_000

Parsed = dict[str, Any]
"""What a manifest says of tasks, as JSON has it."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a workspace.

    Attributes:
        id: `MEMBER:NAME`.
        member: The member's name.
        name: Its own.
        at: The member's folder, from the workspace's; "" for that itself.
        run: The command, or None.
        inputs: Patterns, or None for all of the folder.
        outputs: Patterns.
        deps: As written.
        env: Names of variables.
        tools: Programs that count.
        cache: Whether its result is kept.
        sandbox: Whether it is held to what it names.
        shared: Whether it stands in the workspace's manifest for its members.
    """

    id: str
    member: str
    name: str
    at: str
    run: str | tuple[str, ...] | None
    inputs: tuple[str, ...] | None
    outputs: tuple[str, ...]
    deps: tuple[str, ...]
    env: tuple[str, ...]
    tools: tuple[str, ...]
    cache: bool
    sandbox: bool
    shared: bool = False


@dataclass(slots=True)
class Plan:
    """All tasks of a workspace.

    Attributes:
        root: The workspace's folder.
        tasks: By id, in the order of the manifests.
        members: Folders from the workspace's, by name.
        depends: Names of the members that each depends on.
        packages: What manifests ask for in `[packages]`, by their folders and then by alias; none is empty.
        watch: Paths, from the workspace's folder, whose change may change the plan.
        parsed: What to hand over next time.
        results: The repository of results, or None.
        trust: A digest of the policy of what comes from registries, or None.
        before: The time before which a manifest must have changed last to be handed over.
    """

    root: str
    tasks: dict[str, Task] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    depends: dict[str, tuple[str, ...]] = field(default_factory=dict)
    packages: dict[str, dict[str, str]] = field(default_factory=dict)
    watch: list[str] = field(default_factory=list)
    parsed: dict[str, Any] = field(default_factory=dict)
    results: str | None = None
    trust: str | None = None
    before: int = 0

    def error(self, member: str, keys: tuple[str, ...], message: str, hint: str | None = None) -> Exception:
        """An error that points at a key of a member's manifest."""
        from loop_kit.manifest import load

        return load(os.path.join(self.root, self.members[member])).error(keys, message, hint)

    def keys(self, task: Task, *more: str) -> tuple[str, tuple[str, ...]]:
        """Whose manifest a task stands in, and where: the first arguments of `error`."""
        if task.shared:
            return next(iter(self.members)), ("workspace", "tasks", task.name, *more)
        return task.member, ("tasks", task.name, *more)


def plan(root: str, kept: Mapping[str, Any], before: int = 0) -> Plan:
    """Reads the manifests of a workspace.

    Args:
        root: Its folder.
        kept: `Plan.parsed` of last time.
        before: The time before which a manifest must have changed last to be kept: see `clock`.

    Raises:
        ManifestError: One is wrong, or two members have one name.
    """
    made = Plan(root, before=before)
    top = _parse(made, "", kept)
    _add(made, "", top, {})
    made.results, made.trust = top["results"], top["trust"]
    made.watch.append(top["policy"][0])
    for at in _folders(made, top["members"]):
        if len(made.members) > MOST_MEMBERS:
            raise made.error(top["name"], ("workspace", "members"), f"more than {MOST_MEMBERS} folders")
        parsed = _parse(made, at, kept)
        if parsed["name"] in made.members:
            other = made.members[parsed["name"]] or "the workspace"
            hint = "give one of them another: [workspace] name"
            raise _misnamed(made, at, f'"{parsed["name"]}" is the name of {other} too', hint)
        _add(made, at, parsed, top["shared"])
    for member, depends in made.depends.items():
        for other in depends:
            if other not in made.members:
                from loop_kit.manifest._shape import did_you_mean

                near = did_you_mean(other, made.members)
                raise made.error(member, ("workspace", "depends"), f'there is no member "{other}"', near)
    return made


def _misnamed(made: Plan, at: str, message: str, hint: str) -> Exception:
    from loop_kit.manifest import load

    return load(os.path.join(made.root, at)).error(("workspace", "name"), message, hint)


def _add(made: Plan, at: str, parsed: Parsed, shared: Mapping[str, Any]) -> None:
    member = parsed["name"]
    made.members[member] = at
    made.depends[member] = tuple(parsed["depends"])
    if parsed["packages"]:
        made.packages[at] = parsed["packages"]
    for name, said in {**shared, **parsed["tasks"]}.items():
        run, inputs = said["run"], said["inputs"]
        made.tasks[f"{member}:{name}"] = Task(
            f"{member}:{name}",
            member,
            name,
            at,
            tuple(run) if isinstance(run, list) else run,
            None if inputs is None else tuple(inputs),
            tuple(said["outputs"]),
            tuple(said["deps"]),
            tuple(said["env"]),
            tuple(said["tool"]),
            said["cache"],
            said["sandbox"],
            name not in parsed["tasks"],
        )


def _parse(made: Plan, at: str, kept: Mapping[str, Any]) -> Parsed:
    path = f"{at}/{FILE}" if at else FILE
    found = signature(os.path.join(made.root, path))
    known = kept.get(path)
    policy = None if at else _policy(made.root)
    if known is not None and tuple(known[0]) == found and known[1]["policy"] == policy:
        parsed: Parsed = known[1]
    else:
        parsed = _read(os.path.join(made.root, path))
        parsed["policy"] = policy
    made.watch.append(path)
    if found is not None and found[3] < made.before:
        made.parsed[path] = [found, parsed]
    return parsed


def _policy(root: str) -> list[Any]:
    """Where the user's own policy is, which may be the workspace's too, and its signature."""
    from loop_kit.trust._where import policy_file

    path = os.path.relpath(policy_file(), root)
    found = signature(os.path.join(root, path))
    return [path, None if found is None else list(found)]


def _read(path: str) -> Parsed:
    import hashlib
    from dataclasses import asdict

    from loop_kit.manifest import load

    manifest = load(path)

    def said(tasks: Mapping[str, Any]) -> dict[str, Any]:
        found = {name: asdict(task) for name, task in tasks.items()}
        for task in found.values():
            del task["name"]
            task["tool"] = [task["tool"]] if isinstance(task["tool"], str) else task["tool"]
        return found

    return {
        "name": manifest.name,
        "members": list(manifest.members),
        "depends": list(manifest.depends),
        "tasks": said(manifest.tasks),
        "shared": said(manifest.member_tasks),
        "results": manifest.results,
        "packages": {alias: str(asked) for alias, asked in manifest.packages.items()},
        "trust": None
        if manifest.trust is None
        else hashlib.sha256(repr(manifest.trust).encode()).hexdigest(),
    }


def _folders(made: Plan, patterns: Iterable[str]) -> list[str]:
    """The folders of members, in the order of the patterns."""
    found: dict[str, None] = {}
    for pattern in patterns:
        for at in _expanded(made, "", [part for part in pattern.split("/") if part not in ("", ".")]):
            if at:
                made.watch.append(f"{at}/{FILE}")
                if os.path.isfile(os.path.join(made.root, at, FILE)):
                    found[at] = None
    return list(found)


def _expanded(made: Plan, at: str, parts: list[str]) -> Iterable[str]:
    if not parts:
        yield at
        return
    part, *rest = parts
    start = f"{at}/" if at else ""
    if not any(c in part for c in "*?["):
        yield from _expanded(made, start + part, rest)
        return
    made.watch.append(at or ".")
    try:
        with os.scandir(os.path.join(made.root, at)) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return
    for name in names:
        if fnmatch.fnmatchcase(name, part) and not name.startswith("."):
            yield from _expanded(made, start + name, rest)
