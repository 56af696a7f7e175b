"""Workspaces with commands of their own.

python -m tests.commands.workspaces FOLDER    makes one there
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.checkout import ROOT

HERE = Path(__file__).parent
QJS = ROOT / "node_modules" / ".bin" / "componentize-qjs"
WORLD = "package acme:tools;\n\nworld tools {\n  export loop:devserver/command@0.1.0-dev;\n}\n"
NAMES = ("echo", "fail", "refuse", "hang", "trap", "deep", "flood", "escape")
MANIFEST = """\
[workspace]
name = "shop"
[components.tools]
path = "tools.wasm"
limits = { deadline = "2s", memory = "64MiB" }
[commands]
""" + "".join(f'{name} = "tools"\n' for name in NAMES)


def guest(folder: Path, greeting: str = "said") -> Path:
    """A component that exports `loop:devserver/command`, with the commands of `tools.js`."""
    made = folder / greeting
    (made / "wit" / "deps").mkdir(parents=True)
    (made / "wit" / "tools.wit").write_text(WORLD)
    shutil.copy(
        ROOT / "python/loop_kit/capabilities/devserver/wit/devserver.wit",
        made / "wit" / "deps" / "devserver.wit",
    )
    (made / "tools.js").write_text((HERE / "tools.js").read_text().replace("GREETING", greeting))
    done = subprocess.run(
        [QJS, "--wit", "wit", "--js", "tools.js", "-o", "tools.wasm", "--sync", "--stub-wasi", "--opt-size"],
        cwd=made, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return made / "tools.wasm"


def main() -> None:
    folder = Path(sys.argv[1])
    shutil.copy(guest(folder / "source"), folder / "tools.wasm")
    (folder / "loop.toml").write_text(MANIFEST)


if __name__ == "__main__":
    main()
