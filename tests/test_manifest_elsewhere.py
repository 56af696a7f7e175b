"""Providers that run elsewhere: what `loop.toml` says of sidecars and remote ones, and what it may not say."""

import os
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_kit import manifest
from loop_kit._address import Address, is_loopback
from loop_kit.manifest import Login, ManifestError, Provider, Secret, Tls, loads
from loop_kit.manifest.model import TRANSPORTS
from tests.manifests import WS, problems, read


def provider(text: str) -> Provider:
    return read(f"[providers.kv]\n{text}").providers["kv"]


def refused(text: str) -> str:
    return "\n".join(problems(f"[providers.kv]\n{text}"))


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ('use = "sidecar:python:acme.kv:Store"', (sys.executable, "-m", "loop_kit.serve", "acme.kv:Store")),
        ('use = "sidecar:node:js/provider.js"', ("node", "/team/ws/js/provider.js")),
        ('use = "sidecar:./bin/kv"\nargs = ["-v"]', ("/team/ws/bin/kv", "-v")),
        ('use = "sidecar:/usr/bin/kv"', ("/usr/bin/kv",)),
        ('use = "sidecar:kv-provider"', ("kv-provider",)),
        ('use = "sidecar"\ncommand = ["../kv", "a:b"]\nargs = ["c"]', ("/team/kv", "a:b", "c")),
        ('use = "sidecar"\ncommand = ["deno", "run", "x.ts"]', ("deno", "run", "x.ts")),
    ],
)
def test_what_a_sidecar_runs(text: str, argv: tuple[str, ...]) -> None:
    assert provider(text).argv() == argv


def test_everything_a_sidecar_may_say() -> None:
    text = """\
use = "sidecar:./kv"
transport = "tcp"
address = "tcp://[::1]:0"
args = ["--listen", "{host}", "{port}"]
env = { MODE = "fast", KEY = { env = "KV_KEY" }, CERT = { file = "cert" } }
handshake = false
isolate = true
start-timeout = "1m"
stop-timeout = 0.5
"""
    found = provider(text)
    assert found == Provider(
        "kv",
        "sidecar:./kv",
        "sidecar",
        "./kv",
        WS / "kv",
        args=("--listen", "{host}", "{port}"),
        env={"MODE": "fast", "KEY": Secret(env="KV_KEY"), "CERT": Secret(file=WS / "cert")},
        transport="tcp",
        address="tcp://[::1]:0",
        handshake=False,
        isolate=True,
        start_timeout=60.0,
        stop_timeout=0.5,
    )
    assert (found.inside, found.sandboxed, found.shipped) == (False, False, False)


def test_everything_a_remote_may_say() -> None:
    text = """\
use = "remote:quic://kv.example:7000"
tls = { ca = "ca.pem", certificate = "me.pem", key = "me.key", server-name = "kv" }
token = { env = "KV_TOKEN" }
config = { size = 3 }
"""
    assert provider(text) == Provider(
        "kv",
        "remote:quic://kv.example:7000",
        "remote",
        "quic://kv.example:7000",
        config={"size": 3},
        transport="quic",
        tls=Tls(WS / "ca.pem", WS / "me.pem", WS / "me.key", "kv"),
        token=Secret(env="KV_TOKEN"),
    )
    assert provider('use = "remote:tcp://kv.example:1"\ntls = {}').tls == Tls()
    for scheme in ("unix", "shm"):
        assert provider(f'use = "remote:{scheme}:run/kv.sock"').target == f"{scheme}:/team/ws/run/kv.sock"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'user = "kv", password = { env = "KV_PASSWORD" }',
            Login(user="kv", password=Secret(env="KV_PASSWORD")),
        ),
        ('token = { file = "token" }', Login(token=Secret(file=WS / "token"))),
        ('credentials = { file = "kv.creds" }', Login(credentials=Secret(file=WS / "kv.creds"))),
    ],
)
def test_logins(text: str, expected: Login) -> None:
    assert provider(NATS + f"login = {{ {text} }}").login == expected
    assert provider(f'use = "sidecar:kv"\naddress = "nats://h/kv"\nlogin = {{ {text} }}').login == expected


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_one_line_moves_a_provider(transport: str) -> None:
    text = 'use = "sidecar:./kv"\nconfig = { a = 1 }\nenv = { B = "2" }\nargs = ["c"]\n'
    address = 'address = "nats://127.0.0.1/kv"\n' if transport == "nats" else ""
    moved = provider(f'{text}{address}transport = "{transport}"\n')
    default = provider(text)
    assert default.transport == ("pipe" if os.name == "nt" else "unix")
    assert moved.transport == transport
    assert vars(moved) | {"transport": "", "address": None} == vars(default) | {"transport": ""}


def test_the_address_says_the_transport() -> None:
    assert provider('use = "sidecar:kv"\naddress = "ws://127.0.0.1:0/rpc"').transport == "ws"
    for scheme in ("unix", "shm"):
        found = provider(f'use = "sidecar:kv"\naddress = "{scheme}:run/kv"')
        assert (found.transport, found.address) == (scheme, f"{scheme}:/team/ws/run/kv")


