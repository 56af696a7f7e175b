"""Reads the config and the grant of a provider; what does not do is a ValueError that names its key."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

__all__ = ["no_config", "positive", "table", "texts", "word"]


def table(key: str, value: Any, known: Collection[str] | None = None) -> Mapping[str, Any]:
    """A table, None standing for an empty one. `known`: the keys it may have; None: its keys are the user's own."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{key}: must be a table, got {value!r}")
    for name in value:
        if not isinstance(name, str):
            raise ValueError(f"{key}: keys are strings, got {name!r}")
        if known is not None and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known) or 'nothing'}"
            raise ValueError(f"{key}.{name}: unknown key; {hint}")
    return value


def no_config(value: Any) -> None:
    """The config of a provider that has nothing to configure."""
    table("config", value, ())


def positive(key: str, value: Any, default: int) -> int:
    """A whole number from 1; None stands for the default."""
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key}: must be a whole number from 1, got {value!r}")
    return value


def word(key: str, value: Any, words: Collection[str], default: str) -> str:
    """One of some words; None stands for the default."""
    if value is None:
        return default
    if value not in words:
        raise ValueError(f"{key}: must be one of {', '.join(words)}, got {value!r}")
    return str(value)


def texts(key: str, value: Any) -> tuple[str, ...] | None:
    """Some strings, or None."""
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{key}: must be a list of strings, got {value!r}")
    items = tuple(value)
    if not all(isinstance(item, str) for item in items):
        raise ValueError(f"{key}: must be a list of strings, got {items!r}")
    return items
