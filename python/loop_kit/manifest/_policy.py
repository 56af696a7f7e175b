"""The policy of a user: `[trust]` in a file of its own, for whatever has no policy of its own."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from loop_kit.errors import ManifestError, Problem
from loop_kit.manifest._source import MAX_BYTES
from loop_kit.trust._where import policy_file

if TYPE_CHECKING:
    from loop_kit.manifest.model import Manifest

__all__ = ["policy_in", "user_policy", "with_policy"]


def with_policy(manifest: Manifest) -> Manifest:
    """A manifest with the user's policy, where it has none of its own, and the user has one.

    Raises:
        ManifestError: The user's policy cannot be read: then nothing is known of what may be loaded.
    """
    if manifest.trust is not None:
        return manifest
    found = user_policy()
    if found is None:
        return manifest
    return dataclasses.replace(manifest, trust=found.trust, trust_source=found.source)


def user_policy() -> Manifest | None:
    """The user's policy, as a manifest that has nothing but that; None, if there is none.

    Raises:
        ManifestError: It cannot be read, others may write to it, or it says something else.
    """
    path = policy_file()
    if not os.environ.get("LOOP_TRUST") and not os.path.lexists(path):
        return None  # a file that was named, or a link that leads nowhere, is missed
    found = policy_in(path)
    others = found.source.parse().keys() - {"trust"}
    if others:
        name = sorted(others)[0]
        raise found.error(
            (name,), "only [trust] may stand here: this is a policy, not a workspace", "remove it"
        )
    return found


def policy_in(path: Path) -> Manifest:
    """The manifest of a file that has `[trust]`.

    Raises:
        ManifestError: It cannot be read, others may write to it, or there is no `[trust]` in it.
    """
    from loop_kit.manifest._load import loads

    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            data = file.read(MAX_BYTES + 1)
        real = path.parent.resolve(strict=True) / path.name
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror or error}") from None
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or about.st_uid not in (0, os.geteuid()):
        hint = f"`chmod go-w {path}`, once you have looked what it says"
        raise _refused(path, "others may write to it, and so say whom you trust", hint)
    found = loads(data, real, shown=str(path))
    if found.trust is None:
        raise _refused(path, "there is no [trust] in it", "say who may sign what")
    return found


def _refused(path: Path, message: str, hint: str | None = None) -> ManifestError:
    return ManifestError([Problem(str(path), None, None, "", message, hint)])
