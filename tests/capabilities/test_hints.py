"""Where an error has no room for words, the log says which grant is missing."""

import logging
from pathlib import Path
from typing import Any

import pytest

from loop_kit import Err
from loop_kit.testing import client

FSX = ["builtin:fsx", "python:loop_kit.capabilities.fsx:Files"]
KEYVALUE = ["builtin:keyvalue", "python:loop_kit.capabilities.keyvalue:KeyValue"]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    warnings = [r for r in caplog.records if r.name.startswith("loop_kit.guest.")]
    assert {r.levelno for r in warnings} <= {logging.WARNING}
    return [r.getMessage() for r in warnings]


async def refused(work: Any) -> None:
    with pytest.raises(Err):
        await work


@pytest.mark.parametrize("provider", FSX)
async def test_files(provider: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    grant = {"roots": {"docs": {"path": str(tmp_path)}}}
    async with client("loop:fsx", provider=provider, grant=grant) as fsx:
        docs = await fsx.files.root("docs")
        for _ in range(3):
            await refused(fsx.files.root("other"))
            await refused(fsx.writing.write(docs, "f", b"x"))
            await refused(fsx.temporary.temp_dir())
        await refused(fsx.files.root("two\nlines"))
    assert said(caplog) == [
        "the grant has no root `other`; add `roots.other.path`",
        'the root `docs` is read-only; `roots.docs.mode = "rw"` lets it be changed',
        "the grant has no temporary directories; add `temp = {}`",
        r"the grant has no root `two\nlines`; add `roots.two\nlines.path`",
    ]


@pytest.mark.parametrize("provider", KEYVALUE)
async def test_buckets(provider: str, caplog: pytest.LogCaptureFixture) -> None:
    grant: dict[str, Any] = {"buckets": {"b": {}}}
    async with client("wasi:keyvalue", provider=provider, grant=grant) as kv:
        bucket = await kv.store.open("b")
        for _ in range(3):
            await refused(kv.store.open("other"))
            await refused(bucket.set("k", b"v"))
    assert said(caplog) == [
        "the grant has no bucket `other`; add `buckets.other.mode`",
        'the bucket `b` is read-only; `buckets.b.mode = "rw"` lets it be changed',
    ]


@pytest.mark.parametrize("provider", FSX)
async def test_a_component_cannot_fill_the_log(
    provider: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with client("loop:fsx", provider=provider, grant={"roots": {}}) as fsx:
        for number in range(200):
            await refused(fsx.files.root(f"{number}" + "x" * 300))
    assert len(said(caplog)) == 64
    assert max(len(line) for line in said(caplog)) < 200
