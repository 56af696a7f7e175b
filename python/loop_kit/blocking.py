"""The same host for programs without an event loop: every call waits for its result."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from loop_kit import _core, host
from loop_kit._host import DEFAULT, Base, read
from loop_kit._shipped import limits_of
from loop_kit.exports import Exports
from loop_kit.limits import Limits
from loop_kit.wasi import Wasi

__all__ = ["App", "Host"]


class App:
    """A loaded component.

    `call(path, *args)` calls the export named `interface#function`, with or without the interface's version, or by
    its bare name where only one interface has it.

    Attributes:
        exports: The exported interfaces by name, with functions, resource classes and types as attributes.
        functions: The exported functions.
    """

    call: Callable[..., Any]

    def __init__(
        self, program: _core.Program, call: Callable[..., Any], call_index: Callable[..., Any]
    ) -> None:
        self._program = program
        self.functions = tuple(program.exports)
        self.exports = Exports.of_program(program, call_index)
        self.call = call


class Host(Base):
    """Loads components and calls them, blocking.

    A component whose imports never wait runs on its caller's thread, and several threads may call at once. One that
    waits (an `async def` provider, an `async func`) runs on an event loop of the host's own, one call at a time.

    Args:
        cache: Folder of compiled code; None: none. The default is loop-kit's folder in the user's cache.
        incremental: Whether to keep what functions were compiled to in memory, up to 128 MiB, and to compile of another
            build of a component only those that differ.
    """

    def __init__(self, *, cache: str | os.PathLike[str] | None = DEFAULT, incremental: bool = False) -> None:
        super().__init__(cache=cache, incremental=incremental)
        self._runner: asyncio.Runner | None = None
        self._waiting: host.Host | None = None
        self._lock = threading.RLock()

    def load(
        self,
        component: str | os.PathLike[str] | bytes,
        imports: Mapping[str, Any] | None = None,
        *,
        limits: Limits | None = None,
        wasi: Wasi | None = None,
        audit: Callable[[str, str, str], None] | None = None,
    ) -> App:
        """Loads a component and links its imports.

        Args:
            component: A `.wasm` file or its bytes: a component, or a core module for WASI preview 1.
            imports: The providers, by the interface they serve, with or without its version.
            limits: What the component may use.
            wasi: What it may reach through WASI; nothing but clocks and random numbers by default.
            audit: Called before each call of an import, as that of `loop_kit.Host.load` is.

        Raises:
            LoadError: Not a component that this engine can run.
            LinkError: Imports are missing or do not fit; each is listed.
            HostClosed: The host is closed.
            OSError: The file cannot be read.
        """
        wasm, limits = read(component), limits_of(component, limits)
        program = self._link(wasm, imports or {}, limits, wasi, audit=audit)
        if program.is_sync:
            # the core's own methods, so that a call passes through no Python frame
            return App(program, program.call, program.call_index)
        with self._lock:
            runner = self._run()
            if self._waiting is None:
                self._waiting = host.Host(cache=None)
                self._waiting._engine = self._engine
                runner.run(self._waiting.__aenter__())
            loading = self._waiting.load(wasm, imports, limits=limits, wasi=wasi, audit=audit)
            program = runner.run(loading)._program
        return App(program, self._wait(program.start), self._wait(program.start_index))

    def command(
        self,
        component: str | os.PathLike[str] | bytes,
        imports: Mapping[str, Any] | None = None,
        *,
        limits: Limits | None = None,
        wasi: Wasi | None = None,
    ) -> _core.Program:
        """Loads a `wasi:cli` command; `run()` of what is returned runs it, blocking, and gives its exit code.

        Raises:
            LoadError: Not a component that this engine can run.
            LinkError: Imports are missing or do not fit; each is listed.
        """
        return self._link(read(component), imports or {}, limits or Limits(), wasi, asynchronous=True)

    def close(self) -> None:
        """Closes the host: no more loading and calling. Again is harmless.

        A call that waits in another thread ends by HostClosed.
        """
        self._close_programs()
        if not self._lock.acquire(blocking=False):
            if self._waiting is not None:
                self._waiting.interrupt()
            self._lock.acquire()
        try:
            if self._runner is not None:
                if self._waiting is not None:
                    self._runner.run(self._waiting.aclose())
                self._runner.close()
                self._runner = None
        finally:
            self._lock.release()

    def __enter__(self) -> Host:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> asyncio.Runner:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner

    def _wait(self, start: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with self._lock:
                self._check_open()
                return self._run().run(start(*args))

        return call
