"""The installed `loop` and other commands, run as processes of their own."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

LOOP = str(Path(sys.executable).with_name("loop"))


def loop(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LOOP, *args], cwd=cwd, capture_output=True, text=True, timeout=60)


@contextmanager
def serving(command: Sequence[str], cwd: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server, and the URL that it printed; stopped by Ctrl-C, which must end it with 0."""
    server = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None
    printed = []
    try:
        for line in server.stdout:
            printed.append(line)
            if found := re.search(r"http://\S+", line):
                yield found.group(), server
                break
        else:
            pytest.fail("the server ended without printing a URL:\n" + "".join(printed))
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=10) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
