"""From the write of a file to a real browser having what is new: a page's file, a provider in Python, a component.

`loop dev` serves one page, which Chromium shows; each edit writes a file and waits until the page has its content. With
`--peers FILE` what others take is measured in the same run, by a program that writes figures as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# behind the standard library, which has an `http` too
sys.path.append(str(Path(__file__).resolve().parents[1]))
from bench.report import Bench, say
from tests.checkout import ROOT
from tests.dev.edited.workspace import MARKER, PROVIDER, STYLE, workspace

BROWSER = Path(__file__).with_name("edit_browser.mjs")
WHO, GOAL = "loop dev", "goal"
REST = 0.4
"""Seconds between edits: what the one before has left to do is done."""


class Browser:
    """Chromium, which is told what to show and what to edit."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", str(BROWSER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def ask(self, **what: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        said = json.loads(self._process.stdout.readline() or '{"failed": "the browser has ended"}')
        if "failed" in said:
            raise RuntimeError(said["failed"])
        return said.get("ms")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@contextlib.contextmanager
def developed(words: str = "python:words:Words", dev: bool = True) -> Iterator[tuple[Path, str]]:
    """A workspace that `loop dev` runs, and where its page is."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text).resolve()
        workspace(folder, words, dev=dev)
        command = [str(Path(sys.executable).with_name("loop")), "dev", "--no-page"]
        env = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "XDG_STATE_HOME": str(folder / "state")}
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if "http" not in line:
                process.kill()
                raise RuntimeError(f"loop dev did not serve: {line}{process.communicate()[1]}")
            yield folder, line.split()[-1]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)


def measure(
    bench: Bench, browser: Browser, name: str, goal: float, shows: str, file: str, text: str, **how: Any
) -> None:
    """Edits a file over and over."""
    samples = []
    with developed(**how) as (folder, url):
        browser.ask(url=url)
        for number in range(6 if bench.quick else 21):
            time.sleep(REST)
            value = f"v{number}"
            samples.append(
                browser.ask(file=str(folder / file), text=text.format(value), shows=[shows, value])
            )
    say(f"  load average {os.getloadavg()[0]:.1f}")
    del samples[0]  # what nobody has needed before is made then
    bench.add(name, WHO, "ms", samples)
    bench.add(name, GOAL, "ms", [goal] * len(samples))
    bench.compare(name, WHO, GOAL, at_most=1, note=f"{goal:g} ms")


def asset(bench: Bench, browser: Browser) -> None:
    """A style sheet of a folder that the component may read."""
    measure(bench, browser, "page asset", 50, "style", "files/style.css", STYLE)


def provider(bench: Bench, browser: Browser) -> None:
    """A provider in Python."""
    for where in ("python", "sidecar:python"):
        name = f"Python provider, {where}:"
        measure(
            bench,
            browser,
            name,
            150,
            "word",
            "words.py",
            PROVIDER,
            words=f"{where}:words:Words",
        )


def component(bench: Bench, browser: Browser) -> None:
    """A component in JavaScript, given to an engine and built in full."""
    for name, goal, dev in (("JS component, dev mode", 100, True), ("JS component, full build", 700, False)):
        measure(bench, browser, name, goal, "code", "src/marker.js", MARKER.format("'{}'"), dev=dev)


def peers(bench: Bench, program: Path) -> None:
    """What others take, each by its own measure."""
    command = [sys.executable, str(program), *(["--quick"] if bench.quick else [])]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    for figure in json.loads(ran.stdout)["figures"]:
        samples = [figure["value"], figure["min"], figure["max"]]
        bench.add(figure["name"], figure["peer"], figure["unit"], samples)


def main() -> None:
    bench = Bench(
        "edits until a browser shows them",
        seconds=1,
        packages=("loop-kit",),
        paths={"peers": "measure this program's peers too"},
    )
    browser = Browser()
    for group in (asset, provider, component):
        bench.group(group, browser)
    browser.close()
    if bench.options.peers is not None:
        bench.group(peers, bench.options.peers)
    bench.finish()


if __name__ == "__main__":
    main()
