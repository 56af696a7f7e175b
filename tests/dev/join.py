"""What the builds of these tests do: put the files of a folder together, by name and contents."""

import os
import sys
from collections.abc import Iterator


def _files(folder: str) -> Iterator[str]:
    for at, _, names in os.walk(folder, followlinks=True):
        if at.count("/") - folder.count("/") < 8:  # links may go round
            # neither outputs, nor what editors leave
            yield from (os.path.join(at, name) for name in names if not name.endswith((".wasm", "~")))


def join(root: str, folder: str) -> str:
    said = []
    for path in sorted(_files(os.path.join(root, folder))):
        if os.path.isfile(path):
            with open(path) as file:
                said.append(f"{os.path.relpath(path, root)}\n{file.read()}\n")
    return "".join(said)


if __name__ == "__main__":
    _, folder, output = sys.argv
    os.makedirs(os.path.dirname(output) or ".", exist_ok=True)
    with open(output, "w") as file:
        file.write(join(".", folder) or "\n")
