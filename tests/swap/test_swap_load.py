"""Providers of every placement that are exchanged for those of every other, under load: nobody notices."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

import loop_kit as loop
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests.children import children, descriptors, until
from tests.soaking import Soak
from tests.swap.lanes import LANES, PLACES, counted, elsewhere, write
from tests.swap.load import Load, Swapper

RATE = 2_000
SEED = 8


@pytest.mark.timeout(180)
async def test_nobody_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, soak: Soak) -> None:
    """Each call is asked and answered once, streams are whole and in order, and resources stay what they are."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    book = write(tmp_path, LANES)
    swaps, every = soak(12, 60), soak(4, 10) / 10
    processes = children()
    async with (
        elsewhere(tmp_path, "a") as first,
        elsewhere(tmp_path, "b") as second,
        loop.Host(cache=None) as host,
        Workspace(host, load(tmp_path)) as space,
    ):
        apps = {lane: await space.load(lane.name) for lane in LANES}
        # what the engine and the transports keep for the whole process is open now
        open_before = len(descriptors())
        traffic = Load(apps, rate=RATE, seed=SEED)
        swapper = Swapper(space, LANES, [first, second], SEED)
        running = asyncio.create_task(traffic.run())
        try:
            await asyncio.sleep(soak(1, 10))
            start, traffic.swapping = time.perf_counter(), True
            for number in range(swaps):
                await asyncio.sleep(start + number * every - time.perf_counter())
                await swapper.swap(traffic.told)
            seconds = time.perf_counter() - start
        finally:
            traffic.end()
            await running
    until(lambda: children() <= processes)
    assert len(descriptors()) < open_before
    told, found = traffic.told, counted(book)
    assert told.failed == []
    assert found.lost(told.calls) == []
    assert found.duplicated() == []
    assert len(found.asked) == told.calls
    assert told.streams["ended"]
    assert told.handles["dropped"]
    assert sum(map(len, told.swaps.values())) == swaps
    if swaps >= len(PLACES) ** 2 * 2:
        assert len(swapper.pairs()) == len(PLACES) ** 2
    soak.note(
        rate=RATE, swaps=swaps, seconds_of_swaps=round(seconds, 1), lost=0, duplicated=0, told=told.facts()
    )
