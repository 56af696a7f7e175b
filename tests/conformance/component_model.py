"""The scripts of WebAssembly/component-model, `test/**/*.wast`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.conformance.cases import Case, died, wasmtime

# What `config` in crates/engine/src/engine.rs turns on.
FEATURES = [
    "async",
    "async-stackful",
    "error-context",
    "fixed-length-lists",
    "more-async-builtins",
    "threading",
]
# What the suite's README turns on besides.
OFF_HERE = ["implements", "map"]
SECONDS = 300
WORKER = "from tests.conformance.component_model import work; work()"


def find(root: Path) -> Iterator[Case]:
    """The cases of a checkout."""
    tests = root / "test"
    for path in sorted(tests.rglob("*.wast")):
        name = path.relative_to(tests).with_suffix("").as_posix()
        yield Case(f"component-model/{name}", partial(_run, path), partial(_judge, path))


def is_checkout(root: Path) -> bool:
    """Whether a folder is a checkout of this suite."""
    return (root / "test" / "values").is_dir() and any((root / "test").rglob("*.wast"))


def _run(path: Path) -> list[str]:
    """Runs a script on both hosts, in a process of its own: a crash or a hang then fails it alone."""
    command = [sys.executable, "-c", WORKER, str(path)]
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return [f"no end after {SECONDS} s"]
    if done.returncode:
        return [died(done)]
    return list(map(str, json.loads(done.stdout)))


def work() -> None:
    """The process of one case: prints what is wrong as JSON."""
    from tests.conformance import script

    source = Path(sys.argv[1]).read_text()
    problems: dict[str, list[str]] = {}
    for host in script.HOSTS:
        for line, message in script.run(source, host):
            if message:
                problems.setdefault(f"line {line}: {message}", []).append(host)
    print(json.dumps([f"{text} [{', '.join(hosts)}]" for text, hosts in problems.items()]))


def _judge(path: Path) -> list[str]:
    ours = _wast(path, FEATURES)
    if not ours or _wast(path, FEATURES + OFF_HERE):
        return ours
    return [f"passes only with {' and '.join(OFF_HERE)}, which loop-kit has off; without: {ours[0]}"]


def _wast(path: Path, features: list[str]) -> list[str]:
    flags = [flag for name in features for flag in ("-W", f"component-model-{name}=y")]
    command = [wasmtime(), "wast", *flags, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return [f"no end after {SECONDS} s"]
    return [died(done)] if done.returncode else []
