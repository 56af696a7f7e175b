"""Stock components do under `loop run` and `loop serve` what they do under wasmtime's own command line.

Every expectation of the tables is put to both.
"""

import functools
import http.client
import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from wasmtime import wat2wasm

from tests import preview1
from tests.checkout import ROOT
from tests.cli import LOOP, serving
from tests.conformance.cases import wasmtime

PARITY = ROOT / "tests" / "parity"
# Guests in JavaScript: the version of WASI, what they include or export, their language runtime's flags.
JAVASCRIPT = {
    "command-0.2": ("0.2", "include wasi:cli/command@0.2.12", ["--sync"]),
    "command-0.3": ("0.3", "include wasi:cli/command@0.3.0", []),
    "service": ("0.3", "export wasi:http/handler@0.3.0", []),
}
# What loop-kit turns on by itself.
FEATURES = ["-Wcomponent-model-async", "-Scli,p3,cli-exit-with-code"]
SECONDS = 60

Stock = Callable[[str], Path]


def build(name: str, folder: Path) -> bytes:
    """A guest: a command of `preview1`, or a source of `tests/parity`."""
    if name not in JAVASCRIPT:
        source = PARITY / f"{name}.wat"
        return bytes(wat2wasm(source.read_text() if source.exists() else preview1.command(name)))
    version, world, flags = JAVASCRIPT[name]
    wit = folder / f"{name}-wit"
    shutil.copytree(ROOT / "wit" / "deps" / f"wasi-{version}", wit / "deps")
    (wit / "world.wit").write_text(f"package test:parity; world guest {{ {world}; }}")
    tool = str(ROOT / "node_modules" / ".bin" / "componentize-qjs")
    command = [
        tool,
        *flags,
        "--opt-size",
        "-w",
        str(wit),
        "-j",
        str(PARITY / f"{name}.js"),
        "-o",
        "made.wasm",
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=SECONDS)
    return (folder / "made.wasm").read_bytes()


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """Builds a guest when it is first asked for."""
    folder = tmp_path_factory.mktemp("stock")

    def guest(name: str) -> Path:
        path = folder / f"{name}.wasm"
        if not path.exists():
            path.write_bytes(build(name, folder))
        return path

    return guest


# ---- commands


@dataclass(frozen=True)
class Case:
    """What a command does: its guest, arguments and what it is given; then what is to come of it."""

    guest: str
    args: tuple[str, ...] = ()
    stdin: bytes = b""
    env: tuple[str, ...] = ()
    dir: bool = False
    memory: int | None = None  # bytes
    code: int = 0
    out: bytes = b""
    err: bytes = b""
    trap: str = ""

    @property
    def name(self) -> str:
        given = [*self.env, "dir" * self.dir, "memory" * bool(self.memory), "stdin" * bool(self.stdin)]
        return " ".join(filter(None, [self.guest, *self.args, *given]))

    def flags(self) -> list[str]:
        """Those that are the same for both."""
        shown = ["--dir", "data::/data"] if self.dir else []
        return [*(f"--env={text}" for text in self.env), *shown]


def line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


BIG = bytes(range(256)) * 2048
ABORTED = 134

PREVIEW_1 = [
    Case("nothing"),
    Case("hello", out=b"hello\n"),
    Case("stderr", err=b"hello\n"),
    Case("args", out=b"args.wasm\0"),
    Case("args", ("a b", "", "--dir", "ü"), out="args.wasm\0a b\0\0--dir\0ü\0".encode()),
    Case("env"),
    Case("env", env=("A=1", "B=x=y", "SECRET", "NONE"), out=b"A=1\0B=x=y\0SECRET=hunter2\0"),
    *(Case(f"exit-{code}", code=code) for code in (0, 1, 3, 125)),
    Case("trap", code=ABORTED, out=b"hello\n", trap="unreachable"),
    Case("recurse", code=ABORTED, trap="call stack exhausted"),
    Case("cat"),
    Case("cat", stdin=BIG, out=BIG),
    Case("read", dir=True, out=b"000\nold"),
    Case("read", out=b"008\n"),  # badf: there is no directory
    Case("write", dir=True, out=b"000\n"),
    Case("write", out=b"008\n"),
    Case("escape", dir=True, out=b"063\n"),  # perm
    Case("clock", out=b"000\n001\n000\n"),
    Case("random", out=b"000\n001\n"),
    Case("grow", out=b"000\n"),
    Case("grow", memory=16 << 20, out=b"001\n"),
]


