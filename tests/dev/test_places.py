"""Files and lines in what tools write: real ones, where they are installed, and else what they were seen to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop_kit import _core
from loop_kit.dev import places, run
from loop_kit.errors import LoadError
from tests.checkout import ROOT

BIN = ROOT / "node_modules" / ".bin"
WIT = "package a:b;\nworld w {\n  export foo: func();\n}\n"

Found = list[tuple[str, int, int, str]]


async def said(folder: Path, command: str | tuple[str, ...], files: dict[str, str]) -> Found:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    ran = await run(command, folder)
    assert not ran.ok
    return brief(ran.output, folder)


def brief(output: str, folder: Path) -> Found:
    return [(place.file, place.line, place.column, place.message) for place in places(output, folder)]


async def test_python(tmp_path: Path) -> None:
    main = "import json\n\ndef f(x):\n    return json.loads(x)\n\nf('{')\n"
    found = await said(tmp_path, "python src/main.py", {"src/main.py": main})
    message = "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    assert found == [("src/main.py", 4, found[0][2], message)]
    found = await said(
        tmp_path, "python -m src.main", {"src/main.py": "class A:\n    def f(:\n        pass\n"}
    )
    assert found == [("src/main.py", 2, 11, "SyntaxError: invalid syntax")]
    chained = "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('two') from e\n"
    found = await said(tmp_path, "python src/main.py", {"src/main.py": chained})
    assert [(line, message) for _, line, _, message in found] == [
        (2, "ZeroDivisionError: division by zero"),
        (4, "ValueError: two"),
    ]


async def test_node(tmp_path: Path) -> None:
    thrown = "function inner() {\n  throw new TypeError('no such thing');\n}\ninner();\n"
    found = await said(tmp_path, "node build.mjs", {"build.mjs": thrown})
    assert found == [("build.mjs", 2, 9, "TypeError: no such thing")]
    found = await said(tmp_path, "node build.mjs", {"build.mjs": "const a = 1;\nconst b = ;\n"})
    assert found == [("build.mjs", 2, 11, "SyntaxError: Unexpected token ';'")]
    caught = "try { (await import('./lib.mjs')).f(); } catch (e) { console.error(e.stack); process.exit(1); }"
    files = {"build.mjs": caught, "lib.mjs": "export function f() {\n  return null.x;\n}\n"}
    found = await said(tmp_path, "node build.mjs", files)
    assert found == [("lib.mjs", 2, 15, "TypeError: Cannot read properties of null (reading 'x')")]


async def test_esbuild(tmp_path: Path) -> None:
    files = {"src/app.ts": "export function f() {\n  return ];\n}\nimport x from './none';\n"}
    found = await said(tmp_path, (str(BIN / "esbuild"), "--bundle", "src/app.ts"), files)
    assert found[0] == ("src/app.ts", 2, 10, 'Unexpected "]"')
    found = await said(
        tmp_path,
        (str(BIN / "esbuild"), "--bundle", "src/app.ts"),
        {"src/app.ts": "import x from './none';\nx;"},
    )
    assert found[0] == ("src/app.ts", 1, 15, 'Could not resolve "./none"')


async def test_componentize_qjs(tmp_path: Path) -> None:
    command = (str(BIN / "componentize-qjs"), "--wit", "wit", "--js", "src/c.js", "-o", "o.wasm")
    found = await said(tmp_path, command, {"wit/w.wit": WIT, "src/c.js": "const a = 1;\nconst b = ;\n"})
    assert [(file, line) for file, line, _, _ in found] == [("src/c.js", 2)]
    found = await said(tmp_path, command, {"src/c.js": "const a = 1;\nfunction f() {\n  nope();\n}\nf();\n"})
    assert found[0][:2] == ("src/c.js", 3)
    assert "nope" in found[0][3]


# Ten seconds of work for each would be too much.
COMPONENTIZE_PY = """\
Traceback (most recent call last):
  File "/usr/bin/componentize-py", line 8, in <module>
    sys.exit(script())
             ^^^^^^^^
AssertionError: {}

Caused by:
    {}

Stack backtrace:
   0: <anyhow::Error>::msg::<alloc::string::String>
  10: cfunction_vectorcall_NOARGS
             at /build/Python-3.11.7/Objects/methodobject.c:486:24
  30: _start
