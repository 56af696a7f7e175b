"""What is packed here runs under wasmtime, by its command line and by its library for Python.

That stock components run here, and do the same under both, is for `tests/test_cli_parity.py`.
"""

import functools
import subprocess
from pathlib import Path

import pytest
import wasmtime
from wasmtime.component import Component, Linker

from tests.cli import LOOP, loop
from tests.conformance.cases import wasmtime as program
from tests.pack.test_component import TOML, WASM
from tests.registries import pinned
from tests.test_cli_parity import FEATURES, build

NAME = '[components.app]\npath = "app.wasm"\npack = { version = "1.0.0" }\n'
STOCK = {"cat": b"given", "command-0.2": b"given"}


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> "functools._lru_cache_wrapper[bytes]":
    folder = tmp_path_factory.mktemp("stock")
    return functools.cache(lambda name: build(name, folder))


def workspace(folder: Path, wasm: bytes, toml: str = NAME) -> Path:
    folder.mkdir()
    (folder / "loop.toml").write_text(toml)
    (folder / "app.wasm").write_bytes(wasm)
    return folder


def pulled(name: str, host: str, folder: Path) -> Path:
    """The component that wkg, which shares no code with loop-kit, fetches of what was pushed."""
    command = [pinned("wkg"), "oci", "pull", name, "-o", "pulled.wasm", "--insecure", host]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return folder / "pulled.wasm"


@pytest.mark.parametrize("guest", STOCK)
def test_what_was_pushed_runs_under_wasmtime_and_here(
    guest: str, stock: "functools._lru_cache_wrapper[bytes]", crane_registry: str, tmp_path: Path
) -> None:
    name = f"{crane_registry}/acme/{guest}:1.0.0"
    done = loop("push", "app", name, cwd=workspace(tmp_path / "ws", stock(guest)))
    assert done.returncode == 0, done.stderr
    file = pulled(name, crane_registry, tmp_path)
    args = () if guest == "cat" else ("cat",)
    for command in (
        [program(), "run", *FEATURES, str(file), *args],
        [LOOP, "run", f"oci:{name}", "--", *args],
    ):
        ran = subprocess.run(command, input=STOCK[guest], capture_output=True, timeout=60)
        assert (ran.returncode, ran.stdout) == (0, STOCK[guest]), ran.stderr.decode()


def test_what_was_packed_is_called_by_wasmtimes_library(crane_registry: str, tmp_path: Path) -> None:
    name = f"{crane_registry}/acme/echo:1.0.0"
    assert loop("push", "app", name, cwd=workspace(tmp_path / "ws", WASM, TOML)).returncode == 0
    engine = wasmtime.Engine()
    component = Component.from_file(engine, str(pulled(name, crane_registry, tmp_path)))
    linker, store = Linker(engine), wasmtime.Store(engine)
    with linker.root() as root, root.add_instance("acme:text/filter") as interface:
        interface.add_func("echo", lambda _, text: text.upper())
    instance = linker.instantiate(store, component)
    api = component.get_export_index("acme:text/api")
    index = component.get_export_index("echo", api)
    assert index is not None
    echo = instance.get_func(store, index)
    assert echo is not None
    assert echo(store, "abc") == "ABC"


def test_what_wasmtime_has_compiled_is_no_component(tmp_path: Path) -> None:
    """It is code of one machine, which nobody could check: it is neither packed nor loaded."""
    folder = workspace(tmp_path / "ws", WASM)
    command = [program(), "compile", "app.wasm", "-o", "app.cwasm"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    (folder / "app.cwasm").replace(folder / "app.wasm")
    for args in (["pack", "app", "-o", "oci-layout:dist"], ["run", "app.wasm"], ["inspect", "app.wasm"]):
        done = loop(*args, cwd=folder)
        assert (done.returncode, "no WebAssembly" in done.stderr) == (4, True), (args, done.stderr)