def of_both_versions(name: str) -> list[Case]:
    """What the JavaScript commands do alike."""
    file = f"{name}.wasm"
    return [
        Case(name, ("args", "a b", "--", "-x"), out=line([file, "args", "a b", "--", "-x"])),
        Case(name, ("env",), out=b"[]\n"),
        Case(name, ("env",), env=("A=1", "NONE"), out=line([["A", "1"]])),
        Case(name, ("stderr",), err=b"to stderr\n"),
        Case(name, ("cat",), stdin=BIG, out=BIG),
        Case(name, ("clock",), out=b"[true,true]\n"),
        Case(name, ("random",), out=b"[16,true]\n"),
        Case(name, ("dirs",), out=b"[]\n"),
        Case(name, ("dirs",), dir=True, out=b'["/data"]\n'),
        Case(name, ("fail",), code=1),
        Case(name, ("exit", "ok")),
        Case(name, ("exit", "err"), code=1),
        Case(name, ("code", "0")),
        Case(name, ("code", "255"), code=255),
        Case(name, ("trap",), code=ABORTED, out=b'"before"\n', trap="unreachable"),
    ]


FILES_0_2 = [
    Case("command-0.2", ("read", "in.txt"), dir=True, out=b'"old"\n'),
    Case("command-0.2", ("read", "none"), dir=True, out=line({"refused": "no-entry"})),
    Case("command-0.2", ("read", "../secret"), dir=True, out=line({"refused": "not-permitted"})),
    Case("command-0.2", ("write", "out.txt"), dir=True, out=b"3\n"),
    Case("command-0.2", ("write", "../out.txt"), dir=True, out=line({"refused": "not-permitted"})),
]
CASES = [*PREVIEW_1, *of_both_versions("command-0.2"), *of_both_versions("command-0.3"), *FILES_0_2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands run: a directory to show, and a file and a variable that are not for them."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in.txt").write_text("old")
    (tmp_path / "secret").touch()
    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.setenv("RUST_BACKTRACE", "0")  # wasmtime would show its own frames
    return tmp_path


def run(command: list[str], case: Case, folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, input=case.stdin, capture_output=True, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (case.code, case.out), done.stderr.decode()
    if case.trap:
        assert f"wasm trap: {case.trap}" in done.stderr.decode().replace("wasm `unreachable`", "unreachable")
    else:
        assert done.stderr == case.err


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_command(case: Case, stock: Stock, folder: Path) -> None:
    guest = str(stock(case.guest))
    limit = [f"-Wmax-memory-size={case.memory}"] if case.memory else []
    run([wasmtime(), "run", *FEATURES, *limit, *case.flags(), guest, *case.args], case, folder)
    out = folder / "data" / "out.txt"
    written = out.exists()
    out.unlink(missing_ok=True)
    limit = [f"--memory={case.memory}"] if case.memory else []
    run([LOOP, "run", *limit, *case.flags(), guest, "--", *case.args], case, folder)
    assert out.exists() == written


@pytest.mark.parametrize(
    "case",
    [
        Case("read", out=b"000\nold"),
        Case("write", out=b"063\n"),  # perm
        Case("command-0.2", ("read", "in.txt"), out=b'"old"\n'),
        Case("command-0.2", ("write", "out.txt"), out=line({"refused": "not-permitted"})),
    ],
    ids=lambda case: case.name,
)
def test_a_directory_to_read_only(case: Case, stock: Stock, folder: Path) -> None:
    """This grant is loop-kit's own."""
    run([LOOP, "run", "--dir=data::/:ro", str(stock(case.guest)), "--", *case.args], case, folder)
    assert [path.name for path in (folder / "data").iterdir()] == ["in.txt"]


# ---- HTTP


@dataclass(frozen=True)
class Exchange:
    """A request, and what is to come of it. Without a body: a page of the host's own words, which differ."""

    guest: str
    path: str
    status: int = 200
    body: bytes | None = b"Hello, world!"
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    send: bytes | None = None

    @property
    def name(self) -> str:
        return f"{self.guest} {self.method} {self.path}"


HELLO = b"hello\n"
MEASURED = 4 << 20
EXCHANGES = [
    Exchange("proxy", "/a"),
    Exchange("proxy", "/a", method="HEAD", body=b""),
    Exchange("proxy", "/h", headers=(("x-guest", "yes"),)),
    Exchange("proxy", "/n", 404),
    Exchange("proxy", "/s", body=b"Hello, world!HelloHello, world!"),
    Exchange("proxy", "/b", body=b"x" * MEASURED + b"Hello, world!"),
    Exchange("proxy", "/e", method="POST", send=BIG, body=BIG),
    Exchange("proxy", "/e", method="PUT", send=b"", body=b""),
    Exchange("proxy", "/f", 500, None),
    Exchange("proxy", "/q", 500, None),
    Exchange("proxy", "/t", 500, None),
    Exchange("service", "/", body=HELLO, headers=(("content-type", "text/plain"), ("x-guest", "yes"))),
    Exchange(
        "service", "/", method="HEAD", body=b"", headers=(("content-type", "text/plain"), ("x-guest", "yes"))
    ),
    Exchange("service", "/sized", body=HELLO),
    Exchange("service", "/empty", 204, b""),
    Exchange("service", "/missing?a=b", 404, b"nothing at /missing?a=b\n"),
    Exchange("service", "/streamed", body=b"one two three\n"),
    Exchange("service", "/big", body=b"x" * MEASURED),
    Exchange("service", "/echo", 201, method="POST", send=BIG, body=BIG),
    Exchange("service", "/error", 500, None),
    Exchange("service", "/trap", 500, None),
]
# Each host frames a body as it likes: loop-kit, for one, tells the length of a small one.
FRAMING = {"date", "content-length", "transfer-encoding"}

Server = tuple[str, subprocess.Popen[str]]
Servers = Callable[[str], list[Server]]


@contextmanager
def both(guest: Path) -> Iterator[list[Server]]:
    """The guest, served by wasmtime and by loop-kit: the address and the process of each."""
    ours = [LOOP, "serve", "--addr=127.0.0.1:0", guest.name]
    theirs = [wasmtime(), "serve", *FEATURES, "--addr=127.0.0.1:0", guest.name]
    with serving(theirs, guest.parent) as first, serving(ours, guest.parent) as second:
        yield [(urlsplit(url).netloc, process) for url, process in (first, second)]


@pytest.fixture(scope="module")
def servers(stock: Stock) -> Iterator[Servers]:
    """Serves a guest from when it is first asked for."""
    with ExitStack() as stack:
        yield functools.cache(lambda name: stack.enter_context(both(stock(name))))


@contextmanager
def connected(address: str) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection(address, timeout=SECONDS)) as connection:
        yield connection


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.name)
def test_an_exchange(exchange: Exchange, servers: Servers) -> None:
    for address, _ in servers(exchange.guest):
        with connected(address) as connection:
            connection.request(exchange.method, exchange.path, exchange.send)
            answer = connection.getresponse()
            body = answer.read()
        assert answer.status == exchange.status
        if exchange.body is None:
            assert b"500 Internal Server Error" in body
        else:
            assert body == exchange.body
            headers = [(name, value) for name, value in answer.getheaders() if name not in FRAMING]
            assert headers == list(exchange.headers)


