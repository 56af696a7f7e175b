"""`loop bench --remote`: a provider that is served elsewhere, over a slow network, under TLS and by a token."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loop_kit.bench import WORKLOADS, Place, Remote
from loop_kit.bench._run import placed
from tests.checkout import ROOT
from tests.cli import loop
from tests.far import far

KEYS = ROOT / "tests" / "data" / "tls"
SMALL = next(work for work in WORKLOADS if work.name == "echo small")
MS = 10**6


@contextmanager
def serving(*options: str, token: str | None = None) -> Iterator[str]:
    """The benchmark's provider in a process of its own; its address."""
    reader, writer = os.pipe()
    env = {**os.environ, "LOOP_PROVIDER_READY": str(writer)}
    if token is not None:
        env["LOOP_PROVIDER_TOKEN"] = token
    command = [sys.executable, "-m", "loop_kit.serve", "loop_kit.bench.providers:Bench", *options]
    with subprocess.Popen(command, env=env, pass_fds=[writer]) as server:
        os.close(writer)
        try:
            with open(reader) as ready:
                address = ready.readline().strip()
            assert address, "it did not begin to listen"
            yield address
        finally:
            server.terminate()


@pytest.mark.timeout(120)
async def test_the_network_is_in_write_and_nowhere_else() -> None:
    with serving("--on", "tcp://127.0.0.1:0") as address:
        for delay in (0, 1, 20):
            async with far(address, delay / 1e3) as there:
                place = Place("remote", "tcp", "python", {"loop:bench": Remote(there).keys()})
                async with placed(place, budget="10ms") as here:
                    best = min(await here.divided(SMALL, 0.3), key=sum)
                    calls, over = here.route("echo").spent()
            assert best.write >= 2 * delay * MS
            assert sum(best) - best.write < 5 * MS
            assert min(best) >= 0
            # those that took 40 ms are over the budget, and those that took 0 are not, but for a busy machine
            assert over == calls if delay == 20 else over < calls


def measured(*options: str) -> list[dict[str, object]]:
    done = loop("bench", "--quick", "--only", "echo record", "--json", *options)
    assert done.returncode == 0, done.stderr + done.stdout
    runs = json.loads(done.stdout)["runs"]
    assert isinstance(runs, list)
    return runs


def test_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open sesame")
    with serving("--on", "tcp://127.0.0.1:0", token="open sesame") as address:
        (run,) = measured("--remote", address, "--token-file", str(tmp_path / "token"), "--budget", "10s")
        assert (run["placement"], run["transport"], run["over_budget"]) == ("remote", "tcp", 0)
        done = loop("bench", "--quick", "--only", "echo record", "--remote", address)
        assert done.returncode == 1
        assert "token" in done.stdout


@pytest.mark.parametrize("scheme", ["tcp", "quic"])
def test_mutual_tls(scheme: str) -> None:
    served = [
        f"--tls-{name}={KEYS / file}"
        for name, file in (("certificate", "localhost.pem"), ("key", "localhost.key"), ("ca", "ca.pem"))
    ]
    ours = [
        f"--{name}={KEYS / file}"
        for name, file in (("cert", "kv-client.pem"), ("key", "kv-client.key"), ("ca", "ca.pem"))
    ]
    with serving("--on", f"{scheme}://127.0.0.1:0", *served) as address:
        (run,) = measured("--remote", address, *ours)
        assert run["transport"] == scheme
        done = loop("bench", "--quick", "--only", "echo record", "--remote", address, ours[-1])
        assert done.returncode == 1
