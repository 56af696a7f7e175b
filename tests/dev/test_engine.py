"""Components whose code is given to an engine: they answer as those that are built in full."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.dev._command import Ran
from loop_kit.dev._places import places
from loop_kit.dev.engine import Code, join, split
from loop_kit.dev.engine._maker import Maker, Makers
from loop_kit.errors import LoadError
from loop_kit.manifest import load
from loop_kit.pkg import Tools
from loop_kit.workspace import Workspace
from tests.checkout import ROOT

WIT = """\
package acme:all@1.0.0;

interface types {
  record point { x: s32, y: s32 }
  variant shape { dot, circle(f64), line(list<point>) }
  enum colour { red, deep-blue }
  flags marks { old, very-new }
}

interface store {
  use types.{point};
  /// Fails where there is none.
  find-one: func(key: string) -> result<point, string>;
}

interface maths {
  use types.{point, shape, colour, marks};
  move-by: func(p: point, by: tuple<s32, s32>) -> point;
  area: func(s: shape) -> result<f64, string>;
  swap-colour: func(c: colour) -> colour;
  all-marks: func(m: marks) -> marks;
  found: func(key: string) -> result<option<s32>, string>;
  resource counter {
    constructor(start: u32);
    next: func() -> u32;
    of-two: static func(a: u32, b: u32) -> counter;
  }
}

world all {
  import store;
  export maths;
  export greet-all: func(names: list<string>) -> string;
  export bytes: func(b: list<u8>) -> list<u8>;
  export late: async func(n: u32) -> u32;
  export fails: func() -> result<_, string>;
}
"""
APP = """\
import { findOne } from "acme:all/store@1.0.0";

import { named } from "./names.js";

class Counter {
  constructor(from) {
    this.at = from;
  }
  next() {
    return this.at++;
  }
  static ofTwo(a, b) {
    return new Counter(a + b);
  }
}

let calls = 0;

export const maths = {
  moveBy: ({ x, y }, [a, b]) => ({ x: x + a, y: y + b }),
  area(shape) {
    if (shape.tag === "circle") return shape.val ** 2 * 3;
    if (shape.tag === "dot") return 0;
    throw `no area of ${shape.val.length} points`;
  },
  swapColour: (colour) => (colour === "red" ? "deep-blue" : "red"),
  allMarks: ({ old, veryNew }) => ({ old: !old, veryNew: !veryNew }),
  found(key) {
    if (key === "nothing") return null;
    try {
      return findOne(key).x;
    } catch (error) {
      throw `store: ${error.payload}`;
    }
  },
  Counter,
};

export function greetAll(names) {
  return named(names);
}
export const bytes = (b) => b.map((each) => 255 - each);
export async function late(n) {
  calls += 1;
  return (await Promise.resolve(n)) + calls;
}
export function fails() {
  throw new Error("as it should").message;
}
"""
NAMES = 'export const named = (names) => `hello ${names.join(" and ")}`;\n'
BUILD = """\
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { componentize } from "componentize-qjs";
import { build } from "esbuild";

const bundle = { entryPoints: ["src/app.js"], format: "esm" };
const options = { optSize: true };
export const dev = { bundle, wit: "wit", componentize: options };
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const made = await build({ ...bundle, bundle: true, write: false, external: ["acme:*"] });
  const { component } = await componentize({ ...options, witPath: "wit", jsSource: made.outputFiles[0].text });
  await writeFile("full.wasm", component);
}
"""
MANIFEST = """\
[components.app]
path = "full.wasm"
build = "node build.mjs"
dev = "build.mjs"
imports."acme:all/store" = { provider = "store" }
[providers.store]
use = "python:store:Store"
trusted = true
"""
STORE = """\
import loop_kit as loop


class Store:
    def find_one(self, key):
        if key != "one":
            raise loop.Err(f"there is no {key}")
        return {"x": 4, "y": 2}
"""


class Project:
    """A workspace with one component, which is made in both ways."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path, text in {
            "wit/world.wit": WIT, "src/app.js": APP, "src/names.js": NAMES, "build.mjs": BUILD, "loop.toml": MANIFEST,
            "store.py": STORE, "package.json": '{"type": "module"}',
        }.items():  # fmt: skip
            self.write(path, text)
        (folder / "node_modules").mkdir()
        for name in ("esbuild", "@esbuild", "componentize-qjs", "@andreiltd"):
            (folder / "node_modules" / name).symlink_to(ROOT / "node_modules" / name)
        self.output = folder / "made/app.wasm"
        self.state = folder / "state"
        self.maker = Maker(load(folder).components["app"], folder, self.state)

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_text()
        assert old in text
        self.write(path, text.replace(old, new))

    async def make(self) -> Ran:
        inputs = [p for name in ("src", "wit") for p in (self.folder / name).rglob("*") if p.is_file()]
        inputs.append(self.folder / "build.mjs")
        return await self.maker.make(self.output, {str(path): path.read_text() for path in inputs}, Tools())

    async def made(self) -> Path:
        ran = await self.make()
        assert ran.ok, ran.output
        return self.output

    def full(self) -> Path:
        subprocess.run(["node", "build.mjs"], cwd=self.folder, check=True)
        return self.folder / "full.wasm"

    def engines(self) -> set[str]:
        return {path.name for path in (self.state / "engines").iterdir()}

    @asynccontextmanager
    async def loaded(self, path: Path) -> AsyncIterator[loop.App]:
        async def make(_component: Any) -> Path:
            return path

        async with loop.Host() as host, Workspace(host, load(self.folder), make=make) as workspace:
            app = await workspace.load("app")
            (member,) = [each for each in workspace.members() if each.name == "app"]
            # of the engine and its code together
            assert member.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
            yield app

    async def answer(self, path: Path, *call: Any) -> Any:
        async with self.loaded(path) as app:
            return await app.call(*call)


