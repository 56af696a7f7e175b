"""`wasi:keyvalue` beyond its suite: writers that are killed, and the two providers on one file."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import manifest
from loop_kit.capabilities.keyvalue import KeyValue
from loop_kit.testing import client
from loop_kit.workspace import Workspace
from tests.capabilities.serving import HOSTS, Host, guest
from tests.children import killed
from tests.soaking import Soak

PYTHON = "python:loop_kit.capabilities.keyvalue:KeyValue"
GRANT = {"buckets": {"b": {"mode": "rw"}, "counted": {"mode": "rw", "max-size": 10_000_000}}}

# Writes what it is told nobody of until it is answered: key N has the value of N, and `n` counts; on standard output.
WRITER = """
import asyncio, sys
from loop_kit.testing import client

async def main(path, durability, first):
    grant = {"buckets": {"b": {"mode": "rw"}, "counted": {"mode": "rw", "max-size": 10_000_000}}}
    config = {"path": path, "durability": durability}
    async with client("wasi:keyvalue", provider=sys.argv[4], config=config, grant=grant) as kv:
        bucket, counted = await kv.store.open("b"), await kv.store.open("counted")
        n = int(first)
        while True:
            await bucket.set(f"k{n}", str(n).encode() * 50)
            await kv.batch.set_many(counted, [(f"{part}{n}", b"x" * 100) for part in "abc"])
            await kv.atomics.increment(bucket, "n", 1)
            print(n, flush=True)
            n += 1

asyncio.run(main(*sys.argv[1:4]))
"""

# In a process of its own: another copy of SQLite in this one would take its locks away.
INTEGRITY = """
import sqlite3, sys

database = sqlite3.connect(sys.argv[1])
(whole,) = database.execute("PRAGMA integrity_check").fetchone()
table, size = database.execute("SELECT number, size FROM loop_buckets WHERE name = 'counted'").fetchone()
real = database.execute(f"SELECT sum(length(key) + length(value)) FROM loop_bucket_{table}").fetchone()
print(whole, (size,) == real)
"""


async def check(path: Path, last: int, provider: str) -> int:
    """That all up to `last` is there and whole; returns the first number that is free."""
    config = {"path": str(path)}
    async with client(
        "wasi:keyvalue", provider=provider, config=config, grant=GRANT, placement="sidecar"
    ) as kv:
        bucket, counted = await kv.store.open("b"), await kv.store.open("counted")
        for n in range(max(0, last - 100), last + 1):
            assert bytes(await bucket.get(f"k{n}")) == str(n).encode() * 50
        count = int(bytes(await bucket.get("n")))
        there = await bucket.exists(f"k{last + 1}")
        # what was in flight is there, or not; never a part of it
        assert count in (last + 1, last + 2)
        both = [await counted.exists(f"{part}{last + 1}") for part in "abc"]
        assert both in ([True] * 3, [False] * 3)
        assert both[0] or count == last + 1
        assert there or not both[0]
    said = await asyncio.to_thread(subprocess.check_output, [sys.executable, "-c", INTEGRITY, str(path)])
    assert said.split() == [b"ok", b"True"]
    if count == last + 1:
        # takes up where the counter stands
        return last + 1
    return last + 2


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_what_was_answered_outlives_a_kill(durability: str, tmp_path: Path, soak: Soak) -> None:
    rounds = soak(3, 50)
    chosen = random.Random(7)
    path, first = tmp_path / "kv.db", 0
    for number in range(rounds):
        delay, after = chosen.random() * 0.05, chosen.randrange(1, 40)
        args = (path, durability, first, "builtin:keyvalue")
        last = await asyncio.to_thread(killed, WRITER, *args, after=after, delay=delay)
        assert last >= first, number
        first = await check(path, last, PYTHON if number % 2 else "builtin:keyvalue")
    soak.note(kills=rounds, writes=first)


async def test_both_providers_keep_the_same_file(tmp_path: Path) -> None:
    config = {"path": str(tmp_path / "kv.db"), "durability": "normal"}
    async with (
        client("wasi:keyvalue", config=config, grant=GRANT) as native,
        client("wasi:keyvalue", provider=PYTHON, config=config, grant=GRANT, placement="sidecar") as python,
    ):
        ends = [(kv, await kv.store.open("counted")) for kv in (native, python)]
        for n in range(100):
            kv, bucket = ends[n % 2]
            assert await kv.atomics.increment(bucket, "n", 1) == n + 1
            await bucket.set(f"k{n}", bytes(n))
        pages = [await bucket.list_keys(None) for _, bucket in ends]
        assert pages[0].keys == pages[1].keys
        for n in range(100):
            assert [bytes(await bucket.get(f"k{n}")) for _, bucket in ends] == [bytes(n)] * 2


@pytest.mark.parametrize("provider", ["builtin:keyvalue", PYTHON])
@pytest.mark.parametrize(
    ("config", "grant", "key"),
    [
        ({"path": "kv.db"}, {}, "config.path"),
        ({"path": "/no/such/folder/kv.db"}, {}, "config.path"),
        ({"durability": "none"}, {}, "config.durability"),
        ({"file": "x"}, {}, "config.file"),
        ({}, {"buckets": {"b": {"mode": "wo"}}}, "grant.buckets.b.mode"),
        ({}, {"buckets": {"b": {"max-size": 0}}}, "grant.buckets.b.max-size"),
        ({}, {"max-keys": 1}, "grant.max-keys"),
    ],
)
async def test_what_a_config_or_grant_may_not_say(
    provider: str, config: dict[str, Any], grant: dict[str, Any], key: str
) -> None:
    with pytest.raises(Exception, match=key.replace(".", r"\.")):
        async with client("wasi:keyvalue", provider=provider, config=config, grant=grant):
            pass


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("durability", ["full", "normal"])
@pytest.mark.parametrize("provider", ["builtin", "python"])
def test_a_component_keeps_values(
    name: str, durability: str, provider: str, hosts: dict[str, Host], tmp_path: Path
) -> None:
    config, grant = (
        {"path": str(tmp_path / "kv.db"), "durability": durability},
        {"buckets": {"b": {"mode": "rw"}}},
    )
    # never both on one file in one process
    native = provider == "builtin"
    made: Any = (
        loop.builtin("keyvalue", config=config, **grant) if native else KeyValue(config=config, grant=grant)
    )
    call = hosts[name].load(guest("keyvalue"), {"wasi:keyvalue": made}, loop.Limits())
    assert call("get", "k") is None
    call("set", "k", b"value")
    assert call("get", "k") == b"value"
    with pytest.raises(loop.Err) as caught:
        call("set", "k" * 1025, b"")
    assert "`grant.max-key`" in str(caught.value)


async def test_a_workspace_keeps_values_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "app.wasm").write_bytes(guest("keyvalue"))
    text = """
        components.app.path = "app.wasm"
        components.app.imports."wasi:keyvalue" = { provider = "kv", grant.buckets.b.mode = "rw" }
        providers.kv = { use = "builtin:keyvalue", config = { path = "kv.db" } }
    """
    declared = manifest.loads(text, tmp_path / "loop.toml")
    for value in (None, b"kept"):
        async with loop.Host(cache=tmp_path) as host, Workspace(host, declared) as workspace:
            app = await workspace.load("app")
            assert await app.call("get", "k") == value
            await app.call("set", "k", b"kept")
    assert (tmp_path / "kv.db").is_file()
