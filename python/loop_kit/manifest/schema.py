"""The JSON Schema of `loop.toml`, for editors: `python -m loop_kit.manifest.schema` prints it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from loop_kit.manifest._declare import MANIFEST
from loop_kit.manifest._shape import JsonSchema

__all__ = ["SHIPPED", "schema", "text"]

SHIPPED = Path(__file__).parent.parent / "schema" / "loop.schema.json"


def schema() -> JsonSchema:
    """Returns the schema, made from the declarations that also check manifests.

    It cannot say everything that they check: names that lead nowhere are found only by loading the manifest.
    """
    defs: JsonSchema = {}
    root = MANIFEST.schema(defs)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:loop-kit:schema:loop.toml",
        "title": "loop.toml",
        **root,
        "$defs": defs,
    }


def text() -> str:
    """Returns the schema as the shipped file has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        SHIPPED.write_text(text(), "utf-8")
    else:
        sys.stdout.write(text())
