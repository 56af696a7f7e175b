"""All of it: the site is built, linked as loop.toml says, served, and asked."""

from __future__ import annotations

import asyncio
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import loop_kit as loop
from loop_kit import manifest
from loop_kit.workspace import Workspace

FOLDER = Path(__file__).parent


class Tests(unittest.TestCase):
    """What a browser is shown."""

    def test_the_page_greets_and_nothing_else_is_there(self) -> None:
        greeted, absent = asyncio.run(answers("/?name=Ada+L%C3%B6we", "/no-such-page"))
        self.assertEqual((greeted[0], absent[0]), (200, 404))
        self.assertIn("<h1>Hello, Ada Löwe!</h1>", greeted[1])


async def answers(*targets: str) -> list[tuple[int, str]]:
    """The status and the body of the answer to each request."""
    async with loop.Host() as host, Workspace(host, manifest.load(FOLDER)) as workspace:
        await workspace.load("site")
        server = workspace.serve("site", "127.0.0.1:0")
        try:
            return [await asyncio.to_thread(ask, f"http://{server.address}{target}") for target in targets]
        finally:
            await asyncio.to_thread(server.shutdown, 1.0)


def ask(url: str) -> tuple[int, str]:
    """Asks the server."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
