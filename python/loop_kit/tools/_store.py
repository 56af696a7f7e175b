"""Tools in the user's cache: fetched once by `npm` or `pip`, whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from configparser import ConfigParser
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from loop_kit._host import default_cache
from loop_kit.errors import LoadError

__all__ = ["Tool", "ensure", "place_of"]

_LOCKS = Path(__file__).parent / "locks"
_LOCKED = {"npm": "package-lock.json", "pip": "requirements.txt"}
_NODE = 18
_TELL = 3.0
"""Seconds between words about a fetch that goes on."""
_LOOK = 0.1
"""Seconds between looks at whether another process has finished."""
_LONGEST = 900.0
"""Seconds that a client may take."""
_SHOWN = 12
"""Last lines that are shown of what a client wrote as it failed."""
_CHANGED = re.compile(r"EINTEGRITY|DO NOT MATCH THE HASHES")

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Tool:
    """A program that is fetched.

    Attributes:
        name: What its package and its command are called.
        client: What fetches it.
        makes: What it makes components of.
    """

    name: str
    client: Literal["npm", "pip"]
    makes: str

    @cached_property
    def lock(self) -> Path:
        """The file with the versions and digests of all that belongs to it."""
        return _LOCKS / self.name / _LOCKED[self.client]

    @cached_property
    def version(self) -> str:
        """The version that is fetched."""
        text = self.lock.read_text("utf-8")
        if self.client == "npm":
            return str(json.loads(text)["packages"][f"node_modules/{self.name}"]["version"])
        return text.partition(f"{self.name}==")[2].split()[0]

    @cached_property
    def key(self) -> str:
        """What is another one for other versions, and for machines that need other files."""
        machine = [sysconfig.get_platform(), sys.implementation.cache_tag if self.client == "pip" else "node"]
        return hashlib.sha256(self.lock.read_bytes() + repr(machine).encode()).hexdigest()[:12]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def place_of(tool: Tool) -> Path:
    """The folder of a tool, which is there once it was fetched."""
    return default_cache().parent / "tools" / f"{tool.name}-{tool.version}-{tool.key}"


async def ensure(tool: Tool, tell: Tell = lambda text: None) -> tuple[str, ...]:
    """The program and first arguments that run a tool, which is fetched if it was not.

    Of several processes that want it one fetches, and the others wait for it. A process that is killed meanwhile leaves
    nothing that another would take for the tool.

    Args:
        tool: The tool.
        tell: Told, in words, what takes a while.

    Raises:
        LoadError: It cannot be fetched, or there is nothing to run it by.
    """
    place = place_of(tool)
    if tool.client == "npm":
        node = await _node(tool)
    if not place.is_dir():
        try:
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            async with _alone(tool, place.parent, tell):
                if not place.is_dir():
                    await _fetch(tool, place, tell)
        except OSError as e:
            raise LoadError(f"{tool} cannot be kept in {place.parent}: {e.strerror or e}") from None
    if tool.client == "pip":
        return sys.executable, str(place)
    package = place / "node_modules" / tool.name
    try:
        bin_ = json.loads((package / "package.json").read_text("utf-8"))["bin"]
    except (OSError, ValueError, KeyError):
        raise _failed(f"{tool} is damaged", f"remove {place}: it is fetched again") from None
    return node, str(package / (bin_ if isinstance(bin_, str) else bin_[tool.name]))


@contextlib.asynccontextmanager
async def _alone(tool: Tool, folder: Path, tell: Tell) -> AsyncIterator[None]:
    """Keeps other processes from fetching the same; the system takes the lock from one that is killed."""
    with (folder / f".{tool.name}.lock").open("wb") as file:
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    tell(f"waiting for another process that fetches {tool} …")
                waiting = True
                await asyncio.sleep(_LOOK)
        yield


async def _fetch(tool: Tool, place: Path, tell: Tell) -> None:
    """Has the client put it into a folder, which gets its name once all is there."""
    command = _command(tool)
    for left in place.parent.glob(
        f".{tool.name}-*"
    ):  # of processes that were killed: whoever lives has the lock
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{tool.name}-", dir=place.parent))
    try:
        for file in tool.lock.parent.iterdir():
            shutil.copy(file, folder)
        began = time.monotonic()
        tell(f"fetching {tool} by {tool.client}, once …")
        await _run(tool, command, folder, tell)
        if tool.client == "pip":
            _make_runnable(tool, folder)
        os.rename(folder, place)
        tell(f"fetched {tool} in {time.monotonic() - began:.1f} s")
    finally:
        # gone where it has its name
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _command(tool: Tool) -> tuple[str, ...]:
    """The client as its user has configured it, but for what decides what is installed."""
    if tool.client == "pip":
        pinned = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement", tool.lock.name)
        pip = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet")
        return *pip, *pinned, "--no-user", "--target", "."
    npm = shutil.which("npm")
    if npm is None:
        raise _failed(f"{tool} is fetched by npm, and there is none in PATH", "install Node.js with npm")
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    return npm, "ci", "--ignore-scripts", "--prefer-offline", "--no-global", *quiet


async def _run(tool: Tool, command: tuple[str, ...], folder: Path, tell: Tell) -> None:
    from loop_kit.dev._command import run  # that module needs this one

    telling = asyncio.create_task(_tell(tool, folder, tell))
    try:
        async with asyncio.timeout(_LONGEST):
            ran = await run(command, folder)
    except TimeoutError:
        raise _failed(f"{tool.client} has not fetched {tool} within {_LONGEST:.0f} s", _reach(tool)) from None
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    if ran.ok:
        return
    said = "\n".join(ran.output.splitlines()[-_SHOWN:])
    if _CHANGED.search(ran.output):
        hint = "what was offered is not what this version of loop-kit was released with: do not use it"
    elif "No module named pip" in ran.output:
        hint = f"{sys.executable} -m ensurepip"
    else:
        hint = _reach(tool)
    raise _failed(f"{tool.client} cannot fetch {tool}: it {ran.exit.reason}\n{said}", hint)


def _reach(tool: Tool) -> str:
    listed = f"{tool.client} config list"
    return f"is the registry within reach that `{listed}` shows? Once fetched, a tool needs no network"


async def _tell(tool: Tool, folder: Path, tell: Tell) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(_TELL)
        size = await asyncio.to_thread(_size, folder)
        got = f"{size / 1e6:.0f} MB are there" if size > 1e6 else "nothing is there yet"
        tell(f"fetching {tool}: {got} after {time.monotonic() - began:.0f} s …")


def _size(folder: Path) -> int:
    total = 0
    for at, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(at, name)).st_size
    return total


def _make_runnable(tool: Tool, folder: Path) -> None:
    """Has `python FOLDER` be the tool's command, wherever the folder is."""
    for file in folder.glob("*.dist-info/entry_points.txt"):
        points = ConfigParser()
        points.read_string(file.read_text("utf-8"))
        if points.has_option("console_scripts", tool.name):
            module, _, function = points["console_scripts"][tool.name].partition(":")
            text = f"import sys\nfrom {module} import {function} as main\n"
            text += f'sys.argv[0] = "{tool.name}"\nsys.exit(main())\n'
            (folder / "__main__.py").write_text(text, "utf-8")
            return
    raise LoadError(f"{tool} has no command {tool.name}")


async def _node(tool: Tool) -> str:
    from loop_kit.dev._command import run

    hint = f"install Node.js {_NODE} or newer, with npm"
    node = shutil.which("node")
    if node is None:
        raise _failed(f"{tool} runs in Node.js, and there is no `node` in PATH", hint)
    if not place_of(tool).is_dir():  # what was fetched has been run
        ran = await run((node, "--version"), Path.cwd())
        found = re.match(r"v(\d+)", ran.output)
        if found is None or int(found[1]) < _NODE:
            raise _failed(f"{tool} needs Node.js {_NODE} or newer; {node} is {ran.output or 'none'}", hint)
    return node


def _failed(message: str, hint: str) -> LoadError:
    error = LoadError(message)
    error.hint = hint
    return error
