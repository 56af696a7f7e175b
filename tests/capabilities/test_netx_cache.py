"""The HTTP cache: a component between a component and the native client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.capabilities.netx._conform import _ok as ok
from loop_kit.capabilities.netx._conform import _request as request
from loop_kit.capabilities.netx._conform import _server as server


class Cached:
    """A cache before a server."""

    def __init__(self, app: Any, base: str, seen: list[str]) -> None:
        self.base, self.seen = base, seen
        self._fetch = app.exports["loop:netx/http-client"].fetch
        self._read = app.exports["loop:http-cache/statistics"].read

    async def get(self, path: str, *headers: tuple[str, str], method: str = "GET", **options: Any) -> bytes:
        asked = request(self.base + path, method, headers, **options)
        return bytes((await self._fetch(asked, None)).body)

    async def counts(self) -> tuple[int, int, int]:
        counts = await self._read()
        return counts.hits, counts.revalidated, counts.misses


@asynccontextmanager
async def cached(answer: Callable[[int, str], bytes], **config: Any) -> AsyncIterator[Cached]:
    """A cache under a config, before a server that answers the n-th request."""
    n = 0

    def counted(head: str) -> bytes:
        nonlocal n
        n += 1
        return answer(n, head)

    async with server(counted) as (port, seen), loop.Host() as host:
        base = f"http://127.0.0.1:{port}"
        imports = {
            "loop:netx": loop.builtin("netx", allow=[base]),
            "loop:core": loop.builtin("core"),
            "loop:provider/settings": loop.Settings(
                {key.replace("_", "-"): value for key, value in config.items()}
            ),
        }
        yield Cached(await host.load(loop.shipped("netx/http-cache"), imports=imports), base, seen)


async def test_what_is_good_is_not_asked_for_again() -> None:
    async with cached(lambda n, _: ok(b"%d" % n, "cache-control: public, max-age=100")) as cache:
        assert [await cache.get("/a") for _ in range(3)] == [b"1"] * 3
        assert await cache.get("/b") == b"2"
        assert await cache.get("/a#fragment") == b"1"
        assert await cache.counts() == (3, 0, 2)


async def test_what_is_stale_is_asked_about() -> None:
    def answer(n: int, head: str) -> bytes:
        if 'if-none-match: "v1"' in head:
            return b'HTTP/1.1 304 Not Modified\r\netag: "v1"\r\nx-new: 1\r\n\r\n'
        return ok(b"%d" % n, 'etag: "v1"')

    async with cached(answer) as cache:
        assert [await cache.get("/") for _ in range(3)] == [b"1"] * 3
        assert await cache.counts() == (0, 2, 1)


@pytest.mark.parametrize(
    "fields",
    [
        ("cache-control: no-store, max-age=100",),
        ("cache-control: max-age=0",),
        ("cache-control: max-age=x",),
        ("cache-control: max-age=100", "age: 100"),
        ("cache-control: max-age=100", "vary: cookie"),
        ("cache-control: max-age=100", "vary: *"),
        (),
    ],
)
async def test_what_may_not_be_kept_is_not(fields: tuple[str, ...]) -> None:
    async with cached(lambda n, _: ok(b"%d" % n, *fields)) as cache:
        assert [await cache.get("/") for _ in range(2)] == [b"1", b"2"]


async def test_requests_of_their_own_kind_pass_by_and_writes_make_it_forget() -> None:
    async with cached(lambda n, _: ok(b"%d" % n, "cache-control: max-age=100")) as cache:
        assert await cache.get("/") == b"1"
        for n, field in enumerate(("authorization", "cookie", "range", "if-none-match", "cache-control"), 2):
            assert await cache.get("/", (field, "x")) == b"%d" % n
        assert await cache.get("/") == b"1"
        await cache.get("/", method="DELETE")
        assert await cache.get("/") == b"8"


async def test_what_is_kept_is_bounded() -> None:
    async with cached(lambda n, _: ok(b"%d" % n, "cache-control: max-age=100"), max_entries=2) as cache:
        for path in ("/a", "/b", "/a", "/c"):
            await cache.get(path)
        # /b was used longest ago
        assert await cache.get("/a") == b"1"
        assert await cache.get("/b") == b"4"
    async with cached(lambda n, _: ok(b"x" * 1000, "cache-control: max-age=100"), max_bytes=1000) as cache:
        await cache.get("/")
        await cache.get("/")
        assert await cache.counts() == (0, 0, 2)


async def test_the_grant_below_holds() -> None:
    async with cached(lambda n, _: ok(b"%d" % n)) as cache:
        cache.base = "http://127.0.0.1:1"
        with pytest.raises(loop.Err) as met:
            await cache.get("/")
        value: Any = met.value.value
        assert value.case == "HTTP-request-denied"
