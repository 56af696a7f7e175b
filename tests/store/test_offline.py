"""With the network off a workspace runs what it has pulled."""

import subprocess
from pathlib import Path

import pytest

from tests.store.packed import Place, component, hello

OFF = ("unshare", "--net", "--map-root-user", "--user")
"""Runs a command where there is no network, not even 127.0.0.1: its one interface is down."""


def off() -> tuple[str, ...]:
    """What takes the network from a command; as root it takes no namespace of users."""
    for way in (("unshare", "--net"), OFF):
        if subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0:
            return way
    pytest.fail("nothing here may take the network from a process: `unshare --net` is refused")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    component(made.layout, "1.0", hello(), version="1.0.0")
    return made


def test_there_is_no_network() -> None:
    told = subprocess.run(
        [*off(), "python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 9))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Network is unreachable" in told.stderr


def test_what_was_pulled_once_runs_with_the_network_off(place: Place) -> None:
    done = place.loop("run", "--locked", "--offline", ".", before=off(), code=4)
    assert "loop.lock is not that of loop.toml" in done.stderr
    place.loop("pull")
    place.layout.folder.rename(place.folder / "gone")
    done = place.loop("run", "--locked", "--offline", ".", before=off())
    assert done.stdout == "hello from a guest\n"
    assert place.loop("pull", "--locked", "--offline", before=off()).returncode == 0
    assert place.json("store", "verify")["damaged"] == []
