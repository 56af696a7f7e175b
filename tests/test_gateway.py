"""`python -m loop_kit.gateway`: a provider reached over a transport that it does not speak."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loop_kit import peer, provider
from tests.sessions.kv import store

WIT = Path(store.__file__).parent / "wit"


@asynccontextmanager
async def gateway(on: str, to: str) -> AsyncIterator[str]:
    """Where it is reached."""
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loop_kit.gateway", "--on", on, "--to", to),
        env={**os.environ, "LOOP_PROVIDER_READY": str(writer)},
        pass_fds=[writer],
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as ready:
            yield (await asyncio.to_thread(ready.readline)).strip()
    finally:
        process.terminate()
        code = await process.wait()
    assert code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux alone")
@pytest.mark.parametrize("to", ["unix", "shm"])
async def test_memory_is_not_shared_through_a_gateway(to: str, tmp_path: Path) -> None:
    """Descriptors stay behind in it, so both ends fall back to bytes."""
    server = await provider.serve(store.Store, on=f"unix:{tmp_path / 'provider'}")
    async with gateway(f"shm:{tmp_path / 'gateway'}", f"{to}:{tmp_path / 'provider'}") as where:
        for scheme in ("shm", "unix"):
            address = f"{scheme}:{where.partition(':')[2]}"
            async with await peer.connect(address, "acme:kv/store", wit=WIT) as kv:
                large = os.urandom(3 << 20)
                assert await kv.call("echo", large) == large
                assert [len(chunk) async for chunk in await kv.call("bytes", 3, 1 << 20)]
                assert await kv.call("add", 1, 2) == 3
    await server.close()


@pytest.mark.parametrize(
    "on", ["quic://127.0.0.1:0", "http2://127.0.0.1:0", "ws://127.0.0.1:0", "tcp://127.0.0.1:0"]
)
async def test_any_transport_leads_to_the_provider(on: str, tmp_path: Path) -> None:
    server = await provider.serve(store.Store, on=f"unix:{tmp_path / 'provider'}")
    async with (
        gateway(on, server.address) as where,
        await peer.connect(where, "acme:kv/store", wit=WIT) as kv,
    ):
        large = os.urandom(3 << 20)
        assert await kv.call("echo", large) == large
    await server.close()


def test_what_a_gateway_cannot_do_is_said_in_a_line(tmp_path: Path) -> None:
    for arguments, code, said in (
        ([], 2, "the following arguments are required: --on, --to"),
        (
            ["--on", "tcp://0.0.0.0:0", "--to", f"unix:{tmp_path / 's'}"],
            1,
            "can be reached from other machines",
        ),
        (["--on", "smtp://a", "--to", f"unix:{tmp_path / 's'}"], 1, "there is no transport `smtp`"),
        (["--on", f"unix:{tmp_path}/no/s", "--to", f"unix:{tmp_path / 's'}"], 1, "No such file or directory"),
    ):
        command = [sys.executable, "-m", "loop_kit.gateway", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr
