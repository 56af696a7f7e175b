"""`loop.toml`: which components a workspace has, what provides their imports, and what each may touch."""

from __future__ import annotations

from loop_kit.errors import ManifestError, Problem
from loop_kit.manifest._load import FILE_NAME, find, load, loads, reveal, with_use
from loop_kit.manifest.model import (
    Artifact,
    Bind,
    Component,
    Dir,
    Limits,
    Link,
    Login,
    Manifest,
    Pack,
    Placement,
    Provider,
    Secret,
    Serve,
    Tls,
    Wasi,
)

__all__ = [
    "FILE_NAME", "Artifact", "Bind", "Component", "Dir", "Limits", "Link", "Login", "Manifest", "ManifestError", "Pack",
    "Placement", "Problem", "Provider", "Secret", "Serve", "Tls", "Wasi", "find", "load", "loads", "reveal", "with_use",
]  # fmt: skip
