"""Runs the fenced blocks of a Markdown file.

The blocks of a file run from top to bottom in one empty folder; `$LOOP_KIT` is the checkout. By language:

    python    runs as a program of its own; `await` works at its top level
    console   each line that starts with `$ ` runs in bash (`> ` continues it), and its output must be what is
              shown below it, if anything is; `...` stands for any text; what it left running is ended
    text      is only shown

Comments, which readers do not see, direct the block right below them:

    <!-- file: NAME -->        the block, of any language, is written to this file and does not run
    <!-- not run: REASON -->   the block does not run; pytest lists these with their reasons
    <!-- exits: CODE -->       the last command of the console block exits with this code, not 0
    <!-- output -->            the text block is what the Python block before it must have printed

and `<!-- setup: COMMANDS -->` runs in bash where it stands. A block of another language without `file` or
`not run` is an error.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.checkout import ROOT

TOKEN = re.compile(
    r"^<!--(?P<comment>.*?)-->"
    r"|^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[^\n`]*)\n(?P<body>.*?)^ *(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
DIRECTIVE = re.compile(r"\s*(setup|file|not run|exits|output)\b:?\s*(.*?)\s*", re.DOTALL)
FENCE = re.compile(r"^ *(```|~~~)", re.MULTILINE)
COMMAND = re.compile(r"^\$ (.*(?:\n> .*)*)\n?", re.MULTILINE)
MARK = "-- end of the command:"
SECONDS = 60

# Runs a block so that tracebacks name the Markdown file and its lines.
RUN_PYTHON = """
import ast, asyncio, inspect, sys
code = compile(sys.stdin.read(), sys.argv[1], "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
if code.co_flags & inspect.CO_COROUTINE:
    asyncio.run(eval(code))
else:
    exec(code)
"""


@dataclass
class Step:
    """One thing to do for a file: a block with its directives, or a setup."""

    line: int
    language: str
    body: str
    directives: dict[str, str]


def steps(markdown: str) -> Iterator[Step]:
    """The blocks and setups of a Markdown text in order; raises ValueError for what is not well formed."""
    waiting: dict[str, str] = {}
    end = 0
    for token in TOKEN.finditer(markdown):
        line = markdown.count("\n", 0, token.start()) + 1
        between = markdown[end : token.start()]
        if FENCE.search(between):
            raise ValueError(f"a fence before line {line} is not closed")
        if waiting and between.strip():
            raise ValueError(f"line {line}: {waiting} stands above no block")
        if token["comment"] is None:
            body = re.sub(rf"^ {{0,{len(token['indent'])}}}", "", token["body"], flags=re.MULTILINE)
            yield Step(line, token["language"].strip(), body, waiting)
            waiting = {}
        elif directive := DIRECTIVE.fullmatch(token["comment"]):
            if directive[1] == "setup":
                yield Step(line, "setup", directive[2], {})
            else:
                waiting[directive[1]] = directive[2]
        else:
            continue  # a comment for those who edit the file
        end = token.end()
    if waiting or FENCE.search(markdown, end):
        raise ValueError("the last fence is not closed, or a directive stands above no block")


def run(command: list[str], folder: Path, stdin: str = "") -> tuple[int, str]:
    """Run a command until it exits, then end all that it started: its exit code and what it printed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # Without what `make test` tells a make that it starts.
    env = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    # logs and records of workspaces are none of whoever runs the tests
    env |= {"PATH": path, "LOOP_KIT": str(ROOT), "XDG_STATE_HOME": str(folder.with_suffix(".state"))}
    data = folder.with_suffix(".data")
    data.mkdir(exist_ok=True)  # as the home that it stands for is: tasks read what is there before they begin
    env |= {"XDG_DATA_HOME": str(data)}
    env |= {"LOOP_KEYS": str(folder.with_suffix(".keys"))}
    # Files, not pipes: a server that is left running would hold a pipe open.
    log, given = folder.with_suffix(".log"), folder.with_suffix(".in")
    given.write_text(stdin)
    with log.open("wb") as out, given.open("rb") as inp:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=inp,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return code, log.read_text()


def check_output(shown: str, printed: str, where: str) -> None:
    """Compare line ends aside, and let `...` in what is shown stand for any text."""
    tidy = ["\n".join(line.rstrip() for line in text.splitlines()).strip("\n") for text in (shown, printed)]
    pattern = ".*".join(re.escape(part) for part in tidy[0].split("..."))
    assert re.fullmatch(pattern, tidy[1], re.DOTALL), f"{where}: shows\n{tidy[0]}\n--- but prints\n{tidy[1]}"


def run_console(step: Step, folder: Path, where: str) -> None:
    before, *parts = COMMAND.split(step.body)
    assert before.strip() == "", f"{where}: a console block starts with a line of `$ `"
    commands = [command.replace("\n> ", "\n") for command in parts[::2]]
    script = "".join(f"{command}\nprintf '\\n{MARK} %s\\n' $?\n" for command in commands)
    _, log = run(["bash", "-c", script], folder)
    results = re.split(rf"\n{MARK} (\d+)\n", log)
    codes = [0] * (len(commands) - 1) + [int(step.directives.get("exits", 0))]
    assert [int(code) for code in results[1::2]] == codes, f"{where}: exit codes\n{log}"
    for shown, printed in zip(parts[1::2], results[::2], strict=False):
        if shown.strip():
            check_output(shown, printed, where)


def run_file(path: Path, folder: Path) -> Iterator[str]:
    """Run a Markdown file's blocks in the folder; yields a line for each that is marked as not run."""
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
    printed = None  # by the Python block before
    for step in steps(path.read_text()):
        where = f"{name}:{step.line}"
        match step:
            case Step(directives={"not run": reason}):
                assert reason, f"{where}: `not run` needs a reason"
                yield f"{where}: {reason}"
            case Step(directives={"file": target}):
                (folder / target).parent.mkdir(parents=True, exist_ok=True)
                (folder / target).write_text(step.body)
            case Step(language="setup"):
                code, log = run(["bash", "-euc", step.body], folder)
                assert code == 0, f"{where}: setup\n{log}"
            case Step(language="python"):
                # The blank lines give each line of the block the number that it has in the file.
                code, printed = run(
                    [sys.executable, "-c", RUN_PYTHON, name], folder, "\n" * step.line + step.body
                )
                assert code == 0, f"{where}:\n{printed}"
            case Step(language="console"):
                run_console(step, folder, where)
            case Step(language="text", directives={"output": _}):
                assert printed is not None, f"{where}: no Python block before this output"
                check_output(step.body, printed, where)
            case Step(language="text"):
                pass
            case _:
                raise AssertionError(f"{where}: '{step.language}' neither runs, nor is a file, nor is marked")
