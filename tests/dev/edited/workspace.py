"""A workspace whose page a browser shows while something of it is edited.

python -m tests.dev.edited.workspace FOLDER [USE]     makes one, for tests in other languages
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.checkout import ROOT

HERE = Path(__file__).parent

MANIFEST = """
[components.app]
path = "app.wasm"
build = ["node", "build.mjs"]
sources = ["src", "wit", "build.mjs"]
{dev}
run = "serve"
serve = {{ addr = "127.0.0.1:0" }}

[components.app.imports]
"loop:fsx" = {{ provider = "files", grant = {{ roots = {{ files = {{ path = "files", mode = "ro" }} }} }} }}
"test:edited/words" = {{ provider = "words" }}

[providers.files]
use = "builtin:fsx"

[providers.words]
use = "{words}"
{trusted}
"""
PROVIDER = """from loop_kit.provider import provider


@provider("test:edited/words", wit="wit")
class Words:
    def word(self):
        return "{}"
"""
MARKER = "export const marker = {};\n"
STYLE = "body {{ --shown: {} }}\n"


def workspace(folder: Path, words: str = "python:words:Words", *, dev: bool = True) -> None:
    """Makes one, with what its tools need.

    Args:
        folder: Where.
        words: The `use` of the provider that is edited.
        dev: Whether its component is given to an engine.
    """
    for name in ("src", "wit/deps", "files"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "app.js", folder / "src/app.js")
    shutil.copy(ROOT / "examples/site/src/utf8.js", folder / "src/utf8.js")
    shutil.copy(HERE / "build.mjs", folder / "build.mjs")
    shutil.copy(HERE / "world.wit", folder / "wit/world.wit")
    for package in ("python/loop_kit/capabilities/fsx/wit", "wit/deps/wasi-0.3"):
        for file in (ROOT / package).glob("*.wit"):
            shutil.copy(file, folder / "wit/deps" / file.name)
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    (folder / "src/marker.js").write_text(MARKER.format('"first"'))
    (folder / "words.py").write_text(PROVIDER.format("first"))
    (folder / "files/page.js").write_text("")
    (folder / "src/inline.css").write_text("body { --inline: first }")
    (folder / "files/style.css").write_text(STYLE.format("first"))
    trusted = "" if words.startswith("sidecar:") else "trusted = true"
    said = MANIFEST.format(words=words, dev='dev = "build.mjs"' if dev else "", trusted=trusted)
    (folder / "loop.toml").write_text(said)


if __name__ == "__main__":
    workspace(Path(sys.argv[1]), *sys.argv[2:])
