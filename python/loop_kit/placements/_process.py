"""A sidecar's process: started with a clean environment, awaited until it is ready, stopped in good order.

The provider finds in its environment where to listen (`LOOP_PROVIDER_ADDRESS`), the number of a descriptor to which
it writes the address that it really listens on and a line feed (`LOOP_PROVIDER_READY`), and, where others on this
machine could connect too, a token that whoever connects must show (`LOOP_PROVIDER_TOKEN`). Where it does not speak the
transport it may listen on another and start the program in `LOOP_PROVIDER_GATEWAY`; see `loop_kit.gateway`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_kit import _core, gateway
from loop_kit._address import Address
from loop_kit.errors import LoadError
from loop_kit.placements._exit import Exit
from loop_kit.placements._output import Output
from loop_kit.placements._ready import filled, listen_on, reachable
from loop_kit.placements._watchdog import Watchdog

__all__ = ["INHERITED", "Child", "Command"]

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ")
"""What a sidecar has of the host's environment: how to find programs and the user's own files, which encoding and
language to use, where temporary files go, and how late it is."""

_READY = 3
_ADDRESS_LENGTH = 4096
_CHUNK = 64 << 10
_LAST_WORDS = 0.1


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, and how.

    Attributes:
        name: The provider's, for messages.
        argv: The program and its arguments; a program without a `/` is looked up in PATH.
        cwd: Its folder.
        env: Variables, besides `INHERITED` and ours.
        transport: What it listens on; `stdio`: pipes.
        address: Where it listens, if not the transport's default.
        handshake: Whether it knows of `LOOP_PROVIDER_READY`; else it is ready when it can be connected to.
        start_timeout: Seconds until it must be ready.
        stop_timeout: Seconds that it has between SIGTERM and SIGKILL.
    """

    name: str
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    transport: str = "unix"
    address: str | None = None
    handshake: bool = True
    start_timeout: float = 10.0
    stop_timeout: float = 5.0


