"""`loop pack` that is killed at any moment: the store is always as it should be, and the next one goes on.

Meanwhile another process reads all of the store, and cleans up in it.
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from loop_kit.store import Store
from tests.cli import LOOP, loop
from tests.pack.test_cli import CODE, TOML
from tests.pack.workspaces import WIT, written
from tests.soaking import Soak


@pytest.mark.timeout(3600)
def test_the_store_is_whole_whenever_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, soak: Soak
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    manifest = written(tmp_path / "ws", {"loop.toml": TOML, "text.py": CODE, "wit/text.wit": WIT})
    chosen = random.Random(9)
    store = Store(tmp_path / "data/loop-kit/store")
    began = time.monotonic()
    assert loop("pack", cwd=manifest.folder).returncode == 0
    took = time.monotonic() - began
    killed = verified = 0
    rounds = soak(12, 100)
    for number in range(rounds):
        # each is another one, so that there is something to write
        (manifest.folder / "text.py").write_text(
            f"{CODE}\nNUMBER = {number}\nNOISE = {chosen.randbytes(200_000).hex()!r}\n"
        )
        process = subprocess.Popen(
            [LOOP, "pack"], cwd=manifest.folder, stdout=subprocess.DEVNULL, start_new_session=True
        )
        until = time.monotonic() + took * chosen.uniform(0.3, 1)
        while process.poll() is None and time.monotonic() < until:
            assert store.verify() == []
            store.gc()
            verified += 1
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
        assert store.verify() == []
        store.gc()
    assert killed
    done = loop("pack", cwd=manifest.folder)
    assert done.returncode == 0, done.stderr
    assert {root.name for root in store.roots() if root.subject is None} == {
        "packed:ws/app",
        "packed:ws/text",
    }
    assert store.verify() == []
    soak.note(rounds=rounds, killed=killed, verified=verified)
