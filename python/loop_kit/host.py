"""The host: loads components, links their imports, calls their exports."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from loop_kit import _core
from loop_kit._host import DEFAULT, Base, read
from loop_kit._shipped import limits_of
from loop_kit.errors import HostClosed
from loop_kit.exports import Exports
from loop_kit.limits import Limits
from loop_kit.wasi import Wasi

__all__ = ["App", "Host"]


class App:
    """A loaded component.

    `call(path, *args)` calls the export named `interface#function`, with or without the interface's version, or by
    its bare name where only one interface has it; await it for the result.

    Attributes:
        exports: The exported interfaces by name, with functions, resource classes and types as attributes.
        functions: The exported functions.
    """

    call: Callable[..., Awaitable[Any]]

    def __init__(self, program: _core.Program) -> None:
        self._program = program
        self.functions = tuple(program.exports)
        self.exports = Exports.of_program(program, program.start_index)
        # the core's own method, so that a call passes through no Python frame
        self.call = program.start

    def _become(self, other: App) -> None:
        """Is another component from now on; calls and objects of this one end in it."""
        self.__dict__.update(other.__dict__)

    def _hold(self, over: asyncio.Event) -> None:
        """Has the calls to come wait for `over`; those by `exports` do not."""

        async def call(path: str, *args: Any) -> Any:
            await over.wait()
            return await self.call(path, *args)

        self.call = call

    def _let_go(self) -> None:
        self.call = self._program.start

    def serve(
        self,
        address: str,
        *,
        on_error: Callable[[str, str], None] | None = None,
        workers: int | None = None,
    ) -> _core.Server:
        """Serves the component's `wasi:http` handler, 0.2 or 0.3, on threads of its own.

        Args:
            address: `HOST:PORT`; port 0 takes any free one, which `address` of the server tells.
            on_error: Gets `METHOD /path` and the reason of each request that failed in the component.
            workers: Threads that serve; None: one for each core.

        Raises:
            LoadError: The component exports no `wasi:http` handler.
            OSError: The address cannot be used.
        """
        return self._program.serve(address, on_error, workers)


class Host(Base):
    """Loads components and calls them, on one asyncio (or uvloop) event loop.

    Use it as an async context manager. Providers run on the loop's thread: a plain `def` at once, an `async def` in
    its caller's task. Cancelling a call drops the instance that served it; a call that was cancelled on a shared
    instance may run on in the guest for as long as `Limits.cancel_grace`.

    Args:
        cache: Folder of compiled code; None: none. The default is loop-kit's folder in the user's cache.
        incremental: Whether to keep what functions were compiled to in memory, up to 128 MiB, and to compile of another
            build of a component only those that differ.
    """

    def __init__(self, *, cache: str | os.PathLike[str] | None = DEFAULT, incremental: bool = False) -> None:
        super().__init__(cache=cache, incremental=incremental)
        self._hub: _core.Hub | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def load(
        self,
        component: str | os.PathLike[str] | bytes,
        imports: Mapping[str, Any] | None = None,
        *,
        limits: Limits | None = None,
        wasi: Wasi | None = None,
        audit: Callable[[str, str, str], None] | None = None,
    ) -> App:
        """Loads a component and links its imports. Compiling does not block the loop.

        Args:
            component: A `.wasm` file or its bytes: a component, or a core module for WASI preview 1.
            imports: The providers, by the interface they serve, with or without its version.
            limits: What the component may use.
            wasi: What it may reach through WASI; nothing but clocks and random numbers by default.
            audit: Called before each call of an import, with the interface, the function and the arguments in words
                (`…` where they go to another process). Calls of other components and of WASI are not told.

        Raises:
            LoadError: Not a component that this engine can run.
            LinkError: Imports are missing or do not fit; each is listed.
            HostClosed: The host is closed.
            OSError: The file cannot be read.
        """
        hub = self._attach()
        wasm = await asyncio.to_thread(read, component)
        given = limits_of(component, limits)
        program = await asyncio.to_thread(
            self._link, wasm, dict(imports or {}), given, wasi, hub, audit=audit
        )
        return App(program)

    async def aclose(self) -> None:
        """Closes the host: running providers are cancelled, instances dropped. Again is harmless."""
        if self._closed:
            return
        self._close_programs()
        if self._hub is not None:
            self._hub.close()
            # the cancelled providers end in the next turn of the loop
            await asyncio.sleep(0)

    def interrupt(self) -> None:
        """Ends the calls in flight by HostClosed, from any thread; `aclose` is still to come."""
        if self._hub is not None and self._loop is not None:
            # RuntimeError: the loop has closed, and nothing runs on it
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._hub.close)

    async def __aenter__(self) -> Host:
        self._attach()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _attach(self) -> _core.Hub:
        self._check_open()
        loop = asyncio.get_running_loop()
        if self._hub is None:
            self._hub = _core.Hub.create(loop, self._engine)
            self._loop = loop
        elif self._loop is not loop:
            raise HostClosed("this host belongs to another event loop; make one for each loop")
        return self._hub
