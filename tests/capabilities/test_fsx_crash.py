"""What is left when a guest traps, and when a host is killed."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loop_kit.errors import GuestTrap
from loop_kit.testing import client
from tests.capabilities.serving import Serving

PROVIDERS = ("builtin:fsx", "python:loop_kit.capabilities.fsx:Files")


def until(holds: Callable[[], Any]) -> None:
    """Waits for what others do in their own time."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        gc.collect()  # a client in this process may lie in a cycle
        time.sleep(0.01)


@pytest.mark.parametrize("trap", [True, False])
def test_what_a_guest_did_not_drop_goes_with_it(serve: Serving, tmp_path: Path, trap: bool) -> None:
    call = serve("temporary", "fsx", {"temp": {"path": str(tmp_path)}})
    for _ in range(20):  # more than there may be at once
        if trap:
            with pytest.raises(GuestTrap):
                call("use", True)
        else:
            call("use", False)
        until(lambda: not [*tmp_path.glob("loop-fsx-*/dirs/*")])


HOST = """
    import asyncio, os, signal
    from loop_kit.testing import client

    async def main():
        async with client("loop:fsx", provider={provider!r}, grant={grant!r}) as fsx:
            kept = await fsx.temporary.temp_dir()
            await fsx.writing.write(kept, "file", b"x" * 1000)
            root = await fsx.files.root("r")

            async def endless():
                while True:
                    yield b"x" * 100_000
                    print("writing", flush=True)

            await fsx.streaming.write_stream(root, "file", ("atomic", False), endless())

    asyncio.run(main())
"""


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("next_one", PROVIDERS)
def test_what_a_killed_host_left_is_swept(provider: str, next_one: str, tmp_path: Path) -> None:
    for name in ("r", "temp"):
        (tmp_path / name).mkdir()
    (tmp_path / "r/file").write_text("old")
    (tmp_path / "temp/loop-fsx-not-mine.txt").write_text("a file of somebody")
    grant = {
        "roots": {"r": {"path": str(tmp_path / "r"), "mode": "rw"}},
        "temp": {"path": str(tmp_path / "temp")},
    }
    code = textwrap.dedent(HOST).format(provider=provider, grant=grant)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        for _ in range(3):
            assert host.stdout.readline() == "writing\n"
        left = [*(tmp_path / "temp").glob("loop-fsx-*/dirs/*/file")]
        assert len(left) == 1

        async def look() -> None:
            async with client("loop:fsx", provider=next_one, grant=grant):
                pass

        asyncio.run(look())
        assert left[0].exists()  # whoever lives is left alone
        host.send_signal(signal.SIGKILL)
        host.wait()
        for line in host.stdout:
            assert "writing\n".startswith(line)  # it may have been killed within the last
    assert left[0].exists()
    asyncio.run(look())
    until(lambda: len([*(tmp_path / "temp").iterdir()]) == 1)
    # what was to be replaced was not, and nothing lies beside it
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["file"]
    assert (tmp_path / "r/file").read_text() == "old"
