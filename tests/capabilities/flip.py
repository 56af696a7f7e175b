"""Swaps what a path names, back and forth, until its standard input ends: a process of its own, so that it truly races.

`python flip.py FOLDER PATH STATE STATE` prints a line once both states were there. It leaves the first one. A state is
`file PATH DATA`, `directory PATH`, `symlink PATH -> TARGET` or `moved to PATH`.
"""

import contextlib
import os
import select
import sys


class Flip:
    """One path that is swapped."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.parked = f"{path}.parked"  # where the directory is meanwhile

    def into(self, state: str) -> None:
        what, _, rest = state.partition(" ")
        if what == "directory":
            self._clear()
            os.rename(self.parked, self.path)
            return
        if os.path.isdir(self.path) and not os.path.islink(self.path):
            if what == "moved":
                self.parked = rest.removeprefix("to ")
            os.rename(self.path, self.parked)
        if what == "file":
            with open(f"{self.path}.new", "w") as file:
                file.write(rest.partition(" ")[2])
            os.replace(f"{self.path}.new", self.path)
        elif what == "symlink":
            os.symlink(rest.partition(" -> ")[2], f"{self.path}.new")
            os.replace(f"{self.path}.new", self.path)

    def _clear(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def main(folder: str, path: str, first: str, second: str) -> None:
    os.chdir(folder)
    flip = Flip(path)
    flip.into(second)
    flip.into(first)
    print("both were there", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        flip.into(second)
        flip.into(first)


if __name__ == "__main__":
    main(*sys.argv[1:])
