"""`wasi:keyvalue` in NATS JetStream: whom it is there, how it is sure of the server, and what its config may say."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

import loop_kit as loop
from loop_kit import manifest
from loop_kit.capabilities.keyvalue import NatsKeyValue
from loop_kit.testing import client
from loop_kit.workspace import Workspace
from tests.capabilities.serving import guest
from tests.capabilities.test_keyvalue_nats import GRANT, NATS, jetstream, said

SECRET = "open-sesame"
# a pair of the server's documentation
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


async def test_what_a_login_may_not_do_is_said(tmp_path: Path) -> None:
    (tmp_path / "nats.conf").write_text(
        'authorization { users = [{ user: kv, password: x, permissions: { publish: { deny: "$KV.>" } } }] }\n'
    )
    with jetstream(tmp_path, "-c", str(tmp_path / "nats.conf")) as address:
        own = {"url": address, "timeout": 1, "login": {"user": "kv", "password": "x"}}
        async with client("wasi:keyvalue", provider=NATS, config=own, grant=GRANT) as kv:
            bucket = await kv.store.open("b")
            assert re.search(r"did not answer within 1 s: .*ermissions", await said(bucket.set("k", b"v")))


LOGINS = [
    (("--user", "kv", "--pass", SECRET), {"user": "kv", "password": SECRET}, "the user kv and a password"),
    (("--auth", SECRET), {"token": SECRET}, "a token"),
    ((), {"credentials": SEED}, "credentials"),
]


@pytest.mark.parametrize(("options", "login", "shown"), LOGINS, ids=["user", "token", "key"])
async def test_it_logs_in(
    options: tuple[str, ...],
    login: dict[str, str],
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {
        "user": "NATS_USER",
        "password": "NATS_PASSWORD",
        "token": "NATS_TOKEN",
        "credentials": "NATS_CREDS",
    }
    for name in names.values():
        monkeypatch.delenv(name, raising=False)
    if "credentials" in login:
        (tmp_path / "nats.conf").write_text(f"authorization {{ users = [{{ nkey: {PUBLIC} }}] }}\n")
        options = ("-c", str(tmp_path / "nats.conf"))
    with jetstream(tmp_path, *options) as address:

        async def tried(own: dict[str, Any]) -> None:
            async with client(
                "wasi:keyvalue", provider=NATS, config={"url": address} | own, grant=GRANT
            ) as kv:
                await (await kv.store.open("b")).set("k", b"v")

        await tried({"login": login})
        refused = await said(tried({}))
        assert refused.startswith(f"the NATS server at {address} refuses this client: ")
        assert refused.endswith("it was shown no login")
        if "credentials" not in login:
            wrong = await said(tried({"login": login | {[*login][-1]: "guess"}}))
            assert f"it was shown {shown}" in wrong
            assert "guess" not in wrong
        for name, text in login.items():
            monkeypatch.setenv(names[name], text)
        await tried({})


async def test_over_tls(tmp_path: Path) -> None:
    ca = trustme.CA()
    made = ca.issue_cert("localhost", "127.0.0.1")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    secured = ("--tls", "--tlscert", str(tmp_path / "cert.pem"), "--tlskey", str(tmp_path / "key.pem"))

    async def tried(address: str, tls: dict[str, str] | None) -> None:
        own = {"url": address} | ({} if tls is None else {"tls": tls})
        async with client("wasi:keyvalue", provider=NATS, config=own, grant=GRANT) as kv:
            await (await kv.store.open("b")).set("k", b"v")

    trusting = {"ca": str(tmp_path / "ca.pem")}
    with jetstream(tmp_path, *secured) as told:
        address = told.replace("tls://", "nats://")
        await tried(address, trusting)
        assert "certificate verify failed" in await said(tried(address, {}))
        other = await said(tried(address, trusting | {"server-name": "elsewhere.example"}))
        assert "certificate verify failed" in other


async def test_nothing_is_sent_in_the_clear_where_tls_is_asked_for() -> None:
    """A server, or whoever is in between, that says that it has no TLS learns no password."""
    heard = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b'INFO {"server_id":"x","version":"2.10.0","auth_required":true,"max_payload":1048576}\r\n'
        )
        heard.extend(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    own = {
        "url": f"nats://127.0.0.1:{port}",
        "tls": {},
        "login": {"user": "kv", "password": SECRET},
    }
    async with NatsKeyValue(config=own, grant=GRANT) as kv:
        assert "has no TLS, which the config asks for" in await said(kv.open("b"))
    server.close()
    await server.wait_closed()
    assert bytes(heard) == b""


async def test_a_file_of_credentials_is_shown_and_signed_by() -> None:
    """Its token goes to the server, and the seed signs what that asks for."""
    shown: list[dict[str, Any]] = []

    async def asking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told = {
            "server_id": "x",
            "version": "2.10.0",
            "auth_required": True,
            "nonce": "abc",
            "max_payload": 1,
        }
        writer.write(b"INFO " + json.dumps(told).encode() + b"\r\n")
        line = await reader.readline()
        shown.append(json.loads(line.removeprefix(b"CONNECT ")))
        writer.write(b"-ERR 'Authorization Violation'\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(asking, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = f"""
