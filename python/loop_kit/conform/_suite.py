"""Suites of a capability: what every provider of it must do, in every placement.

A package that ships its suite has it in `capabilities/NAME/_conform.py`:

    SUITE = Suite(
        "loop:fsx",
        providers=(Provided("builtin:fsx"), Provided("python:loop_kit.capabilities.fsx:Files")),
    )

    @SUITE.case("files", "a file is read whole")
    async def _(scene: Scene) -> None:
        (scene.folder / "a.txt").write_bytes(b"hello")
        async with scene.client({"roots": {"r": {"path": str(scene.folder)}}}) as fsx:
            root = await fsx.files.root("r")
            expect(await root.read("a.txt"), b"hello", "the contents")
"""

from __future__ import annotations

import asyncio
import importlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_kit.conform._run import Outcome
from loop_kit.conform._scene import Unmet
from loop_kit.errors import LoadError, LoopError
from loop_kit.exports import Exports
from loop_kit.placements.component import Settings
from loop_kit.testing import Placed

__all__ = ["PLACEMENTS", "Provided", "Scene", "Suite", "SuiteCase", "Way", "suite_of", "suites", "ways"]

_SUITES = ("core", "fsx", "keyvalue", "netx", "process", "blobstore")

PLACEMENTS = ("in-process", "sidecar", "remote")
"""Where a suite runs a provider: here, in a process reached by a unix socket, and in one reached over TCP."""


@dataclass(frozen=True)
class Provided:
    """A provider that a suite is for.

    Attributes:
        provider: As `loop_kit.testing.client` takes it.
        interfaces: Those that it serves, without the package; (): all of them.
        placements: Where it can run.
        imports: Makes what a component's own imports are linked to, under the grant that a case asks for.
        config: What such a component is configured with.
        place: Makes, of a case's folder, config of every client: where a provider keeps things if not in itself.
        settings: Makes config and grant of a component of the grant that a case asks for, where it is neither what is
            said above nor what the case says.
        label: What tells it from others with the same `provider`.
        without: Words of cases that it need not do, with the reason that its README gives.
    """

    provider: str
    interfaces: tuple[str, ...] = ()
    placements: tuple[str, ...] = PLACEMENTS
    imports: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    place: Callable[[Path], Mapping[str, Any]] | None = None
    settings: Callable[[Mapping[str, Any]], Settings] | None = None
    without: Mapping[str, str] = field(default_factory=dict)
    label: str = ""

    @property
    def name(self) -> str:
        """What it is called where there are others."""
        return f"{self.provider} ({self.label})" if self.label else self.provider

    @property
    def is_component(self) -> bool:
        """Whether it is one, which is loaded anew for each client: its grant is there from the start."""
        return self.provider.startswith("component:")


@dataclass(frozen=True)
class Way:
    """A provider in a placement."""

    provided: Provided
    placement: str

    def placed(
        self, capability: str, imports: Mapping[str, Any] | None = None, settings: Settings | None = None
    ) -> Placed:
        """The provider, not started yet. `settings`: those of a component."""
        where = {"in-process": (None, None), "sidecar": ("sidecar", "unix"), "remote": ("remote", "tcp")}
        placement, transport = where[self.placement]
        return Placed(
            capability,
            self.provided.provider,
            imports=imports,
            placement=placement,
            transport=transport,
            settings=settings,
        )


class Scene:
    """What a case has to hand.

    Attributes:
        folder: An empty folder of its own, which the provider sees too.
        way: The provider and where it runs.
    """

    def __init__(self, suite: Suite, way: Way, folder: Path, placed: Placed | None) -> None:
        """`placed`: the provider, entered, which all cases share; None: it is a component."""
        self.folder = folder
        self.way = way
        self._suite = suite
        self._placed = placed

    def client(
        self, grant: Mapping[str, Any] | None = None, config: Mapping[str, Any] | None = None
    ) -> AbstractAsyncContextManager[Exports]:
        """The provider under a grant, with its interfaces as attributes; see `loop_kit.testing.client`.

        A component that has imports of its own is granted nothing, unless its `Provided` has `settings`: what they are
        linked to has the grant instead. Any other learns config and grant by `loop:provider/settings`.
        """
        return self._client(dict(grant or {}), dict(config or {}))

    @asynccontextmanager
    async def _client(self, grant: Mapping[str, Any], config: Mapping[str, Any]) -> AsyncIterator[Exports]:
        provided = self.way.provided
        if provided.place is not None:
            config = {**provided.place(self.folder), **config}
        if self._placed is not None:
            async with self._placed.client(grant=grant, config=config) as made:
                yield made
            return
        imports = None if provided.imports is None else provided.imports(grant)
        if provided.settings is not None:
            settings = provided.settings(grant)
        elif imports is not None:
            settings = Settings(provided.config)
        else:
            settings = Settings(config, grant)
        placed = self.way.placed(self._suite.capability, imports, settings)
        async with placed, placed.client() as made:
            yield made


