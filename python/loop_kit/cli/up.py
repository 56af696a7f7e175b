"""`loop up`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._locked import lock_options, made_ready
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong
from loop_kit.cli._serving import serve_until_stopped
from loop_kit.cli._workspace import manifest_file, manifest_option

if TYPE_CHECKING:
    from loop_kit.manifest import Manifest

_READY = "LOOP_UP_READY"
"""Names the descriptor to which a detached host writes how far it is."""
_LAST = 20


@click.command(
    epilog=examples(
        ("loop up", "the nearest workspace, until Ctrl-C"),
        ("loop up --detach", "… in the background: `loop ps`, `loop logs -f`, `loop down`"),
        ("loop up -m examples/site", "another workspace"),
    )
)
@manifest_option
@click.option("-d", "--detach", is_flag=True, help="Return once it is ready, and let it run.")
@click.option("--audit", is_flag=True, help="Log each use of a grant.")
@lock_options
@json_option
def up(
    manifest_path: Path | None, detach: bool, audit: bool, locked: bool, offline: bool, as_json: bool
) -> None:
    """Run a workspace that other commands can look after.

    It does what `loop run` does with a workspace, and has a control plane besides: `loop ps` shows its members, `loop
    logs` what they say, `loop restart` restarts one and `loop down` ends them all. A workspace runs once: where it
    runs already, `--detach` says so and exits with 0, and without it the exit code is 1.
    """
    from loop_kit.dev import _record
    from loop_kit.manifest import load

    file = manifest_file(manifest_path)
    left = _record.find(file)
    if as_json and not detach:
        raise click.UsageError("--json goes with --detach: what a host in the foreground says is its log")
    if detach:
        if left is not None and _record.alive(left):
            if as_json:
                print_json({"state": "up", "pid": left.pid, "began": False, "served": {}})
            else:
                click.echo(f"{strong(left.name)} runs already {dim(f'(process {left.pid})')}")
            return
        # what is wrong with it is told here, and what is missing fetched
        made_ready(load(file), locked=locked, offline=offline)
        flags = {"--audit": audit, "--locked": locked, "--offline": offline}
        sys.exit(_detached(file, [flag for flag, given in flags.items() if given], as_json))
    manifest = made_ready(load(file), locked=locked, offline=offline)
    sys.exit(_attached(manifest, audit))


def _attached(manifest: Manifest, audit: bool) -> int:
    import asyncio
    import functools

    from loop_kit.cli._hosts import claimed
    from loop_kit.cli.run import run_app
    from loop_kit.dev import _host

    told = _told_of(os.environ.pop(_READY, None))
    with claimed(manifest) as attended:
        attend = functools.partial(
            attended,
            detached=told is not None,
            lines=None if told is not None else show_line,
            doing=told.doing if told is not None else lambda what: click.echo(what, err=True),
            ready=told.ready if told is not None else lambda _: None,
        )
        return asyncio.run(_host.run(manifest, serve_until_stopped, run_app, attend, audit=audit))


def show_line(line: Mapping[str, Any], _refusal: bool = False) -> None:
    """Shows a line of the log, unless it is for whoever looks for a fault."""
    from loop_kit.cli.logs import shown

    if line["level"] not in ("trace", "debug"):
        click.echo(shown(line, clock=False), err=True)


class _Told:
    """Whoever started this host in the background, and waits until it is ready."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor

    def doing(self, what: str) -> None:
        self._say({"doing": what})

    def ready(self, served: Mapping[str, str]) -> None:
        self._say({"ready": dict(served)})
        os.close(self._descriptor)
        self._descriptor = -1

    def _say(self, what: Mapping[str, Any]) -> None:
        if self._descriptor >= 0:
            try:
                os.write(self._descriptor, f"{json.dumps(what)}\n".encode())
            except OSError:
                return  # nobody waits any more


def _told_of(descriptor: str | None) -> _Told | None:
    return _Told(int(descriptor)) if descriptor is not None and descriptor.isdigit() else None


def _detached(file: Path, flags: Sequence[str], as_json: bool) -> int:
    """Starts the workspace in a process and session of its own; returns once it is ready, or has ended."""
    from loop_kit.dev import _record
    from loop_kit.dev._log import Tail, last_words, open_output

    path = _record.log_of(file)
    tail = Tail(path)
    tail.begin(0)
    output = open_output(path)
    reader, writer = os.pipe()
    argv = [
        sys.executable,
        "-m",
        "loop_kit.cli",
        "up",
        "-m",
        str(file.resolve()),
        *flags,
    ]
    with os.fdopen(reader, "r", encoding="utf-8") as ready:
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, _READY: str(writer)},
                pass_fds=(writer,),
                start_new_session=True,
            )
        finally:
            os.close(output)
            os.close(writer)
        try:
            for line in ready:
                said = json.loads(line)
                if "doing" in said:
                    click.echo(said["doing"], err=True)
                if "ready" in said:
                    _say_ready(child.pid, said["ready"], as_json)
                    child.returncode = 0  # it is not ours to wait for
                    return 0
            code = child.wait()
        except KeyboardInterrupt:
            child.returncode = 0
            click.echo("it goes on in the background: `loop ps` shows it, `loop down` ends it", err=True)
            raise
    if code == 0:
        if as_json:
            print_json({"state": "down", "pid": child.pid, "began": True, "served": {}})
        else:
            click.echo("it has run to its end")
        return 0
    _say_failed(tail.more() + last_words(path), code)
    return code if code > 0 else 128 - code


def _say_ready(pid: int, served: Mapping[str, str], as_json: bool) -> None:
    if as_json:
        print_json({"state": "up", "pid": pid, "began": True, "served": served})
        return
    click.echo(f"{good('up')} in the background {dim(f'(process {pid})')}")
    for name, url in served.items():
        click.echo(f"{strong(name)} at {url}")


def _say_failed(lines: list[dict[str, Any]], code: int) -> None:
    from loop_kit.cli.logs import shown

    how = f"exited with {code}" if code > 0 else f"was killed by signal {-code}"
    click.echo(
        f"{click.style('error:', fg='red', bold=True)} it {how} before it was ready; its last lines:",
        err=True,
    )
    for line in lines[-_LAST:]:
        click.echo(f"  {shown(line, clock=False)}", err=True)
