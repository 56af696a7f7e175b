"""What comes before what, and which tasks somebody means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from loop_kit.errors import LoopError
from loop_kit.task._plan import Plan, Task

__all__ = ["closure", "edges", "find", "order"]


def edges(plan: Plan) -> dict[str, tuple[str, ...]]:
    """The tasks that come right before each task.

    Raises:
        ManifestError: One is not there, or tasks wait for each other in a circle.
    """
    found = {task.id: tuple(dict.fromkeys(_before(plan, task))) for task in plan.tasks.values()}
    circle = _circle(found)
    if circle:
        task = plan.tasks[circle[0]]
        shown = " → ".join((*circle, circle[0]))
        raise plan.error(
            *plan.keys(task, "deps"), f"tasks wait for each other: {shown}", "one of them must not"
        )
    return found


def _before(plan: Plan, task: Task) -> Iterable[str]:
    for dep in task.deps:
        if dep.startswith("^"):
            yield from _upstream(plan, task.member, dep[1:])
            continue
        wanted = dep if ":" in dep else f"{task.member}:{dep}"
        if wanted not in plan.tasks:
            raise plan.error(*plan.keys(task, "deps"), *_missing(plan, wanted))
        yield wanted


def _upstream(plan: Plan, member: str, name: str) -> Iterable[str]:
    """The tasks of a name of the members that one depends on, past those that have none."""
    waiting, seen = list(plan.depends[member]), {member}
    while waiting:
        at = waiting.pop(0)
        if at in seen:
            continue
        seen.add(at)
        if f"{at}:{name}" in plan.tasks:
            yield f"{at}:{name}"
        else:
            waiting += plan.depends[at]


def _missing(plan: Plan, wanted: str) -> tuple[str, str | None]:
    from loop_kit.manifest._shape import did_you_mean

    member, _, name = wanted.partition(":")
    if member not in plan.members:
        return f'there is no member "{member}"', did_you_mean(member, plan.members)
    own = [task.name for task in plan.tasks.values() if task.member == member]
    return f'{member} has no task "{name}"', did_you_mean(name, own) or (
        f"it has {', '.join(own)}" if own else None
    )


def _circle(before: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Some tasks that wait for each other, each for the next one; nothing, where there are none."""
    done: set[str] = set()
    for start in before:
        if start in done:
            continue
        path, on_path = [start], {start}
        iterators = [iter(before[start])]
        while iterators:
            following = next(iterators[-1], None)
            if following is None:
                iterators.pop()
                last = path.pop()
                on_path.discard(last)
                done.add(last)
            elif following in on_path:
                return path[path.index(following) :]
            elif following not in done:
                path.append(following)
                on_path.add(following)
                iterators.append(iter(before[following]))
    return []


def find(plan: Plan, names: Iterable[str], member: str) -> list[str]:
    """The tasks that names mean: `MEMBER:NAME` that one, `NAME` those of all members, or of the one that is meant.

    Args:
        plan: All tasks.
        names: The names.
        member: The folder of the member that is meant; "" for all.

    Raises:
        LoopError: There is none of a name.
    """
    found: dict[str, None] = {}
    for name in names:
        if ":" in name:
            some = [name] if name in plan.tasks else []
        else:
            some = [
                task.id
                for task in plan.tasks.values()
                if task.name == name and (not member or task.at == member)
            ]
        if not some:
            raise _unknown(plan, name, member)
        found.update(dict.fromkeys(some))
    return list(found)


def _unknown(plan: Plan, name: str, member: str) -> LoopError:
    from loop_kit.manifest._shape import nearest

    if ":" in name:
        error = LoopError(f"there is no task {name!r}")
        near = nearest(name, plan.tasks)
    else:
        names = {task.name for task in plan.tasks.values() if not member or task.at == member}
        error = LoopError(f"there is no task {name!r}" + (f" in {member}" if member else ""))
        near = nearest(name, names)
    error.hint = f"did you mean {near!r}?" if near else "`loop task --list` shows what there is"
    return error


def closure(before: Mapping[str, tuple[str, ...]], wanted: Iterable[str]) -> set[str]:
    """Tasks with all that comes before them."""
    found: set[str] = set()
    waiting = list(wanted)
    while waiting:
        task = waiting.pop()
        if task not in found:
            found.add(task)
            waiting += before[task]
    return found


def order(before: Mapping[str, tuple[str, ...]], tasks: Iterable[str]) -> list[str]:
    """Tasks so that each comes after those before it; otherwise in the order of the manifests."""
    some = set(tasks)
    wanted = dict.fromkeys(task for task in before if task in some)
    done: dict[str, None] = {}
    for start in wanted:
        waiting = [start]
        while waiting:
            task = waiting[-1]
            if task in done:
                waiting.pop()
                continue
            missing = [dep for dep in before[task] if dep in wanted and dep not in done]
            if missing:
                waiting += reversed(missing)
            else:
                done[task] = None
                waiting.pop()
    return list(done)