-----BEGIN NATS USER JWT-----
eyJ0eXAi.made.up
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------
"""
    own = {"url": f"nats://127.0.0.1:{port}", "login": {"credentials": text}}
    async with NatsKeyValue(config=own, grant=GRANT) as kv:
        refused = await said(kv.open("b"))
    server.close()
    await server.wait_closed()
    assert refused.endswith("refuses this client: Authorization Violation; it was shown credentials")
    assert {(each["jwt"], bool(each["sig"])) for each in shown} == {("eyJ0eXAi.made.up", True)}
    assert SEED not in json.dumps(shown)


@pytest.mark.parametrize(
    ("config", "grant", "message"),
    [
        ({}, {}, r"config\.url: write the server"),
        ({"url": "tcp://127.0.0.1:1"}, {}, r"config\.url: expected a server"),
        ({"url": "nats://127.0.0.1/subject"}, {}, r"config\.url: expected a server"),
        ({"url": ["nats://127.0.0.1", "x"]}, {}, r"config\.url: expected a server .* got 'x'"),
        ({"url": "nats://me:secret@127.0.0.1"}, {}, r"config\.url: a login does not stand in an address"),
        (
            {"url": ["nats://me:secret@127.0.0.1", 5]},
            {},
            r"config\.url: a login does not stand in an address",
        ),
        (
            {"url": "nats://127.0.0.1", "login": SECRET},
            {},
            r"config\.login: must be a table, .* of type str$",
        ),
        (
            {"url": "nats://kv.example"},
            {},
            r"config\.url: kv\.example is another machine, so the connection needs TLS",
        ),
        ({"url": "nats://127.0.0.1", "path": "/x"}, {}, r"config\.path: unknown key"),
        ({"url": "nats://127.0.0.1", "prefix": "a.b"}, {}, r"config\.prefix: must be letters"),
        ({"url": "nats://127.0.0.1", "replicas": 0}, {}, r"config\.replicas: must be a whole number"),
        ({"url": "nats://127.0.0.1", "login": {"user": "kv"}}, {}, r"config\.login: a login has"),
        (
            {"url": "nats://127.0.0.1", "tls": {"ca": "ca.pem"}},
            {},
            r"config\.tls\.ca: must be the absolute path",
        ),
        (
            {"url": "nats://127.0.0.1", "tls": {"ca": "/no/ca.pem"}},
            {},
            r"config\.tls: its files cannot be used",
        ),
        ({"url": "nats://127.0.0.1", "tls": {"key": "/k"}}, {}, r"config\.tls: `certificate` and `key`"),
        (
            {"url": "nats://127.0.0.1"},
            {"buckets": {"b": {"max-size": 5}}},
            r"grant\.buckets\.b\.max-size: .* by `nats kv add b --max-bucket-size",
        ),
        ({"url": "nats://127.0.0.1"}, {"buckets": {"b": {"mode": "w"}}}, r"grant\.buckets\.b\.mode"),
    ],
)
def test_what_a_config_or_grant_may_not_say(
    config: dict[str, Any], grant: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        NatsKeyValue(config=config, grant=grant)


def test_without_the_package_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "loop_kit.capabilities.keyvalue._jetstream", raising=False)
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(ValueError, match=r'NATS takes the package nats; .* `pip install "loop-kit\[nats\]"`'):
        NatsKeyValue(config={"url": "nats://127.0.0.1"}, grant=GRANT)


async def test_credentials_are_those_that_the_manifest_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret of the config is read when it is needed, and stands in no error."""
    (tmp_path / "app.wasm").write_bytes(guest("keyvalue"))
    with jetstream(tmp_path, "--user", "kv", "--pass", SECRET) as address:
        text = f"""
            components.app.path = "app.wasm"
            components.app.imports."wasi:keyvalue" = {{ provider = "kv", grant.buckets.b.mode = "rw" }}
            [providers.kv]
            use = "{NATS}"
            config = {{ url = "{address}", login = {{ user = "kv", password = {{ env = "KV_TEST_PASSWORD" }} }} }}
        """
        for password in (SECRET, "wrong-guess"):
            monkeypatch.setenv("KV_TEST_PASSWORD", password)
            declared = manifest.loads(text, tmp_path / "loop.toml")
            async with loop.Host(cache=tmp_path) as host, Workspace(host, declared) as workspace:
                app = await workspace.load("app")
                if password == SECRET:
                    await app.call("set", "k", b"v")
                    continue
                with pytest.raises(loop.errors.GuestTrap) as caught:  # this guest takes no error of `open`
                    await app.call("set", "k", b"v")
                assert "guess" not in str(caught.value)
