"""A workspace of two hundred members, which `loop dev` runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import running
from tests.checkout import ROOT

SITES, IN_JAVASCRIPT, IN_PYTHON, SIDECARS, UNUSED = 90, 10, 80, 4, 6
"""Components that serve HTTP, and components in JavaScript, which are providers too; providers in Python in the host's
process, sidecars in Python that components need, and sidecars that nobody needs."""
MEMBERS = SITES + 2 * IN_JAVASCRIPT + IN_PYTHON + SIDECARS + UNUSED
FILES = 9
"""Source files of a member, besides its WIT and its module."""
READY = "watching; Ctrl-C stops"
_PATIENCE = 600

_SCRIPT = """
import { writeFileSync } from 'node:fs';
import { componentize } from 'componentize-qjs';
const [folder] = process.argv.slice(2);
const jsSource = 'export const near = { ask() { return 200; } };';
const { component } = await componentize({ witPath: `${folder}/wit`, jsSource });
writeFileSync(`${folder}/js.wasm`, component);
"""
_WORLD = f"{running.WIT}\nworld guest {{\n  export near;\n}}\n"


def write(folder: Path) -> None:
    """Writes the workspace; no two components have the same code."""
    (folder / "wit").mkdir()
    (folder / "wit/near.wit").write_text(_WORLD)
    (folder / "build.mjs").write_text(_SCRIPT)
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    subprocess.run(["node", "build.mjs", str(folder)], cwd=folder, check=True)
    codes = {"site": running.site(), "js": (folder / "js.wasm").read_bytes()}
    for name in ("js.wasm", "build.mjs", "node_modules"):
        (folder / name).unlink()
    providers = [f"near{number}" for number in range(IN_PYTHON - SITES + IN_JAVASCRIPT + SIDECARS, IN_PYTHON)]
    providers += [f"js{number}" for number in range(IN_JAVASCRIPT)]
    providers += [f"far{number}" for number in range(SIDECARS)]
    text = []
    for number, provider in enumerate(providers):
        text.append(_component(folder, f"site{number}", codes["site"], number))
        text.append(f'run = "serve"\nserve = {{ addr = "127.0.0.1:0" }}\nimports."acme:near/near" = '
                    f'{{ provider = "{provider}" }}\n')  # fmt: skip
    for number in range(IN_JAVASCRIPT):
        text.append(_component(folder, f"js{number}", codes["js"], number))
        text.append(f'[providers.js{number}]\nuse = "component:js{number}"\n')
    for number in range(IN_PYTHON):
        text.append(_provider(folder, f"near{number}", "python"))
    for number in range(SIDECARS + UNUSED):
        text.append(_provider(folder, f"far{number}", "sidecar:python"))
    (folder / "loop.toml").write_text("\n".join(text))


def _files(at: Path, name: str) -> None:
    for number in range(FILES):
        path = at / f"src/d{number % 3}/f{number}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"// {name} {number}\n" * 30)
    (at / "wit").mkdir(exist_ok=True)
    (at / "wit/near.wit").write_text(running.WIT)


def _component(folder: Path, name: str, code: bytes, number: int) -> str:
    at = folder / "members" / name
    _files(at, name)
    mark = b"\x05bench" + f"{number:8}".encode()
    (at / "src/code.wasm").write_bytes(code + bytes([0, len(mark)]) + mark)
    build = f"cd members/{name} && mkdir -p build && cp src/code.wasm build/out.wasm"
    return f'[components.{name}]\npath = "members/{name}/build/out.wasm"\nbuild = "{build}"'


def _provider(folder: Path, name: str, placement: str) -> str:
    at = folder / "members" / name
    _files(at, name)
    code = running.NEAR.replace('wit="near.wit"', 'wit="wit"')
    (at / "provider.py").write_text(f"import json\nfrom members.{name} import words\n{code}")
    (at / "words.py").write_text("x = 1\n" * 40)
    trusted = "trusted = true\n" if placement == "python" else ""
    return f'[providers.{name}]\nuse = "{placement}:members.{name}.provider:Near"\n{trusted}'


@dataclass
class Running:
    """`loop dev` of a workspace.

    Attributes:
        pid: Its process.
        seconds: From its start until it was ready.
        url: Of one of its components.
    """

    pid: int
    seconds: float
    url: str

    def _processes(self) -> list[int]:
        """It, and those that it has started."""
        found, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    waiting += map(int, (task / "children").read_text().split())
        return found

    def cpu(self) -> tuple[float, float]:
        """Seconds of CPU that have been taken: by the host, and by all others together."""
        ticks = []
        for pid in self._processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks.append(int(fields[11]) + int(fields[12]))
        each = os.sysconf("SC_CLK_TCK")
        return ticks[0] / each, sum(ticks[1:]) / each

    def memory(self) -> tuple[float, float]:
        """MiB that are its own, without what it shares with others: the host's, and those of all others together."""
        own = [_private(pid) for pid in self._processes()]
        return own[0], sum(own[1:])


def _private(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_")) / 1024


@contextlib.contextmanager
def running_dev(folder: Path, home: Path) -> Iterator[Running]:
    """Runs the real `loop dev`, from when it is started until it is ended again."""
    env = {**os.environ, "HOME": str(home), "NO_COLOR": "1"}
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        env.pop(name, None)
    command = [str(Path(sys.executable).with_name("loop")), "dev", "-m", str(folder), "--page", "127.0.0.1:0"]
    with (home / "stderr").open("w") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdout is not None
            url = ""
            for line in process.stdout:
                if line.startswith("site0 at "):
                    url = line.split()[-1]
                if line.strip() == READY:
                    break
            seconds = time.perf_counter() - start
            if not url:
                raise RuntimeError(f"loop dev did not serve: {(home / 'stderr').read_text()[-2000:]}")
            yield Running(process.pid, seconds, url)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=_PATIENCE)
        finally:
            process.kill()
            process.wait()
