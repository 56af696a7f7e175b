"""Two network namespaces of Linux with a cable between them: two machines, as far as programs can tell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.checkout import ROOT

# Of the block that is kept for measuring networks.
HERE, THERE = "198.18.0.1", "198.18.0.2"
# Of kernels that cannot delay what goes through a cable.
UNKNOWN = "qdisc kind is unknown"


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class Cable:
    """Two namespaces, `here` and `there`, whose addresses are HERE and THERE."""

    def __init__(self, here: str, there: str) -> None:
        self.here, self.there = here, there

    def delay(self, milliseconds: int) -> bool:
        """What goes through takes so long, each way. False where the kernel cannot do that."""
        for name in (self.here, self.there):
            shape = ("tc", "-n", name, "qdisc", "replace", "dev", "eth0", "root", "netem", "delay")
            try:
                run(*shape, f"{milliseconds}ms")
            except OSError as e:
                if UNKNOWN in str(e):
                    return False
                raise
        return True

    @contextmanager
    def serving(self, namespace: str, *command: str, clock: int = 0) -> Iterator[str]:
        """The address that a program in that namespace says when it is ready; ended afterwards.

        `clock`: seconds that its clock is ahead of this machine's.
        """
        reader, writer = os.pipe()
        ahead = (
            ["unshare", "--time", f"--monotonic={clock}", f"--boottime={clock}", "--kill-child"]
            if clock
            else []
        )
        env = {**os.environ, "LOOP_PROVIDER_READY": str(writer)}
        whole = ["ip", "netns", "exec", namespace, *ahead, *command]
        with subprocess.Popen(whole, env=env, pass_fds=[writer], cwd=ROOT) as program:
            os.close(writer)
            try:
                with open(reader) as said:
                    line = said.readline().strip()
                assert line, f"{command} did not begin"
                yield line
            finally:
                # what runs it in another time takes no heed of being asked
                program.kill()

    def run(self, namespace: str, *command: str) -> subprocess.CompletedProcess[str]:
        whole = ["ip", "netns", "exec", namespace, *command]
        return subprocess.run(whole, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)


@contextmanager
def cable() -> Iterator[Cable]:
    """Makes them, and removes all of it.

    Skips where that is for root alone, or not of this system.
    """
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("network namespaces are of Linux, and made by root")
    run(str(ROOT / "tools" / "system_packages"), "ip:iproute2", "openssl")
    names = [f"loop-{os.getpid()}-{side}" for side in ("here", "there")]
    with ExitStack() as undo:
        for name in names:
            try:
                run("ip", "netns", "add", name)
            except OSError as e:
                pytest.skip(f"no network namespaces here: {e}")
            undo.callback(run, "ip", "netns", "delete", name)
        here, there = names
        run(
            "ip", "link", "add", "eth0", "netns", here, "type", "veth", "peer", "name", "eth0", "netns", there
        )
        for name, address in ((here, HERE), (there, THERE)):
            run("ip", "-n", name, "address", "add", f"{address}/30", "dev", "eth0")
            for device in ("lo", "eth0"):
                run("ip", "-n", name, "link", "set", device, "up")
        yield Cable(here, there)


def certificate(folder: Path, *addresses: str) -> tuple[Path, Path]:
    """A certificate that is its own authority, good for those addresses, and its key."""
    made, key = folder / "there.pem", folder / "there.key"
    names = ",".join(f"IP:{address}" for address in addresses)
    new: Sequence[str] = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    extensions = ("-addext", f"subjectAltName={names}", "-addext", "basicConstraints=CA:FALSE")
    openssl = shutil.which("openssl") or "openssl"
    run(
        openssl,
        "req",
        "-x509",
        *new,
        "-subj",
        "/CN=there",
        *extensions,
        "-keyout",
        str(key),
        "-out",
        str(made),
    )
    return made, key
