"""The provider alone, called as a component calls it."""

from __future__ import annotations

import asyncio
import unittest

from greetings import Greetings
from loop_kit.testing import client


class Tests(unittest.TestCase):
    """What greetings promise."""

    def test_whoever_comes_is_greeted_by_name(self) -> None:
        self.assertEqual(asyncio.run(greeted("Ada")), "Hello, Ada!")


async def greeted(name: str) -> str:
    """What the provider answers."""
    async with client("acme:site", provider=Greetings) as site:
        return await site.greetings.greet(name)
