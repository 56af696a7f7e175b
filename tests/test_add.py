"""`loop add`: what is put into a manifest that somebody has written, and what is put beside it."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop_kit import manifest, new
from loop_kit.errors import ManifestError
from loop_kit.manifest._grants import GRANTS
from loop_kit.manifest._offers import OFFERS
from loop_kit.manifest.edit import Addition, added, save
from tests.checkout import ROOT
from tests.cli import loop
from tests.guests import Guest

SITE = """\
# mine
[workspace]
name = "shop"   # as it is called

[components.site]
path = "site.wasm"
imports."acme:kv" = { provider = "kv" }   # why

# Keys and values.
[providers.kv]
use = "sidecar:bin/kv"
"""
LINK = Addition(("components", "site", "imports", "loop:fsx"), {"provider": "f"}, ("A.", "B."), table=False)
TABLE = Addition(("providers", "f"), {"use": "builtin:fsx", "config": {}}, ("C.",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "loop.toml").write_text(SITE)
    return tmp_path


def after(text: str, *additions: Addition) -> str:
    return added(manifest.loads(text), additions).source.text


# ---- the text


def test_what_is_there_stays_as_it_is() -> None:
    assert after(SITE, TABLE, LINK) == (
        SITE.replace("# why\n", '# why\n# A.\n# B.\nimports."loop:fsx" = { provider = "f" }\n')
        + '\n# C.\n[providers.f]\nuse = "builtin:fsx"\nconfig = {}\n'
    )


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (
            '[components.site]\npath = "a"\n[components.site.imports]\n\n# next\n[providers.x]\nuse = "builtin:core"\n',
            '[components.site]\npath = "a"\n[components.site.imports]\n# A.\n# B.\n"loop:fsx" = { provider = "f" }\n\n'
            '# next\n[providers.x]\nuse = "builtin:core"\n',
        ),
        (
            '[components.site]\npath = "a"\n[components.site.wasi]\nenv = [\n  "A", # one\n]\n'
            '[components.b]\npath = "b"',
            '[components.site]\npath = "a"\n[components.site.wasi]\nenv = [\n  "A", # one\n]\n\n'
            '[components.site.imports]\n# A.\n# B.\n"loop:fsx" = { provider = "f" }\n\n[components.b]\npath = "b"\n',
        ),
        (
            '[components]\nsite = { path = "a", imports = { } }\n',
            '[components]\nsite = { path = "a", imports = { "loop:fsx" = { provider = "f" } } }\n',
        ),
        (
            'providers.g.use = "builtin:core"\n[components.site]\npath = "a"\n'
            'imports = {"acme:kv" = {provider = "g"}}\n',
            'providers.g.use = "builtin:core"\n[components.site]\npath = "a"\n'
            'imports = { "loop:fsx" = { provider = "f" },"acme:kv" = {provider = "g"}}\n',
        ),
        (
            'providers = {g = {use="builtin:core"}, f={use="builtin:fsx"}}\ncomponents.site.path = """a"""\n'
            'components.site.imports."acme:kv".provider = "g"\n',
            'providers = {g = {use="builtin:core"}, f={use="builtin:fsx"}}\ncomponents.site.path = """a"""\n'
            'components.site.imports."acme:kv".provider = "g"\n'
            '# A.\n# B.\ncomponents.site.imports."loop:fsx" = { provider = "f" }\n',
        ),
    ],
    ids=["an empty table", "no table", "within a line", "in a table of one line", "dotted keys"],
)
def test_a_link_stands_where_links_stand(before: str, expected: str) -> None:
    known = "builtin:fsx" in before
    end = "" if known else '\n# C.\n[providers.f]\nuse = "builtin:fsx"\nconfig = {}\n'
    text = after(before, *([] if known else [TABLE]), LINK)
    assert text.replace(end, "", 1) == expected


def test_a_first_table_stands_below_what_is_said_of_all() -> None:
    assert after("", TABLE) == '# C.\n[providers.f]\nuse = "builtin:fsx"\nconfig = {}\n'
    assert after("# all\n# of it\n", TABLE).startswith("# all\n# of it\n\n# C.\n[providers.f]\n")


def test_what_is_there_is_not_written_over() -> None:
    with pytest.raises(
        ManifestError, match=r'^loop\.toml:7:9: components\.site\.imports\."acme:kv": is there already'
    ):
        after(SITE, Addition(("components", "site", "imports", "acme:kv"), {"provider": "kv"}, table=False))


def test_a_place_that_nothing_can_be_added_to_is_named_with_what_to_write() -> None:
    with pytest.raises(ManifestError, match=r"cannot be added") as caught:
        after('components = { site = { path = "a" } }\n', LINK)
    assert '[components.site.imports]\n# A.\n# B.\n"loop:fsx" = { provider = "f" }' in (
        caught.value.hint or ""
    )


def test_what_must_not_stand_there_is_refused() -> None:
    with pytest.raises(ManifestError, match='there is no provider "f"'):
        after(SITE, LINK)


names = st.sampled_from(["a", "b-c", "d.e", 'quo"te', "ä", "loop:fsx", "[x]", "#", ""])
comments = st.sampled_from(["", "# [components.no]", "# ]", "\n# alone\n", '# """'])
scalars = st.sampled_from(
    ['"x"', "'#['", '"""\n[a]\n"""', "'''\n# no\n'''", "1", "[1,\n 2 # two\n]", "{ a = { b = 1 } }"]
)


def quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


@st.composite
def documents(draw: st.DrawFn) -> str:
    lines = [draw(comments)]
    for _ in range(draw(st.integers(0, 5))):
        head = [quoted(draw(names)) for _ in range(draw(st.integers(1, 3)))]
        lines.append(f"[{draw(st.sampled_from(['.', ' . ']))[0:].join(head)}] {draw(comments).strip()}")
        for _ in range(draw(st.integers(0, 3))):
            key = ".".join(quoted(draw(names)) for _ in range(draw(st.integers(1, 2))))
            lines.append(f"{key} = {draw(scalars)} {draw(comments).strip()}")
        lines.append(draw(comments))
    text = "\n".join(lines) + draw(st.sampled_from(["", "\n"]))
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return ""
    return text


@settings(max_examples=300, deadline=None)
@given(documents(), st.lists(names, min_size=1, max_size=4), st.booleans())
def test_whatever_is_there_nothing_is_lost(text: str, keys: list[str], table: bool) -> None:
    """Whatever TOML it is, if no manifest: each way to add gives what was there and what was added, or is not taken."""
    from loop_kit.manifest.edit import _candidates

    one = Addition(tuple(keys), {"v": 1}, ("said",), table)
    document = tomllib.loads(text)
    inner: Any = document
    for name in keys[:-1]:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            return
    if keys[-1] in inner:
        return
    inner[keys[-1]] = {"v": 1}
    good = []
    for candidate in _candidates(text, one):
        lines, rest = text.splitlines(), candidate.splitlines()
        try:
            if tomllib.loads(candidate) == document:
                good.append(candidate)
        except tomllib.TOMLDecodeError:
            continue
        if len(rest) > len(lines):  # lines were put in, and none was changed
            left = iter(rest)
            assert all(line in left for line in lines)
    if table and len(keys) == 2 and not isinstance(tomllib.loads(text).get(keys[0]), (dict, type(None))):
        assert good == []


# ---- the file


def test_a_link_a_mode_and_ends_of_lines_stay(folder: Path) -> None:
    real = folder / "real.toml"
    real.write_bytes(b"\xef\xbb\xbf" + SITE.replace("\n", "\r\n").encode())
    real.chmod(0o640)
    (folder / "loop.toml").unlink()
    (folder / "loop.toml").symlink_to(real)
    done = loop("add", "provider", "f", "--use", "builtin:fsx", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "loop.toml").is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    text = SITE + '\n[providers.f]\nuse = "builtin:fsx"\n'
    assert real.read_bytes() == b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    assert {path.name for path in folder.iterdir()} == {"loop.toml", "real.toml"}


