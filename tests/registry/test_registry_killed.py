"""A registry that is killed at any moment: what it says it has, it has, and what broke off goes on."""

import http.client
import json
import os
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest

from loop_kit.registry import Content
from loop_kit.store import Store
from tests.cli import LOOP
from tests.registry.asking import Client, digest_of
from tests.soaking import Soak


def _pushing(host: str, seed: int, done: list[tuple[str, str]]) -> None:
    """Pushes until there is nobody to push to; `done`: tags that were answered for."""
    chosen, client = random.Random(seed), Client(host)
    try:
        for number in range(1000):
            # some are others' as well
            layers = [random.Random(chosen.randrange(6)).randbytes(150_000), chosen.randbytes(1000)]
            repository, tag = f"r{chosen.randrange(3)}", f"{seed}-{number}"
            for data in (b"{}", *layers):
                location = client.begin(repository)
                half = len(data) // 2
                client.ask("PATCH", location, data[:half])
                got = client.ask("PUT", f"{location}?digest={digest_of(data)}", data[half:])
                assert got.status == 201, got.body
            client.push(repository, tag, *layers)
            done.append((repository, tag))
    except (OSError, http.client.HTTPException, AssertionError):
        return


def _started(folder: Path) -> tuple["subprocess.Popen[str]", str]:
    argv = [LOOP, "registry", "serve", "--folder", str(folder), "--listen", "127.0.0.1:0", "--json"]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, json.loads(server.stdout.readline())["address"]


@pytest.mark.timeout(3600)
def test_it_may_be_killed_at_any_moment(tmp_path: Path, soak: Soak) -> None:
    rounds, chosen = soak(3, 100), random.Random(2026)
    done: list[tuple[str, str]] = []
    upload: tuple[str, bytes] | None = None
    for number in range(rounds):
        server, host = _started(tmp_path / "data")
        try:
            client = Client(host)
            if upload is not None:  # of the last round
                location, data = upload
                state = client.ask("GET", location)
                assert state.status == 204
                at = int(str(state["range"]).removeprefix("0-")) + 1
                assert at >= 500
                client.ask("PATCH", location, data[at:], content_range=f"{at}-{len(data) - 1}")
                assert client.ask("PUT", f"{location}?digest={digest_of(data)}").status == 201
            for repository, tag in done:
                got = client.ask("GET", f"/v2/{repository}/manifests/{tag}")
                assert got.status == 200
                for layer in json.loads(got.body)["layers"]:
                    assert client.ask("HEAD", f"/v2/{repository}/blobs/{layer['digest']}").status == 200
            upload = client.begin("broken"), os.urandom(1000)
            assert client.ask("PATCH", upload[0], upload[1][:500]).status == 202
            told: list[list[tuple[str, str]]] = [[] for _ in range(3)]
            threads = [
                threading.Thread(target=_pushing, args=(host, 10 * number + at, told[at])) for at in range(3)
            ]
            for thread in threads:
                thread.start()
            time.sleep(chosen.uniform(0.2, 0.8))  # when it is killed does not matter
        finally:
            server.kill()
            server.wait()
            assert server.stdout is not None
            server.stdout.close()
        for thread in threads:
            thread.join()
        done += [pushed for each in told for pushed in each]
        store = Store(tmp_path / "data")
        assert store.verify() == []
        content = Content(store)
        for repository in content.repositories():
            for tag in content.tags(repository):
                found = content.manifest(repository, tag)
                assert found is not None
                content.read(repository, found)
    assert len(done) > rounds, "there was hardly anything to find fault with"
    content = Content(Store(tmp_path / "data"), own=True)
    with content.opened():
        content.tidy(time.time() + 2 * 24 * 3600)
        assert os.listdir(tmp_path / "data/registry/uploads") == []
        needed = {digest for root in content.store.roots() for digest in root.digests}
        assert set(content.blobs) == needed
    soak.note(rounds=rounds, pushed=len(done))
