"""Components as providers: what they are told of config and grant."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from loop_kit.placements.builtin import plain

__all__ = ["SETTINGS", "Settings", "wants_settings"]

SETTINGS = "loop:provider/settings"
"""The interface by which a component learns its config and its grant."""


class Settings:
    """`loop:provider/settings`, for `imports`: what a component that serves others is told of config and grant.

    Args:
        config: What the provider is configured with.
        grant: What it may do for whoever is linked to it.
    """

    def __init__(
        self, config: Mapping[str, Any] | None = None, grant: Mapping[str, Any] | None = None
    ) -> None:
        self._config, self._grant = (json.dumps(plain(given or {})) for given in (config, grant))

    @property
    def said(self) -> bool:
        """Whether there is anything to be told."""
        return self._config != "{}" or self._grant != "{}"

    def config(self) -> str:
        """The config, as a JSON object."""
        return self._config

    def grant(self) -> str:
        """The grant, as a JSON object."""
        return self._grant

    def refuse(self, key: str, problem: str) -> None:
        """Ends the call that the component answers.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{key}: {problem}")


def wants_settings(imports: Iterable[str]) -> str | None:
    """The name, among those of a component's imports, by which it asks for its settings."""
    return next((name for name in imports if name.partition("@")[0] == SETTINGS), None)
