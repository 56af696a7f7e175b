"""A provider that calls whoever called it: sessions are the same both ways."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import Err, errors, peer, provider
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests.guests import Guest
from tests.sessions.ways import CALLING, SERVING
from tests.wit_types import U32

STORE, WATCH = "acme:kv/store@0.1.0", "acme:kv/watch@0.1.0"
WIT = """\
package acme:kv@0.1.0;

interface watch {
  resource token {
    constructor(n: u32);
    value: func() -> u32;
  }
  changed: func(key: string) -> result<u32, string>;
  wait: async func();
  each: func(of: stream<string>) -> stream<string>;
  issue: func() -> token;
}

interface store {
  put: async func(key: string) -> u32;
  wait: async func();
  lost: async func();
  shout: async func(words: list<string>) -> list<string>;
  check: async func() -> u32;
}
"""


class Store:
    """Calls back in each of its functions."""

    async def put(self, key: str) -> int:
        try:
            return int(await loop.invocation().call("changed", key))
        except Err as error:
            raise ValueError(error.value) from None

    async def wait(self) -> None:
        await loop.invocation().call("acme:kv/watch#wait")

    async def lost(self) -> None:
        await loop.invocation().call("changing")

    async def shout(self, words: list[str]) -> list[str]:
        return [word async for word in await loop.invocation().call("each", words)]

    async def check(self) -> int:
        call = loop.invocation()
        token = await call.call("[constructor]token", 20)
        issued = await call.call("issue")
        values = [await call.call("[method]token.value", held) for held in (token, issued)]
        return int(sum(values))


class Watch:
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.calls: list[loop.Invocation] = []
        self.ended = asyncio.Event()
        self.begun = asyncio.Event()

    class Token:
        def __init__(self, n: int) -> None:
            self.n = n

        def value(self) -> int:
            return self.n

    def changed(self, key: str) -> int:
        self.calls.append(loop.invocation())
        if not key:
            raise Err("no key")
        self.seen.append(key)
        return len(self.seen)

    async def wait(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def each(self, of: AsyncIterator[str]) -> AsyncIterator[str]:
        async def louder() -> AsyncIterator[str]:
            async for word in of:
                yield word.upper()

        return louder()

    def issue(self) -> Watch.Token:
        return self.Token(3)


@pytest.fixture
def wit(tmp_path: Path) -> Path:
    (tmp_path / "kv.wit").write_text(WIT)
    return tmp_path / "kv.wit"


@contextlib.asynccontextmanager
async def calling(way: str, wit: Path) -> AsyncIterator[tuple[Watch, peer.Peer]]:
    watch = Watch()
    options: dict[str, Any] = {"interfaces": STORE, "wit": wit, "imports": WATCH}
    reach: dict[str, Any] = {"wit": wit, "exports": {"acme:kv/watch": watch}}
    if way == "pair":
        ours, theirs = socket.socketpair()
        server = await provider.serve(Store(), on=f"unix:{wit.parent}/unused", **options)
        fd = theirs.detach()
        server.accept(fd, fd)
        fd = ours.detach()
        connecting = peer.connect((fd, fd), STORE, **reach)
    else:
        address = {way: f"{way}:{wit.parent}/s" for way in ("unix", "shm")}
        address |= {"tcp": "tcp://127.0.0.1:0", "tls": "tcp://127.0.0.1:0"}
        serving, trusting = (SERVING, CALLING) if way == "tls" else (None, None)
        server = await provider.serve(Store(), on=address.get(way, way), tls=serving, **options)
        connecting = peer.connect(server.address, STORE, tls=trusting, **reach)
    async with await connecting as session:
        yield watch, session
    await server.close()


async def test_a_provider_calls_back(way: str, wit: Path) -> None:
    async with calling(way, wit) as (watch, session):
        assert await session.call("put", "a") == 1
        counts = await asyncio.gather(*(session.call("put", f"k{n}") for n in range(100)))
        assert sorted(counts) == list(range(2, 102))
        assert sorted(watch.seen) == sorted(["a", *(f"k{n}" for n in range(100))])
        with pytest.raises(errors.ProviderError, match="ValueError: no key"):
            await session.call("put", "")
        words = [f"w{n}" for n in range(300)]
        assert await session.call("shout", words) == [word.upper() for word in words]
        assert await session.call("check") == 23


async def test_what_is_known_of_a_call_goes_back_with_it(wit: Path) -> None:
    async with calling("unix", wit) as (watch, session):
        trace = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        with loop.traced(trace):
            await session.call("put", "a", deadline=20)
        (call,) = watch.calls
        assert call.trace == trace
        assert call.deadline is not None
        assert 0 < call.deadline <= 20
        await session.call("put", "b")
        assert (watch.calls[1].deadline, watch.calls[1].trace) == (None, None)


async def test_cancelling_goes_all_the_way(wit: Path) -> None:
    async with calling("unix", wit) as (watch, session):
        waiting = asyncio.ensure_future(session.call("wait"))
        await watch.begun.wait()
        waiting.cancel()
        await watch.ended.wait()
        watch.ended.clear()
        with pytest.raises(errors.DeadlineExceeded):
            await session.call("wait", deadline=0.02)
        await watch.ended.wait()


async def test_who_exports_nothing_is_refused(wit: Path) -> None:
    server = await provider.serve(
        Store(), on=f"unix:{wit.parent}/s", interfaces=STORE, wit=wit, imports="acme:kv/watch"
    )
    with pytest.raises(errors.NotOffered, match="acme:kv/watch"):
        await peer.connect(server.address, STORE, wit=wit)
    guest = Guest().imports("put", [], U32, of=STORE).exports("run", [], U32, "(call $put)")
    (wit.parent / "a.wasm").write_bytes(guest.wasm())
    (wit.parent / "loop.toml").write_text(f"""\
[components.a]
path = "a.wasm"
imports."{STORE}" = {{ provider = "kv" }}
[providers.kv]
use = "remote:{server.address}"
""")
    async with loop.Host(cache=None) as host, Workspace(host, load(wit.parent)) as workspace:
        with pytest.raises(errors.LoadError, match="acme:kv/watch"):
            await workspace.load("a")
    await server.close()


async def test_what_cannot_be_called_back_is_said(wit: Path) -> None:
    server = await provider.serve(Store(), on=f"unix:{wit.parent}/s", interfaces=STORE, wit=wit)
    async with await peer.connect(server.address, STORE, wit=wit) as session:
        with pytest.raises(errors.ProviderError, match="NotOffered: changed: nobody can be called back"):
            await session.call("put", "a")
    await server.close()
    with pytest.raises(errors.NotOffered, match="nobody can be called back"):
        await loop.invocation().call("changed", "a")
    async with calling("unix", wit) as (_, session):
        with pytest.raises(errors.ProviderError, match=r"NoSuchExport: .*'changing'"):
            await session.call("lost")
        with pytest.raises(errors.LinkError, match="issue"):
            await peer.connect(session.address, STORE, wit=wit, exports={"acme:kv/watch": object()})
