"""Which files of a workspace git says are others than in a commit."""

from __future__ import annotations

import os
import subprocess

from loop_kit.errors import LoopError

__all__ = ["changed"]

_TRUNKS = ("origin/HEAD", "origin/main", "origin/master", "main", "master")


def changed(root: str, base: str | None) -> list[str]:
    """Files, from the workspace's folder, that were changed, added or removed, committed or not.

    Args:
        root: The workspace's folder.
        base: The commit; None: where the branch left the trunk, and on the trunk the last commit.

    Raises:
        LoopError: It is no repository of git's, there is no such commit, or there is no git.
    """
    commit = _commit(root, base)
    # -z: names as they are; --relative: from this folder, and nothing that is outside
    parts = [
        _git(root, "diff", "--name-only", "--no-renames", "--relative", "-z", commit, "--", "."),
        _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", "."),
    ]
    return sorted({os.path.normpath(name) for part in parts for name in part.split("\0") if name})


def _commit(root: str, base: str | None) -> str:
    if base is not None:
        return _git(
            root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}"
        ).strip()
    for trunk in _TRUNKS:
        try:
            found = _git(root, "merge-base", "HEAD", trunk).strip()
        except LoopError:
            continue
        return found
    return _git(root, "rev-parse", "--verify", "HEAD").strip()


def _git(root: str, *args: str) -> str:
    try:
        ran = subprocess.run(
            ["git", "-C", root, *args], capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise LoopError("what is affected is told by git, and there is none in PATH") from None
    if ran.returncode:
        said = ran.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        if args[0] == "rev-parse":
            said = f"there is no commit {args[-1].removesuffix('^{commit}')!r}" + (
                f": {said}" if said else ""
            )
        error = LoopError(f"git cannot tell what is affected: {said}")
        error.hint = "name a commit or a branch: --affected=BASE"
        raise error
    return ran.stdout.decode("utf-8", "surrogateescape")
