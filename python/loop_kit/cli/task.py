"""`loop task`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong, warn
from loop_kit.cli._progress import Progress
from loop_kit.cli._version import version_line
from loop_kit.cli._workspace import manifest_option

if TYPE_CHECKING:
    from loop_kit.task._job import Ended
    from loop_kit.task._session import Session

_EXPLAIN, _CLEAN = "explain", "clean"
_SHOWN = 12
"""Reasons that are shown of one task."""


class _Command(click.Command):
    """Takes `--affected` with or without a value, which must not be taken for the name of a task."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        marked = "--affected="
        given = [arg.replace(marked, "--since=", 1) if arg.startswith(marked) else arg for arg in args]
        return super().parse_args(ctx, given)


def _complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    try:
        from loop_kit.task._plan import plan
        from loop_kit.task._where import locate

        root, member = locate(ctx.params.get("manifest_path"))
        tasks = plan(root, {}).tasks.values()
    except Exception:
        return []  # the shell has nowhere to show an error
    names = {task.name for task in tasks if not member or task.at == member} | {task.id for task in tasks}
    return sorted(name for name in names if name.startswith(incomplete))


@click.command(
    cls=_Command,
    epilog=examples(
        ("loop task build", "the task of all members, or of the one whose folder this is"),
        ("loop task web:build lint", "that of one member, and another one"),
        ("loop task test --affected", "only what the branch has changed"),
        ("loop task build --watch", "again whenever something changes, until Ctrl-C"),
        ("loop task explain build", "what would run, and why"),
        ("loop task build --graph svg > tasks.svg", "a picture of what comes before what"),
        ("loop task --list", "what tasks there are"),
        ("loop task clean --size 1GB --age 7d", "remove old results; --all removes all"),
    ),
)
@click.argument("names", nargs=-1, metavar="[explain|clean] NAME...", shell_complete=_complete)
@manifest_option
@click.option("--list", "lists", is_flag=True, help="List the tasks.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("-f", "--force", is_flag=True, help="Run them even if nothing has changed.")
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 1024), help="How many run at once.  [default: processors]"
)
@click.option("-k", "--keep-going", is_flag=True, help="After a failure, go on with what does not need it.")
@click.option("--affected", is_flag=True, help="Only what git says has changed; =BASE: since that commit.")
@click.option("--since", hidden=True)
@click.option("-w", "--watch", is_flag=True, help="Run them again whenever something changes.")
@click.option("--replay", is_flag=True, help="Show what those wrote that need not run.")
@click.option("--graph", type=click.Choice(("mermaid", "dot", "svg")), help="Print what comes before what.")
@click.option("--size", metavar="SIZE", help="`clean`: so much may stay.  [default: 10GiB]")
@click.option("--age", metavar="TIME", help="`clean`: what was used within it may stay.  [default: 30d]")
@click.option("--all", "everything", is_flag=True, help="`clean`: nothing stays.")
@json_option
def task(
    names: tuple[str, ...],
    manifest_path: Path | None,
    size: str | None,
    age: str | None,
    everything: bool,
    lists: bool,
    graph: str | None,
    watch: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run tasks of the workspace, as far as something has changed.

    A task is a command with what it reads and writes, in [tasks] of loop.toml. It runs where its command, its files, its
    tools, its variables or a task before it has changed; where the same was made before, it is restored; otherwise
    nothing is done. Exits with 1 if one has failed.
    """
    if names == (_CLEAN,):
        _clean(size, age, everything, as_json)
        return
    if size or age or everything:
        raise click.UsageError("--size, --age and --all belong to `loop task clean`")
    from loop_kit.task._where import locate

    root, member = locate(manifest_path)
    explains = names[:1] == (_EXPLAIN,)
    names = names[1:] if explains else names
    since = options.pop("since")
    plain = not any(
        (lists, graph, watch, explains, since, *(options[o] for o in ("dry_run", "force", "affected")))
    )
    if not names and not lists and graph is None:
        raise click.UsageError(
            "name a task; `loop task --list` shows what there is", click.get_current_context()
        )
    asked = [member, *names]
    with _session(root, member) as session:
        if lists:
            _list(session, as_json)
            return
        wanted = _wanted(session, names, options.pop("affected"), since)
        if graph is not None:
            from loop_kit.task._picture import picture

            click.echo(picture(session.shown(wanted or list(session.plan.tasks)), graph))
            return
        if explains or options["dry_run"]:
            _explain(session, wanted, as_json, explains=explains)
            return
        if not watch:
            well = _run(session, wanted, asked if plain else None, as_json, options)
            raise SystemExit(0 if well else 1)
    _watch(root, member, names, as_json, options)


@contextlib.contextmanager
def _session(root: str, member: str) -> Iterator[Session]:
    from loop_kit.task._session import opened

    def waiting() -> None:
        click.echo(dim("waiting for another `loop task` in this workspace …"), err=True)

    with opened(root, member, version_line(), waiting=waiting) as session:
        yield session


def _clean(size: str | None, age: str | None, everything: bool, as_json: bool) -> None:
    from loop_kit._units import parse_duration, parse_size
    from loop_kit.cli._artifacts import amount
    from loop_kit.task._cache import Cache
    from loop_kit.task._clean import AGE, SIZE, clean

    cache = Cache()
    if everything and (size or age):
        raise click.UsageError("--all leaves nothing; --size and --age say what stays")
    try:
        most = parse_size(size) if size else SIZE
        within = parse_duration(age) if age else AGE
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    done = clean(cache, 0, 0, grace=0) if everything else clean(cache, most, within)
    if as_json:
        print_json({"path": cache.folder, **(asdict(done) if done is not None else {"busy": True})})
    elif done is None:
        click.echo(f"another process is cleaning {cache.folder}", err=True)
    else:
        left = f"{done.results} results stay, {amount(done.size)}"
        click.echo(f"{good('removed')} {done.removed} results, {amount(done.freed)}; {dim(left)}")


def _wanted(session: Session, names: tuple[str, ...], affected: bool, since: str | None) -> list[str]:
    wanted = session.find(names)
    if affected or since is not None:
        from loop_kit.task._git import changed

        found = session.affected(changed(session.plan.root, since))
        wanted = [name for name in wanted if name in found]
    return wanted


def _count(number: int) -> str:
    return f"{number} task" + ("" if number == 1 else "s")


def _list(session: Session, as_json: bool) -> None:
    plan = session.plan
    if as_json:
        found = [asdict(each) | {"before": session.before[each.id]} for each in plan.tasks.values()]
        print_json({"workspace": plan.root, "members": plan.members, "tasks": found})
        return
    if not plan.tasks:
        click.echo("there are no tasks; [tasks.NAME] in loop.toml makes one", err=True)
    width = max(map(len, plan.tasks), default=0)
    for each in plan.tasks.values():
        run = each.run if isinstance(each.run, str) else " ".join(each.run or ())
        click.echo(
            f"{strong(each.id.ljust(width))}  {run or dim('after ' + ', '.join(session.before[each.id]))}"
        )


def _explain(session: Session, wanted: list[str], as_json: bool, *, explains: bool) -> None:
    verdicts = session.judge(wanted, tell=_note)
    if as_json:
        print_json({"workspace": session.plan.root, "tasks": [asdict(verdict) for verdict in verdicts]})
        return
    words = {"fresh": dim("is up to date"), "cached": good("would be restored"), "run": warn("would run")}
    shown = verdicts if explains else [verdict for verdict in verdicts if verdict.how != "fresh"]
    for verdict in shown:
        click.echo(f"{strong(verdict.task)} {words[verdict.how]}")
        for reason in verdict.reasons[:_SHOWN] if explains else ():
            click.echo(f"  {reason}")
        if explains and len(verdict.reasons) > _SHOWN:
            click.echo(f"  and {len(verdict.reasons) - _SHOWN} more")
    if not shown:
        click.echo(f"{good('up to date')} {_count(len(verdicts))}", err=True)


def _run(
    session: Session, wanted: list[str], asked: list[str] | None, as_json: bool, options: dict[str, Any]
) -> bool:
    """Runs tasks, and says what comes of them; whether all went well."""
    began = time.perf_counter()
    alone = len(session.shown(wanted)) == 1
    ended: list[Ended] = []

    def said(task: str, line: str) -> None:
        if not as_json:
            click.echo(line if alone else f"{dim(f'{task} |')} {line}")
            sys.stdout.flush()

    progress = Progress()
    going = session.run(
        wanted,
        asked=asked,
        jobs=options["jobs"],
        keep_going=options["keep_going"],
        force=options["force"],
        said=said,
        tell=_note,
        progress=lambda done, of: progress.at(f"sharing results: {done} of {of} …"),
    )
    with progress, contextlib.closing(going):
        for each in going:
            if session.plan.tasks[each.task].run is None and each.how == "fresh":
                continue
            ended.append(each)
            if options["replay"] and each.how in ("fresh", "cached"):
                for line in (each.log or session.log(each.task)).splitlines():
                    said(each.task, line)
            if not as_json:
                _show(each)
    seconds = time.perf_counter() - began
    well = all(each.how not in ("failed", "skipped") for each in ended)
    if as_json:
        print_json(
            {
                "workspace": session.plan.root,
                "ok": well,
                "seconds": seconds,
                "tasks": list(map(asdict, ended)),
            }
        )
    else:
        _sum(ended, seconds, well)
    return well


def _note(text: str) -> None:
    click.echo(f"{warn('note:')} {text}", err=True)


def _show(ended: Ended) -> None:
    name = strong(ended.task)
    if ended.how == "ran":
        click.echo(f"{good('ran')} {name} {dim(f'in {_span(ended.seconds)}')}", err=True)
    elif ended.how == "failed":
        click.echo(f"{click.style('failed', fg='red', bold=True)} {name}: {ended.reason}", err=True)
    elif ended.how == "cached":
        click.echo(f"{dim('restored')} {name}", err=True)
    elif ended.how == "skipped":
        click.echo(f"{warn('skipped')} {name}: {ended.reason}", err=True)
    for note in ended.notes:
        click.echo(f"  {warn('note:')} {note}", err=True)


def _sum(ended: list[Ended], seconds: float, well: bool) -> None:
    words = {
        "ran": "ran",
        "cached": "restored",
        "fresh": "up to date",
        "failed": "failed",
        "skipped": "skipped",
    }
    counts = [f"{n} {word}" for how, word in words.items() if (n := sum(each.how == how for each in ended))]
    whole = good("done") if well else click.style("failed", fg="red", bold=True)
    if not ended:
        click.echo(f"{whole} nothing to do", err=True)
    elif well and len(ended) == sum(each.how == "fresh" for each in ended):
        click.echo(f"{good('up to date')} {_count(len(ended))}", err=True)
    else:
        click.echo(f"{whole} {', '.join(counts)} {dim(f'in {_span(seconds)}')}", err=True)


def _span(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _watch(root: str, member: str, names: tuple[str, ...], as_json: bool, options: dict[str, Any]) -> None:
    from loop_kit.task._watch import changes

    first = True
    try:
        for _ in changes(root):
            with _session(root, member) as session:
                if first or any(
                    verdict.how != "fresh" for verdict in session.judge(session.find(names), ask=False)
                ):
                    _run(session, session.find(names), None, as_json, options)
            if first:
                click.echo(dim("watching; Ctrl-C stops"), err=True)
            first = False
    except KeyboardInterrupt:
        return
