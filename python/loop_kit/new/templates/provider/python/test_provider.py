"""The provider, called as a host calls it."""

from __future__ import annotations

import contextlib
import json
import tempfile
import unittest
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from loop_kit import Err, peer
from loop_kit.provider import serve
from provider import Provider

WIT = Path(__file__).parent / "wit"


@contextlib.asynccontextmanager
async def linked(grant: Any = None, config: Any = None) -> AsyncIterator[Any]:
    """Starts the provider, binds a link, and gives a function that calls in it."""
    with tempfile.TemporaryDirectory() as folder:
        server = await serve(Provider, on=f"unix:{folder}/socket")
        async with await peer.connect(server.address, wit=WIT) as session:
            said = (json.dumps(value) if value else "" for value in (grant, config))
            await session.link(1, "test/store", *said)
            yield lambda name, *args: session.call(name, *args, link=1)
        await server.close()


class Tests(unittest.IsolatedAsyncioTestCase):
    """What a store promises."""

    async def test_what_was_set_is_got_and_listed_in_order(self) -> None:
        async with linked() as call:
            await call("set", "b", "2")
            await call("set", "a", "1")
            self.assertEqual(await call("get", "a"), "1")
            self.assertIsNone(await call("get", "c"))
            self.assertEqual([key async for key in await call("keys")], ["a", "b"])

    async def test_a_grant_is_kept_to(self) -> None:
        async with linked(grant={"prefix": "cart/"}) as call:
            await call("set", "cart/1", "apple")
            with self.assertRaises(Err) as caught:
                await call("get", "orders/1")
            self.assertEqual(caught.exception.value.case, "denied")

    async def test_a_full_store_says_so(self) -> None:
        async with linked(config={"most": 1}) as call:
            await call("set", "a", "1")
            with self.assertRaises(Err) as caught:
                await call("set", "b", "2")
            self.assertEqual(caught.exception.value.value, 1)