def test_three_lines_for_a_program_that_knows_nothing_of_loop_kit() -> None:
    for lines in (
        'use = "sidecar:./kv"\nhandshake = false\nargs = ["--listen", "{path}"]',
        'use = "sidecar:./kv"\nhandshake = false\naddress = "tcp://127.0.0.1:7761"',
    ):
        assert not provider(lines).handshake


def test_budgets() -> None:
    text = '[providers.kv]\nuse = "sidecar:kv"\n[links]\n"a:b" = { provider = "kv", budget = "5ms" }\n'
    link = loads(text).link_for(None, "a:b/c@1.0.0")
    assert link is not None
    assert link.budget == 0.005


KV = 'use = "sidecar:kv"\n'
NATS = 'use = "remote:nats://127.0.0.1/kv"\n'
PLAIN = 'handshake = false\nargs = ["{address}"]\n'
FAR = 'use = "remote:tcp://kv.example:1"\n'
TLS = "tls = {}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('use = "sidecar"', 'loop.toml:2:7: providers.kv: has no command (add command = ["PROGRAM", "ARGU'),
        ('use = "sidecar"\ncommand = []', "providers.kv.command: must have at least 1 element"),
        (KV + 'command = ["x"]', 'loop.toml:3:1: providers.kv: "command" is a key of `use = "sidecar"` prov'),
        (
            'use = "sidecar:"',
            'expected "sidecar:python:module:Class", "sidecar:node:FILE" or "sidecar:PROGRAM"',
        ),
        ('use = "sidecar:pyton:a:B"', 'got "sidecar:pyton:a:B" (did you mean "python"?)'),
        ('use = "sidecar:python:a"', 'expected "sidecar:python:module:Class", got "sidecar:python:a"'),
        ('use = "sidecars:x"', '(did you mean "sidecar"?)'),
        ('use = "remotely"', 'expected "builtin:NAME", "python:module:Class", "component:NAME", "sidecar:'),
        (KV + 'transport = "tpc"', '"ws" or "nats", got "tpc" (did you mean "tcp"?)'),
        (KV + 'transprot = "tcp"', 'unknown key "transprot" (did you mean "transport"?)'),
        (KV + 'address = "tcp://127.0.0.1"', "providers.kv.address: expected an address to listen on"),
        (
            KV + 'address = "tcp://127.0.0.1:0"\ntransport = "ws"',
            'is not of the transport "ws" (one of the two',
        ),
        (
            KV + 'address = "tcp://0.0.0.0:80"',
            "0.0.0.0 can be reached by other machines (a sidecar listens on",
        ),
        (KV + 'transport = "nats"', "needs a server (add address = "),
        (KV + 'transport = "stdio"\nargs = ["{path}"]', 'an address of the transport "stdio" has no path'),
        (
            KV + 'transport = "unix"\nargs = ["a", "x{port}"]',
            'an address of the transport "unix" has no port',
        ),
        (KV + "handshake = false", "the program must be told where to listen (add args = "),
        (KV + 'handshake = false\naddress = "tcp://[::1]:0"', "the program must be told where to listen"),
        (KV + PLAIN + 'transport = "stdio"', "stdio needs the handshake; plain wRPC has tcp, unix, quic, ws"),
        (KV + PLAIN + 'transport = "http2"', "http2 needs the handshake"),
        (KV + PLAIN + "config = { a = 1 }", "config is passed by the handshake"),
        (KV + "tls = {}", '"tls" is a key of `remote:` providers'),
        (KV + "env = { A = 1 }", "providers.kv.env.A: expected a string or a secret"),
        (KV + 'start-timeout = "0s"', "providers.kv.start-timeout: "),
        (
            'use = "builtin:fsx"\nhandshake = true',
            '"handshake" is a key of `sidecar:` and `remote:` providers',
        ),
        (
            'use = "python:a:B"\ntrusted = true\ntransport = "tcp"',
            '"transport" is a key of `sidecar:` providers',
        ),
        ('use = "remote:"', 'expected an address such as "tcp://127.0.0.1:7000", got ""'),
        ('use = "remote:tcp://a:0"', "expected an address such as"),
        ('use = "remote:kv.example:80"', "expected an address such as"),
        ('use = "remote:run/kv.sock"', '(did you mean "remote:unix:run/kv.sock"?)'),
        ('use = "remote:stdio:"', "pipes lead to a process that this host starts: write `sidecar:`"),
        ('use = "remote:wss://a:1/b"', 'write "ws://a:1/b" and add `tls`'),
        ('use = "remote:qiuc://a:1"', '(did you mean "quic"?)'),
        (
            FAR,
            "loop.toml:2:7: providers.kv: kv.example is another machine, so the connection must have TLS (add `t",
        ),
        (FAR.replace("kv.example", "10.0.0.1"), "10.0.0.1 is another machine"),
        (FAR + 'transport = "ws"\n' + TLS, '"transport" is a key of `sidecar:` providers'),
        (FAR + 'tls = { certificate = "c" }', '"certificate" and "key" go together'),
        (FAR + 'tls = { servername = "c" }', 'unknown key "servername" (did you mean "server-name"?)'),
        (FAR + TLS + 'handshake = false\ntoken = { env = "T" }', "the token is shown in the handshake"),
        (FAR.replace("tcp", "http2") + TLS + "handshake = false", "http2 needs the handshake"),
        ('use = "remote:unix:/kv"\ntls = {}', "unix: never leaves this machine, and has no TLS"),
        (NATS + "login = {}", 'a login has "user" and "password", or "token", or "credentials"'),
        (NATS + 'login = { user = "kv" }', 'a login has "user" and "password", or "token", or "credentials"'),
        (
            NATS + 'login = { token = { env = "T" }, user = "kv" }',
            'a login has "user" and "password", or "token"',
        ),
        (NATS + 'login = { user = "kv", password = "env:P" }', 'not the secret itself (write { env = "P" })'),
        (
            FAR + TLS + 'login = { token = { env = "T" } }',
            "tcp has no server to log in to (a provider itself",
        ),
        (KV + 'login = { token = { env = "T" } }', "unix has no server to log in to (a provider itself"),
        ('use = "builtin:fsx"\nlogin = {}', '"login" is a key of `sidecar:` and `remote:` providers'),
        (
            'use = "remote:nats://kv:pw@h/kv"',
            "a login does not stand in an address, which is shown to everybody (w",
        ),
        (FAR + TLS + 'token = "env:KV_TOKEN"', 'not the secret itself (write { env = "KV_TOKEN" })'),
    ],
)
def test_what_is_refused(text: str, expected: str) -> None:
    assert expected in refused(text)


