"""The grants of the capabilities that ship with loop-kit, checked with the rest of the manifest.

A grant belongs to a capability, whichever provider serves it, so it is found by the import's package. Grants
of other packages are free: their providers check them. One module a capability: its `GRANT`, and `sentences`, which
says in words what a grant allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from loop_kit.manifest._grants import blobstore, core, devserver, fsx, keyvalue, netx, process
from loop_kit.manifest._shape import Table

__all__ = ["GRANTS", "SENTENCES"]

GRANTS: dict[str, Table] = {
    "loop:core": core.GRANT,
    "loop:devserver": devserver.GRANT,
    "loop:fsx": fsx.GRANT,
    "loop:netx": netx.GRANT,
    "loop:process": process.GRANT,
    "wasi:blobstore": blobstore.GRANT,
    "wasi:keyvalue": keyvalue.GRANT,
}

SENTENCES: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "loop:core": core.sentences,
    "loop:devserver": devserver.sentences,
    "loop:fsx": fsx.sentences,
    "loop:netx": netx.sentences,
    "loop:process": process.sentences,
    "wasi:blobstore": blobstore.sentences,
    "wasi:keyvalue": keyvalue.sentences,
}
