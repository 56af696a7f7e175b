"""The same program, whoever made it: a native tool and a component, exchanged by one line of `loop.toml`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.checkout import ROOT, copied
from tests.cli import LOOP

import loop_kit as loop
from loop_kit.testing import client

NATIVE = "python:loop_kit.capabilities.toolchain:Esbuild"
COMPONENT = "component:sucrase"

WANTED = ["figure 1: red, 3.14", "figure 2: blue, 4.00", "High 5"]
PROBE = """
import * as all from "PATH";
const exported = Object.keys(all).sort();
console.log(JSON.stringify([exported, all.default(), all.size({kind: "square", side: 3}), all.names, all.Level]));
"""


@pytest.fixture(scope="module")
def component(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tool as a component, built once."""
    example = copied("toolchain", tmp_path_factory.mktemp("built"))
    env = {**os.environ, "LOOP_TASK_CACHE": str(example / ".loop" / "results")}
    subprocess.run([LOOP, "task", "build"], cwd=example, env=env, check=True, capture_output=True)
    return example / "build" / "sucrase.wasm"


def run(code: str) -> Any:
    done = subprocess.run(
        ["node", "--input-type=module", "-e", code], capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)


def test_one_line_exchanges_them(tmp_path: Path) -> None:
    example = copied("toolchain", tmp_path)
    kept = str(tmp_path / "results")
    env = {**os.environ, "LOOP_TASK_CACHE": kept, "PATH": f"{Path(LOOP).parent}:{os.environ['PATH']}"}
    made: dict[str, list[Any]] = {}
    for use in (NATIVE, COMPONENT):
        text = (example / "loop.toml").read_text()
        assert text.count(f'use = "{NATIVE}"') == 1
        (example / "loop.toml").write_text(text.replace(f'use = "{NATIVE}"', f'use = "{use}"'))
        command = [LOOP, "task", "bundle", "compile", "--json"]
        done = subprocess.run(command, cwd=example, env=env, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stdout
        told = {task["task"]: task["how"] for task in json.loads(done.stdout)["tasks"]}
        assert (told["toolchain:bundle"], told["toolchain:compile"]) == ("ran", "ran")
        bundled = example / "dist" / "main.mjs"
        made[use] = [run(PROBE.replace("PATH", bundled.as_uri())), bundled.read_text()]
        shapes = (example / "lib/shapes.js").as_uri()
        made[use].append(
            run(f'import {{ area }} from "{shapes}"; console.log(area({{kind: "square", side: 3}}))')
        )
        (example / "loop.toml").write_text(text)
    [native, native_text, nine], [component, component_text, also_nine] = made[NATIVE], made[COMPONENT]
    assert native == component
    assert nine == also_nine == 9
    assert native_text != component_text
    exported, said, size, names, level = native
    assert exported == ["Figure", "Level", "default", "names", "size"]
    assert (said, size, names, level["5"]) == (WANTED, 9, ["red", "blue"], "High")


FILES = {
    "main.js": 'import { a } from "./a"; import * as b from "./b/index.mjs"; export const sum = a + b.b; export { a };',
    "a.ts": 'export let a: number = 1; export const set = (v: number) => (a = v); export { b } from "./b/index.mjs";',
    "b/index.mjs": 'import { set } from "../a.js"; export const b = 2; export function change() { set(5); }',
    "broken.ts": "export const x: number = ;\n",
    "lost.ts": 'import x from "./nowhere"; import y from "/etc/hostname"; console.log(x, y);',
    "circle.js": 'import { b } from "./circle2.js"; export const a = () => "a" + b(); export const c = () => "c";',
    "circle2.js": 'import { c } from "./circle.js"; export const b = () => "b" + c();',
    "text.ts": 'export default "grüße 🙂 " + `exports` as string;',
}  # fmt: skip


def files() -> list[dict[str, Any]]:
    return [{"path": path, "contents": text.encode()} for path, text in FILES.items()]


def options(entry: str, form: str = "module") -> dict[str, Any]:
    return {"entry": entry, "format": form, "output": "out.mjs"}


@pytest.mark.parametrize("kind", ["native", "component"])
async def test_each_does_what_the_interface_says(kind: str, component: Path, tmp_path: Path) -> None:
    provider = NATIVE if kind == "native" else f"component:{component}"
    async with client("loop:toolchain", provider=provider) as tool:

        async def bundled(entry: str, form: str = "module") -> Path:
            made = await tool.bundle.bundle(files(), options(entry, form))
            assert [file.path for file in made.files] == ["out.mjs"]
            place = tmp_path / f"{kind}-{entry.replace('/', '-')}.mjs"
            place.write_bytes(made.files[0].contents)
            return place

        for entry, wanted in (("main.js", [3, 1]), ("text.ts", ["grüße 🙂 exports"]), ("circle.js", ["abc"])):
            path = (await bundled(entry)).as_uri()
            what = {"main.js": "[m.sum, m.a]", "text.ts": "[m.default]", "circle.js": "[m.a()]"}[entry]
            assert run(f'import * as m from "{path}"; console.log(JSON.stringify({what}));') == wanted
        script = (await bundled("main.js", "script")).read_text()
        assert "export {" not in script
        with pytest.raises(loop.Err) as told:
            await tool.bundle.bundle(files(), options("broken.ts"))
        assert [(problem.path, problem.line) for problem in told.value.value] == [("broken.ts", 1)]
        with pytest.raises(loop.Err) as told:
            await tool.bundle.bundle(files(), options("lost.ts"))
        assert told.value.value[0].path == "lost.ts"
        assert "nowhere" in told.value.value[0].message
        with pytest.raises(loop.Err, match="not among the files"):
            await tool.bundle.bundle(files(), options("nothing.ts"))
        with pytest.raises(loop.Err) as told:
            await tool.compile.compile(files()[3], {"jsx": False})
        assert [(problem.path, problem.line) for problem in told.value.value] == [("broken.ts", 1)]
        with pytest.raises(loop.Err, match="compiles"):
            await tool.compile.compile({"path": "x.css", "contents": b""}, {"jsx": False})
        tag = {"path": "tag.tsx", "contents": b"export const tag = (x: number) => <b>{x}</b>;"}
        kept, called = [await tool.compile.compile(tag, {"jsx": jsx}) for jsx in (False, True)]
        assert b"<b>" in kept.files[0].contents
        assert b"React.createElement" in called.files[0].contents
        assert called.files[0].path == "tag.js"


@pytest.mark.parametrize("path", ["../x.ts", "/x.ts", "a/../x.ts", "a\\x.ts", ""])
async def test_the_native_one_writes_nowhere_else(path: str) -> None:
    async with client("loop:toolchain", provider=NATIVE) as tool:
        with pytest.raises(loop.Err):
            await tool.compile.compile({"path": path, "contents": b""}, {"jsx": False})


async def test_the_native_one_finds_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('"hidden"')
    source = f'import secret from "{tmp_path}/secret.json"; console.log(secret);'
    async with client("loop:toolchain", provider=NATIVE) as tool:
        with pytest.raises(loop.Err, match="is not among the files"):
            await tool.bundle.bundle([{"path": "x.js", "contents": source.encode()}], options("x.js"))


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples/toolchain/src", tmp_path / "src")
    (tmp_path / "loop.toml").write_text(
        f'[providers.tool]\nuse = "{NATIVE}"\n[providers.core]\nuse = "sidecar:builtin:core"\n'
    )
    (tmp_path / "src" / "broken.ts").write_text("let = ;\n")

    def said(*args: str) -> tuple[int, str]:
        command = [LOOP, "toolchain", *args]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr

    code, text = said("compile", "tool", "broken.ts", "--from", "src", "--output", "out")
    assert (code, "error: broken.ts:1:" in text) == (1, True)
    assert said("bundle", "none", "main.ts", "--output", "x")[1].startswith(
        "error: there is no provider 'none'"
    )
    assert "runs in this process" in said("bundle", "core", "main.ts", "--output", "x")[1]
    assert "there is no file" in said("compile", "tool", "none.ts", "--output", "x")[1]


RUNNERS = {"native": "python:loop_kit.capabilities.toolchain:Node", "component": COMPONENT}


def test_one_line_exchanges_who_runs(tmp_path: Path, component: Path) -> None:
    example = copied("toolchain", tmp_path)
    (example / "build").mkdir()
    shutil.copy(component, example / "build")
    script = "script/say.js"
    made = [LOOP, "toolchain", "bundle", "tool", "say.ts", "--script", "--from", "src", "--output", script]
    subprocess.run(made, cwd=example, check=True, timeout=60)
    text = (example / "loop.toml").read_text()
    assert text.count(f'use = "{RUNNERS["native"]}"') == 1
    for use in RUNNERS.values():
        (example / "loop.toml").write_text(text.replace(f'use = "{RUNNERS["native"]}"', f'use = "{use}"'))
        done = subprocess.run(
            [LOOP, "toolchain", "run", "runner", script],
            cwd=example,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, WANTED, "")


@pytest.mark.parametrize("kind", RUNNERS)
async def test_each_runs_scripts_that_can_reach_nothing(kind: str, component: Path) -> None:
    provider = RUNNERS["native"] if kind == "native" else f"component:{component}"
    async with client("loop:toolchain", provider=provider) as tool:

        async def ran(code: str, *arguments: str, path: str = "a.js") -> tuple[int, str, str]:
            program = {"path": path, "contents": code.encode()}
            ended = await tool.run.run(program, {"arguments": list(arguments)})
            return ended.code, ended.output, ended.problems

        said = await ran("console.log('grüße 🙂', [1, 2], null, scriptArgs); console.error('e');", "a", "b")
        assert said == (0, "grüße 🙂 1,2 null a,b\n", "e\n")
        assert await ran("console.log(1); throw new TypeError('no');") == (1, "1\n", "TypeError: no\n")
        assert await ran("throw { toString() { throw 1; } };") == (1, "", "an error\n")
        names = "typeof process, typeof require, typeof std, typeof fetch"
        hidden = "console.log.constructor('return typeof process')()"
        assert await ran(f"console.log({names}, {hidden});") == (0, f"{'undefined ' * 5}".strip() + "\n", "")
        code, _, problems = await ran("for (;;) console.log('x'.repeat(1 << 20));")
        assert (code, "it has written more than" in problems) == (1, True)
        with pytest.raises(loop.Err) as told:
            await ran("let = ;")
        assert [(problem.path, "SyntaxError" in problem.message) for problem in told.value.value] == [
            ("a.js", True)
        ]
        with pytest.raises(loop.Err, match=r"runs \.js"):
            await ran("", path="a.wasm")