@pytest.fixture
async def project(tmp_path: Path) -> AsyncIterator[Project]:
    made = Project(tmp_path.resolve())
    yield made
    await made.maker.aclose()


async def answers(app: loop.App) -> list[Any]:
    """What a component answers, results and errors, in the order of the suite."""
    suite: list[tuple[Any, ...]] = [
        ("move-by", {"x": 1, "y": 2}, (3, 4)),
        ("area", ("circle", 2.0)),
        ("area", ("dot", None)),
        ("area", ("line", [{"x": 1, "y": 1}] * 3)),
        ("swap-colour", "red"),
        ("all-marks", 2),
        ("found", "one"),
        ("found", "nothing"),
        ("found", "two"),
        ("greet-all", ["a", "b"]),
        ("bytes", b"\x00\x01\xff"),
        ("late", 7),
        ("late", 7),
        ("fails",),
    ]
    said: list[Any] = []
    for name, *given in suite:
        try:
            said.append(repr(await app.call(name, *given)))
        except loop.Err as error:
            said.append(f"Err {error.value!r}")
    maths = app.exports["acme:all/maths@1.0.0"]
    async with await maths.Counter(5) as counter:
        said.append([await counter.next(), await counter.next()])
    async with await maths.Counter.of_two(5, 6) as counter:
        said.append(await counter.next())
    return said


async def test_it_answers_as_what_is_built_in_full(project: Project) -> None:
    async with project.loaded(project.full()) as full, project.loaded(await project.made()) as given:
        expected = await answers(full)
        assert len(set(map(str, expected))) > 12
        assert await answers(given) == expected


async def test_an_edit_keeps_the_engine_and_changes_the_digest(project: Project) -> None:
    engine, first = split((await project.made()).read_bytes())
    engines = project.engines()
    project.edit("src/names.js", "hello", "good day")
    path = await project.made()
    same, second = split(path.read_bytes())
    assert (same, project.engines()) == (engine, engines)
    assert first is not None
    assert second is not None
    assert first.text != second.text
    assert await project.answer(path, "greet-all", ["you"]) == "good day you"


async def test_packages_are_the_engines(project: Project) -> None:
    words, common = "node_modules/words/index.mjs", "node_modules/common/index.js"
    project.write("node_modules/words/package.json", '{"name": "words", "exports": "./index.mjs"}')
    project.write(
        words, "export default (t) => `<${t}>`;\nexport const end = '!';\nexport { end as else };\n"
    )
    project.write("node_modules/common/package.json", '{"name": "common", "main": "index.js"}')
    project.write(common, "exports.loud = (text) => text.toUpperCase();\n")
    await project.made()
    before = project.engines()
    project.write(
        "src/names.js",
        'import put, { end, else as other } from "words";\nimport common, { loud } from "common";\n'
        "export const named = (n) => put(loud(n[0])) + end + other + common.loud('b');\n",
    )
    path = await project.made()
    _, code = split(path.read_bytes())
    assert code is not None
    assert "toUpperCase" not in code.text
    assert len(project.engines() - before) == 1
    assert await project.answer(path, "greet-all", ["a"]) == "<A>!!B"
    assert await project.answer(project.full(), "greet-all", ["a"]) == "<A>!!B"


async def test_another_world_has_another_engine(project: Project) -> None:
    await project.made()
    before = project.engines()
    project.edit("wit/world.wit", "export fails:", "export more: func() -> u32;\n  export fails:")
    project.edit("src/app.js", "let calls", "export const more = () => 7;\nlet calls")
    path = await project.made()
    assert len(project.engines() - before) == 1
    assert await project.answer(path, "more") == 7


async def test_what_fails_while_it_is_loaded_is_told_with_its_place(project: Project) -> None:
    project.edit("src/names.js", "export", "\n\nundefined.nothing;\nexport")
    path = await project.made()
    with pytest.raises(LoadError, match="app cannot take up its code") as caught:
        await project.answer(path, "bytes", b"")
    assert "src/names.js:3" in str(caught.value)
    (place, *_) = places(str(caught.value), project.folder)
    assert (place.file, place.line) == ("src/names.js", 3)


