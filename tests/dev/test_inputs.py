"""What counts as an input of a build by default, and by `sources`."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop_kit import manifest
from loop_kit.dev import Builder, Member
from tests.dev.workspaces import Workspace, component

TREE = (
    "build.mjs", "README.md", "a/main.js", "a/lib/x.js", "a/build/out.js", "a/target/x", "a/node_modules/x/i.js",
    "a/.env",
    "b/main.js", "tools/make.py", "wit/world.wit", "out/site.wasm", "loop.lock", "a/ignored.log", "a/x.swp~", "gen/x.js",
)  # fmt: skip


async def inputs(ws: Workspace, name: str = "site") -> set[str]:
    async with Builder(manifest.load(ws.folder)) as builder:
        await builder.scan()
        return {path.relative_to(ws.folder).as_posix() for path in builder.files(component(name))}


EVERYTHING = {
    ".gitignore", "README.md", "a/.env", "a/lib/x.js", "a/main.js", "b/main.js", "build.mjs", "tools/make.py",
    "wit/world.wit",
}  # fmt: skip
OF_A = {"a/main.js", "a/lib/x.js", "a/.env"}


@pytest.mark.parametrize(
    ("build", "sources", "expected"),
    [
        ("npm run build", None, EVERYTHING),
        (["node", "build.mjs"], None, EVERYTHING),
        ("cd a && make", None, OF_A),
        ("cd './a' && make", None, OF_A),
        ("cd a; make ../tools/make.py", None, OF_A | {"tools/make.py"}),
        ("cd a && make --wit=../wit -o ../out/site.wasm", None, OF_A | {"wit/world.wit"}),
        ("cd $X && make", None, EVERYTHING),
        ("cd /etc && make", None, EVERYTHING),
        ("cd 'a", None, EVERYTHING),
        ("x", ["a/**"], OF_A | {"a/build/out.js", "a/target/x"}),
        ("x", ["a"], OF_A | {"a/build/out.js", "a/target/x", "a/ignored.log"}),
        ("x", ["a/**", "!a/lib/**", "!a/build", "!a/target"], {"a/main.js", "a/.env"}),
        ("x", ["*.mjs"], {"build.mjs"}),
        ("x", ["build.mjs", "{a,b}/main.js"], {"build.mjs", "a/main.js", "b/main.js"}),
        ("x", ["**/*.js"], {"a/main.js", "a/lib/x.js", "b/main.js", "a/build/out.js"}),
        ("x", ["a/node_modules/x"], {"a/node_modules/x/i.js"}),
        ("x", ["gen"], {"gen/x.js"}),
        ("x", ["gen/**"], {"gen/x.js"}),
        ("x", ["*/x.js"], set()),
        ("x", ["loop.toml", "none"], {"loop.toml"}),
    ],
)
async def test_what_counts(
    ws: Workspace, build: str | list[str], sources: list[str] | None, expected: set[str]
) -> None:
    for path in TREE:
        ws.write(path)
    ws.write(".gitignore", "*.log\n/gen/\n")
    ws.component("site", path="out/site.wasm", build=build, **({"sources": sources} if sources else {}))
    assert await inputs(ws) == expected


async def test_ignores_above_the_workspace_count_up_to_the_repository(tmp_path: Path) -> None:
    ws = Workspace(tmp_path.resolve())
    (tmp_path / ".gitignore").write_text("*.log\n")
    (ws.folder / ".gitignore").unlink()
    ws.build(sources=None)
    ws.write("src/x.log")
    assert await inputs(ws) == {"src/x.log"}  # it is no repository
    (tmp_path / ".git").mkdir()
    assert await inputs(ws) == set()


async def test_a_folder_of_which_git_knows_nothing_can_be_built(ws: Workspace) -> None:
    ws.ignore("/private/\n")
    ws.write("private/x")
    ws.build(sources=None, build="cd private && make")
    assert await inputs(ws) == {"private/x"}


async def test_members(ws: Workspace) -> None:
    ws.build("site", bind={"wit": "a/api", "typescript": "src/wit.d.ts"})
    ws.provider("core", "builtin:core")
    ws.provider("near", "python:near:Near", trusted=True, bind={"python": "bindings.py"})
    async with Builder(manifest.load(ws.folder)) as builder:
        assert builder.members == ()
        await builder.scan()
        expected = [
            ("manifest", "loop.toml"),
            ("bind", "components.site.bind"),
            ("bind", "providers.near.bind"),
            ("component", "site"),
            ("provider", "core"),
            ("provider", "near"),
        ]
        assert [*builder.members] == [Member(*member) for member in expected]  # type: ignore[arg-type]
        assert [*map(str, builder.members)] == [
            "loop.toml",
            "components.site.bind",
            "providers.near.bind",
            "components.site",
            "providers.core",
            "providers.near",
        ]
        assert builder.output("site") == ws.folder / "out/site.wasm"
        assert builder.digest(component("site")) == ""
