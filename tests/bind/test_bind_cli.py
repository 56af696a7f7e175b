"""`loop bind`, and the files that it writes."""

from __future__ import annotations

import ast
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from loop_kit import bind, errors
from tests.checkout import ROOT
from tests.cli import loop

ALL = Path(__file__).parent / "guests" / "all.wit"
PLUGIN = ROOT / "examples" / "plugin.wasm"


@pytest.fixture
def wit(tmp_path: Path) -> Path:
    shutil.copy(ALL, tmp_path / "all.wit")
    return tmp_path / "all.wit"


def test_it_prints_the_same_each_time_and_names_no_path(wit: Path, tmp_path: Path) -> None:
    first = loop("bind", str(wit))
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "elsewhere" / "wit"
    folder.mkdir(parents=True)
    shutil.copy(wit, folder / "another-name.wit")
    second = loop("bind", "wit", cwd=folder.parent)
    assert first.stdout == second.stdout == bind.python(wit)
    assert first.stdout.startswith(
        "# Made by `loop bind` from acme:all@0.1.0, and made anew when that changes.\n# WIT sha256:"
    )
    assert str(tmp_path) not in first.stdout
    assert ast.get_docstring(ast.parse(first.stdout)) == "Types of acme:all@0.1.0."


def test_the_digest_is_of_the_wit(wit: Path) -> None:
    before = bind.bindings(wit)
    assert before.digest in before.text
    wit.write_text(wit.read_text() + "\n// a remark\n")
    after = bind.bindings(wit)
    assert after.digest != before.digest
    assert after.text.splitlines()[2:] == before.text.splitlines()[2:]


def test_what_is_right_already_is_not_touched(wit: Path, tmp_path: Path) -> None:
    file = tmp_path / "bindings.py"
    made = loop("bind", str(wit), "-o", str(file), "--json")
    said = json.loads(made.stdout)
    assert (said["changed"], said["file"], said["source"]) == (True, str(file), "acme:all@0.1.0")
    assert said["imports"] == said["exports"] == ["acme:all/kinds@0.1.0", "acme:all/flow@0.1.0"]
    os.utime(file, ns=(1, 1))
    inode = file.stat().st_ino
    again = loop("bind", str(wit), "-o", str(file), "--json")
    assert not json.loads(again.stdout)["changed"]
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (1, inode)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "bindings.py"
    assert bind.write(file, "one\n")
    file.chmod(0o640)
    assert bind.write(file, "two\n")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("two\n", 0o640)


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "bindings.py").mkdir()
    with pytest.raises(OSError, match="directory"):
        bind.write(tmp_path / "bindings.py", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["bindings.py"]


def test_check_tells_whether_the_file_is_right(wit: Path, tmp_path: Path) -> None:
    file = tmp_path / "bindings.py"
    command = ("bind", str(wit), "-o", str(file), "--check")
    missing = loop(*command)
    assert (missing.returncode, file.exists()) == (1, False)
    assert loop(*command[:-1]).returncode == 0
    right = loop(*command)
    assert (right.returncode, right.stdout) == (0, f"{file}: is what the WIT says\n")
    wit.write_text(
        wit.read_text().replace("resource counter", "resource counters").replace("counter", "counters")
    )
    text = wit.read_text().replace("counterss", "counters")
    wit.write_text(text)
    old = file.read_bytes()
    wrong = loop(*command)
    assert (wrong.returncode, file.read_bytes()) == (1, old)
    assert "run this without --check" in wrong.stdout


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ((), "acme_all.py"),
        (("--world", "app"), "acme_all_app.py"),
        (("--lang", "typescript"), "acme-all.d.ts"),
        (("--interface", "flow", "--lang", "typescript"), "acme-all-flow.d.ts"),
    ],
)
def test_in_a_folder_it_is_named_after_the_package(
    wit: Path, tmp_path: Path, flags: tuple[str, ...], name: str
) -> None:
    (tmp_path / "made").mkdir()
    done = loop("bind", str(wit), *flags, "-o", str(tmp_path / "made"))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "made").iterdir()] == [name]


def test_a_component_tells_what_it_imports_and_exports(tmp_path: Path) -> None:
    made = bind.bindings(PLUGIN)
    assert (made.imports, made.exports) == (("acme:plugin/host",), ("acme:plugin/filter",))
    assert made.file == "plugin.py"
    classes = {node.name for node in ast.walk(ast.parse(made.text)) if isinstance(node, ast.ClassDef)}
    assert classes == {"HostProvider", "FilterClient", "FilterBlocking"}
    assert '"acme:plugin/host": "HostProvider"' in made.text


