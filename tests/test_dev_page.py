"""Who is let in by the server of the dev server's page, and what it answers.

The page itself is looked at in `tests/browser/dev-*.test.mjs`.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import testing
from loop_kit.dev import page
from loop_kit.dev._devserver import Devserver
from loop_kit.dev._sources import logged
from loop_kit.dev.page._token import token_of
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests.devserver.scripted import Scripted
from tests.guests import HOST, Guest
from tests.wit_types import U32


class Served:
    """The page, and what asks it."""

    def __init__(self, url: str, workspace: Scripted, netx: Any) -> None:
        self.origin, _, self.token = url.partition("/#")
        self.address = self.origin.removeprefix("http://")
        self.workspace = workspace
        self.netx = netx

    async def ask(
        self, *fields: str, path: str = "/", method: str = "GET", host: str | None = None
    ) -> tuple[int, dict[str, str], str]:
        """Status, fields and body of an answer to a request that has just these fields and `host`."""
        port = int(self.address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [
            f"{method} {path} HTTP/1.1",
            f"host: {self.address if host is None else host}",
            "connection: close",
            *fields,
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        first, *rest = head.split("\r\n")
        pairs = (line.partition(": ") for line in rest)
        return int(first.split()[1]), {name: value for name, _, value in pairs}, body

    async def proof(self, token: str | None = None, *, host: str | None = None, side: str = "page") -> str:
        """What a page offers, by the token that it has."""
        _, _, challenge = await self.ask(path="/challenge")
        nonce = secrets.token_hex(16)
        text = f"{side} {challenge} {nonce} {host or self.address}"
        code = hmac.new((self.token if token is None else token).encode(), text.encode(), hashlib.sha256)
        return f"proof.{challenge}.{nonce}.{code.hexdigest()}"

    async def upgrade(self, *protocols: str, origin: str | None = "") -> int:
        """The status that a WebSocket is answered with."""
        fields = [
            "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            f"sec-websocket-protocol: {', '.join(protocols)}",
        ]  # fmt: skip
        if origin is not None:
            fields.append(f"origin: {origin or self.origin}")
        port = int(self.address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = ["GET /socket HTTP/1.1", f"host: {self.address}", "connection: upgrade", *fields, "", ""]
        writer.write("\r\n".join(lines).encode())
        status = int((await reader.readline()).split()[1])
        writer.close()
        return status

    async def connect(self) -> Any:
        """A WebSocket that is let in."""
        offered = ["loop-page.1", await self.proof()]
        url = f"ws://{self.address}/socket"
        return await self.netx.websocket.connect(url, [("origin", self.origin.encode())], offered, None)


@asynccontextmanager
async def serving(workspace: Scripted | None = None, **how: Any) -> AsyncIterator[Served]:
    workspace = workspace or Scripted(rates=False)
    async with loop.Host() as host:
        url = await page.serve(host, workspace, "127.0.0.1:0", **how)
        origin = url.partition("/#")[0]
        grant = {"allow": [origin, origin.replace("http", "ws")], "max-connections": 32}
        async with testing.client("loop:netx", grant=grant) as netx:
            yield Served(url, workspace, netx)


async def told(socket: Any) -> Any:
    return json.loads((await socket.receive()).value)


async def answer(socket: Any, **request: Any) -> Any:
    """The answer to one request; events between are left out."""
    await socket.send(("text", json.dumps({"id": 7, **request})))
    while True:
        message = await told(socket)
        if message.get("id") == 7:
            return message


async def test_files_come_with_a_policy_and_are_not_kept() -> None:
    async with serving() as served:
        for path, kind in (
            ("/", "text/html"),
            ("/page.js", "text/javascript"),
            ("/page.css", "text/css"),
            ("/icon.svg", "image/svg+xml"),
        ):
            status, fields, body = await served.ask(path=path)
            assert (status, fields["content-type"].partition(";")[0]) == (200, kind)
            assert body
            assert fields["cache-control"] == "no-store"
            assert fields["x-content-type-options"] == "nosniff"
            assert fields["referrer-policy"] == "no-referrer"
            policy = dict(part.strip().split(" ", 1) for part in fields["content-security-policy"].split(";"))
            assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == "'self'"
            assert served.token not in body
        assert (await served.ask(path="/page.js", method="HEAD"))[::2] == (200, "")
        assert (await served.ask(path="/../loop.toml"))[0] == 404
        assert (await served.ask(method="POST"))[0] == 405


async def test_a_request_for_another_host_is_refused_before_anything_else() -> None:
    async with serving() as served:
        port = served.address.rpartition(":")[2]
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "127.0.0.1",
            "127.0.0.1:1",
            f"127.0.0.1.evil.example:{port}",
            f"[::1]:{port}",
            "",
        ):
            for path, method in (
                ("/", "GET"),
                ("/challenge", "GET"),
                ("/nowhere", "GET"),
                ("/", "DELETE"),
                ("/socket", "GET"),
            ):
                assert (await served.ask(host=host, path=path, method=method))[0] in (400, 403), host
        assert (await served.ask(host="evil.example"))[0] == 403
        assert (await served.ask(host=f"localhost:{port}"))[0] == 200


@pytest.mark.parametrize(
    "fields",
    [
        ["origin: http://evil.example"],
        ["origin: null"],
        ["origin: http://127.0.0.1:1"],
        ["origin: https://{address}"],
        ["origin: http://{address}", "origin: http://evil.example"],
        ["sec-fetch-site: cross-site", "sec-fetch-mode: no-cors", "sec-fetch-dest: script"],
        ["sec-fetch-site: same-site", "sec-fetch-mode: cors", "sec-fetch-dest: empty"],
        ["sec-fetch-site: cross-site", "sec-fetch-mode: navigate", "sec-fetch-dest: iframe"],
    ],
)
async def test_a_request_of_another_site_is_refused(fields: list[str]) -> None:
    async with serving() as served:
        told = [field.format(address=served.address) for field in fields]
        for path in ("/", "/page.js", "/challenge"):
            assert (await served.ask(*told, path=path))[0] == 403


async def test_a_link_to_the_page_may_be_followed_and_the_page_asks_for_its_own() -> None:
    async with serving() as served:
        followed = ["sec-fetch-site: cross-site", "sec-fetch-mode: navigate", "sec-fetch-dest: document"]
        assert (await served.ask(*followed))[0] == 200
        own = [
            "sec-fetch-site: same-origin",
            "sec-fetch-mode: cors",
            "sec-fetch-dest: empty",
            f"origin: {served.origin}",
        ]
        assert (await served.ask(*own, path="/challenge"))[0] == 200


async def test_a_socket_needs_the_token_and_its_own_origin() -> None:
    async with serving() as served:
        assert await served.upgrade("loop-page.1", await served.proof()) == 101
        assert await served.upgrade("loop-page.1", await served.proof(), origin=None) == 403
        assert await served.upgrade("loop-page.1", await served.proof(), origin="http://evil.example") == 403
        assert await served.upgrade("loop-page.1") == 403
        assert await served.upgrade(await served.proof()) == 403
        assert await served.upgrade("loop-page.1", f"token.{served.token}") == 403
        assert await served.upgrade("loop-page.1", await served.proof("")) == 403
        assert await served.upgrade("loop-page.1", await served.proof(served.token[:-1])) == 403
        # what was made for another address, or by the server itself, proves nothing here
        assert await served.upgrade("loop-page.1", await served.proof(host="127.0.0.1:1")) == 403
        assert await served.upgrade("loop-page.1", await served.proof(side="server")) == 403


async def test_a_challenge_is_good_for_one_answer() -> None:
    async with serving() as served:
        proof = await served.proof()
        assert await served.upgrade("loop-page.1", proof) == 101
        assert await served.upgrade("loop-page.1", proof) == 403
        _, challenge, nonce, code = (await served.proof()).split(".")
        flipped = f"{int(code[0], 16) ^ 1:x}{code[1:]}"
        assert await served.upgrade("loop-page.1", f"proof.{challenge}.{nonce}.{flipped}") == 403
        # a wrong answer uses it up, so that none is tried twice
        assert await served.upgrade("loop-page.1", f"proof.{challenge}.{nonce}.{code}") == 403


async def test_what_is_there_comes_first_and_then_what_happens() -> None:
    async with serving() as served:
        served.workspace.line("info", "mailer", "smtp", "before", to="ann")
        socket = await served.connect()
        hello = await told(socket)
        assert [member["name"] for member in hello["members"]] == [*served.workspace.all]
        catalog = next(member for member in hello["members"] if member["name"] == "catalog")
        assert catalog == served.workspace.all["catalog"]
        assert hello["links"][0]["traffic"]["spent"].keys() == {
            "calls",
            "encode",
            "session",
            "queue",
            "provider",
            "decode",
        }
        line = (await told(socket))["events"][0]
        assert {**line, "time": 0} == {
            "is": "line", "time": 0, "level": "info", "source": "mailer", "target": "smtp", "message": "before",
            "fields": [["to", "ann"]],
        }  # fmt: skip
        served.workspace.change("catalog", phase="failed", reason="exit code 1")
        member = (await told(socket))["events"][0]["member"]
        assert (member["phase"], member["reason"]) == ("failed", "exit code 1")


async def test_a_failure_is_told_in_words() -> None:
    async with serving() as served:
        socket = await served.connect()
        near = await answer(socket, do="restart", member="catalogue")
        assert near["error"].startswith("there is no member of that name; did you mean checkout or catalog")
        refused = await answer(socket, do="swap", member="catalog", use="x", **{"dry-run": True})
        assert "'x' is no provider" in refused["error"]
        assert "there is no command 'no'" in (await answer(socket, do="run", name="no", args=[]))["error"]
        told = (await answer(socket, do="commands"))["ok"]
        assert [command["name"] for command in told] == ["seed", "drain-queue"]
        assert await answer(socket, do="run", name="seed", args=["3"]) == {
            "id": 7,
            "ok": {"code": 0, "output": "seed: 3, done\n"},
        }


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"id": 1}', '{"id": 1, "do": "erase"}', '{"id": -1, "do": "state"}', "\0"]
)
async def test_what_is_no_request_ends_the_connection(text: str) -> None:
    async with serving() as served:
        socket = await served.connect()
        await socket.send(("text", text))
        assert "hello" in await told(socket)
        with pytest.raises(loop.Err) as ended:
            await socket.receive()
        closed: Any = ended.value.value
        assert closed.value.code == 1008
        # and no other
        assert "members" in (await answer(await served.connect(), do="state"))["ok"]


async def test_no_more_pages_are_open_than_may_be() -> None:
    async with serving() as served:
        sockets = [await served.connect() for _ in range(8)]
        assert await served.upgrade("loop-page.1", await served.proof()) == 503
        await sockets.pop().close(1000, "")
        while await served.upgrade("loop-page.1", await served.proof()) == 503:
            await asyncio.sleep(0.01)


async def test_no_more_is_asked_at_once_than_may_be() -> None:
    class Slow(Scripted):
        async def restart(self, member: str) -> None:
            await asyncio.Event().wait()

    async with serving(Slow(rates=False)) as served:
        socket = await served.connect()
        for _ in range(16):
            await socket.send(("text", json.dumps({"id": 1, "do": "restart", "member": "catalog"})))
        assert await answer(socket, do="state") == {"id": 7, "error": "too much is asked at once"}


class Faulty(Scripted):
    """Fails where `fault` says so, once."""

    fault = False

    def members(self) -> list[dict[str, Any]]:
        if self.fault:
            self.fault = False
            raise KeyError("nobody")
        return super().members()


async def test_a_fault_of_the_workspace_is_told_and_the_page_served_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    workspace = Faulty(rates=False)
    async with serving(workspace) as served:
        socket = await served.connect()
        assert "hello" in await told(socket)
        workspace.fault = True
        with pytest.raises(loop.Err):
            await answer(socket, do="state")
        while "the page is no longer served" not in caplog.text:
            await asyncio.sleep(0.01)
        assert "nobody" in caplog.text
        # at the same address, for the same token
        while True:
            try:
                socket = await served.connect()
                break
            except (OSError, loop.Err):
                await asyncio.sleep(0.05)
        assert len((await answer(socket, do="state"))["ok"]["members"]) == len(workspace.all)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:7080",
        "192.168.0.1:7080",
        "[::]:7080",
        "example.com:80",
        "localhost:80",
        "127.0.0.1",
        "",
        "127.0.0.1:http",
    ],
)
async def test_only_this_machine_may_open_it(address: str) -> None:
    async with loop.Host() as host:
        with pytest.raises(ValueError, match=r"this machine alone may open; say 127.0.0.1:7080"):
            await page.serve(host, Scripted(), address)


async def test_an_address_that_is_taken_is_told() -> None:
    async with serving() as served, loop.Host() as host:
        with pytest.raises(OSError, match=f"the page cannot be served on {served.address}"):
            await page.serve(host, Scripted(), served.address, token="t")


NEAR = f"""\
import os
from loop_kit.provider import provider