"""
WRONG = """  File "/0/app.py", line 2
    def (
        ^
SyntaxError: invalid syntax

"""
RAISED = """Traceback (most recent call last):
  File "/0/app.py", line 3, in <module>
    f()
    ~^^
  File "/0/app.py", line 2, in f
    nope()
    ^^^^
NameError: name 'nope' is not defined. Did you mean: 'None'?

"""


def test_componentize_py(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    app = tmp_path / "src" / "app.py"
    app.write_text("import os\ndef (\n")
    said = COMPONENTIZE_PY.format(WRONG, "SyntaxError: invalid syntax (app.py, line 2)")
    assert brief(said, tmp_path) == [("src/app.py", 2, 5, "SyntaxError: invalid syntax")]
    app.write_text("def f():\n    nope()\nf()\n")
    said = COMPONENTIZE_PY.format(RAISED, "NameError: name 'nope' is not defined")
    message = "NameError: name 'nope' is not defined. Did you mean: 'None'?"
    assert brief(said, tmp_path) == [("src/app.py", 2, 5, message)]


async def test_rustc(tmp_path: Path) -> None:
    files = {"src/main.rs": 'fn main() {\n    let x: u32 = "a";\n    nope();\n}\n'}
    found = await said(tmp_path, "rustc src/main.rs", files)
    assert sorted(found) == [
        ("src/main.rs", 2, 18, "mismatched types"),
        ("src/main.rs", 3, 5, "cannot find function `nope` in this scope"),
    ]


def test_wit(tmp_path: Path) -> None:
    wit = tmp_path / "wit"
    wit.mkdir()
    (wit / "w.wit").write_text("package a:b;\nworld w {\n  import foo: fnc();\n}\n")
    with pytest.raises(LoadError) as caught:
        _core.Contract(wit, [])
    (place,) = places(f"{wit}: {caught.value}", tmp_path)
    assert (place.file, place.line, place.column) == ("wit/w.wit", 3, 18)
    assert place.message == "expected ';', found '('"
    assert place.excerpt.splitlines()[2:4] == ["> 3 |   import foo: fnc();", "    |                  ^"]


TOOLS = {
    "tsc": (
        "src/app.ts(3,7): error TS2322: Type 'string' is not assignable to type 'number'.",
        [("src/app.ts", 3, 7, "TS2322: Type 'string' is not assignable to type 'number'.")],
    ),
    "tsc --pretty": (
        "\x1b[96msrc/app.ts\x1b[0m:\x1b[93m3\x1b[0m:\x1b[93m7\x1b[0m - \x1b[91merror\x1b[0m\x1b[90m TS2322: \x1b[0mType "
        "'string' is no number.\n\n\x1b[7m3\x1b[0m const x: number = 'a';\n",
        [("src/app.ts", 3, 7, "TS2322: Type 'string' is no number.")],
    ),
    "gcc, go": (
        "main.c:4:5: error: expected ';' before 'return'\n./main.go:7:2: undefined: x\nmain.c: In function 'f':",
        [("main.c", 4, 5, "expected ';' before 'return'"), ("main.go", 7, 2, "undefined: x")],
    ),
    "esbuild in one line": (
        "app.js:2:9: ERROR: Unexpected ]",
        [("app.js", 2, 9, "Unexpected ]")],
    ),
    "no places": (
        "10:30:22 all is well\nhttp://localhost:8080 is up\nv1.2.3: done\n[10:00:00.123] example.com:80: refused\n",
        [],
    ),
}


@pytest.mark.parametrize("name", TOOLS)
def test_what_tools_were_seen_to_write(name: str, tmp_path: Path) -> None:
    output, expected = TOOLS[name]
    assert brief(output, tmp_path) == expected


def test_places_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("x\n" * 10_000 + "y" * 10_000)
    many = "\n".join(f"a.c:{line}:1: wrong" for line in [*range(1, 10_000), 1, 1])
    assert len(places(many, tmp_path)) == 50
    (place,) = places("a.c:10001:1: wrong", tmp_path)
    assert len(place.excerpt) < 1000
    (place,) = places("a.c:99999:1: wrong", tmp_path)
    assert place.excerpt == ""
    assert places("x" * 1_000_000, tmp_path) == ()
    assert places("a/" * 500_000, tmp_path) == ()
    assert places(" at " * 300_000, tmp_path) == ()