class Child:
    """A running sidecar; `start` makes one.

    Attributes:
        address: What to connect to: `unix:/…`, `tcp://127.0.0.1:40123`, `stdio:`.
        token: What it expects of whoever connects, or None.
        pid: Its process, and process group.
        exit: How it ended, or None while it runs.
    """

    def __init__(self, command: Command) -> None:
        """Starts the process; `start` is for everybody else."""
        self.exit: Exit | None = None
        self.token: str | None = None
        self._command = command
        self._loop = asyncio.get_running_loop()
        self._output = Output(command.name)
        self._ended: asyncio.Future[Exit] = self._loop.create_future()
        self._pipes: tuple[int, int] | None = None
        self._ready: int | None = None
        with contextlib.ExitStack() as on_failure:
            self._watchdog = Watchdog.acquire()
            on_failure.callback(self._watchdog.release)
            self._folder = Path(tempfile.mkdtemp(prefix="", dir=self._watchdog.folder))
            on_failure.callback(shutil.rmtree, self._folder, ignore_errors=True)
            exact = not command.handshake
            self.address = listen_on(command.transport, command.address, self._folder, exact=exact)
            self._process = self._spawn(on_failure)
            on_failure.pop_all()
        self.pid = self._process.pid
        os.set_blocking(self._log, False)
        self._loop.add_reader(self._log, self._read_log)
        self._loop.add_reader(self._process.fileno(), self._has_ended)

    @classmethod
    async def start(cls, command: Command) -> Child:
        """Starts a sidecar and returns it once it is ready.

        Raises:
            LoadError: It cannot be started, ends before it is ready, or is not ready in time.
        """
        try:
            child = cls(command)
        except OSError as e:
            raise LoadError(
                f"sidecar {command.name}: cannot start {command.argv[0]!r}: {e.strerror or e}"
            ) from None
        try:
            await child._until_ready()
        except BaseException:
            child.kill()
            await asyncio.shield(child._ended)
            raise
        return child

    def take_pipes(self) -> tuple[int, int]:
        """What to read from and write to, of a sidecar with `stdio`; the caller closes both.

        Raises:
            LoadError: It has ended.
            RuntimeError: It has none, or they are taken.
        """
        if self.exit is not None:
            raise LoadError(f"sidecar {self._command.name}: {self.exit}")
        if self._pipes is None:
            raise RuntimeError(f"sidecar {self._command.name} has no pipes to take")
        pipes, self._pipes = self._pipes, None
        return pipes

    async def stopped(self) -> Exit:
        """Waits for the end of the process and all of its group, and tells how it ended."""
        return await asyncio.shield(self._ended)

    async def stop(self) -> Exit:
        """SIGTERM to the group, and SIGKILL to those left when the process has ended or `stop_timeout` is over."""
        self._signal(signal.SIGTERM)
        try:
            # `wait_for` forgets that it was cancelled where the process ends in the same turn
            await asyncio.wait({self._ended}, timeout=self._command.stop_timeout)
        finally:
            self.kill()
        return await self.stopped()

    def kill(self) -> None:
        """SIGKILL to the whole group; harmless where it has ended."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.exit is None:
            self._process.signal(number)

    def _spawn(self, on_failure: contextlib.ExitStack) -> _core.Child:
        command = self._command
        argv = filled(command.argv, self.address)
        env = {name: os.environ[name] for name in INHERITED if name in os.environ}
        env |= {**command.env, "LOOP_PROVIDER_ADDRESS": self.address}
        if Address.parse(self.address).host:
            self.token = env["LOOP_PROVIDER_TOKEN"] = secrets.token_urlsafe(24)
        with contextlib.ExitStack() as theirs:

            def pipe(*, to_child: bool = False) -> tuple[int, int]:
                reader, writer = os.pipe()
                mine, other = (writer, reader) if to_child else (reader, writer)
                theirs.callback(os.close, other)
                on_failure.callback(os.close, mine)
                return mine, other

            self._log, log = pipe()
            if command.transport == "stdio":
                (to, stdin), (of, stdout) = pipe(to_child=True), pipe()
                self._pipes, fds = (of, to), [stdin, stdout, log]
            else:
                stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                theirs.callback(os.close, stdin)
                fds = [stdin, log, log]
                if command.handshake:
                    env["LOOP_PROVIDER_READY"] = str(_READY)
                    env["LOOP_PROVIDER_GATEWAY"] = gateway.COMMAND
                    self._ready, ready = pipe()
                    fds.append(ready)
            program = shutil.which(argv[0], path=env.get("PATH", os.defpath))
            if program is None:
                raise FileNotFoundError(2, "no such program")
            cwd = os.fspath(command.cwd)
            return _core.Child.spawn(program, argv, list(env.items()), cwd, fds, self._watchdog.fileno())

    async def _until_ready(self) -> None:
        command, limit = self._command, self._command.start_timeout
        ready = asyncio.ensure_future(self._say_ready())
        try:
            both: list[asyncio.Future[Any]] = [ready, self._ended]
            await asyncio.wait(both, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if self.exit is not None and not ready.done():
                # What it said before it ended may be still to be read.
                await asyncio.wait([ready], timeout=_LAST_WORDS)
            if ready.done() and ready.exception() is None:
                return
            if self.exit is not None:
                raise LoadError(
                    f"sidecar {command.name}: {self.exit.reason} before it was ready{self._words()}"
                )
            if not ready.done():
                raise LoadError(f"sidecar {command.name}: was not ready within {limit:g} s{self._words()}")
            await ready
        finally:
            ready.cancel()
            if self._ready is not None:
                self._loop.remove_reader(self._ready)
                os.close(self._ready)
                self._ready = None

    def _words(self) -> str:
        return "".join(f"\n  {line}" for line in self._output.last)

    async def _say_ready(self) -> None:
        """Waits until it can be connected to, and learns where."""
        command = self._command
        if command.transport == "stdio":
            return
        if not command.handshake:
            await reachable(self.address)
            return
        assert self._ready is not None
        said = await _line_of(self._loop, self._ready)
        if said is None:
            await self.stopped()  # or the time is over
        text = (said or b"").decode("utf-8", "replace")
        try:
            scheme = Address.parse(text).scheme
        except ValueError:
            scheme = ""
        if scheme != command.transport:
            raise LoadError(
                f"sidecar {command.name}: said that it listens on {text[:200]!r}, not {command.transport}"
            )
        self.address = text

    def _read_log(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._log, _CHUNK)
            self._output.feed(data)
            if not data:
                self._loop.remove_reader(self._log)

    def _has_ended(self) -> None:
        self._loop.remove_reader(self._process.fileno())
        self._loop.remove_reader(self._log)
        # What it wrote last. Whoever left the group may hold the other end, so that no end would come.
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):
                data = os.read(self._log, _CHUNK)
                if not data:
                    break
                self._output.feed(data)
        self._output.close()
        os.close(self._log)
        for fd in self._pipes or ():
            os.close(fd)
        self._pipes = None
        shutil.rmtree(self._folder, ignore_errors=True)
        self._watchdog.release()
        code, by = self._process.exit() or (None, None)
        del self._process  # an error that holds this object must not hold its descriptor
        self.exit = Exit(code, by, self._output.last)
        if not self._ended.done():
            self._ended.set_result(self.exit)


async def _line_of(loop: asyncio.AbstractEventLoop, fd: int) -> bytes | None:
    """The first line that comes from a descriptor, without its end; None if it is closed before."""
    os.set_blocking(fd, False)
    line, readable = bytearray(), asyncio.Event()
    loop.add_reader(fd, readable.set)
    while True:
        await readable.wait()
        readable.clear()
        with contextlib.suppress(BlockingIOError):
            data = os.read(fd, _ADDRESS_LENGTH)
            if not data or len(line) > _ADDRESS_LENGTH:
                return None
            line += data
            if b"\n" in line:
                return bytes(line.partition(b"\n")[0])
