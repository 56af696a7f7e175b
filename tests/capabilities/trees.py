"""Folders to grant."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

Files = Mapping[str, str | bytes | None]


def grow(folder: Path, files: Files) -> Path:
    """Makes files in a folder: text or bytes by path, None for a directory, `-> target` for a link."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match content:
            case None:
                path.mkdir(exist_ok=True)
            case bytes():
                path.write_bytes(content)
            case _ if content.startswith("-> "):
                path.symlink_to(content.removeprefix("-> "))
            case _:
                path.write_text(content)
    return folder


def tangled(top: Path) -> None:
    """Makes files whose names are patterns too, in a few folders, and links that lead to each other, up and out."""
    names = ["a", "b", "ab", "a.b", ".a", "é", "a,b", "[a]", "{a}", "a*", "a\\b", "-", "!", "#"]
    files = {f"{above}{name}": name for above in ("", "d/", "d/b/", "d/b/c/", ".d/") for name in names}
    links = {
        "l": "-> d", "d/l": "-> ../a", "d/up": "-> ..", "d/out": "-> ../..", "d/back": "-> ../../top/a",
        "abs": f"-> {top}", "r": "-> r", "d/r": "-> ../d/r2", "d/r2": "-> r", "x": "-> none", "s": "-> d/",
        "d/s": "-> b/../l/", "fs": "-> a/",
    }  # fmt: skip
    grow(top, {key: value for key, value in files.items() if key != "d/b"} | links)


@contextmanager
def files_left(count: int) -> Iterator[None]:
    """Lets this process open so many more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = [os.dup(0) for _ in range(count + 1)]
    for fd in opened:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(opened), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def special(folder: Path) -> None:
    """Makes a pipe and a socket, which nobody serves, in a folder."""
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        # from within the folder: the path of a socket must be short
        before = Path.cwd()
        os.chdir(folder)
        try:
            made.bind("socket")
        finally:
            os.chdir(before)
