"""`wasi:keyvalue`: buckets of keys and values, in one SQLite file or in NATS JetStream."""

from __future__ import annotations

from loop_kit.capabilities.keyvalue._nats import NatsKeyValue
from loop_kit.capabilities.keyvalue._provider import KeyValue
from loop_kit.capabilities.keyvalue._watch import Change, Watching, watch

__all__ = ["Change", "KeyValue", "NatsKeyValue", "Watching", "watch"]
