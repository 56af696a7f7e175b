"""The suite of each capability, with every provider that ships with loop-kit, in every placement."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from loop_kit.conform import Scene, Suite, SuiteCase, Way, suites, ways
from loop_kit.testing import Placed


class Started:
    """Providers in processes of their own, which all cases share, driven by a loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._placed: dict[tuple[str, str], Placed] = {}

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    def of(self, suite: Suite, way: Way) -> Placed:
        key = way.provided.provider, way.placement
        if key not in self._placed:
            self._placed[key] = self._run(way.placed(suite.capability).__aenter__())
        return self._placed[key]

    def close(self) -> None:
        for placed in self._placed.values():
            self._run(placed.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="session")
def started() -> Iterator[Started]:
    made = Started()
    yield made
    made.close()


CASES = [
    pytest.param(suite, way, case, id=f"{way.provided.name}-{way.placement}-{case}")
    for suite in suites()
    for way in ways(suite)
    for case in suite.of(way.provided)
]


@pytest.mark.parametrize(("suite", "way", "case"), CASES)
async def test_a_provider_does_it(
    suite: Suite, way: Way, case: SuiteCase, started: Started, tmp_path: Path
) -> None:
    shared = None if way.provided.is_component else started.of(suite, way)
    async with asyncio.timeout(60):
        await case.run(Scene(suite, way, tmp_path, shared))


@pytest.mark.parametrize("suite", suites(), ids=lambda suite: suite.capability)
def test_what_a_provider_need_not_do_is_a_case(suite: Suite) -> None:
    known = {str(case) for case in suite.cases}
    for provided in suite.providers:
        assert set(provided.without) <= known
        assert all(provided.without.values())
        assert suite.of(provided)
