"""`loop dev`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._locked import lock_options, made_ready
from loop_kit.cli._output import dim, examples, good, strong
from loop_kit.cli._workspace import manifest_option

if TYPE_CHECKING:
    from loop_kit.dev._events import Member, Place
    from loop_kit.dev._loop import Told

_PAGE = "127.0.0.1:7080"
_SHOWN = 3
"""Places that are shown of one failure."""
_LINES = 20
"""Last lines that are shown of what a build wrote where it names no place."""


@click.command(
    epilog=examples(
        ("loop dev", "the nearest workspace, and its page, until Ctrl-C"),
        ("loop dev -m examples/site --open", "another one, and open the page"),
        ("loop dev --page 127.0.0.1:0", "the page on any port that is free"),
    )
)
@manifest_option
@click.option(
    "--page",
    "address",
    default=_PAGE,
    show_default=True,
    metavar="ADDRESS",
    help="Where this machine's browsers find the page.",
)
@click.option("--no-page", is_flag=True, help="Serve no page.")
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
@click.option("--audit", is_flag=True, help="Log each use of a grant.")
@lock_options
def dev(
    manifest_path: Path | None,
    address: str,
    no_page: bool,
    opens: bool,
    audit: bool,
    locked: bool,
    offline: bool,
) -> None:
    """Run a workspace, and swap in what you change.

    Builds what is missing, runs what `loop run` would, and watches what it is all made of. A component whose inputs
    have changed is built anew; it, or a provider whose code has changed, is then exchanged while calls go on: what has
    begun ends in the old code. What cannot be built or loaded is shown with its file and line, and the old code serves
    on. The page shows the same in a browser; whoever has its URL can do what you can.

    Pages that components serve take up changes by themselves, unless `serve.live` is false in the manifest.
    """
    import asyncio
    import functools

    from loop_kit.cli._hosts import claimed
    from loop_kit.cli._workspace import manifest_file
    from loop_kit.cli.run import run_app
    from loop_kit.cli.up import show_line
    from loop_kit.dev import _loop
    from loop_kit.manifest import load

    manifest = made_ready(load(manifest_file(manifest_path)), locked=locked, offline=offline)
    with claimed(manifest) as attended:
        attend = functools.partial(
            attended,
            lines=_quiet(show_line),
            doing=lambda what: click.echo(what, err=True),
            ready=functools.partial(_ready, opens=opens),
        )
        settings = _loop.Settings(run_app, None if no_page else address, audit)
        asyncio.run(_loop.dev(manifest, attend, show, settings))


def _quiet(show: Callable[..., None]) -> Callable[[Mapping[str, Any], bool], None]:
    """Leaves out what is shown otherwise: members that come and go."""

    def line(line: Mapping[str, Any], refusal: bool = False) -> None:
        if line["target"] != "loop_kit.workspace" or line["level"] in ("warn", "error"):
            show(line, refusal)

    return line


def _ready(served: Mapping[str, str], *, opens: bool) -> None:
    for name, url in served.items():
        click.echo(f"{strong(name)} at {url}")
    click.echo(dim("watching; Ctrl-C stops"))
    sys.stdout.flush()
    if opens and "page" in served:
        click.launch(served["page"])


def show(event: Told) -> None:
    """Shows what happens on standard error."""
    from loop_kit.dev._events import Begun, Done, Failed, Fetching
    from loop_kit.dev._loop import Live, Unserved

    match event:
        case Begun():
            doing = "binding" if event.member.kind == "bind" else "building"
            _say(f"{doing} {_named(event.member)} …")
        case Fetching():
            _say(dim(event.text))
        case Done(fresh=True):
            done = "bound" if event.member.kind == "bind" else "built"
            _say(f"{done} {strong(_named(event.member))} {dim(f'in {event.milliseconds} ms')}")
        case Live():
            took = dim(f"in {event.milliseconds:.0f} ms")
            _say(f"{good('live')} {strong(event.member.name)} {took}")
        case Failed():
            fail(event.member.name, event.reason)
            for place in event.places[:_SHOWN]:
                _place(place)
            if not event.places:
                for text in event.output.rstrip().splitlines()[-_LINES:]:
                    _say(f"  {text}")
        case Unserved():
            fail(event.member.name, event.reason.rstrip())
            for place in event.places[:_SHOWN]:
                _place(place)


def _named(member: Member) -> str:
    """A member's name; of its types of WIT too, since it is said that it is bound."""
    return member.name.split(".")[1] if member.kind == "bind" else member.name


def _place(place: Place) -> None:
    at = f"{place.file}:{place.line}" + (f":{place.column}" if place.column else "")
    _say(f"  {click.style(at, fg='cyan')} {place.message}")
    for text in place.excerpt.splitlines():
        _say(f"    {text}")


def fail(name: str, reason: str) -> None:
    """Shows on standard error what is wrong with a member."""
    _say(f"{click.style('error:', fg='red', bold=True)} {strong(name)}: {reason}")


def _say(text: str) -> None:
    click.echo(text, err=True)
