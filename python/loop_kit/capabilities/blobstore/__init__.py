"""`wasi:blobstore`: objects of any size by name, in containers, over files, memory, S3 or NATS."""

from __future__ import annotations

from loop_kit.capabilities.blobstore._provider import BlobStore

__all__ = ["BlobStore"]
