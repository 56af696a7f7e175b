"""Components into one, by the component that ships with loop-kit."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.testing import client
from tests.cli import LOOP
from tests.guests import Guest
from tests.linked_guests import step
from tests.wit_types import STRING, U32

LINKER = "component:loop:toolchain/link"


def parts(*numbers: int) -> list[dict[str, Any]]:
    return [{"path": f"n{number}.wasm", "contents": step(number, False)} for number in numbers]


async def linked(files: list[dict[str, Any]], entry: str) -> Any:
    async with client("loop:toolchain", provider=LINKER) as tool:
        return await tool.link.link(files, {"entry": entry, "output": "all.wasm"})


class Below:
    def up(self, value: int) -> int:
        return value * 100


async def test_a_chain_becomes_one_that_does_what_they_do_together() -> None:
    made = await linked(parts(1, 3, 2), "n3.wasm")
    assert ([file.path for file in made.files], made.warnings) == (["all.wasm"], [])
    async with loop.Host() as host:
        whole = await host.load(made.files[0].contents, imports={"test:guest/n1": Below()})
        assert await whole.call("test:guest/n4#up", 2) == 203


async def test_what_nothing_needs_is_told() -> None:
    made = await linked(parts(3, 1), "n3.wasm")
    assert [(problem.path, problem.message) for problem in made.warnings] == [("n1.wasm", "nothing needs it")]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([{"path": "n3.wasm", "contents": b"no"}], "n3.wasm: it is no component"),
        (parts(1), "the entry n3.wasm is not among the files"),
        ([*parts(3, 2), {"path": "again.wasm", "contents": step(2, False)}], "n2.wasm and by again.wasm"),
        ([*parts(3), *parts(3)], "it is given twice"),
        (
            [
                *parts(3),
                {
                    "path": "n2.wasm",
                    "contents": Guest()
                    .exports("up", [STRING], U32, "unreachable", of="test:guest/n3")
                    .wasm(),
                },
            ],
            "its test:guest/n3 is another than the test:guest/n3 of n2.wasm",
        ),
    ],
)
async def test_what_cannot_be_linked_is_told(files: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(loop.Err) as told:
        await linked(files, "n3.wasm")
    [problem] = told.value.value
    assert said in f"{problem.path}: {problem.message}"


@pytest.mark.parametrize(
    ("member", "uses"),
    [
        ("providers.mine", "use = 'component:mine.wasm'"),
        ("providers.mine", "use = 'python:mine:Mine'\ntrusted = true"),
        ("components.made", "use = 'component:made'\n[components.made]\npath = 'mine.wasm'"),
    ],
)
def test_a_policy_holds_for_tools_too(member: str, uses: str, tmp_path: Path) -> None:
    policy = "[trust]\nlocal = 'refuse'\n"
    (tmp_path / "loop.toml").write_text(
        f"[providers.linker]\nuse = '{LINKER}'\n[providers.mine]\n{uses}\n{policy}"
    )
    (tmp_path / "mine.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "mine.wasm").write_bytes(b"no")
    (tmp_path / "n3.wasm").write_bytes(step(3, False))
    for provider, code in (("linker", 0), ("mine", 4)):
        command = [LOOP, "toolchain", "link", provider, "n3.wasm", "-o", "out/all.wasm"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
    assert f"{member} comes from no registry" in done.stderr


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").write_text(f'[providers.linker]\nuse = "{LINKER}"\n')
    for file in parts(2, 3):
        (tmp_path / file["path"]).write_bytes(file["contents"])
    command = [LOOP, "toolchain", "link", "linker", "n3.wasm", "n2.wasm", "-o", "out/all.wasm"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    done = subprocess.run(
        [LOOP, "inspect", "out/all.wasm"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert "test:guest/n2" in done.stdout
    assert "test:guest/n3" not in done.stdout