@dataclass(frozen=True)
class SuiteCase:
    """One thing that a provider must do.

    Attributes:
        interface: The interface that it belongs to, without the package.
        name: The thing, in words.
        run: Raises `Unmet` where the provider does not do it.
    """

    interface: str
    name: str
    run: Callable[[Scene], Awaitable[None]]

    def __str__(self) -> str:
        return f"{self.interface}: {self.name}"


class Suite:
    """What every provider of a capability must do.

    Attributes:
        capability: The package, `loop:fsx`.
        providers: Those that ship with loop-kit.
        cases: In their order.
    """

    def __init__(self, capability: str, providers: Sequence[Provided]) -> None:
        self.capability = capability
        self.providers = tuple(providers)
        self.cases: list[SuiteCase] = []

    def case(
        self, interface: str, name: str
    ) -> Callable[[Callable[[Scene], Awaitable[None]]], Callable[[Scene], Awaitable[None]]]:
        """Adds a function to the cases."""

        def add(run: Callable[[Scene], Awaitable[None]]) -> Callable[[Scene], Awaitable[None]]:
            case = SuiteCase(interface, name, run)
            if any(str(other) == str(case) for other in self.cases):
                raise ValueError(f"there is a case {case} already")
            self.cases.append(case)
            return run

        return add

    def of(self, provided: Provided) -> list[SuiteCase]:
        """The cases that a provider must pass."""
        served = provided.interfaces
        return [
            case
            for case in self.cases
            if (not served or case.interface in served) and str(case) not in provided.without
        ]

    def provided(self, provider: str) -> list[Provided]:
        """What the suite knows of a provider; one that it does not know must do everything."""
        return [known for known in self.providers if known.provider == provider] or [Provided(provider)]

    async def run(
        self,
        way: Way,
        *,
        patience: float = 60.0,
        on_outcome: Callable[[Outcome], None] = lambda _: None,
    ) -> list[Outcome]:
        """Drives a provider in a placement through its cases.

        Args:
            way: The provider and the placement.
            patience: Seconds for each case.
            on_outcome: Is told of each as it comes.

        Raises:
            LoadError: It cannot be started.
        """
        outcomes = []
        started: AbstractAsyncContextManager[Placed | None]
        started = nullcontext() if way.provided.is_component else way.placed(self.capability)
        async with started as shared:
            for case in self.of(way.provided):
                outcome = await self._outcome(case, way, shared, patience)
                outcomes.append(outcome)
                on_outcome(outcome)
        return outcomes

    async def _outcome(self, case: SuiteCase, way: Way, shared: Placed | None, patience: float) -> Outcome:
        began = time.perf_counter()
        problem = None
        with tempfile.TemporaryDirectory(prefix="loop-conform-") as folder:
            try:
                async with asyncio.timeout(patience):
                    await case.run(Scene(self, way, Path(folder), shared))
            except TimeoutError:
                problem = f"not through within {patience:g} s"
            except Unmet as error:
                problem = str(error)
            except (LoopError, OSError, EOFError, AttributeError) as error:
                problem = f"{type(error).__name__}: {error}"
        return Outcome(case.interface, case.name, problem, time.perf_counter() - began)


def suites() -> list[Suite]:
    """The suites of the capabilities that ship with loop-kit."""
    return [suite_of(name) for name in _SUITES]


def suite_of(name: str) -> Suite:
    """The suite of a package, by its short name or `loop:NAME`.

    Raises:
        LoadError: There is none.
    """
    short = name.rpartition(":")[2]
    if short not in _SUITES:
        raise LoadError(f"there is no suite for {name!r}; there are {', '.join(_SUITES)}")
    found = importlib.import_module(f"loop_kit.capabilities.{short}._conform").SUITE
    assert isinstance(found, Suite)
    return found


def ways(suite: Suite) -> list[Way]:
    """Each of a suite's providers in each of its placements."""
    return [Way(provided, placement) for provided in suite.providers for placement in provided.placements]
