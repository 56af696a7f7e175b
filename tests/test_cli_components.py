"""`loop call`, `inspect`, `run`, `serve` and `explain` on components, through the installed command."""

import json
import urllib.request
from pathlib import Path

import pytest
import wasmtime

from tests.checkout import ROOT
from tests.cli import LOOP, loop, serving

# A preview-1 command: writes what it is told to, and exits with 0 or by a trap.
COMMAND = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "hello\\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (;end;)))
"""

VALUES = """
(component
  (core module $m
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "div") (param i32 i32) (result i32) (i32.div_u (local.get 0) (local.get 1)))
    (func (export "id") (param i32) (result i32) (local.get 0)))
  (core instance $i (instantiate $m))
  (type $c (enum "red" "dark-blue"))
  (export $colour "colour" (type $c))
  (func (export "add") (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "add")))
  (func (export "div") (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "div")))
  (func (export "paint") (param "c" $colour) (result $colour) (canon lift (core func $i "id")))
  (func (export "one") (param "v" (list u32 1)) (result (list u32 1)) (canon lift (core func $i "id"))))
"""

# A command of WASI 0.2 that fails, and one of 0.3 that succeeds; {new} exports the latter.
COMMANDS = """
(component
  (core module $m
    (func (export "fails") (result i32) (i32.const 1))
    (func (export "succeeds") (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $old (result (result)) (canon lift (core func $i "fails")))
  (func $new async (result (result)) (canon lift (core func $i "succeeds")))
  (instance $old (export "run" (func $old)))
  (instance $new (export "run" (func $new)))
  (export "wasi:cli/run@0.2.0" (instance $old))
  {new})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cli")
    trapping = COMMAND.replace("(;end;)", "unreachable")
    for name, wat in (("values", VALUES), ("hello", COMMAND), ("trap", trapping)):
        (made / f"{name}.wasm").write_bytes(wasmtime.wat2wasm(wat))
    http = (ROOT / "bench" / "guests" / "hello.wat").read_text()
    (made / "http.wasm").write_bytes(wasmtime.wat2wasm(http))
    (made / "data").mkdir()
    return made


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def test_call_takes_and_gives_wave(folder: Path) -> None:
    assert loop("call", "values.wasm", "add(1, 2)", cwd=folder).stdout == "3\n"
    assert loop("call", "values.wasm", "paint(dark-blue)", cwd=folder).stdout == "dark-blue\n"
    assert loop("call", "values.wasm", "one([7])", cwd=folder).stdout == "[7]\n"
    done = loop("call", "values.wasm", "paint(red)", "--json", cwd=folder)
    assert json.loads(done.stdout) == {"result": "red"}


def test_call_lists_what_can_be_called(folder: Path) -> None:
    assert "paint: func(c: colour) -> colour" in loop("call", "values.wasm", cwd=folder).stdout
    listed = json.loads(loop("call", "values.wasm", "--json", cwd=folder).stdout)
    assert {"function": "add", "wit": "func(a: u32, b: u32) -> u32"} in listed


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        ("ad(1, 2)", 2, "did you mean 'add'"),
        ("add(1)", 2, "func(a: u32, b: u32) -> u32"),
        ('add(1, "x")', 2, "invalid value type"),
        ("one([1, 2])", 2, "list<u32, 1> with 2 items"),
        ("add", 2, "expected a call such as"),
        ("div(1, 0)", 1, "integer divide by zero"),
    ],
)
def test_a_call_that_fails_says_why(folder: Path, call: str, code: int, says: str) -> None:
    done = loop("call", "values.wasm", call, cwd=folder)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_inspect(folder: Path) -> None:
    shown = loop("inspect", "http.wasm", cwd=folder).stdout
    assert "wasi:http/types@0.2.0" in shown
    assert "wasi:http/incoming-handler@0.2.0" in shown
    plugin = str(ROOT / "examples" / "plugin.wasm")
    found = json.loads(loop("inspect", plugin, "--json").stdout)
    assert found["imports"] == [{"name": "acme:plugin/host", "functions": ["log"]}]
    assert found["exports"] == [{"name": "acme:plugin/filter", "functions": ["shout", "spin"]}]
    assert "shout: func(text: string) -> string;" in loop("inspect", plugin, "--wit").stdout
    assert json.loads(loop("inspect", "hello.wasm", "--json", cwd=folder).stdout)["module"] is True
    broken = folder / "broken.wasm"
    broken.write_bytes(b"\0asm junk")
    done = loop("inspect", str(broken))
    assert (done.returncode, done.stdout) == (4, "")


def test_inspect_a_component_that_exports_a_type(folder: Path) -> None:
    done = loop("inspect", "values.wasm", "--json", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    exports = {item["name"]: item["functions"] for item in json.loads(done.stdout)["exports"]}
    assert exports.pop("colour") == []
    assert exports == {name: [name] for name in exports}
    assert {"add", "div", "paint"} <= set(exports)


def test_run_a_preview_1_command(folder: Path) -> None:
    done = loop("run", "hello.wasm", "--", "a", "b", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    done = loop("run", "trap.wasm", cwd=folder)
    assert (done.returncode, done.stdout) == (134, "hello\n")
    assert "unreachable" in done.stderr


@pytest.mark.parametrize(
    ("new", "code"), [("", 1), ('(export "wasi:cli/run@0.3.0" (instance $new))', 0)], ids=["0.2", "both"]
)
def test_run_takes_the_newest_command(tmp_path: Path, new: str, code: int) -> None:
    (tmp_path / "command.wasm").write_bytes(wasmtime.wat2wasm(COMMANDS.format(new=new)))
    assert loop("run", "command.wasm", cwd=tmp_path).returncode == code


def test_limits_are_numbers_or_have_a_unit(folder: Path) -> None:
    for deadline in ("30", "2.5", "9000ms"):
        assert loop("call", "values.wasm", "add(1, 2)", "--deadline", deadline, cwd=folder).stdout == "3\n"
    for command in (("call", "values.wasm", "add(1, 2)"), ("run", "hello.wasm"), ("serve", "http.wasm")):
        done = loop(*command[:1], "--deadline", "soon", *command[1:], cwd=folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert "expected a duration" in done.stderr


@pytest.mark.parametrize(
    "wrong", [("--dir", "data"), ("--dir", "::/data"), ("--env", "=x"), ("--memory", "much")]
)
def test_run_refuses_grants_it_cannot_read(folder: Path, wrong: tuple[str, str]) -> None:
    done = loop("run", *wrong, "hello.wasm", cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""


@pytest.mark.parametrize("instances", ["per-call", "4"])
def test_serve(folder: Path, instances: str) -> None:
    command = [LOOP, "serve", "http.wasm", "--addr", "127.0.0.1:0", "--instances", instances]
    with serving(command, folder) as (url, _):
        for _ in range(20):
            assert get(url)[0] == 200


def test_serve_refuses_what_serves_no_http(folder: Path) -> None:
    done = loop("serve", "values.wasm", "--addr", "127.0.0.1:0", cwd=folder)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