def test_docs_are_kept(wit: Path) -> None:
    names: dict[str, object] = {"__name__": "bindings"}
    text = bind.python(wit)
    exec(compile(text, "bindings", "exec", dont_inherit=True), names)
    assert names["Point"].__doc__ == "A place."
    assert 'It has "quotes", a \\backslash, and the end of a comment: */ here.' in (
        names["KindsProvider"].__doc__ or ""
    )
    assert 'x: int\n    """Across."""' in text
    declared = bind.typescript(wit)
    assert "a comment: *\\/ here." in declared
    assert "/** Across. */\n  x: number;" in declared


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("all.wit", "--world", "apps"), 4, "all.wit: there is no world apps (did you mean app?)"),
        (("all.wit", "--interface", "kind"), 4, "there is no interface kind (did you mean kinds?)"),
        (("all.wit", "--interface", "zzz"), 4, "there are: acme:all/kinds@0.1.0, acme:all/flow@0.1.0"),
        (("all.wit", "--world", "app", "--interface", "kinds"), 2, "name a world or interfaces, not both"),
        (("all.wit", "--check"), 2, "--check needs -o FILE"),
        (
            ("all.wit", "--guest"),
            2,
            "--guest needs --lang typescript; guests in Python have `componentize-py bindings`",
        ),
        (("none.wit",), 2, "'none.wit' does not exist"),
        (("broken.wit",), 4, "error: broken.wit:2:18: expected keyword `func`"),
        (("map.wit",), 4, "the type `map` is not supported"),
        (("worlds.wit",), 4, "which world is meant? There are one, two"),
        (("plugin.wasm", "--world", "app"), 4, "a component has one world, its own"),
        (("text.wasm",), 4, "error: text.wasm: "),
    ],
)
def test_mistakes_are_told(wit: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    folder = wit.parent
    (folder / "broken.wit").write_text("package a:b;\ninterface c { d: fun(); }\n")
    (folder / "map.wit").write_text("package a:b;\ninterface c { d: func(e: map<string, u8>); }\n")
    (folder / "worlds.wit").write_text(
        "package a:b;\nworld one { export f: func(); }\nworld two { export f: func(); }\n"
    )
    (folder / "text.wasm").write_bytes(b"\0asm, or so it says")
    shutil.copy(PLUGIN, folder)
    told = loop("bind", *arguments, cwd=folder)
    assert (told.returncode, told.stdout) == (code, "")
    assert says in told.stderr
    assert "Traceback" not in told.stderr


def test_names_that_meet_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "meet.wit").write_text(
        """package a:b@1.0.0;
interface one { record thing { x: u8 } resource two { get: func() -> thing; } f: func(v: thing); }
interface two { record thing { y: u8 } variant any-thing { thing(thing) } g: func(v: thing, w: any-thing); }
interface three { use one.{thing as ones}; use two.{thing}; type protocol = u8; h: func(v: ones, w: thing) -> protocol; }
world whole { include part with { run as start } import two: interface { j: func(); } }
world part { import one; export run: func(x: string) -> bool; }
"""
    )
    text = bind.python(tmp_path / "meet.wit")
    tree = ast.parse(text)
    names = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(names) == len(set(names))
    assert {"OneThing", "TwoThing", "TwoProvider", "ABTwoProvider"} <= set(names)
    assert "def h(self, v: OneThing, w: TwoThing, /) -> types.Answer[Protocol]: ..." in text
    exec(compile(text, "bindings", "exec", dont_inherit=True), {"__name__": "bindings"})
    whole = bind.bindings(tmp_path / "meet.wit", world="whole")
    assert (whole.imports, whole.exports) == (("two", "a:b/one@1.0.0"), ())
    assert "def start(self, x: str, /) -> bool: ..." in whole.text


def test_what_is_not_there_yet_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "gated.wit").write_text(
        """/// The package.
package a:b@1.0.0;
/* c /* d */
interface i {
  /** Long
    * ago. */
  @since(version = 1.0.0)
  f: func();
  @unstable(feature = soon)
  g: func();
  @deprecated(version = 1.0.0) @since(version = 0.9.0)
  %use: func(%func: u8,);
}
""".replace("/* c /* d */", "/* c */")
    )
    made = bind.python(tmp_path / "gated.wit")
    assert '"""Long\n        ago.' in made
    assert "def g(" not in made
    assert "def use(self, func: int, /)" in made


