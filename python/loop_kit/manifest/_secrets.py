"""Values kept outside the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit.manifest import model
from loop_kit.manifest._shape import Cursor, Field, Table
from loop_kit.manifest._text import ENV_NAME, FILE

__all__ = ["SECRET", "Secrets", "with_secrets"]


def _one_source(raw: Mapping[str, Any], at: Cursor) -> None:
    if len(raw) != 1:
        at.problem('a secret has either "env" or "file"')


class Secrets(Table):
    """A table whose result remembers its place, since it can still fail when it is read."""

    def read(self, value: dict[str, object], at: Cursor) -> Any:
        parsed = super().read(value, at)
        return None if parsed is None else model.Secret(**parsed, _place=(at.source, at.keys))


SECRET = Secrets(
    "secret",
    "A value kept outside the manifest. It is read when it is needed, and never printed.",
    dict,
    {
        "env": Field(ENV_NAME, "Environment variable of the host that holds the value."),
        "file": Field(FILE, "File that holds the value; one final line end is not part of it."),
    },
    verify=_one_source,
    also={"minProperties": 1, "maxProperties": 1},
    expects='a secret such as { env = "NAME" } or { file = "path" }',
)


def with_secrets(value: Any, at: Cursor) -> Any:
    """Replaces `{ env = "NAME" }` and `{ file = "path" }`, at any depth, by secrets."""
    match value:
        case {"env": str(), **rest} | {"file": str(), **rest} if not rest:
            return SECRET.check(value, at)
        case dict():
            return {key: with_secrets(item, at.child(key)) for key, item in value.items()}
        case list():
            return [with_secrets(item, at.child(index)) for index, item in enumerate(value)]
        case _:
            return value
