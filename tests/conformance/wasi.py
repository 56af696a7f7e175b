"""The cases of WebAssembly/wasi-testsuite: each a `.wasm` and a `.json` that says what to do and to expect.

The meaning of the operations is that of the suite's `doc/specification.md` and of its own runner.
"""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.conformance.cases import LOOP, Case, shortened, wasmtime
from tests.conformance.endpoints import serving

Json = dict[str, Any]
LEGACY = {"args", "root", "env", "exit_code", "stderr", "stdout"}
SERVICE = "wasi:http/service"
SECONDS = 60  # of a whole case
REPLY_SECONDS = 10
LINES_BEFORE_URL = 20
# Cases that bind ports which others may use as well.
NETWORK = threading.Lock()


class OperationFailed(Exception):
    """An operation's expectation is not met."""


@dataclass(frozen=True)
class Spec:
    """What a case asks for."""

    app: Path
    version: str
    operations: list[Json]
    world: str = "wasi:cli/command"
    proposals: tuple[str, ...] = ()
    servers: list[Json] = field(default_factory=list)

    @classmethod
    def read(cls, app: Path, version: str) -> Spec:
        """Reads a case's JSON; a case without one is run and has to exit with 0."""
        path = app.with_suffix(".json")
        config: Json = json.loads(path.read_text()) if path.exists() else {}
        if not config.keys() - LEGACY:
            run = {"type": "run"} | {key: config[key] for key in ("args", "root", "env") if key in config}
            streams = [name for name in ("stdout", "stderr") if name in config]
            reads = [{"type": "read", "id": name, "payload": config[name]} for name in streams]
            wait = {"type": "wait", "exit_code": config.get("exit_code", 0)}
            return cls(app, version, [run, *reads, wait])
        unknown = config.keys() - {"operations", "proposals", "world", "servers", "debug"}
        if unknown:
            raise OperationFailed(f"this runner does not know the keys {sorted(unknown)}")
        proposals = tuple(config.get("proposals", ()))
        world = config.get("world", cls.world)
        return cls(app, version, config.get("operations", []), world, proposals, config.get("servers", []))


Command = Callable[[Spec, list[str], dict[str, str], Path | None], list[str]]


def loop_kit(spec: Spec, args: list[str], env: dict[str, str], root: Path | None) -> list[str]:
    """The command that runs a case by loop-kit."""
    command = [LOOP, "serve", "--addr", "127.0.0.1:0"] if spec.world == SERVICE else [LOOP, "run"]
    if spec.proposals:
        command += ["--allow-net", "*"]
    command += _granted(env, root)
    return [*command, str(spec.app), *(["--", *args] if args else [])]


def by_wasmtime(spec: Spec, args: list[str], env: dict[str, str], root: Path | None) -> list[str]:
    """The command that runs a case by wasmtime, as the suite's own adapter does."""
    serve = spec.world == SERVICE
    command = [wasmtime(), *(["serve", "-Scli", "--addr=127.0.0.1:0"] if serve else ["run"])]
    if spec.version == "wasm32-wasip3":
        names = {"http": ",http", "sockets": ",inherit-network"}
        command += ["-Wcomponent-model-async", f"-Sp3{''.join(names[p] for p in spec.proposals)}"]
    return [*command, *_granted(env, root), str(spec.app), *args]


def _granted(env: dict[str, str], root: Path | None) -> list[str]:
    flags = [flag for name, value in env.items() for flag in ("--env", f"{name}={value}")]
    return [*flags, "--dir", f"{root}::/"] if root else flags


