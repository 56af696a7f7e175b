"""Runs the command of a task: in a group of its own, which ends with it and with the host."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from loop_kit._kept import Kept
from loop_kit.placements._exit import Exit
from loop_kit.task import _sandbox

__all__ = ["KEPT", "Running"]

KEPT = 1 << 20
"""Bytes of output that are kept: the first half of them, and the last."""

_CHUNK = 1 << 16
_SHELL = "/bin/sh"
_BEGIN = """trap '' PIPE; echo "+ $$" >&0; trap - PIPE; exec "$@" </dev/null"""
"""Tells the watchdog of the group before there is a program that could start others."""


class Running:
    """A command, from its start to its end.

    Args:
        argv: Its program and arguments.
        folder: Where it runs.
        env: Its variables.
        ruleset: What it may read, a descriptor of landlock's; None: everything.
        watchdog: The socket of what ends its group if this process is killed.
        said: Called with what it writes, as it comes, on the thread that calls `wait`.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        folder: str,
        env: Mapping[str, str],
        ruleset: int | None,
        watchdog: int,
        said: Callable[[bytes], object],
    ) -> None:
        program = shutil.which(os.path.join(folder, argv[0]) if "/" in argv[0] else argv[0], path=env["PATH"])
        if program is None:
            raise FileNotFoundError(2, "there is no such program", argv[0])
        self._said = said
        self._watchdog = watchdog
        self._ended = False
        self._lock = threading.Lock()

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [_SHELL, "-c", _BEGIN, "loop-task", program, *argv[1:]],
                cwd=folder,
                env=env,
                stdin=watchdog,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        self._process = start() if ruleset is None else _sandbox.held(ruleset, start)

    def wait(self) -> tuple[Exit, str]:
        """Returns how it ended, and what it wrote; what it has left running is ended then."""
        kept = Kept(KEPT)
        pipe = self._process.stdout
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)

        def read() -> bool:
            """Takes what is there; whether more may come."""
            while True:
                try:
                    data = os.read(pipe.fileno(), _CHUNK)
                except BlockingIOError:
                    return True
                if not data:
                    return False
                kept.feed(data)
                self._said(data)

        with pipe, selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
            end = os.pidfd_open(self._process.pid) if sys.platform == "linux" else -1
            selector.register(pipe, selectors.EVENT_READ)
            if end >= 0:
                stack.callback(os.close, end)
                selector.register(end, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if pipe.fileno() in ready and not read():
                    break
                if end in ready:
                    break
            self._end()
            # what left the group may hold the other end, so that no end would come
            read()
        code = self._process.returncode
        return Exit(code if code >= 0 else None, -code if code < 0 else None), kept.text()

    def _end(self) -> None:
        """Waits for the process, and ends what is left of its group while its number is still its own."""
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._ended = True
            self._kill(signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.write(self._watchdog, f"- {self._process.pid}\n".encode())
            self._process.wait()

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Signals its group; from any thread, and harmless where it has ended."""
        with self._lock:
            if not self._ended:
                self._kill(signum)

    def _kill(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signum)
