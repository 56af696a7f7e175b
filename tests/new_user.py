"""What somebody does who is new here: from an empty folder to a changed site, and how long the machine takes for it.

`python -m tests.new_user --write` plays it with nothing fetched and puts the transcript into docs/quickstart.md;
`--warm` leaves what the user has.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.checkout import ROOT

PAGE = ROOT / "docs" / "quickstart.md"
BEGIN, END = (
    "<!-- transcript: `python -m tests.new_user --write` writes it -->\n",
    "<!-- end of the transcript -->\n",
)
PATIENCE = 120.0
ASK = "curl --silent 'http://127.0.0.1:8080/?name=Ada' | grep -oE '<(h1|button)>[^<]*'"


@dataclass
class Play:
    """A session of two terminals: one in which `loop dev` runs, and another one.

    Attributes:
        folder: Where it begins, empty.
        env: The environment of all commands.
        lines: What was seen, and when, in seconds from the beginning.
    """

    folder: Path
    env: Mapping[str, str]
    lines: list[tuple[float, str]] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    def see(self, text: str) -> None:
        self.lines.append((time.monotonic() - self._began, text))

    def run(self, command: str, folder: Path, ports: Mapping[str, str]) -> None:
        """A command that ends, which must succeed; `ports` says where in truth what it names is served."""
        self.see(f"$ {command}")
        meant = command
        for shown, real in ports.items():
            meant = meant.replace(shown, real)
        done = subprocess.run(
            ["bash", "-c", meant], cwd=folder, env=self.env, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, f"{meant}: {done.stdout}{done.stderr}"
        for line in (done.stdout + done.stderr).splitlines():
            self.see(line)


def play(folder: Path, env: Mapping[str, str]) -> list[tuple[float, str]]:
    """All of it; returns the lines and when each came."""
    session = Play(folder, env)
    session.run("loop new app hello", folder, {})
    hello = folder / "hello"
    # the ports that the transcript has may be somebody else's here
    manifest = hello / "loop.toml"
    manifest.write_text(manifest.read_text().replace("127.0.0.1:8080", "127.0.0.1:0"))
    session.see("$ cd hello")
    session.see("$ loop dev")
    dev = subprocess.Popen(
        ["loop", "dev", "--page", "127.0.0.1:0"],
        cwd=hello,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        come: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(dev, come, session), daemon=True).start()

        def until(pattern: str) -> re.Match[str]:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    line = come.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    seen = "\n".join(text for _, text in session.lines)
                    raise AssertionError(f"nothing like {pattern!r} came:\n{seen}") from None
                if found := re.search(pattern, line):
                    return found

        ports = {"http://127.0.0.1:8080/": until(r"site at (http://\S+)")[1]}
        until("watching")
        session.run(ASK, hello, ports)
        session.run("sed -i 's/Hello, /Good morning, /' greetings.py", hello, ports)
        until("live greetings")
        session.run(ASK, hello, ports)
        session.run("sed -i 's/>Greet</>Say good morning</' site/page.js", hello, ports)
        until("live site")
        session.run(ASK, hello, ports)
        dev.send_signal(signal.SIGINT)
        assert dev.wait(timeout=30) == 0
        return session.lines
    finally:
        dev.kill()
        dev.wait()


def _read(dev: subprocess.Popen[str], come: queue.Queue[str], session: Play) -> None:
    assert dev.stdout is not None
    with dev.stdout as output:
        for line in output:
            session.see(f"  {_shown(line.rstrip())}")
            come.put(line)


def _shown(line: str) -> str:
    """A line as it is where nobody has the ports, without what opens the page."""
    line = re.sub(r"(site at http://127\.0\.0\.1:)\d+", r"\g<1>8080", line)
    return re.sub(r"(page at http://127\.0\.0\.1:)\d+/#\S{4}\S*", r"\g<1>7080/#…", line)


def without_times(text: str) -> list[str]:
    """The lines of a transcript without what differs from run to run."""
    lines = [re.sub(r"^ *[\d.]+ s  ", "", line) for line in text.splitlines()]
    # how long a fetch takes, and when the log has what was asked for, is nobody's promise
    steady = (line for line in lines if not re.match(r"  (fetching |site \| request)", line))
    return [re.sub(r"\d+(\.\d+)? (ms|s)\b", r"N \2", line) for line in steady]


def written(lines: list[tuple[float, str]]) -> str:
    """The transcript as it stands in the docs."""
    return "".join(f"{at:5.1f} s  {text}".rstrip() + "\n" for at, text in lines)


def environment(cache: Path | None) -> dict[str, str]:
    """A new user's: this Python's `loop`, the folders of caches and tools, nothing of whoever runs the tests."""
    own = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "NO_COLOR")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    folders = {"XDG_CACHE_HOME": "", "XDG_STATE_HOME": "state", "XDG_DATA_HOME": "data"} if cache else {}
    return {**own, "PATH": path, **{name: str(Path(cache or "", at)) for name, at in folders.items()}}


def in_docs() -> str:
    """The transcript that the docs have."""
    return (
        PAGE.read_text("utf-8")
        .partition(BEGIN)[2]
        .partition(END)[0]
        .strip()
        .removeprefix("```text\n")
        .removesuffix("```")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put it into the docs")
    parser.add_argument("--warm", action="store_true", help="with the user's own caches and tools")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty").mkdir()
        env = environment(None if asked.warm else folder / "cache")
        lines = play(folder / "empty", env)
    text = written(lines)
    print(text, end="")
    print(f"\n{lines[-1][0]:.1f} s in all", file=sys.stderr)
    if asked.write:
        before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        assert end.startswith(END), f"{PAGE} has no place for it"
        PAGE.write_text(f"{before}{BEGIN}\n```text\n{text}```\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
