"""A guest that tells of itself, and whoever is called next."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from loop_kit import telemetry
from loop_kit.provider import provider
from tests.checkout import ROOT

GUEST = Path(__file__).parent / "capabilities" / "guests" / "telling"


@cache
def guest() -> bytes:
    """The component of `guests/telling`, in JavaScript."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(GUEST / "wit", folder / "wit")
        core = ROOT / "python" / "loop_kit" / "capabilities" / "core" / "wit"
        shutil.copytree(core, folder / "wit" / "deps" / "core")
        shutil.copytree(GUEST / "next", folder / "wit" / "deps" / "next")
        tool = str(ROOT / "node_modules" / ".bin" / "componentize-qjs")
        flags = ["--sync", "--stub-wasi", "--opt-size", "-n", "telling", "-w", str(folder / "wit")]
        command = [tool, *flags, "-j", str(GUEST / "telling.js"), "-o", str(folder / "made.wasm")]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return (folder / "made.wasm").read_bytes()


@provider("test:telling/next", wit=str(GUEST / "next"))
class Next:
    """Answers within a span of its own."""

    def go(self, words: str) -> str:
        with telemetry.span("answer", "server", words=words) as span:
            if words == "fail":
                raise RuntimeError("not today")
            span.event("answered")
            return words.upper()