@pytest.mark.timeout(60)
@pytest.mark.parametrize("language", bind.LANGUAGES)
def test_types_that_grow_are_bounded(tmp_path: Path, language: str) -> None:
    """What doubles with each line of WIT is not written out; what only refers to itself often is no work."""
    doubled = "".join(f"type t{n} = result<t{n - 1}, t{n - 1}>;" for n in range(1, 16))
    chained = "".join(f"type c{n} = c{n - 1};" for n in range(1, 1500))
    (tmp_path / "doubled.wit").write_text(
        f"package a:b; interface i {{ type t0 = list<u8>; {doubled} f: func(v: t15); }}"
    )
    (tmp_path / "chained.wit").write_text(
        f"package a:b; interface i {{ type c0 = list<u8>; {chained} f: func(v: c1499); }}"
    )
    with pytest.raises(errors.LoadError, match="longer than 20000 letters"):
        bind.bindings(tmp_path / "doubled.wit", language)
    assert "C1499" in bind.bindings(tmp_path / "chained.wit", language).text
    records = "".join(f"record r{n} {{ a: r{n - 1}, b: r{n - 1}, c: list<r{n - 1}> }}" for n in range(1, 9))
    (tmp_path / "records.wit").write_text(
        f"package a:b; interface i {{ record r0 {{ a: u8 }} {records} f: func(v: r8); }}"
    )
    assert "R8" in bind.bindings(tmp_path / "records.wit", language).text


def test_languages_are_named() -> None:
    with pytest.raises(ValueError, match="'rust' is none of python, typescript"):
        bind.bindings(ALL, "rust")
    with pytest.raises(ValueError, match="only TypeScript has types for guests"):
        bind.bindings(ALL, guest=True)
    with pytest.raises(errors.LoadError, match="there is no such file"):
        bind.python("nowhere")


WORKSPACE = """\
[components.app]
path = "app.wasm"
bind = { typescript = "src/wit.d.ts" }
[providers.store]
use = "sidecar:python:near.store:Store"
bind = { python = "near/bindings.py", interfaces = ["flow"] }
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "ws"
    for at in ("wit", "near/wit"):
        (folder / at).mkdir(parents=True)
        shutil.copy(ALL, folder / at / "all.wit")
    (folder / "loop.toml").write_text(WORKSPACE)
    return folder


def test_all_of_a_workspace(workspace: Path, tmp_path: Path) -> None:
    first = loop("bind", "--check", cwd=workspace)
    assert (first.returncode, (workspace / "src").exists()) == (1, False)
    assert first.stdout.splitlines() == [
        f"{name}: is not what the WIT says; run this without --check"
        for name in ("src/wit.d.ts", "near/bindings.py")
    ]
    done = loop("bind", cwd=workspace / "near")
    assert (done.returncode, done.stdout) == (0, "../src/wit.d.ts: written\nbindings.py: written\n")
    assert (workspace / "near/bindings.py").read_text() == bind.python(ALL, interfaces=["flow"])
    assert (workspace / "src/wit.d.ts").read_text() == bind.typescript(ALL, guest=True)
    again = loop("bind", "-m", str(workspace), "--json", cwd=tmp_path)
    assert json.loads(again.stdout)["bindings"] == [
        {"bind": name, "wit": str(workspace / wit), "files": [{"file": str(workspace / file), "changed": False}],
         "error": None}
        for name, wit, file in (
            ("components.app.bind", "wit", "src/wit.d.ts"),
            ("providers.store.bind", "near/wit", "near/bindings.py"),
        )
    ]  # fmt: skip
    assert loop("bind", "--check", cwd=workspace).returncode == 0


def test_what_is_wrong_with_one_leaves_the_others(workspace: Path) -> None:
    (workspace / "wit/all.wit").write_text("package a:b;\ninterface x {\n")
    done = loop("bind", cwd=workspace)
    assert (done.returncode, done.stdout) == (4, "near/bindings.py: written\n")
    assert done.stderr.startswith(f"error: {workspace}/wit/all.wit:3:1: expected")
    told = json.loads(loop("bind", "--json", cwd=workspace).stdout)["bindings"]
    assert [each["error"] is None for each in told] == [False, True]


def test_a_workspace_without_types(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").write_text("")
    done = loop("bind", cwd=tmp_path)
    expected = "loop.toml says of no types: a component or provider has them under `bind`\n"
    assert (done.returncode, done.stdout) == (0, expected)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--guest"], "name a SOURCE"),
        (["-o", "x.py"], "name a SOURCE"),
        (["wit", "-m", "."], "leave out the SOURCE"),
    ],
)
def test_what_does_not_go_with_a_workspace(workspace: Path, arguments: list[str], says: str) -> None:
    done = loop("bind", *arguments, cwd=workspace)
    assert done.returncode == 2
    assert says in done.stderr
