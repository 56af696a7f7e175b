"""Bindings agree with what is passed: typed providers, programs and guests pass type checkers, and then run.

`guests/all.wit` has every type. `drive.py` calls all of it and looks at what comes, through Python's bindings, from a
component and from providers in Python and Node.js; these are typed by their bindings and look at what they get.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from loop_kit import bind
from tests.checkout import ROOT

GUESTS = Path(__file__).parent / "guests"
SDK = ROOT / "sdk" / "node"
TSC = SDK / "node_modules" / ".bin" / "tsc"
QJS = ROOT / "node_modules" / ".bin" / "componentize-qjs"
STRICT = {
    "strict": True,
    "target": "es2022",
    "lib": ["es2024", "esnext.disposable"],
    "exactOptionalPropertyTypes": True,
    "noUncheckedIndexedAccess": True,
    "noUnusedLocals": True,
    "types": [],
}
NODE = {**STRICT, "module": "nodenext", "types": ["node"]}
GUEST = {**STRICT, "module": "es2022", "moduleResolution": "bundler"}


def done(*command: str | Path, cwd: Path) -> str:
    """What a command printed, which must have succeeded."""
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The Python side, with its bindings."""
    for file in GUESTS.iterdir():
        if file.suffix in (".py", ".wit"):
            shutil.copy(file, tmp_path)
    wit = tmp_path / "all.wit"
    bind.write(tmp_path / "bindings.py", bind.python(wit))
    bind.write(tmp_path / "calling.py", bind.python(wit, world="calling"))
    return tmp_path


def compiled(folder: Path, name: str, options: dict[str, object]) -> Path:
    """A program in TypeScript as JavaScript, once the compiler has nothing against it."""
    made = folder / name
    (made / "node_modules" / "@loop-kit").mkdir(parents=True)
    (made / "node_modules" / "@loop-kit" / "provider").symlink_to(SDK)
    (made / "node_modules" / "@types").symlink_to(SDK / "node_modules" / "@types")
    shutil.copy(GUESTS / f"{name}.ts", made)
    (made / "package.json").write_text('{"type": "module"}')
    (made / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["*.ts"]}))
    return made


@contextmanager
def serving(folder: Path, *command: str | Path) -> Iterator[None]:
    """A provider in a process of its own, at `socket` in the folder."""
    read, write = os.pipe()
    env = {
        **os.environ,
        "LOOP_PROVIDER_ADDRESS": f"unix:{folder / 'socket'}",
        "LOOP_PROVIDER_READY": str(write),
    }
    child = subprocess.Popen(command, cwd=folder, env=env, pass_fds=(write,), stdout=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as ready:
            assert ready.readline().strip() == env["LOOP_PROVIDER_ADDRESS"]
        yield
    finally:
        child.terminate()
        child.wait(timeout=10)


def drive(folder: Path, mode: str, where: str | Path) -> None:
    said = done(sys.executable, "drive.py", mode, where, cwd=folder)
    assert said == "all kinds agree\n"


def test_a_type_checker_holds_python_to_the_wit(folder: Path) -> None:
    check = (sys.executable, "-m", "mypy", "--strict", "--cache-dir", folder / "cache", ".")
    done(*check, cwd=folder)
    provider = (folder / "provider.py").read_text()
    wrong = {
        "def add(self, n: int) -> int:": "def add(self, n: str) -> int:",
        'return f"{text}{self.n}"': "return self.n",
        "case b.Shape.Circle(radius):": "case b.Shape.Circle(radius) if radius:",
        "def look(self, v: _Counter) -> int | None:": "def looks(self, v: _Counter) -> int | None:",
        "if v is b.Color.RED:": "if v is b.Color.BLUE:",
    }
    for number, (right, other) in enumerate(wrong.items()):
        assert right in provider
        (folder / f"wrong_{number}.py").write_text(provider.replace(right, other))
    told = subprocess.run(check, cwd=folder, capture_output=True, text=True, timeout=100).stdout
    assert {line.partition(".py")[0] for line in told.splitlines()[:-1]} == {
        f"wrong_{n}" for n in range(len(wrong))
    }, told


def test_a_provider_in_python_agrees(folder: Path) -> None:
    with serving(folder, sys.executable, "-m", "loop_kit.serve", "provider:Provider"):
        drive(folder, "session", f"unix:{folder / 'socket'}")


def test_a_provider_in_node_agrees(folder: Path) -> None:
    made = compiled(folder, "provider", NODE)
    bind.write(made / "bindings.d.ts", bind.typescript(folder / "all.wit"))
    done(TSC, "-p", ".", cwd=made)
    with serving(folder, "node", SDK / "dist" / "cli.js", made / "provider.js", "--wit", "all.wit"):
        drive(folder, "session", f"unix:{folder / 'socket'}")


def test_a_client_in_node_agrees(folder: Path) -> None:
    made = compiled(folder, "client", NODE)
    bind.write(made / "bindings.d.ts", bind.typescript(folder / "all.wit"))
    done(TSC, "-p", ".", cwd=made)
    with serving(folder, sys.executable, "-m", "loop_kit.serve", "provider:Provider"):
        said = done("node", made / "client.js", f"unix:{folder / 'socket'}", folder / "all.wit", cwd=folder)
    assert said == "all kinds agree\n"


@pytest.mark.parametrize(("name", "world"), [("guest", "serving"), ("caller", "calling")])
def test_a_component_in_javascript_agrees(folder: Path, name: str, world: str) -> None:
    """One that exports all kinds, called by Python; and one that calls a provider in Python, in the host's process."""
    made = compiled(folder, name, GUEST)
    bind.write(made / "wit.d.ts", bind.typescript(folder / "all.wit", world=world, guest=True))
    done(TSC, "-p", ".", cwd=made)
    wasm = folder / f"{name}.wasm"
    flags: Sequence[str] = ("--sync", "--stub-wasi", "--opt-size", "-n", world, "-w", str(folder / "all.wit"))
    done(QJS, *flags, "--js", made / f"{name}.js", "-o", wasm, cwd=folder)
    drive(folder, world, wasm)
