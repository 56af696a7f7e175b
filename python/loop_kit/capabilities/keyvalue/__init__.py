"""`wasi:keyvalue`: buckets of keys and values in one SQLite file."""

from __future__ import annotations

from loop_kit.capabilities.keyvalue._provider import KeyValue

__all__ = ["KeyValue"]
