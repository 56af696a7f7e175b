"""`loop:toolchain` by esbuild, the native program, which is installed as any tool of a build."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from loop_kit._types import Err
from loop_kit.capabilities.toolchain._program import problem, ran
from loop_kit.pkg import Tools
from loop_kit.provider import provider

__all__ = ["Esbuild"]

_MOST_BYTES = 256 << 20
"""Of all files together, before and after."""
_QUIET = ("--log-level=warning", "--color=false")
_SAID = re.compile(
    r"^(?P<kind>✘ \[ERROR\]|▲ \[WARNING\]) (?P<message>.*?)\n+"
    r"(?:\s{4}(?P<path>[^\s:][^:\n]*):(?P<line>\d+):(?P<column>\d+):)?",
    re.MULTILINE,
)
_COMPILED = {".ts": ".js", ".tsx": ".js", ".jsx": ".js", ".mts": ".mjs", ".js": ".js", ".mjs": ".mjs"}


@provider("loop:toolchain/bundle@0.1.0", "loop:toolchain/compile@0.1.0", wit="wit")
class Esbuild:
    """Serves `loop:toolchain`: `bundle` and `compile`, of JavaScript and TypeScript.

    esbuild runs in a folder of its own with the files that it is given. What it finds elsewhere, by an absolute path or
    in a `node_modules` above, is refused.
    """

    async def compile(self, source: Any, options: Any) -> Any:
        """Compiles one file."""
        stem, end = os.path.splitext(source.path)
        if end not in _COMPILED:
            raise Err([problem(f"{source.path}: esbuild compiles {', '.join(_COMPILED)}", source.path)])
        output = stem + _COMPILED[end]
        jsx = "--jsx=transform" if options.jsx else "--jsx=preserve"
        return await _ran([source], source.path, output, [jsx, "--target=esnext"])

    async def bundle(self, files: list[Any], options: Any) -> Any:
        """Bundles what an entry needs."""
        if options.entry not in {file.path for file in files}:
            raise Err([problem(f"the entry {options.entry} is not among the files", options.entry)])
        kind = "esm" if options.format.name.lower() == "module" else "iife"
        return await _ran(
            files, options.entry, options.output, ["--bundle", f"--format={kind}", "--charset=utf8"]
        )


async def _ran(files: list[Any], entry: str, output: str, more: list[str]) -> dict[str, Any]:
    command = await Tools().command("esbuild")
    if sum(len(file.contents) for file in files) > _MOST_BYTES:
        raise Err([problem(f"more than {_MOST_BYTES} bytes")])
    with tempfile.TemporaryDirectory(prefix="loop-esbuild-") as text:
        folder = Path(text)
        for file in files:
            place = folder / "in" / _inside(file.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.contents)
        # it must not find the configuration of any project around
        (folder / "in" / "tsconfig.json").write_text("{}")
        outfile = folder / "out" / _inside(output)
        meta = folder / "meta.json"
        argv = [*command, f"./{_inside(entry)}", f"--outfile={outfile}", f"--metafile={meta}", *_QUIET, *more]
        _, said, ended = await ran(argv, folder=folder / "in")
        errors, warnings = _read(said.decode("utf-8", "replace"))
        if ended or not outfile.is_file():
            raise Err(errors or [problem(said.decode("utf-8", "replace").strip() or "esbuild made nothing")])
        read = json.loads(meta.read_bytes())["inputs"]
        if strange := [path for path in read if path not in {file.path for file in files}]:
            raise Err([problem(f"{strange[0]} is not among the files", entry)])
        return {"files": [{"path": output, "contents": outfile.read_bytes()}], "warnings": warnings}


def _inside(path: str) -> str:
    parts = path.split("/")
    if (
        not path
        or path.startswith("/")
        or not {"", ".", ".."}.isdisjoint(parts)
        or "\0" in path
        or "\\" in path
    ):
        raise Err([problem(f"{json.dumps(path)} is no path of a file", None)])
    return path


def _read(said: str) -> tuple[list[Any], list[Any]]:
    """The errors and warnings of what esbuild has written."""
    errors: list[Any] = []
    warnings: list[Any] = []
    for match in _SAID.finditer(said):
        line, column = int(match["line"] or 0), int(match["column"] or -1) + 1
        found = problem(match["message"].strip(), match["path"], line, column)
        (errors if "ERROR" in match["kind"] else warnings).append(found)
    return errors, warnings
