"""All WIT in this repository binds, type-checks in both languages, and is read as the core reads it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loop_kit import _core, bind, shipped
from loop_kit.bind._model import Function, Name, Named, Type, plain, resource
from loop_kit.bind._resolve import bound
from tests.checkout import ROOT, files

DEPS = ROOT / "wit" / "deps"
CAPABILITIES = ROOT / "python" / "loop_kit" / "capabilities"
SDK = ROOT / "sdk" / "node"


def packages(folder: Path) -> dict[str, Path]:
    """Every package of WIT in the repository, by a name for it, with the others that it may use as its `deps`."""
    found: dict[str, list[Path]] = {}
    for file in files("*.wit"):
        if file.parent.name == "guests" and file.parent.parent.name == "bind":
            continue
        if file.parent == ROOT / "python/loop_kit/new/wit/wasi-0.3":
            continue  # the same again, for the wheel
        alone = file.parent in (DEPS / "wasi-0.2", DEPS / "wasi-0.3")
        place = file.relative_to(ROOT).with_suffix("") if alone else file.parent.relative_to(ROOT)
        found.setdefault("_".join(place.parts).replace("-", "_").replace(".", "_"), []).append(file)
    made: dict[str, Path] = {}
    for name, members in found.items():
        into = made[name] = folder / name
        (into / "deps").mkdir(parents=True)
        for file in members:
            shutil.copy(file, into)
        said = {
            line for file in members for line in file.read_text().splitlines() if line.startswith("package ")
        }
        for other in (
            *CAPABILITIES.glob("*/wit"),
            ROOT / "wit/loop/provider",
            DEPS / "spin-2.0",
            DEPS / "keyvalue-draft2",
        ):
            if not said & {line for file in other.glob("*.wit") for line in file.read_text().splitlines()}:
                shutil.copytree(other, into / "deps" / "-".join(other.parts[-2:]))
        for file in DEPS.glob("wasi-*/*.wit"):
            if file not in members:
                shutil.copy(file, into / "deps" / f"{file.parent.name}-{file.name}")
        if "telling" in name and "next" not in name:
            shutil.copytree(ROOT / "tests/capabilities/guests/telling/next", into / "deps" / "next")
    return made


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return packages(tmp_path_factory.mktemp("wit"))


def written(type: Type | Named | Name | None) -> str:
    """A type as the core writes it."""
    type = plain(type)
    if type is None:
        return "_"
    if isinstance(type, Named):
        return type.definition.name
    if type.kind == "own":
        return resource(type).name
    if type.kind == "borrow":
        return f"borrow<{resource(type).name}>"
    parts = [written(part) for part in type.parts]
    if type.kind == "result" and parts[1] == "_":
        parts.pop()
    if parts == ["_"]:
        parts.pop()
    if type.length is not None:
        parts.append(str(type.length))
    return f"{type.kind}<{', '.join(parts)}>" if parts else type.kind


def signature(function: Function) -> str:
    """The same of a function."""
    params = [f"self: borrow<{function.resource}>"] if function.kind == "method" else []
    params += [f"{param.name}: {written(param.type)}" for param in function.params]
    result = f" -> {written(function.result)}" if function.result else ""
    return f"{'async ' if function.is_async else ''}func({', '.join(params)}){result}"


def test_it_is_read_as_the_core_reads_it(every: dict[str, Path]) -> None:
    count = 0
    for folder in every.values():
        known = {interface.name: interface for interface in _core.Contract(folder, []).interfaces()}
        for interface in bound(folder, None, []).used:
            if "/" not in interface.name:
                continue  # it stands in a world, which a contract leaves out
            ours = {function.name: signature(function) for function in interface.functions}
            assert ours == {function.name: function.wit for function in known[interface.name].functions}
            count += len(ours)
    assert count > 500


@pytest.mark.timeout(300)
def test_python_type_checks(every: dict[str, Path], tmp_path: Path) -> None:
    for name, folder in every.items():
        (tmp_path / f"{name}.py").write_text(bind.python(folder))
        for world in _worlds(folder):
            (tmp_path / f"{name}__{world.replace('-', '_')}.py").write_text(bind.python(folder, world=world))
    for name in ("fsx/memory", "keyvalue/memory", "netx/http-cache", "core/log-filter"):
        (tmp_path / f"{name.replace('/', '_').replace('-', '_')}.py").write_text(bind.python(shipped(name)))
    command = (sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), ".")
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    imports = "\n".join(f"import {path.stem}" for path in sorted(tmp_path.glob("*.py")))
    ran = subprocess.run(
        (sys.executable, "-c", imports), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize("guest", [False, True], ids=["node", "guest"])
def test_typescript_type_checks(every: dict[str, Path], tmp_path: Path, guest: bool) -> None:
    (tmp_path / "node_modules" / "@loop-kit").mkdir(parents=True)
    (tmp_path / "node_modules" / "@loop-kit" / "provider").symlink_to(SDK)
    (tmp_path / "node_modules" / "@types").symlink_to(SDK / "node_modules" / "@types")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    for name, folder in every.items():
        (tmp_path / f"{name}.ts").write_text(bind.typescript(folder, guest=guest))
        for world in _worlds(folder):
            (tmp_path / f"{name}--{world}.ts").write_text(bind.typescript(folder, world=world, guest=guest))
    # they are no `.d.ts` here, so that the compiler looks at them and not at its libraries, which are far larger
    compiler = SDK / "node_modules" / "typescript" / "lib" / "typescript.js"
    made = sorted(tmp_path.glob("*.ts"))
    command = (
        "node",
        str(Path(__file__).with_name("check.mjs")),
        str(compiler),
        "apart" if guest else "together",
        *map(str, made),
    )
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _worlds(folder: Path) -> list[str]:
    """The worlds of the package itself."""
    lines = (line.strip() for file in folder.glob("*.wit") for line in file.read_text().splitlines())
    return [line.split()[1] for line in lines if line.startswith("world ") and line.endswith("{")]
