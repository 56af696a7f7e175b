"""The grant of `wasi:keyvalue`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit.manifest._shape import Choice, Field, Integer, MapOf, Size, Table

__all__ = ["GRANT", "sentences"]

_BUCKET = Table(
    "bucket",
    "What may be done with a bucket.",
    dict,
    {
        "mode": Field(Choice(("ro", "rw")), "Read-only, or read and write.", default="ro"),
        "max-size": Field(Size(), "Keys and values together, which no write may exceed."),
    },
)

GRANT = Table(
    "grant-wasi-keyvalue",
    "The buckets that the component may open.",
    dict,
    {
        "buckets": Field(MapOf(_BUCKET), "Buckets by name."),
        "max-key": Field(Size(), "Bytes of a key.", default=1024),
        "max-value": Field(Size(), "Bytes of a value.", default=1 << 20),
        "max-list": Field(Integer(1), "Keys that one list-keys returns.", default=1000),
        "max-batch": Field(Integer(1), "Keys of one call of batch.", default=1000),
    },
)


def sentences(grant: Mapping[str, Any]) -> list[str]:
    """What the grant lets a component do, each as the end of "NAME may"."""
    buckets: Mapping[str, Any] = grant.get("buckets", {})
    return [_bucket(name, bucket) for name, bucket in buckets.items()]


def _bucket(name: str, bucket: Mapping[str, Any]) -> str:
    does = "read and write" if bucket.get("mode") == "rw" else "read"
    most = f", up to {bucket['max-size']} bytes" if "max-size" in bucket else ""
    return f"{does} the bucket `{name}`{most}"