@pytest.mark.parametrize(("guest", "path"), [("proxy", "/a"), ("service", "/")])
def test_a_connection_is_kept(guest: str, path: str, servers: Servers) -> None:
    for address, _ in servers(guest):
        with connected(address) as connection:
            connection.connect()
            kept = connection.sock
            for method in ("GET", "HEAD", "GET"):
                connection.request(method, path)
                assert connection.getresponse().read() or method == "HEAD"
                assert connection.sock is kept


@pytest.mark.parametrize(("guest", "path"), [("proxy", "/e"), ("service", "/echo")])
def test_a_body_streams(guest: str, path: str, servers: Servers) -> None:
    """The answer begins before the request has ended."""
    for address, _ in servers(guest):
        with connected(address) as connection:
            connection.putrequest("POST", path)
            connection.putheader("transfer-encoding", "chunked")
            connection.endheaders()
            connection.send(b"5\r\nfirst\r\n")
            answer = connection.getresponse()
            assert answer.read(5) == b"first"
            connection.send(b"4\r\nlast\r\n0\r\n\r\n")
            assert answer.read() == b"last"


@pytest.mark.parametrize(("guest", "trap", "path"), [("proxy", "/t", "/a"), ("service", "/trap", "/")])
def test_a_trap_is_told_and_serving_goes_on(guest: str, trap: str, path: str, stock: Stock) -> None:
    with both(stock(guest)) as served:
        for address, process in served:
            for target, status in ((trap, 500), (path, 200)):
                with connected(address) as connection:
                    connection.request("GET", target)
                    assert connection.getresponse().status == status
            process.send_signal(signal.SIGINT)
            assert process.stdout is not None
            assert "wasm trap: wasm `unreachable` instruction executed" in process.stdout.read()


def test_a_trap_in_the_middle_of_an_answer(servers: Servers) -> None:
    """Nobody takes it for the whole. (wasmtime ends the body as if it were.)"""
    _, (address, _) = servers("proxy")
    with connected(address) as connection:
        connection.request("GET", "/l")
        answer = connection.getresponse()
        if answer.status != 500:  # the answer had begun already
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
