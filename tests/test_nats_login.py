"""NATS servers that ask who one is: what the manifest and the environment say, and what is said where it is wrong."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import loop_kit as loop
from loop_kit import peer, provider
from loop_kit._login import of_environment
from loop_kit.bench._places import Remote
from loop_kit.errors import LoadError, ManifestError, Unauthenticated
from loop_kit.manifest import Login, load, loads, reveal
from loop_kit.manifest._toml import inline
from loop_kit.workspace import Workspace
from tests.cli import loop as run_loop
from tests.guests import HOST, Guest
from tests.nats import serving
from tests.sessions.kv import store
from tests.test_sidecar_workspace import WIT as NEAR_WIT
from tests.wit_types import U32

WIT = Path(store.__file__).parent / "wit"
SECRET = "open-sesame"
VARIABLES = ("NATS_USER", "NATS_PASSWORD", "NATS_TOKEN", "NATS_CREDS")
# a pair of the server's documentation
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
NEAR = f"""\
from loop_kit.provider import provider

@provider({HOST!r}, wit="near.wit")
class Near:
    def ask(self):
        return 42
"""


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that knows one user with a password."""
    with serving(tmp_path_factory.mktemp("nats"), "--user", "kv", "--pass", SECRET) as address:
        yield address


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a workspace whose `loop.toml` is still to be written."""
    guest = Guest().imports("ask", [], U32).exports("ask", [], U32, "(call $ask)")
    (tmp_path / "a.wasm").write_bytes(guest.wasm())
    (tmp_path / "near.py").write_text(NEAR)
    (tmp_path / "near.wit").write_text(NEAR_WIT)
    return tmp_path


def manifest(folder: Path, use: str, *lines: str) -> Path:
    text = f'[components.a]\npath = "a.wasm"\nimports."{HOST}" = {{ provider = "near" }}\n[providers.near]\n'
    (folder / "loop.toml").write_text(text + "\n".join([f'use = "{use}"', *lines, ""]))
    return folder


async def ask(folder: Path) -> int:
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        answer: int = await (await workspace.load("a")).call("ask")
        return answer


LOGIN = 'login = { user = "kv", password = { env = "LOOP_TEST_PASSWORD" } }'


async def test_a_sidecar_and_its_host_log_in(
    folder: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_TEST_PASSWORD", SECRET)
    assert (
        await ask(manifest(folder, "sidecar:python:near:Near", f'address = "{server}/a.near"', LOGIN)) == 42
    )


async def test_a_host_logs_in(folder: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "near", raising=False)  # of another test's folder
    import near  # type: ignore[import-not-found]

    login = Login("kv", SECRET)
    served = await provider.serve(near.Near, on=f"{server}/b.near", login=login)
    use = f"remote:{server}/b.near"
    for password, said in (
        (SECRET, None),
        ("guess", "refuses this client: Authorization Violation; it was shown the user kv and a password"),
    ):
        monkeypatch.setenv("LOOP_TEST_PASSWORD", password)
        manifest(folder, use, LOGIN)
        if said is None:
            assert await ask(folder) == 42
            continue
        with pytest.raises(LoadError) as caught:
            await ask(folder)
        assert str(caught.value) == f"provider near at {server}/b.near: the server at {server}/b.near {said}"
    with pytest.raises(LoadError, match="Authorization Violation; it was shown no login"):
        await ask(manifest(folder, use))
    monkeypatch.delenv("LOOP_TEST_PASSWORD")
    with pytest.raises(ManifestError, match="the environment variable LOOP_TEST_PASSWORD is not set"):
        await ask(manifest(folder, use, LOGIN))
    await served.close()


async def test_who_serves_must_log_in(server: str) -> None:
    with pytest.raises(Unauthenticated, match="it was shown the user kv and a password"):
        await provider.serve(store.Store, on=f"{server}/c.kv", login=Login("kv", "guess"))
    with pytest.raises(Unauthenticated, match="it was shown no login"):
        await provider.serve(store.Store, on=f"{server}/c.kv")


def test_commands_log_in_as_the_environment_says(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where = f"{server}/d.kv"
    serve = [sys.executable, "-m", "loop_kit.serve", "tests.sessions.kv.store:Store", "--on", where]
    call = ("call", where, "add(1, 2)", "--wit", str(WIT))
    monkeypatch.setenv("NATS_USER", "kv")
    monkeypatch.setenv("NATS_PASSWORD", "wrong-guess")
    refused = subprocess.run(serve, capture_output=True, text=True, timeout=60)
    called = run_loop(*call)
    for done in (refused, called):
        assert (done.returncode, "shown the user kv and a password" in done.stderr) == (1, True), done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert "guess" not in done.stderr + done.stdout
    monkeypatch.setenv("NATS_PASSWORD", SECRET)
    with subprocess.Popen(serve) as process:
        try:
            deadline = 200
            while (done := run_loop(*call)).returncode and deadline:
                assert "nobody listens there" in done.stderr, done.stderr
                deadline -= 1
            assert done.stdout == "3\n"
        finally:
            process.terminate()
            assert process.wait(20) == 0


def test_a_benchmark_logs_in_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = "nats://127.0.0.1:4222/bench"
    assert Remote(where).keys().get("login") is None
    creds = tmp_path / "kv.nk"
    creds.write_text(SEED)
    for variables, login in (
        ({"NATS_CREDS": SEED}, {"credentials": {"env": "NATS_CREDS"}}),
        ({"NATS_CREDS": str(creds)}, {"credentials": {"file": str(creds)}}),
        ({"NATS_TOKEN": SECRET}, {"token": {"env": "NATS_TOKEN"}}),
        ({"NATS_USER": "kv", "NATS_PASSWORD": SECRET}, {"user": "kv", "password": {"env": "NATS_PASSWORD"}}),
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            assert Remote(where).keys()["login"] == login
            assert Remote("tcp://127.0.0.1:4222").keys().get("login") is None
            text = "\n".join(f"{key} = {inline(value)}" for key, value in Remote(where).keys().items())
            provider = loads(f"[providers.kv]\n{text}").providers["kv"]
            assert reveal(provider.login) == of_environment(where)


async def test_keys_and_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of credentials, which is read anew for each connection that the environment is asked for."""
    config, creds = tmp_path / "nats.conf", tmp_path / "kv.nk"
    config.write_text(f"authorization {{ users = [{{ nkey: {PUBLIC} }}] }}\n")
    creds.write_text(SEED)
    with serving(tmp_path, "-c", str(config)) as server:
        monkeypatch.setenv("NATS_CREDS", str(creds))
        served = await provider.serve(store.Store, on=f"{server}/kv")
        login = Login(credentials=SEED)
        async with await peer.connect(f"{server}/kv", "acme:kv/store", wit=WIT, login=login) as kv:
            assert await kv.call("add", 1, 2) == 3
        creds.write_text("no key")
        done = await asyncio.to_thread(run_loop, "call", f"{server}/kv", "add(1, 2)", "--wit", str(WIT))
        assert (done.returncode, "neither credentials" in done.stderr) == (1, True), done.stderr
        monkeypatch.setenv("NATS_CREDS", str(tmp_path / "none"))
        done = await asyncio.to_thread(run_loop, "call", f"{server}/kv", "add(1, 2)", "--wit", str(WIT))
        assert f"NATS_CREDS: cannot read the file {tmp_path / 'none'}: No such file" in done.stderr
        await served.close()
    (tmp_path / "token").mkdir()
    with serving(tmp_path / "token", "--auth", SECRET) as server:
        monkeypatch.delenv("NATS_CREDS")
        with pytest.raises(Unauthenticated, match="it was shown a token"):
            await provider.serve(store.Store, on=f"{server}/kv", login=Login(token="guess"))
        await (await provider.serve(store.Store, on=f"{server}/kv", login=Login(token=SECRET))).close()


def test_what_is_explained_holds_no_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP_TEST_PASSWORD", SECRET)
    manifest(folder, "remote:nats://127.0.0.1:4222/near", LOGIN)
    shown = run_loop("explain", cwd=folder)
    assert "elsewhere, over nats with login" in shown.stdout
    told = run_loop("explain", "--json", cwd=folder)
    (component,) = json.loads(told.stdout)["components"]
    assert component["imports"][0]["secured"] == ["login"]
    assert SECRET not in shown.stdout + shown.stderr + told.stdout + told.stderr
