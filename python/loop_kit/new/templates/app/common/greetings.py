"""Greetings: a provider, which runs in a process of its own."""

from __future__ import annotations

from loop_kit.provider import provider


@provider("acme:site/greetings@0.1.0", wit="wit")
class Greetings:
    """Answers what `interface greetings` in wit/site.wit promises."""

    def greet(self, name: str) -> str:
        """Greets somebody by name."""
        return f"Hello, {name}!"