def test_what_somebody_wrote_meanwhile_stays(folder: Path) -> None:
    before = manifest.load(folder)
    (folder / "loop.toml").write_text("# theirs")
    with pytest.raises(ManifestError, match=r"has changed meanwhile \(do it again\)"):
        save(before, added(before, [TABLE]))
    assert (folder / "loop.toml").read_text() == "# theirs"


def test_a_folder_that_cannot_be_written_leaves_all_as_it_was(folder: Path) -> None:
    before = manifest.load(folder)
    (folder / "loop.toml").unlink()
    (folder / "loop.toml").symlink_to("nowhere")
    with pytest.raises(ManifestError, match="cannot be written: No such file"):
        save(before, added(before, [TABLE]))


# ---- the command


@pytest.mark.parametrize("package", OFFERS)
def test_a_capability(package: str, folder: Path) -> None:
    short = package.partition(":")[2]
    dry = loop("add", "capability", short, "--to", "site", "--dry-run", cwd=folder)
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.endswith("nothing was written\n")
    assert (folder / "loop.toml").read_text() == SITE
    assert [path.name for path in folder.iterdir()] == ["loop.toml"]
    done = loop("add", "capability", package, "--to", "site", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == dry.stdout.removesuffix("nothing was written\n")
    assert f"have site import it: `import {package}/" in done.stdout
    after = manifest.load(folder)
    link = after.components["site"].imports[package]
    assert link.grant, "it is written out"
    assert after.providers[link.provider].use == OFFERS[package].use
    assert OFFERS[package].why in (folder / "loop.toml").read_text()
    again = loop("add", "capability", short, "--to", "site", cwd=folder)
    assert again.returncode == 3
    assert "site is linked to it already (change its grant there)" in again.stderr


def test_there_is_an_offer_for_each_capability_that_has_grants() -> None:
    assert OFFERS.keys() == GRANTS.keys()


@pytest.mark.timeout(300)
async def test_what_is_added_can_be_used_at_once(tmp_path: Path) -> None:
    """A component whose world says what `loop add` says, and for the rest nothing by hand: it is built, and linked."""
    import loop_kit
    from loop_kit.workspace import Workspace

    folder = tmp_path / "hello"
    new.create("app", "js", folder)
    world, site = folder / "wit/site.wit", folder / "site/site.js"
    # it has loop:core already; loop:devserver waits, which components in JavaScript cannot, and is there in `loop dev`
    packages = OFFERS.keys() - {"loop:core", "loop:devserver"}
    for package in sorted(packages):
        done = loop("add", "capability", package, "--to", "site", "--json", cwd=folder)
        assert done.returncode == 0, done.stderr
        wanted = re.search(r"`(import (\S+);)`", " ".join(json.loads(done.stdout)["then"]))
        assert wanted is not None
        world.write_text(world.read_text().replace("import greetings;", f"import greetings;\n  {wanted[1]}"))
        name = package.partition(":")[2]
        site.write_text(
            f'import * as {name} from "{wanted[2]}";\nexport const _{name} = {name};\n{site.read_text()}'
        )
    async with loop_kit.Host() as host, Workspace(host, manifest.load(folder)) as workspace:
        await workspace.load("site")
        linked = {link.interface.partition("/")[0] for link in workspace.links()}
    assert linked == {*packages, "loop:core", "acme:site"}


def test_a_provider_that_is_there_serves_it(folder: Path) -> None:
    assert loop("add", "provider", "mine", "--use", "builtin:fsx", cwd=folder).returncode == 0
    done = loop("add", "capability", "fsx", "--to", "site", "--json", cwd=folder)
    said = json.loads(done.stdout)
    assert '+imports."loop:fsx" = { provider = "mine", ' in said["difference"]
    assert said["may"] == ["read ./docs (as `docs`, read-only)"]
    assert [Path(path).name for path in said["folders"]] == ["docs"]
    other = loop(
        "add", "capability", "keyvalue", "--to", "site", "--use", "component:loop:keyvalue/memory", cwd=folder
    )
    assert other.returncode == 0, other.stderr
    store = manifest.load(folder).providers["store"]
    assert (store.use, store.config) == ("component:loop:keyvalue/memory", {})


def test_the_wit_is_put_beside_the_components_own(tmp_path: Path) -> None:
    new.create("app", "js", tmp_path / "hello")
    done = loop("add", "capability", "fsx", "--to", "site", "-m", "hello", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    put = tmp_path / "hello/wit/deps/loop-fsx/fsx.wit"
    assert put.read_text() == (ROOT / "python/loop_kit/capabilities/fsx/wit/fsx.wit").read_text()
    assert (
        "put `import loop:fsx/files@0.1.0;` into the world in wit (`loop:fsx` also has digests, "
        in done.stdout
    )
    world = tmp_path / "hello/wit/site.wit"
    world.write_text(
        world.read_text().replace("import greetings;", "import greetings;\n  import loop:fsx/files@0.1.0;")
    )
    from loop_kit import _core

    names = [interface.name for interface in _core.Contract(tmp_path / "hello/wit", []).interfaces()]
    assert "loop:fsx/files@0.1.0" in names


def test_what_a_component_imports_already_needs_no_wit(folder: Path) -> None:
    guest = Guest().imports("root", [], of="loop:fsx/files@0.1.0")
    (folder / "site.wasm").write_bytes(guest.wasm())
    done = loop("add", "capability", "fsx", "--to", "site", cwd=folder)
    assert done.stdout.splitlines()[-1] == "site may read ./docs (as `docs`, read-only)"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", ["python", "node"])
@pytest.mark.parametrize("wit", [False, True])
def test_a_provider_to_be_written(language: str, wit: bool, folder: Path) -> None:
    more = ["--sdk", str(ROOT / "sdk/node")] if language == "node" else []
    if wit:
        text = "package acme:shop@0.2.0;\ninterface catalog { record item { id: u32 } find: func() -> list<item>; }\n"
        (folder / "shop.wit").write_text(text)
        more += ["--wit", "shop.wit"]
    done = loop("add", "provider", "corner-shop", "--lang", language, *more, cwd=folder)
    assert done.returncode == 0, done.stderr
    into = folder / ("corner_shop" if language == "python" else "corner-shop")
    assert not (into / "loop.toml").exists()
    env = {**os.environ, "PYTHON": sys.executable}
    tested = subprocess.run(("make", "test"), cwd=into, env=env, capture_output=True, text=True, timeout=300)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    provider = manifest.load(folder).providers["corner-shop"]
    for source in provider.sources:
        assert [*folder.glob(source.removeprefix("!"))], source
    if language == "python":
        assert provider.use == "sidecar:python:corner_shop.provider:Provider"
        bound = loop("bind", "--check", cwd=folder)
        assert bound.returncode == 0
        assert bound.stdout.startswith(
            "corner_shop/bindings.py: is what" if wit else "loop.toml says of no types"
        )
        dry = subprocess.run(
            ("make", "-n", "run"), cwd=into, env=env, capture_output=True, text=True, check=True
        ).stdout
        assert re.search(r"cd \.\. && .* -m loop_kit\.serve corner_shop\.provider:Provider --on unix:", dry)


def test_a_provider_in_rust(folder: Path) -> None:
    done = loop("add", "provider", "corner-shop", "--lang", "rust", cwd=folder)
    assert done.returncode == 0, done.stderr
    provider = manifest.load(folder).providers["corner-shop"]
    assert provider.command[-2:] == ("--manifest-path", "corner-shop/Cargo.toml")
    for source in provider.sources:
        assert [*folder.glob(source.removeprefix("!"))], source
    shown = loop("pack", "corner-shop", "--dry-run", cwd=folder)
    assert "built by `cd corner-shop && cargo build --release --target {target}`" in shown.stdout, (
        shown.stderr
    )


async def test_an_added_provider_in_python_is_started(tmp_path: Path) -> None:
    import loop_kit
    from loop_kit.workspace import Workspace

    guest = Guest().imports(
        "get", [], of="acme:kv/none"
    )  # it has no such interface: the process that says so is it
    (tmp_path / "a.wasm").write_bytes(guest.wasm())
    (tmp_path / "loop.toml").write_text('[components.a]\npath = "a.wasm"\n')
    assert loop("add", "provider", "my-kv", "--lang", "python", cwd=tmp_path).returncode == 0
    link = Addition(("components", "a", "imports", "acme:kv"), {"provider": "my-kv"}, table=False)
    before = manifest.load(tmp_path)
    save(before, added(before, [link]))
    async with loop_kit.Host() as host, Workspace(host, manifest.load(tmp_path)) as workspace:
        with pytest.raises(loop_kit.errors.LinkError, match=r"acme:kv/store@0\.1\.0"):
            await workspace.load("a")


@pytest.mark.timeout(600)
def test_a_component_to_be_written(folder: Path) -> None:
    done = loop("add", "component", "words", "--lang", "js", cwd=folder)
    assert done.returncode == 0, done.stderr
    env = {**os.environ, "PYTHON": sys.executable}
    tested = subprocess.run(
        ("make", "test"), cwd=folder / "words", env=env, capture_output=True, text=True, timeout=300
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    component = manifest.load(folder).components["words"]
    assert component.path == folder / "words/build/words.wasm"
    assert component.path.is_file()


def test_a_component_that_is_there(folder: Path) -> None:
    (folder / "deep").mkdir()
    guest = Guest().imports("log", [], of="loop:core/log@0.1.0")
    (folder / "deep/a.wasm").write_bytes(guest.wasm())
    done = loop("add", "component", "a", "--path", "a.wasm", cwd=folder / "deep")
    assert done.returncode == 0, done.stderr
    assert manifest.load(folder).components["a"].path == folder / "deep/a.wasm"
    assert done.stdout.splitlines()[-1] == "`loop add capability loop:core --to a` links its import loop:core"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (
            ("capability", "fsz", "--to", "site"),
            1,
            "loop-kit has no capability 'fsz'\nhint: did you mean \"fsx\"?",
        ),
        (("capability", "fsx", "--to", "sit"), 3, 'there is no component "sit" (did you mean "site"?)'),
        (("capability", "fsx"), 2, "Missing option '--to'"),
        (("capability", "fsx", "--to", "site", "--use", "builtin:nope"), 3, 'there is no builtin "nope"'),
        (("provider", "kv", "--use", "builtin:fsx"), 3, "providers.kv: is there already"),
        (("provider", "a", "--use", "python:a:B"), 3, "add `trusted = true` if you trust this code"),
        (("provider", "a"), 2, "say either --use, what it is, or --lang"),
        (("provider", "a", "--use", "builtin:fsx", "--lang", "python"), 2, "say either --use"),
        (("provider", "a", "--use", "builtin:fsx", "--wit", "."), 2, "--wit and --sdk go with --lang"),
        (("provider", "A b", "--lang", "python"), 2, "'A b' is no name for a project"),
        (("provider", "full", "--lang", "python"), 1, "is there already, and not empty"),
        (("component", "full", "--lang", "js"), 1, "is there already, and not empty"),
        (("component", "site", "--path", "b.wasm"), 3, "components.site: is there already"),
        (("component", "a b", "--path", "b.wasm"), 3, "a name of letters, digits, - and _"),
        (("component", "a"), 2, "say either --path, where it is, or --lang"),
    ],
)
def test_what_cannot_be_added_is_refused(
    arguments: tuple[str, ...], code: int, text: str, folder: Path
) -> None:
    (folder / "full").mkdir()
    (folder / "full/mine").touch()
    done = loop("add", *arguments, cwd=folder)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert text in done.stderr
    assert (folder / "loop.toml").read_text() == SITE
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*")} == {"loop.toml", "full", "full/mine"}


def test_trust_is_what_its_user_says(folder: Path) -> None:
    done = loop("add", "provider", "a", "--use", "python:a:B", "--trusted", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert manifest.load(folder).providers["a"].trusted


def test_without_a_workspace_there_is_nothing_to_add_to(tmp_path: Path) -> None:
    done = loop("add", "provider", "a", "--use", "builtin:fsx", cwd=tmp_path)
    assert done.returncode == 3
    assert "loop.toml: not found in" in done.stderr