def test_a_token_is_not_repeated() -> None:
    assert "hunter2" not in refused(FAR + TLS + 'token = "hunter2"')
    assert "hunter2" not in refused(FAR + TLS + 'token = "env:hunter2 "')
    assert "hunter2" not in refused(NATS + 'login = { user = "kv", password = "hunter2" }')
    assert "hunter2" not in refused('use = "remote:nats://kv:hunter2@h/kv"')
    assert "hunter2" not in refused(KV + 'address = "nats://kv:hunter2@h/kv"')
    assert "hunter2" not in repr(Login("kv", "hunter2", "hunter2", "hunter2"))


def test_every_problem_at_once() -> None:
    text = refused('use = "remote:tcp://a:1"\ntransport = "ws"\nargs = 1\n[links]\n"a:b".budget = 0\n')
    assert [line.split(": ")[0] for line in text.splitlines()] == [
        f"loop.toml:{place}" for place in ("2:7", "3:1", "4:1", "4:8", "6:1", "6:16")
    ]


def test_no_grant_is_given_to_who_cannot_get_it() -> None:
    links = (
        '[links]\n"a:b" = { provider = "kv", grant = { x = 1 } }\n"a:c" = { provider = "kv", grant = {} }\n'
    )
    (problem,) = refused(KV + PLAIN + links).splitlines()
    assert problem.startswith(
        'loop.toml:6:36: links."a:b": no grant can be passed to kv: plain wRPC has none'
    )


def test_secrets_of_a_sidecar_are_read_when_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    from loop_kit.placements.sidecar import command

    found = provider(KV + 'env = { A = { env = "LOOP_TEST_SECRET" }, B = "b" }')
    with pytest.raises(ManifestError, match="the environment variable LOOP_TEST_SECRET is not set"):
        command(found, WS)
    monkeypatch.setenv("LOOP_TEST_SECRET", "hunter2")
    run = command(found, WS)
    assert (run.env, run.cwd, run.argv) == ({"A": "hunter2", "B": "b"}, WS, ("kv",))
    assert "hunter2" not in repr(found) + repr(manifest)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stdio:", Address("stdio")),
        ("unix:/run/a b", Address("unix", path="/run/a b")),
        ("tcp://[::1]:80", Address("tcp", "::1", 80)),
        ("ws://a:1/b?c", Address("ws", "a", 1, "/b?c")),
        ("nats://a/b.c", Address("nats", "a", 4222, "b.c")),
        ("nats://[::1]/b", Address("nats", "::1", 4222, "b")),
        ("nats://[::1]:9/b", Address("nats", "::1", 9, "b")),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert Address.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "tcp:", "tcp://a", "tcp://a:65536", "tcp://a:1/b", "unix:", "nats://a", "nats://a/*", "tcp://a:1\n"],
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        Address.parse(text)


@given(st.text() | st.from_regex(r"(tcp|ws|nats|unix)://\S*", fullmatch=True))
def test_any_text_is_an_address_or_none(text: str) -> None:
    try:
        found: Any = Address.parse(text)
    except ValueError:
        return
    assert found.scheme in TRANSPORTS
    assert 0 <= found.port < 65536


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True), ("a.localhost", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True),
        ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.example", False), ("127.0.0.1.a", False),
        ("notlocalhost", False), ("0x7f.1", False),
    ],
)  # fmt: skip
def test_what_is_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
