"""The process that bundles a component's code, which stays: starting it takes longer than what it does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loop_kit import _core
from loop_kit.dev._command import KEPT
from loop_kit.pkg import Tools
from loop_kit.placements._exit import Exit
from loop_kit.placements._watchdog import Watchdog

__all__ = ["Driver", "Refused"]

_SCRIPT = Path(__file__).with_name("driver.mjs")
_LONGEST = 256 << 20
"""Bytes of one answer: a bundle with its map."""

_END = 2.0
"""Seconds that a process has to end which has closed its connection."""


class Refused(Exception):
    """What was asked for cannot be done: why, as a tool says it."""


class Driver:
    """Runs `driver.mjs` for one module, until it is closed; with the host it ends too.

    Args:
        module: The script that the manifest's `dev` names.
        folder: Where it runs.
        tools: Those of the workspace, for what the script has not itself.
        tell: Told, in words, what takes a while: tools that are installed.
    """

    def __init__(
        self, module: Path, folder: Path, tools: Tools, tell: Callable[[str], object] = lambda text: None
    ) -> None:
        self._module, self._folder, self._tools, self._tell = module, folder, tools, tell
        self._child: _core.Child | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._watchdog: Watchdog | None = None
        self._said: int | None = None
        self._turn = asyncio.Lock()
        self._closed = False
        self._asking: set[asyncio.Task[dict[str, Any]]] = set()

    async def ask(self, what: str, **given: Any) -> dict[str, Any]:
        """Asks, and waits for the answer; one after the other.

        Raises:
            Refused: It cannot be done.
            LoadError: A tool that it takes cannot be installed.
        """
        # whoever gives up waiting leaves the answer to be read: it is not that of the next question
        asking = asyncio.get_running_loop().create_task(self._ask({"ask": what, **given}))
        self._asking.add(asking)
        asking.add_done_callback(self._done)
        return await asyncio.shield(asking)

    def _done(self, asking: asyncio.Task[dict[str, Any]]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()  # it was told, if anybody still waited

    async def _ask(self, what: dict[str, Any]) -> dict[str, Any]:
        async with self._turn:
            if self._closed:
                raise Refused("it was ended")
            if self._streams is None:
                await self._start()
            assert self._streams is not None
            reader, writer = self._streams
            try:
                writer.write(json.dumps(what).encode() + b"\n")
                await writer.drain()
                line = await reader.readline()
            except (OSError, ValueError):
                line = b""
            said = self._words()
            if not line:
                reason = await self._exited()
                raise Refused(f"{self._module.name}: its process {reason}\n{said}".rstrip())
            answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise Refused("\n".join(filter(None, (said, str(answer["failed"])))))
        if (name := answer.get("missing")) is not None:
            folder = await self._tools.folder(name, self._tell)
            await self._ask({"ask": "have", "name": name, "folder": str(folder)})
            return await self._ask(what)
        answer["said"] = said
        return answer

    async def _start(self) -> None:
        program = shutil.which("node")
        if program is None:
            raise Refused(
                "there is no `node` in PATH, which runs the tools that `dev` needs: install Node.js 20 or newer"
            )
        mine, theirs = socket.socketpair()
        said, words = os.pipe()
        os.set_blocking(said, False)
        with contextlib.ExitStack() as stack:
            stack.callback(theirs.close)
            stack.callback(os.close, words)
            stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, stdin)
            self._watchdog = Watchdog.acquire()
            argv = [program, os.fspath(_SCRIPT), os.fspath(self._module)]
            fds = [stdin, words, words, theirs.fileno()]
            env = [*os.environ.items()]
            self._child = _core.Child.spawn(
                program, argv, env, os.fspath(self._folder), fds, self._watchdog.fileno()
            )
        self._said = said
        self._streams = await asyncio.open_connection(sock=mine, limit=_LONGEST)

    def _words(self) -> str:
        """What it has written for people since it was last asked."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while self._said is not None and (more := os.read(self._said, 64 << 10)):
                data = (data + more)[-KEPT:]
        return data.decode("utf-8", "replace").rstrip()

    async def _exited(self) -> str:
        """How the process ended, which answers no more."""
        assert self._child is not None
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._child.fileno(), ended.set)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END):
                    await ended.wait()
        finally:
            loop.remove_reader(self._child.fileno())
        reason = Exit(*(self._child.exit() or (None, None))).reason
        self._end()
        return reason

    def _end(self) -> None:
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
            self._child = None
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
        if self._said is not None:
            os.close(self._said)
            self._said = None
        if self._watchdog is not None:
            self._watchdog.release()
            self._watchdog = None

    async def aclose(self) -> None:
        """Ends the process. Again is harmless."""
        self._closed = True
        self._end()
        for asking in [*self._asking]:
            asking.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
