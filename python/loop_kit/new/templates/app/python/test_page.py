"""What pages show, in ordinary Python."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "site"))

import page


class Tests(unittest.TestCase):
    """What is answered."""

    def test_whoever_is_named_is_greeted(self) -> None:
        status, html = page.respond("/?name=Ada+L%C3%B6we", "Hello, {}!".format)
        self.assertEqual(status, 200)
        self.assertIn("<h1>Hello, Ada Löwe!</h1>", html)

    def test_what_somebody_calls_himself_is_text(self) -> None:
        self.assertIn("Hello, &lt;b&gt;!", page.respond("/?name=<b>", "Hello, {}!".format)[1])

    def test_nothing_else_is_there(self) -> None:
        self.assertEqual(page.respond("/other", str)[0], 404)
