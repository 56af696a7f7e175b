"""The component, built and called."""

from __future__ import annotations

import asyncio
import unittest
from pathlib import Path

import loop_kit as loop
from loop_kit import manifest
from loop_kit.workspace import Workspace

FOLDER = Path(__file__).parent


class Tests(unittest.TestCase):
    """What it promises."""

    def test_words_are_counted(self) -> None:
        some, none = asyncio.run(counts("to be or  not to\nbe", " "))
        self.assertEqual(some, [("be", 2), ("to", 2), ("not", 1), ("or", 1)])
        self.assertEqual(none, [])


async def counts(*texts: str) -> list[list[tuple[str, int]]]:
    """What the component answers for each text."""
    async with loop.Host() as host, Workspace(host, manifest.load(FOLDER)) as workspace:
        words = await workspace.load("my-component")
        return [await words.call("count", text) for text in texts]