async def test_imports_answer_nothing_while_code_is_loaded(project: Project) -> None:
    project.edit("src/app.js", "let calls = 0;", 'let calls = findOne("one").x;')
    with pytest.raises(LoadError, match=r"acme:all/store@1\.0\.0#findOne is called while the code is loaded"):
        await project.answer(await project.made(), "bytes", b"")
    with pytest.raises(subprocess.CalledProcessError):
        project.full()


async def test_what_it_does_not_export_is_told(project: Project) -> None:
    project.edit("src/app.js", "export const bytes", "export const octets")
    async with project.loaded(await project.made()) as app:
        with pytest.raises(loop.errors.GuestTrap):
            await app.call("bytes", b"")


async def test_what_cannot_be_bundled_is_told_and_mended(project: Project) -> None:
    await project.made()
    project.edit("src/names.js", "export const", "export konst")
    ran = await project.make()
    assert not ran.ok
    (place,) = places(ran.output, project.folder)
    assert (place.file, place.line) == ("src/names.js", 1)
    project.edit("src/names.js", "export konst", "export const")
    assert await project.answer(await project.made(), "greet-all", ["you"]) == "hello you"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("export const dev", "export const other", "exports no dev = { bundle:"),
        ('wit: "wit"', 'wit: "nowhere"', "nowhere"),
        ('wit: "wit"', 'wit: "src"', "has no `package"),
        ('"src/app.js"', '"src/none.js"', 'Could not resolve "src/none.js"'),
        ("const bundle", "nonsense(); const bundle", "nonsense is not defined"),
        ("const bundle", "process.exit(3); const bundle", "its process exited with 3"),
    ],
)
async def test_a_script_that_is_wrong_is_told(project: Project, old: str, new: str, why: str) -> None:
    project.edit("build.mjs", old, new)
    ran = await project.make()
    assert not ran.ok
    assert why in ran.output
    project.edit("build.mjs", new, old)
    assert (await project.make()).ok


async def test_a_world_must_be_named_where_there_are_several(project: Project) -> None:
    project.edit("wit/world.wit", "world all", "world other {}\n\nworld all")
    ran = await project.make()
    assert "`dev` names none, and its WIT has other, all" in ran.output
    project.edit("build.mjs", 'wit: "wit"', 'wit: "wit", world: "all"')
    assert (await project.make()).ok


async def test_tools_that_are_not_there_are_fetched(project: Project) -> None:
    for name in ("esbuild", "@esbuild", "componentize-qjs", "@andreiltd"):
        (project.folder / "node_modules" / name).unlink()
    project.write(
        "build.mjs", 'export const dev = { bundle: { entryPoints: ["src/app.js"] }, wit: "wit" };\n'
    )
    assert await project.answer(await project.made(), "greet-all", ["you"]) == "hello you"


async def test_without_node_it_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project.folder))
    assert "there is no `node` in PATH" in (await project.make()).output


async def test_whoever_gives_up_waiting_hinders_nobody(project: Project) -> None:
    await project.made()
    for number in range(5):
        project.write("src/names.js", NAMES.replace("hello", f"hello {number}"))
        making = asyncio.create_task(project.make())
        await asyncio.sleep(0)
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
    project.write("src/names.js", NAMES.replace("hello", "at last"))
    assert await project.answer(await project.made(), "greet-all", ["you"]) == "at last you"


async def test_a_process_that_was_killed_is_started_again(project: Project) -> None:
    await project.made()
    driver = project.maker._driver
    assert driver is not None
    assert driver._child is not None
    os.kill(driver._child.pid, signal.SIGKILL)
    assert "killed by SIGKILL" in (await project.make()).output
    assert (await project.make()).ok


async def test_few_processes_stay(project: Project) -> None:
    makers = Makers(project.folder)
    (component,) = load(project.folder).components.values()
    each = [replace(component, name=f"app{n}", path=project.folder / f"made/app{n}.wasm") for n in range(6)]
    try:
        made = await asyncio.gather(*(makers.make(one, {}, Tools()) for one in each))
        assert all(ran.ok for ran in made), made
        alive = [maker for maker in makers._makers.values() if maker._driver is not None]
        assert len(alive) == len(makers._makers) == 4
        assert len({*(project.folder / ".loop/dev/engines").iterdir()}) == 1
    finally:
        await makers.aclose()


async def test_engines_are_for_development_alone(project: Project) -> None:
    shutil.copy(await project.made(), project.folder / "full.wasm")
    project.edit("loop.toml", 'build = "node build.mjs"\ndev = "build.mjs"\n', "")
    async with loop.Host() as host, Workspace(host, load(project.folder)) as workspace:
        with pytest.raises(loop.errors.LinkError, match="loop:devserver/source"):
            await workspace.load("app")


def test_code_is_in_a_section_of_its_own() -> None:
    engine = b"\0asm\x0d\0\1\0" + b"\x00\x03\x01aX"
    code = Code('"ä"' * 100, json.dumps({"mappings": ""}))
    joined = join(engine, code)
    assert split(joined) == (engine, code)
    assert split(engine) == (engine, None)
    for end in range(len(joined)):
        assert split(joined[:end])[1] is None
