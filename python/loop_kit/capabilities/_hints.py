"""What a grant lacks, told to whoever runs the host: WASI's error codes have no room for it."""

from __future__ import annotations

import logging

__all__ = ["Hints", "named"]

# Different words that one provider says at most: names come from the component.
_MOST = 64


class Hints:
    """Logs warnings as if the component had, each once, below `loop_kit.guest`.

    Args:
        target: The package that refuses.
        component: Whom, or "" where that is not known.
    """

    def __init__(self, target: str, component: str = "") -> None:
        self._component = component
        self._logger = logging.getLogger(f"loop_kit.guest.{target}")
        self._said: set[str] = set()

    def say(self, words: str) -> None:
        """Logs the words, unless they were."""
        if len(self._said) < _MOST and words not in self._said:
            self._said.add(words)
            self._logger.warning("%s", words, extra={"refusal": True, "component": self._component})


def named(name: str) -> str:
    """A name that a component gave, as it may stand in a line of words."""
    return name[:64].encode("unicode_escape").decode("ascii") if not name.isprintable() else name[:64]
