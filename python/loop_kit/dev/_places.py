"""Files and lines in what builds and programs write: which tool wrote it does not matter."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from loop_kit.dev._events import Place
from loop_kit.dev._files import NEVER, below

__all__ = ["MOST", "places"]

MOST = 50
"""How many places are taken from one output."""

_LONGEST_LINE = 400
_AROUND = 2
_MAX_SOURCE = 4 << 20

_ANSI = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\))")
_FILE = r"(?P<file>(?:[A-Za-z]:)?[^\s:()'\"<>|*]+?\.[A-Za-z]\w{0,7})"

# Python: the file comes first, and the message at the end of the traceback.
_TRACEBACK = re.compile(r"(?:\w+: )?\s*File \"(?P<file>[^\"]+)\", line (?P<line>\d+)")
_TRACED = re.compile(r".*Traceback \(most recent call last\):$")
_RAISED = re.compile(
    r"(?P<message>[A-Za-z_][\w.]*(?:Error|Exception|Warning|Interrupt|Exit)\b.*|[A-Za-z_]\w*: .*)"
)
# `src/app.ts(3,7): error TS2322: …`, `src/app.ts:3:7 - error TS2322: …`
_TSC = re.compile(
    rf"{_FILE}(?:\((?P<line>\d+),(?P<column>\d+)\):|:(?P<line2>\d+):(?P<column2>\d+) -) "
    r"(?:error|warning) (?P<message>.*)"
)
# esbuild: `✘ [ERROR] message`, then the place on a line of its own. rustc, and the WIT parser: `error: message`,
# then `--> file:line:column`.
_HEADLINE = re.compile(
    r"\s*(?:(?:[✘▲X] )?\[(?:ERROR|WARNING)\]|error(?:\[\w+\])?:|warning:) ?(?P<message>.+)"
)
_ARROW = re.compile(r"\s*(?:-->|:::|╭─\[) ?(?P<file>[^\s:][^:]*):(?P<line>\d+):(?P<column>\d+)")
_ALONE = re.compile(rf"\s+{_FILE}:(?P<line>\d+):(?P<column>\d+):?\s*$")
# gcc, clang, go, eslint's unix format, esbuild in one line: `file:line:column: message`
_COLON = re.compile(
    rf"\s*(?:[^\s:]+: )?{_FILE}:(?P<line>\d+):(?:(?P<column>\d+):)? (?:error: |ERROR: )?(?P<message>.+)"
)
# node: `file:///w/build.mjs:3` with a caret below, and `    at f (file:///w/build.mjs:3:7)`
_NODE_TOP = re.compile(r"(?:file://)?(?P<file>/[^\s:]+):(?P<line>\d+)\s*$")
_NODE_AT = re.compile(r"\s+at (?:.*\()?(?:file://)?(?P<file>[^\s():]+):(?P<line>\d+):(?P<column>\d+)\)?\s*$")
# QuickJS: `    at f (app.js:3)`, `    at app.js:3:7`
_QUICKJS_AT = re.compile(r"\s+at (?:[^()]*\()?(?P<file>[^\s():]+\.\w+):(?P<line>\d+)\)?\s*$")
_THROWN = re.compile(r"(?:Uncaught )?(?P<message>(?:[A-Z]\w*)?(?:Error|Exception)\b(?: \[\w+\])?:.*)")
_FOREIGN = ("node:", "<", "internal/")
# What Rust's `anyhow` says of itself.
_BACKTRACE = re.compile(r"^Stack backtrace:\n(?: .*\n?)*", re.MULTILINE)
_LOOKED_AT = 5000


def places(output: str, folder: Path) -> tuple[Place, ...]:
    """What an output says of files and lines, each place once, in its order; at most `MOST`.

    Understands the tracebacks of Python, `tsc`, esbuild, the stacks of Node.js and QuickJS, `rustc`, the parser of WIT,
    and `file:line:column: message` as compilers write it. Of a stack, that place is taken that is nearest to the
    error and in the folder, else the nearest.

    Args:
        output: What was written; colours are taken out.
        folder: Where relative names start: where the tool ran.
    """
    seen: set[tuple[str, int]] = set()
    found: list[Place] = []
    installed: list[Place] = []
    for file, line, column, message in _found(_BACKTRACE.sub("", _ANSI.sub("", output)), folder):
        if len(found) == MOST:
            break
        path = _real(file.removeprefix("file://"), folder)
        inside = below(path, str(folder))
        shown = os.path.relpath(path, folder) if inside else path
        if (shown, line) not in seen:
            seen.add((shown, line))
            place = Place(shown, line, column, message.strip(), _excerpt(path, line, column))
            (installed if _is_installed(path) else found).append(place)
    return tuple(found or installed[:MOST])


def _is_installed(path: str) -> bool:
    return not {"node_modules", "site-packages", ".venv"}.isdisjoint(path.split("/")) or "/bin/" in path


def _real(file: str, folder: Path) -> str:
    """The file on this machine: a guest that is being built may know it by another path, such as `/0/app.py`."""
    path = os.path.normpath(os.path.join(folder, file))
    if os.path.exists(path) or not file.startswith("/"):
        return path
    # the longest end of the path that one file has
    parts = file.strip("/").split("/")
    looked_at = 0
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in NEVER)
        looked_at += len(names) + 1
        if looked_at > _LOOKED_AT:
            break
        if parts[-1] in names:
            for count in range(len(parts)):
                candidate = os.path.join(at, *parts[count:])
                if os.path.isfile(candidate):
                    return candidate
    return path


def _found(output: str, folder: Path) -> Iterator[tuple[str, int, int, str]]:
    lines = [line[:_LONGEST_LINE].rstrip("\r") for line in output.split("\n")]
    message = ""  # the last headline, for a place that comes below it
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if found := _TRACEBACK.match(line):
            stack, at, message = _traceback(lines, at, found, folder)
            yield (*_nearest(stack[::-1], folder), message)
        elif found := _TSC.match(line) or _COLON.match(line):
            parts = found.groupdict()
            row, column = parts["line"] or parts["line2"], parts["column"] or parts.get("column2")
            yield parts["file"], int(row), int(column or 0), parts["message"]
        elif found := _NODE_TOP.match(line):
            # the message comes below the excerpt that node shows
            ahead = (_THROWN.match(text) for text in lines[at : at + 8])
            message = next((thrown["message"] for thrown in ahead if thrown), message)
            caret = next(
                (text.index("^") + 1 for text in lines[at : at + 3] if set(text.strip()) == {"^"}), 0
            )
            if not found["file"].startswith("/internal"):
                yield found["file"], int(found["line"]), caret, message
                at = _after_stack(lines, at + 2)
        elif found := _ARROW.match(line):
            above = lines[at - 2] if at > 1 else ""
            headline = _HEADLINE.match(above)
            yield (
                found["file"],
                int(found["line"]),
                int(found["column"]),
                headline["message"] if headline else above,
            )
        elif found := _ALONE.match(line):
            # only esbuild ends with a colon, and counts from 0
            yield found["file"], int(found["line"]), int(found["column"]) + line.endswith(":"), message
        elif _NODE_AT.match(line) or _QUICKJS_AT.match(line):
            stack = []
            at -= 1
            while at < len(lines) and (found := _NODE_AT.match(lines[at]) or _QUICKJS_AT.match(lines[at])):
                stack.append((found["file"], int(found["line"]), int(found.groupdict().get("column") or 0)))
                at += 1
            if own := [frame for frame in stack if not frame[0].startswith(_FOREIGN)]:
                yield (*_nearest(own, folder), message)
        elif found := _THROWN.match(line) or _HEADLINE.match(line):
            message = found["message"]


def _traceback(
    lines: list[str], at: int, first: re.Match[str], folder: Path
) -> tuple[list[tuple[str, int, int]], int, str]:
    """The frames, the line after, and the message of a traceback; of a SyntaxError the column too."""
    stack = [(first["file"], int(first["line"]), 0)]
    while at < len(lines):
        line = lines[at]
        at += 1
        if found := _TRACEBACK.match(line):
            stack.append((found["file"], int(found["line"]), 0))
        elif _TRACED.match(line):
            continue
        elif line.strip() and set(line.strip()) <= set("^~ ") and "^" in line:
            # both are indented alike, but the source more where it was indented itself
            file, row, _ = stack[-1]
            above = lines[at - 2]
            column = line.index("^") - (len(above) - len(above.lstrip())) + 1
            # it is shown without its own indentation
            source = _lines(_real(file, folder))[row - 1 : row]
            column += len(source[0]) - len(source[0].lstrip()) if source else 0
            stack[-1] = (file, row, max(column, 0))
        elif not line.startswith(" ") and line.strip():
            # what a chained or a grouped error says below is one of its own
            found = _RAISED.match(line)
            return stack, at if found else at - 1, found["message"] if found else ""
    return stack, at, ""


def _after_stack(lines: list[str], at: int) -> int:
    """Where the stack ends that follows what Node shows of the source; `at` if none does."""
    for start in range(at, min(at + 6, len(lines))):
        if _NODE_AT.match(lines[start]):
            end = start
            while end < len(lines) and _NODE_AT.match(lines[end]):
                end += 1
            return end
    return at


def _nearest(frames: list[tuple[str, int, int]], folder: Path) -> tuple[str, int, int]:
    """The first frame in the folder and not in what is installed there, else the first."""
    for frame in frames:
        path = _real(frame[0], folder)
        if below(path, str(folder)) and not _is_installed(path) and os.path.isfile(path):
            return frame
    return frames[0]


def _lines(path: str) -> list[str]:
    try:
        if os.stat(path).st_size > _MAX_SOURCE:
            return []
        return Path(path).read_text("utf-8", "replace").split("\n")
    except (OSError, ValueError):
        return []


def _excerpt(path: str, line: int, column: int) -> str:
    text = _lines(path)
    if not 0 < line <= len(text):
        return ""
    first, last = max(line - _AROUND, 1), min(line + _AROUND, len(text))
    width = len(str(last))
    shown = []
    for number in range(first, last + 1):
        code = text[number - 1].rstrip("\r").expandtabs(4)[:_LONGEST_LINE]
        shown.append(f"{'>' if number == line else ' '} {number:>{width}} | {code}".rstrip())
        if number == line and column > 0:
            before = text[number - 1][: column - 1].expandtabs(4)
            shown.append(f"  {' ' * width} | {' ' * len(before)}^")
    return "\n".join(shown)