@provider({HOST!r}, wit="near.wit")
class Near:
    def ask(self):
        return os.getpid()
"""


async def test_a_workspace_that_runs_is_shown_and_its_provider_started_again(tmp_path: Path) -> None:
    package, _, interface = HOST.partition("/")
    guest = Guest().imports("ask", [], U32).exports("ask", [], U32, "(call $ask)")
    (tmp_path / "a.wasm").write_bytes(guest.wasm())
    (tmp_path / "near.py").write_text(NEAR)
    (tmp_path / "near.wit").write_text(
        f"package {package};\n\ninterface {interface} {{ ask: func() -> u32; }}\n"
    )
    (tmp_path / "loop.toml").write_text(
        f'[workspace]\nname = "plant"\n[components.a]\npath = "a.wasm"\n'
        f'imports."{HOST}" = {{ provider = "near" }}\n[providers.near]\nuse = "sidecar:python:near:Near"\n'
    )
    async with loop.Host() as host, Workspace(host, load(tmp_path / "loop.toml")) as workspace:
        devserver = Devserver(workspace, instance="first", version="0.1.0", stop=lambda: None)
        with contextlib.closing(devserver), logged(devserver.line):
            a = await workspace.load("a")
            pid = await a.call("ask")
            url = await page.serve(host, devserver.visit(), "127.0.0.1:0")
            origin = url.partition("/#")[0]
            grant = {"allow": [origin, origin.replace("http", "ws")]}
            async with testing.client("loop:netx", grant=grant) as netx:
                socket = await Served(url, Scripted(), netx).connect()
                hello = await told(socket)
                assert hello["about"]["name"] == "plant"
                (near,) = [member for member in hello["members"] if member["name"] == "near"]
                assert (near["placement"], near["transport"], near["pid"]) == ("sidecar", "unix", pid)
                assert (near["phase"], near["generation"]) == ("ready", 1)
                assert near["digest"].startswith("sha256:")
                (link,) = hello["links"]
                assert (link["importer"], link["provider"]) == ("a", "near")
                assert (await answer(socket, do="restart", member="near"))["ok"] is None
                assert await a.call("ask") != pid
                (near,) = [
                    member
                    for member in (await answer(socket, do="state"))["ok"]["members"]
                    if member["name"] == "near"
                ]
                assert (near["phase"], near["generation"]) == ("ready", 2)


def test_a_token_is_kept_for_its_address_and_for_its_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    token = token_of("127.0.0.1:7080")
    assert len(token) >= 43
    assert token_of("127.0.0.1:7080") == token
    assert token_of("127.0.0.1:7081") != token
    assert token_of("127.0.0.1:0") != token_of("127.0.0.1:0")
    file = tmp_path / "loop-kit" / "page" / "127.0.0.1_7080.token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    # one that others could have read, or that is none, is no longer good
    file.chmod(0o644)
    fresh = token_of("127.0.0.1:7080")
    assert fresh != token
    file.write_text("short")
    assert token_of("127.0.0.1:7080") not in ("short", fresh)
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("x" * 43)
    assert token_of("127.0.0.1:7080") != "x" * 43
