"""Says what the commands of a workspace are, and runs them: each within bounds of its own, while all else goes on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loop_kit._shipped import shipped
from loop_kit._types import Err
from loop_kit.dev._command import run as run_program
from loop_kit.dev._log import shown
from loop_kit.dev._registry import BUILT_IN, Offered, offered
from loop_kit.dev._view import View
from loop_kit.errors import DeadlineExceeded, LimitExceeded, LoopError, NoSuchExport
from loop_kit.host import App
from loop_kit.limits import Limits
from loop_kit.manifest._shape import nearest
from loop_kit.workspace import Workspace

if TYPE_CHECKING:
    from loop_kit.dev._devserver import Devserver

__all__ = ["MOST_OUTPUT", "Commands"]

INTERFACE = "loop:devserver/command"
MOST_AT_ONCE = 8
"""Commands that run at once; one more is refused."""
MOST_ARGS = 64 << 10
"""Characters of all arguments together."""
MOST_OUTPUT = 1 << 20
"""Characters of output; what is longer is cut."""
MOST_TOLD = 256
"""Commands that are looked at of one component, to find one."""
LONGEST = 200
"""Characters of a summary, and of a line of usage."""
PATIENCE = 60.0
"""Seconds that a command of loop-kit's own may take. A component has its `deadline`."""
ASKING = 5.0
"""Seconds in which a component must say what its commands are."""

_TRAPPED, _LATE = 134, 124  # as `loop run` and `timeout` have it


class Commands:
    """The commands of one workspace; on its event loop alone.

    Args:
        workspace: The workspace.
        devserver: What commands that ship with loop-kit look at.
    """

    def __init__(self, workspace: Workspace, devserver: Devserver) -> None:
        self._workspace = workspace
        self._devserver = devserver
        self._shipped: dict[str, asyncio.Task[App]] = {}
        self._running = 0

    async def all(self) -> list[dict[str, str]]:
        """All commands, each with `name`, `summary` and `usage`; components that are not loaded yet are.

        The summary of one that cannot be loaded, or does not say, is why.
        """
        every = offered(self._workspace.manifest.commands)
        components = {one.component: one for one in every.values() if one.component}
        told = await asyncio.gather(*map(self._ask, components.values()))
        by_component = dict(zip(components, told, strict=True))
        return [_about(one, by_component.get(one.component)) for one in every.values()]

    async def run(self, name: str, args: Sequence[str]) -> tuple[int, str]:
        """Runs a command to its end; its exit code, and what it said, without what a terminal would obey.

        A component that traps, or goes on for longer than it may, ends with 134 or 124, and says so.

        Raises:
            Err: Why it did not run, in words.
        """
        every = offered(self._workspace.manifest.commands)
        if name not in every:
            near = nearest(name, every)
            raise Err(f"there is no command {name!r}" + (f"; did you mean {near!r}?" if near else ""))
        if sum(map(len, args)) + len(args) > MOST_ARGS:
            raise Err(f"the arguments have more than {MOST_ARGS} characters")
        if self._running >= MOST_AT_ONCE:
            raise Err(f"{MOST_AT_ONCE} commands run already; wait until one has ended")
        self._running += 1
        try:
            if every[name].kind == "loop":
                code, output = await self._program(name, args)
            else:
                code, output = await self._component(every[name], args)
        finally:
            self._running -= 1
        return code, _cut(output)

    async def _program(self, name: str, args: Sequence[str]) -> tuple[int, str]:
        """Runs a command of loop-kit's own as a process, which nobody here has to wait for."""
        manifest = self._workspace.manifest
        argv = (sys.executable, "-m", "loop_kit.cli", "x", "-m", str(manifest.path), name, *args)
        try:
            async with asyncio.timeout(PATIENCE):
                ran = await run_program(argv, manifest.folder)
        except TimeoutError:
            return _LATE, f"{name} went on for {PATIENCE:.0f} s, and was ended\n"
        except OSError as error:
            raise Err(f"{name} cannot be started: {error.strerror}") from None
        code, by = ran.exit.code, ran.exit.signal
        return code if code is not None else 128 + (by or 0), ran.output + "\n" if ran.output else ""

    async def _component(self, command: Offered, args: Sequence[str]) -> tuple[int, str]:
        app = await self._loaded(command)
        said = f"{command.name} of {command.component}"
        try:
            code, output = await app.call(f"{INTERFACE}#run", command.name, [*args])
        except Err as error:
            raise Err(shown(str(error.value))) from None
        except DeadlineExceeded as error:
            return _LATE, f"{said} was ended: {error}\n"
        except NoSuchExport:
            raise Err(f"{command.component} exports no {INTERFACE}") from None
        except LimitExceeded as error:
            return _TRAPPED, f"{said} was ended: {error}\n"
        except LoopError as error:
            return _TRAPPED, f"{said} ended by a fault: {error}\n"
        return code & 0xFF, output

    async def _loaded(self, command: Offered) -> App:
        try:
            if command.kind == "component":
                return await self._workspace.load(command.component)
            return await self._of_loop_kit(command)
        except LoopError as error:
            raise Err(f"{command.component} cannot be loaded: {error}") from None

    async def _of_loop_kit(self, command: Offered) -> App:
        """A component that ships with loop-kit: it may look at the workspace, and nothing else."""
        name = command.component
        if name not in self._shipped:
            view = View(self._devserver, {}, command.name)
            loading = self._workspace.host.load(
                shipped(name), imports={"loop:devserver": view}, limits=Limits(memory="64MiB")
            )
            self._shipped[name] = asyncio.ensure_future(loading)
        try:
            return await asyncio.shield(self._shipped[name])
        except BaseException:
            if self._shipped[name].done():
                del self._shipped[name]
            raise

    async def _ask(self, command: Offered) -> list[Any] | str:
        """What a component says its commands are, or why it does not."""
        try:
            app = await self._loaded(command)
            async with asyncio.timeout(ASKING):
                told: list[Any] = await app.call(f"{INTERFACE}#commands")
            return told[:MOST_TOLD]
        except Err as error:
            return str(error.value)
        except TimeoutError:
            return f"{command.component} does not say what it has"
        except NoSuchExport:
            return f"{command.component} exports no {INTERFACE}"
        except LoopError as error:
            return f"{command.component} does not say what it has: {error}"


def _about(command: Offered, told: list[Any] | str | None) -> dict[str, str]:
    if command.kind == "loop":
        from loop_kit.cli._app import COMMANDS

        return {"name": command.name, "summary": COMMANDS[command.name], "usage": BUILT_IN[command.name]}
    if isinstance(told, str):
        return {"name": command.name, "summary": _line(told), "usage": ""}
    for about in told or ():
        if about.name == command.name:
            return {"name": command.name, "summary": _line(about.summary), "usage": _line(about.usage)}
    return {"name": command.name, "summary": f"{command.component} has no such command", "usage": ""}


def _line(text: str) -> str:
    return shown(text.partition("\n")[0], LONGEST)


def _cut(output: str) -> str:
    text, left_out = output[:MOST_OUTPUT], len(output) - MOST_OUTPUT
    end = f"\n… {left_out} characters left out …\n" if left_out > 0 else ""
    return shown(text, len(text)) + end
