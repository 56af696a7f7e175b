"""`loop logs`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from loop_kit.cli._hosts import complete_member, ended, host_of, moment
from loop_kit.cli._output import dim, examples, strong
from loop_kit.cli._workspace import manifest_option

_PAUSE = 0.1
_COLORS = {"warn": "yellow", "error": "red"}


@click.command(
    epilog=examples(
        ("loop logs", "the last 200 lines of the nearest workspace, also of one that has ended"),
        ("loop logs -f files", "what the provider `files` says, as it says it"),
        ("loop logs --since 10m --json", "of the last ten minutes, a JSON object a line"),
    )
)
@manifest_option
@click.option("-f", "--follow", is_flag=True, help="Go on until the workspace ends, or Ctrl-C.")
@click.option(
    "--since", metavar="TIME", help="From then on: `30s`, `10m`, `2h`, `1d`, or `2026-01-31T12:00`."
)
@click.option(
    "-n", "--lines", type=click.IntRange(0), help="So many at most.  [default: 200, or all of --since]"
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each line.")
@click.argument("members", metavar="[MEMBER]...", nargs=-1, shell_complete=complete_member)
def logs(
    manifest_path: Path | None,
    follow: bool,
    since: str | None,
    lines: int | None,
    as_json: bool,
    members: tuple[str, ...],
) -> None:
    """Show what a workspace and its members say.

    The log is a file that keeps the newest 8 to 16 MiB, and is there when the workspace has ended too. With members,
    only what these say; what components print to standard output is of no member.
    """
    from loop_kit.dev import _record
    from loop_kit.dev._log import Tail, last_words

    file, record = host_of(manifest_path)
    earliest = 0 if since is None else _earliest(since)
    wanted = _wanted(file, members, earliest)
    show = _printer(as_json)
    tail = Tail(_record.log_of(file))
    try:
        told = tail.begin()
        if record is None or not _record.alive(record):
            told += last_words(_record.log_of(file))
        told = [line for line in told if wanted(line)]
        keep = lines if lines is not None else 200 if since is None else len(told)
        for line in told[-keep:] if keep else ():
            show(line)
        if not told and not follow:
            click.echo(dim("nothing was logged"), err=True)
        while follow:
            lives = record is not None and _record.alive(record)
            for line in tail.more():
                if wanted(line):
                    show(line)
            if not lives:
                _, after = host_of(manifest_path)
                if after is None or after == record or not _record.alive(after):
                    break
                record = after  # it was started again
            time.sleep(_PAUSE)
        if follow:
            click.echo(dim(_over(record)), err=True)
    finally:
        tail.close()


def _over(record: Any) -> str:
    return "the workspace does not run" if record is None else _how(record)


def _how(record: Any) -> str:
    from loop_kit.dev import _record

    return ended(record) if _record.find(record.manifest) == record else "the workspace has ended"


def shown(line: Mapping[str, Any], *, clock: bool) -> str:
    """A line as people read it."""
    source = line["source"] or line["target"].removeprefix("loop_kit.")
    at = f"{dim(moment(line['time']))} " if clock and line["time"] else ""
    who = f"{strong(source)} {dim('|')} " if source else ""
    level = line["level"]
    said = f"{click.style(level, fg=_COLORS[level])} " if level in _COLORS else ""
    fields = "".join(f" {dim(f'{key}={value}')}" for key, value in line["fields"])
    return f"{at}{who}{said}{line['message']}{fields}"


def _printer(as_json: bool) -> Callable[[Mapping[str, Any]], None]:
    if as_json:
        return lambda line: click.echo(json.dumps({**line, "fields": dict(line["fields"])}))
    return lambda line: click.echo(shown(line, clock=True))


def _wanted(file: Path, members: tuple[str, ...], earliest: int) -> Callable[[Mapping[str, Any]], bool]:
    if members:
        from loop_kit.manifest import load

        manifest = load(file)
        known = {*manifest.components, *manifest.providers}
        for name in members:
            if name.partition(" ")[0] not in known:
                raise click.UsageError(f"there is no member {name!r}; there are {', '.join(sorted(known))}")

    def wanted(line: Mapping[str, Any]) -> bool:
        of = line["source"]
        return line["time"] >= earliest and (
            not members or any(of == name or of.startswith(f"{name} ") for name in members)
        )

    return wanted


def _earliest(text: str) -> int:
    """Milliseconds since 1970."""
    import datetime

    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    try:
        if text[-1:] in units and text[:-1].replace(".", "", 1).isdecimal():
            return int((time.time() - float(text[:-1]) * units[text[-1]]) * 1000)
        return int(datetime.datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        raise click.UsageError(
            f"--since {text!r}: expected `30s`, `10m`, `2h`, `1d` or `2026-01-31T12:00`"
        ) from None
