"""Runs a build's command: in a group of its own, which ends with it, with whoever waits for it, and with the host."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loop_kit import _core
from loop_kit._kept import Kept
from loop_kit.dev._files import below
from loop_kit.errors import LoadError
from loop_kit.manifest import Component
from loop_kit.pkg import Tools
from loop_kit.placements._exit import Exit
from loop_kit.placements._watchdog import Watchdog

__all__ = ["Command", "Ran", "check", "make", "prepared", "run", "work_and_words", "work_of"]

Command = str | tuple[str, ...]
"""A string for the shell, or an argument list."""

KEPT = 128 << 10
"""Bytes of output that are kept: the first half of them, and the last."""

_CHUNK = 64 << 10

_CD = re.compile(r"\s*cd\s+(?P<folder>'[^']+'|\"[^\"$`]+\"|[^\s;&|'\"$`~]+)\s*(?:&&|;)")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended.

    Attributes:
        exit: Its exit.
        output: What it wrote to its standard output and error, together.
    """

    exit: Exit
    output: str

    @property
    def ok(self) -> bool:
        """Whether it exited with 0."""
        return self.exit.code == 0


async def run(command: Command, folder: Path) -> Ran:
    """Runs a command to its end; whoever gives up waiting ends its whole group, and waits until it is gone.

    `python` and installed tools are those of this interpreter. What the command leaves running is ended with it.

    Args:
        command: The command.
        folder: Where it runs.

    Raises:
        OSError: It cannot be started.
    """
    argv = _argv(command)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    env = {**os.environ, "PATH": path}
    # a program with a slash is one of the folder
    named = os.path.join(folder, argv[0]) if "/" in argv[0] else argv[0]
    program = shutil.which(named, path=path)
    if program is None:
        raise FileNotFoundError(2, "No such file or directory", argv[0])
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    output = Kept(KEPT)
    reader, writer = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reader)
        with contextlib.ExitStack() as theirs:
            theirs.callback(os.close, writer)
            stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            theirs.callback(os.close, stdin)
            watchdog = Watchdog.acquire()
            stack.callback(watchdog.release)
            fds = [stdin, writer, writer]
            child = _core.Child.spawn(
                program, argv, list(env.items()), os.fspath(folder), fds, watchdog.fileno()
            )
        os.set_blocking(reader, False)

        def read() -> None:
            with contextlib.suppress(BlockingIOError):
                data = os.read(reader, _CHUNK)
                output.feed(data)
                if not data:
                    loop.remove_reader(reader)

        end_of = child.fileno()

        def end() -> None:
            loop.remove_reader(end_of)
            ended.set()

        loop.add_reader(reader, read)
        stack.callback(loop.remove_reader, reader)
        loop.add_reader(end_of, end)
        try:
            await ended.wait()
        except asyncio.CancelledError:
            child.signal(signal.SIGKILL)
            await _surely(ended)
            raise
        finally:
            code, by = child.exit() or (None, None)
            loop.remove_reader(end_of)
            del child  # an error that holds this frame must not hold its descriptor
        # what left the group may hold the other end, so that no end would come
        with contextlib.suppress(BlockingIOError):
            while data := os.read(reader, _CHUNK):
                output.feed(data)
    return Ran(Exit(code, by), output.text().rstrip())


def _argv(command: Command) -> list[str]:
    return [os.environ.get("SHELL", "/bin/sh"), "-c", command] if isinstance(command, str) else list(command)


async def _surely(ended: asyncio.Event) -> None:
    """Waits for what is sure to come soon, however often the task is cancelled meanwhile."""
    waiting = asyncio.ensure_future(ended.wait())
    while not waiting.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(waiting)


async def prepared(
    component: Component, tools: Tools, tell: Callable[[str], object] = lambda text: None
) -> Command:
    """A component's build as `run` takes it: its tools are there, and so is the folder that it writes to.

    Args:
        component: One that has a `build`.
        tools: Those of its workspace.
        tell: Told, in words, what takes a while.

    Raises:
        LoadError: There is no such tool, or it cannot be installed.
    """
    assert component.build is not None
    command = await tools.prepared(component.build, tell)
    with contextlib.suppress(OSError):  # the build says it in its own words
        component.path.parent.mkdir(parents=True, exist_ok=True)
    return command


def work_of(build: str | tuple[str, ...], folder: Path) -> Path:
    """The folder that a build of the manifest in `folder` works in."""
    return work_and_words(build, folder)[0]


@functools.lru_cache(1024)
def work_and_words(build: str | tuple[str, ...], folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder of the workspace that a build works in, and the words of its command."""
    if not isinstance(build, str):
        return folder, build
    found = _CD.match(build)
    work = folder
    if found is not None:
        named = Path(os.path.normpath(folder / found["folder"].strip("'\"")))
        # whether or not it is there now
        if below(str(named), str(folder)):
            work, build = named, build[found.end() :]
    try:
        lexer = shlex.shlex(build, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        return work, tuple(lexer)
    except ValueError:
        return work, tuple(build.split())


async def make(component: Component, folder: Path, tools: Tools) -> Ran | None:
    """Runs a component's `build`, if it has one, and makes sure that the component is there.

    Raises:
        LoadError: A tool cannot be installed; or the command cannot be started, fails, or leaves no component.
    """
    ran = None
    if component.build is not None:
        command = await prepared(component, tools)
        try:
            ran = await run(command, folder)
        except OSError as e:
            program, why = _argv(component.build)[0], e.strerror or str(e)
            raise LoadError(f"building {component.name}: cannot start {program!r}: {why}") from None
        if not ran.ok:
            shown = component.build if isinstance(component.build, str) else shlex.join(component.build)
            raise LoadError(f"building {component.name}: `{shown}` {ran.exit.reason}\n{ran.output}")
    check(component, component.path)
    return ran


def check(component: Component, path: Path) -> None:
    """Raises LoadError where the file that a component is to be loaded from is not there."""
    if component.artifact is not None:
        from loop_kit.store.loading import entry_of

        entry_of(f"components.{component.name}", component.artifact)
    if not path.is_file():
        hint = "its build did not make it" if component.build else "build it, or give it a `build`"
        raise LoadError(f"component {component.name}: there is no {path}: {hint}")
