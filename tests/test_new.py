"""`loop new`: projects that run and test themselves in one command."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loop_kit import errors, inspect, manifest, new, peer
from loop_kit.placements._process import Child, Command
from tests.checkout import ROOT
from tests.cli import LOOP, loop

SDK = {"python": [], "node": ["--sdk", str(ROOT / "sdk/node")], "rust": ["--sdk", str(ROOT / "sdk/rust")]}
WIT = """
package acme:shop@0.2.0;

interface catalog {
  record item { id: u32, name: string }
  resource cart {
    constructor(owner: string);
    add: func(item: item) -> result<u32, string>;
    total: async func() -> u32;
    merge: static func(a: cart, b: borrow<cart>) -> cart;
  }
  find: async func(name: string, most: option<u32>) -> stream<item>;
  %type: func();
}

interface sums { add-all: func(of: list<u32>) -> u32; }
interface types { type id = u32; }
"""


@pytest.fixture
def env() -> dict[str, str]:
    """What a user has: this Python in PATH. Rust builds where this checkout does, by what is there already."""
    # what `make test` tells a make that it starts is not for these
    own = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"CARGO_TARGET_DIR": str(ROOT / "target"), **own, "PATH": path, "PYTHON": sys.executable}


def make(folder: Path, target: str, env: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    if (folder / "Cargo.toml").exists():  # the versions that are here already
        shutil.copy(
            ROOT / ("Cargo.lock" if (folder / "build.rs").exists() else "components/Cargo.lock"), folder
        )
    return subprocess.run(
        ("make", target), cwd=folder, env={**env, **more}, capture_output=True, text=True, timeout=900
    )


@pytest.mark.timeout(900)  # Rust builds the SDK, once
@pytest.mark.parametrize("language", new.LANGUAGES["provider"])
def test_a_project_tests_itself(language: str, tmp_path: Path, env: dict[str, str]) -> None:
    made = loop("new", "provider", "--lang", language, "corner-shop", *SDK[language], cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "corner-shop"
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert [line.strip() for line in made.stdout.splitlines()[1:-1]] == files
    assert not [path for path in files if "my-provider" in (folder / path).read_text()]
    (provider,) = manifest.load(folder).providers.values()
    assert provider.name == "corner-shop"
    tested = make(folder, "test", env)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    said = {"python": "Ran 3 tests", "node": "# pass 3", "rust": "test result: ok. 4 passed"}
    assert said[language] in tested.stdout + tested.stderr


@contextmanager
def developing(folder: Path, env: dict[str, str]) -> Iterator[Callable[[str], re.Match[str]]]:
    """`loop dev`, at a free port; yields what waits for a line, and shows all lines where none comes."""
    file = folder / "loop.toml"
    file.write_text(file.read_text().replace("127.0.0.1:8080", "127.0.0.1:0"))
    env = {**env, "XDG_STATE_HOME": str(folder.parent / "state")}
    with subprocess.Popen(
        (LOOP, "dev", "--no-page"),
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as dev:
        assert dev.stdout is not None
        seen: list[str] = []

        def until(pattern: str) -> re.Match[str]:
            assert dev.stdout is not None
            for line in dev.stdout:
                seen.append(line)
                if found := re.search(pattern, line):
                    return found
                if line.startswith("error:"):
                    break
            raise AssertionError(f"nothing like {pattern!r} came:\n{''.join(seen)}")

        try:
            yield until
            dev.send_signal(signal.SIGINT)
            rest = dev.stdout.read()
            assert dev.wait(timeout=30) == 0, rest
        finally:
            dev.kill()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", ["python", "node"])
def test_a_provider_is_developed_alone(language: str, tmp_path: Path, env: dict[str, str]) -> None:
    folder = tmp_path / "kv"
    new.create("provider", language, folder, sdk=SDK[language][1] if SDK[language] else None)
    if language == "node":
        subprocess.run(("npm", "install", "--silent"), cwd=folder, check=True, timeout=200)
    code = folder / ("provider.py" if language == "python" else "src/provider.js")
    text = code.read_text()
    with developing(folder, env) as until:
        until("live kv")
        until("watching")
        code.write_text(f"{text}\nno code\n")
        until("error: kv: .*")
        code.write_text(text.replace("1000", "2000"))
        until("live kv")


@pytest.mark.timeout(900)  # Python and Rust take a minute to be built, on a machine that is busy
@pytest.mark.parametrize(
    ("kind", "language"),
    [(kind, one) for kind in ("app", "component", "resolver") for one in new.LANGUAGES[kind]],
)
def test_a_workspace_tests_itself(kind: new.Kind, language: str, tmp_path: Path, env: dict[str, str]) -> None:
    made = loop("new", kind, "--lang", language, "corner-shop", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "corner-shop"
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert [line.strip() for line in made.stdout.splitlines()[1:-1]] == files
    assert not [path for path in files if f"my-{kind}" in (folder / path).read_text()]
    tested = make(folder, "test", env)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    counts = {("app", "js"): 2, ("app", "python"): 5}
    assert f"Ran {counts.get((kind, language), 1)} test" in tested.stderr
    if (kind, language) == ("app", "js"):
        assert "# pass 3" in tested.stdout
    (component,) = manifest.load(folder).components.values()
    assert component.path.is_file()
    with developing(folder, env) as until:
        if kind == "app":
            url = until(r"site at (http\S+)")[1]
            with urllib.request.urlopen(f"{url}?name=Ada", timeout=60) as answer:
                assert "<h1>Hello, Ada!</h1>" in answer.read().decode()
        until("watching")
    wanted = {
        "app": ["acme:site/greetings@0.1.0", "loop:core/log@0.1.0"],
        "component": [],
        "resolver": ["loop:provider/settings@0.1.0", "loop:netx/types@0.1.0", "loop:netx/http-client@0.1.0"],
    }
    assert [name for name in inspect.imports(component.path) if not name.startswith("wasi:")] == wanted[kind]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("language", new.LANGUAGES["provider"])
def test_a_project_of_other_wit_tests_itself(language: str, tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "shop.wit").write_text(WIT)
    made = loop(
        "new", "provider", "--lang", language, "shop", "--wit", "shop.wit", *SDK[language], cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "shop/wit/shop.wit").read_text() == WIT
    bound = loop("bind", "--check", cwd=tmp_path / "shop")
    expected = "bindings.py: is what the WIT says" if language == "python" else "loop.toml says of no types"
    assert (bound.returncode, bound.stdout.startswith(expected)) == (0, True), bound
    tested = make(tmp_path / "shop", "test", env)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.timeout(900)
@pytest.mark.parametrize("language", new.LANGUAGES["provider"])
async def test_what_is_not_written_yet_says_so(language: str, tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "shop.wit").write_text(WIT)
    folder = tmp_path / "shop"
    sdk = SDK[language][1] if SDK[language] else None
    new.create("provider", language, folder, wit=tmp_path / "shop.wit", sdk=sdk)
    commands = {
        "python": (sys.executable, "-m", "loop_kit.serve", "provider:Provider"),
        "node": (str(folder / "node_modules/.bin/loop-provider-node"), "src/provider.js"),
        "rust": ("cargo", "run", "--quiet"),
    }
    if language != "python":
        assert make(folder, "test", env).returncode == 0
    target = {k: v for k, v in env.items() if k in ("CARGO_TARGET_DIR", "CARGO_HOME", "RUSTUP_HOME")}
    child = await Child.start(Command("shop", commands[language], folder, target, start_timeout=60))
    try:
        served = ["acme:shop/catalog", "acme:shop/sums"]
        async with await peer.connect(
            child.address, served, wit=folder / "wit", token=child.token
        ) as session:
            await session.link(1, "test/shop")
            with pytest.raises((errors.ProviderError, errors.NotOffered), match=r"add-all.*not written yet"):
                await session.call("add-all", [1, 2], link=1)
            with pytest.raises((errors.ProviderError, errors.NotOffered), match=r"cart.*not written yet"):
                await session.call("[constructor]cart", "me", link=1)
    finally:
        await child.stop()


@pytest.mark.parametrize("language", new.LANGUAGES["provider"])
def test_a_project_is_served(language: str, tmp_path: Path, env: dict[str, str]) -> None:
    """By the command that its `make run` runs."""
    new.create("provider", language, tmp_path / "kv")
    run = subprocess.run(
        ("make", "--dry-run", "run"), cwd=tmp_path / "kv", env=env, capture_output=True, text=True, check=True
    )
    assert "--on unix:kv.sock" in run.stdout


def test_published_packages_are_what_a_project_depends_on(tmp_path: Path) -> None:
    new.create("provider", "node", tmp_path / "a")
    new.create("provider", "rust", tmp_path / "b")
    package = json.loads((tmp_path / "a/package.json").read_text())
    version = json.loads((ROOT / "sdk/node/package.json").read_text())["version"]
    assert (package["name"], package["dependencies"]) == ("a", {"@loop-kit/provider": f"^{version}"})
    cargo = tomllib.loads((tmp_path / "b/Cargo.toml").read_text())
    here = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert cargo["package"]["name"] == "b"
    assert (
        cargo["dependencies"]["loop-provider"] == cargo["build-dependencies"]["loop-provider-build"] == here
    )


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--lang", "python", "Shop"), 2, "'Shop' is no name for a project"),
        (("--lang", "python", "9"), 2, "small letters, digits, and -"),
        (("--lang", "cobol", "shop"), 2, "'cobol' is not one of 'python', 'node', 'rust'"),
        (("--lang", "rust", "full"), 1, "is there already, and not empty: full"),
        (("--lang", "rust", "shop", "--wit", "nowhere"), 2, "'nowhere' does not exist"),
        (("--lang", "node", "shop", "--wit", "full/bad.wit"), 4, "bad.wit"),
        (("--lang", "node", "shop", "--wit", "full/types.wit"), 4, "there is no interface with functions"),
        (("shop",), 2, "Missing option '--lang'"),
    ],
)
def test_what_cannot_be_made_is_refused(
    arguments: tuple[str, ...], code: int, text: str, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/bad.wit").write_text("interface {")
    (tmp_path / "full/types.wit").write_text("package a:b; interface types { type id = u32; }")
    done = loop("new", "provider", *arguments, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert text in done.stderr
    assert not (tmp_path / "shop").exists()


@pytest.mark.parametrize("kind", new.LANGUAGES)
def test_what_is_there_stays(kind: new.Kind, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/loop.toml").write_text("# mine")
    (tmp_path / "file").write_text("mine too")
    for name in ("mine", "file"):
        done = loop("new", kind, "--lang", "python", name, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (1, f"error: is there already, and not empty: {name}\n")
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")} == {
        "mine",
        "mine/loop.toml",
        "file",
    }
    assert (tmp_path / "mine/loop.toml").read_text() == "# mine"


def test_what_cannot_be_written_whole_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "not/there"):
        files = {tmp_path / folder / path: path for path in ("a/b/first", "a/second", "a/" + "x" * 300)}
        with pytest.raises(OSError, match="too long"), new.writing(files):
            pass
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    done = loop("new", "app", ".", cwd=tmp_path / "here")
    assert done.returncode == 0, done.stderr
    assert manifest.load(tmp_path / "here").name == "here"


def test_machines_get_json(tmp_path: Path) -> None:
    done = loop("new", "provider", "--lang", "python", "kv", "--json", cwd=tmp_path)
    said = json.loads(done.stdout)
    assert said["folder"] == "kv"
    assert "provider.py" in said["files"]