@dataclass
class Run:
    """A case at work."""

    spec: Spec
    command: Command
    servers: dict[str, str]
    scratch: Path
    process: subprocess.Popen[bytes] | None = None
    sockets: dict[str, socket.socket] = field(default_factory=dict)
    url: str = ""
    timed_out: bool = False

    def operate(self, operation: Json) -> None:
        """Does one operation.

        Raises:
            OperationFailed: Its expectation is not met.
        """
        kind = operation.get("type", "")
        method = getattr(self, f"_{kind}", None)
        if method is None:
            raise OperationFailed(f"this runner does not know the operation {kind!r}")
        method(operation)

    def end(self) -> None:
        """Ends what still runs."""
        for made in self.sockets.values():
            made.close()
        if self.process:
            self.process.kill()
            self.process.communicate()

    def _run(self, operation: Json) -> None:
        root = None
        if operation.get("root"):
            # the guest writes there, and the copy of the suite is to stay as it is
            root = self.scratch / "root"
            shutil.copytree(self.spec.app.parent / operation["root"], root, symlinks=True)
        env = operation.get("env", {}) | self.servers
        command = self.command(self.spec, operation.get("args", []), env, root)
        pipe = subprocess.PIPE
        errors = subprocess.STDOUT if self.spec.world == SERVICE else pipe
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors)

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise OperationFailed("nothing runs")
        return self.process

    def _wait(self, operation: Json) -> None:
        process = self._running()
        out, errors = process.communicate()
        self.process = None
        expected = operation.get("exit_code", 0)
        if process.returncode != expected:
            printed = shortened((out + (errors or b"")).decode(errors="replace"))
            raise OperationFailed(f"expected exit code {expected}, got {process.returncode}\n{printed}")

    def _read(self, operation: Json) -> None:
        stream = getattr(self._running(), operation.get("id", "stdout"))
        expected = operation.get("payload", "").encode()
        got = stream.read(len(expected))
        if got != expected:
            raise OperationFailed(f"expected {expected!r} on {operation.get('id', 'stdout')}, got {got!r}")

    def _write(self, operation: Json) -> None:
        stream = getattr(self._running(), operation.get("id", "stdin"))
        stream.write(operation.get("payload", "").encode())
        stream.flush()

    def _connect(self, operation: Json) -> None:
        line = self._line()
        host, _, port = line.rpartition(":")
        if not port.isdecimal():
            raise OperationFailed(f"expected host:port on stdout, got {line!r}")
        made = socket.create_connection((host, int(port)), timeout=REPLY_SECONDS)
        self.sockets[operation.get("id", "server")] = made

    def _send(self, operation: Json) -> None:
        self.sockets[operation["id"]].sendall(operation.get("payload", "").encode())

    def _recv(self, operation: Json) -> None:
        expected = operation.get("payload", "").encode()
        got = b""
        while len(got) < len(expected) and (more := self.sockets[operation["id"]].recv(len(expected))):
            got += more
        if got != expected:
            raise OperationFailed(f"expected {expected!r} from the socket, got {got!r}")

    def _request(self, operation: Json) -> None:
        address = urlsplit(self._url()).netloc
        connection = http.client.HTTPConnection(address, timeout=REPLY_SECONDS)
        try:
            body = operation.get("body", "").encode() or None
            path = "/" + operation.get("path", "/").removeprefix("/")
            connection.request(operation.get("method", "GET"), path, body, operation.get("headers", {}))
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        expected = operation.get("response", {})
        got = {"status": answer.status, "body": text}
        for key, default in (("status", 200), ("body", "")):
            if got[key] != expected.get(key, default):
                raise OperationFailed(f"expected {key} {expected.get(key, default)!r}, got {got}")
        for name, value in expected.get("headers", {}).items():
            if answer.headers.get(name) != value:
                raise OperationFailed(f"expected header {name}={value}, got {answer.headers.get(name)}")

    def _kill(self, operation: Json) -> None:
        self._running().send_signal(signal.Signals[operation.get("signal", "SIGTERM")])

    def _url(self) -> str:
        """Where the guest is served: the first URL that the server prints."""
        lines: list[str] = []
        while not self.url:
            line = self._line()
            _, found, rest = line.partition("http://")
            if found:
                self.url = found + rest.split()[0]
            lines.append(line)
            if len(lines) == LINES_BEFORE_URL or not line:
                raise OperationFailed("expected a URL, got:\n" + "\n".join(lines))
        return self.url

    def _line(self) -> str:
        stream = self._running().stdout
        return stream.readline().decode(errors="replace").strip() if stream else ""

    def give_up(self) -> None:
        """Ends a guest that takes too long, so that whoever waits for it goes on."""
        self.timed_out = True
        if self.process:
            self.process.kill()


def find(root: Path) -> Iterator[Case]:
    """The cases of a checkout: every `.wasm` beside a `manifest.json`."""
    for manifest in sorted((root / "tests").rglob("manifest.json")):
        folder = manifest.parent
        version = json.loads(manifest.read_text()).get("version", "wasm32-wasip1")
        label = folder.relative_to(root / "tests").as_posix().replace("/testsuite/", "/")
        for app in sorted(folder.glob("*.wasm")):
            yield Case(
                f"wasi-testsuite/{label}/{app.stem}",
                partial(run, app, version, loop_kit),
                partial(run, app, version, by_wasmtime),
            )


def is_checkout(root: Path) -> bool:
    """Whether a folder is a checkout of this suite."""
    return any((root / "tests").glob("*/testsuite/*/manifest.json"))


def run(app: Path, version: str, command: Command) -> list[str]:
    """Runs a case; returns what is wrong, or nothing."""
    try:
        spec = Spec.read(app, version)
        if not spec.proposals:
            return _run(spec, command)
        with NETWORK:
            return _run(spec, command)
    except (OperationFailed, OSError, ValueError, KeyError, http.client.HTTPException) as e:
        return [f"{type(e).__name__}: {e}"]


def _run(spec: Spec, command: Command) -> list[str]:
    with tempfile.TemporaryDirectory() as scratch, serving(spec.servers) as addresses:
        case = Run(spec, command, addresses, Path(scratch))
        watchdog = threading.Timer(SECONDS, case.give_up)
        watchdog.start()
        try:
            for operation in spec.operations:
                case.operate(operation)
        except OperationFailed as e:
            return [f"{operation['type']}: {'timed out; ' if case.timed_out else ''}{e}{_errors(case)}"]
        finally:
            watchdog.cancel()
            unfinished = case.process is not None
            case.end()
    return ["it was still running at the end"] if unfinished else []


def _errors(case: Run) -> str:
    """What a guest that failed an operation printed."""
    if case.process is None:
        return ""
    case.process.kill()
    out, errors = case.process.communicate()
    printed = shortened((out + (errors or b"")).decode(errors="replace"))
    return f"\n{printed}" if printed else ""
