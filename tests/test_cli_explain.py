"""`loop explain`: who gets which provider, why, and what to add where nobody does."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from loop_kit.cli import main
from loop_kit.errors import LoopError
from loop_kit.manifest import loads
from loop_kit.manifest.explain import ExplainedImport, explain
from tests.checkout import ROOT

SITE = """\
[components.site]
path = "site.wasm"
build = "npm run build"

[components.site.imports]
"loop:fsx" = { provider = "files", grant = { roots = { docs = { path = "docs" } }, max-read = "1MiB" } }
"acme:kv" = { provider = "kv" }

[components.site.wasi]
net = ["127.0.0.1:5432"]

[components.kv]
path = "kv.wasm"

[providers.files]
use = "builtin:fsx"

[providers.kv]
use = "component:kv"

[providers.mine]
use = "python:acme.log:Log"
trusted = true

[links]
"loop:core" = { provider = "mine", grant.log = { level = "info", targets = ["site", "db.pool"] } }
"""
IMPORTS = {
    "site.wasm": [
        "loop:fsx/files@0.1.0",
        "loop:core/log@0.1.0",
        "acme:kv/store@1.0.0",
        "wasi:clocks/monotonic-clock@0.2.12",
        "wasi:filesystem/types@0.2.12",
        "wasi:filesystem/preopens@0.2.12",
        "wasi:sockets/tcp@0.2.12",
        "wasi:io/streams@0.2.12",
    ],
    "kv.wasm": [],
}


def imports_of(path: Path) -> list[str]:
    if path.name not in IMPORTS:
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return IMPORTS[path.name]


def explained(text: str, *names: str) -> dict[str, ExplainedImport]:
    manifest = loads(text, "/ws/loop.toml", shown="loop.toml")
    (component,) = explain(manifest, lambda path: names, ["site"])
    return {item.name: item for item in component.imports}


def test_linked_imports() -> None:
    items = explained(SITE, *IMPORTS["site.wasm"])
    files = items["loop:fsx/files@0.1.0"]
    assert files == ExplainedImport(
        "loop:fsx/files@0.1.0",
        "linked",
        provider="files",
        use="builtin:fsx",
        placement="builtin",
        grant={"roots": {"docs": {"mode": "ro", "path": Path("/ws/docs")}}, "max-read": 1 << 20},
        reason='"loop:fsx" in [components.site.imports] matches its package, in any version',
        place="loop.toml:6",
    )
    log = items["loop:core/log@0.1.0"]
    assert (log.provider, log.placement, log.trusted, log.place) == ("mine", "python", True, "loop.toml:26")
    shipped = SITE.replace("python:acme.log:Log", "python:loop_kit.capabilities.core:Core")
    log = explained(shipped, *IMPORTS["site.wasm"])["loop:core/log@0.1.0"]
    assert (log.placement, log.trusted) == ("python", False)
    store = items["acme:kv/store@1.0.0"]
    assert (store.placement, store.trusted, store.answered) == ("component", False, True)


def test_wasi_is_answered_but_closed() -> None:
    items = explained(SITE, *IMPORTS["site.wasm"])
    assert items["wasi:clocks/monotonic-clock@0.2.12"].add is None
    closed = items["wasi:filesystem/types@0.2.12"]
    assert (closed.status, closed.answered, closed.grant) == ("wasi", True, {})
    assert closed.reason == "no directory is visible"
    assert items["wasi:sockets/tcp@0.2.12"].grant == {"net": ["127.0.0.1:5432"]}


def test_secrets_are_not_shown() -> None:
    text = SITE.replace("build =", 'env = { TOKEN = "hunter2" }\nargs = ["hunter3"]\nbuild =')
    item = explained(text, "wasi:cli/environment@0.2.12")["wasi:cli/environment@0.2.12"]
    assert item.grant == {"env": ["TOKEN"], "args": 1}


def test_a_link_takes_the_place_of_wasi() -> None:
    text = SITE.replace('"acme:kv" =', '"wasi:filesystem" = { provider = "kv" }\n"acme:kv" =')
    assert explained(text, "wasi:filesystem/types@0.2.12").popitem()[1].provider == "kv"


def test_what_contradicts_itself_is_refused() -> None:
    text = SITE.replace('"acme:kv" =', '"acme:kv/store" = { provider = "kv" }\n"acme:kv@1.0.0" =')
    item = explained(text, "acme:kv/store@1.0.0")["acme:kv/store@1.0.0"]
    assert (item.status, item.answered) == ("refused", False)
    assert item.place == "loop.toml:7"
    assert item.reason.endswith(
        'both match the import "acme:kv/store@1.0.0"; add the full name "acme:kv/store@1.0.0"'
    )


ELSEWHERE = """\
[components.site]
path = "site.wasm"
[components.site.imports]
"loop:fsx" = { provider = "near", grant.roots.docs.path = "docs", budget = "5ms" }
"acme:kv" = { provider = "near" }
"acme:own" = { provider = "own", grant = { a = 1 } }
"acme:far" = { provider = "far", grant = { b = 2 } }
"acme:old" = { provider = "old" }
[providers.near]
use = "sidecar:./bin/kv"
transport = "quic"
args = ["--name", "a b"]
env = { TOKEN = "hunter2" }
[providers.own]
use = "sidecar:node:own.js"
isolate = true
[providers.far]
use = "remote:ws://far.example:1/rpc"
tls = { certificate = "c", key = "k" }
token = { env = "FAR_TOKEN" }
[providers.old]
use = "remote:tcp://127.0.0.1:7"
handshake = false
[links]
"acme:log" = { provider = "near", grant = { level = 1 } }
"acme:other" = { provider = "own", grant = { c = 3 } }
"""
FAR = ["loop:fsx/files@0.1.0", "acme:kv/a", "acme:own/a", "acme:far/a", "acme:old/a"]


def test_providers_that_run_elsewhere() -> None:
    items = explained(ELSEWHERE, *FAR)
    near = items["loop:fsx/files@0.1.0"]
    assert (near.placement, near.transport, near.budget, near.trusted) == ("sidecar", "quic", 0.005, False)
    assert near.process == ("/ws/bin/kv", "--name", "a b")
    assert [place for place, _ in near.entrusted] == [
        'components.site.imports."loop:fsx"', 'components.site.imports."acme:kv"', 'links."acme:log"'
    ]  # fmt: skip
    assert items["acme:kv/a"].entrusted == near.entrusted
    own = items["acme:own/a"]
    assert (own.transport, own.isolated) == ("unix", True)
    assert own.entrusted == (('components.site.imports."acme:own"', {"a": 1}),)
    far = items["acme:far/a"]
    assert (far.placement, far.transport, far.secured) == ("remote", "ws", ("mutual tls", "token"))
    assert all(item.answered for item in items.values())


FAR_TEXT = """\
site  {ws}/site.wasm
  may read ./docs (as `docs`, read-only), by sidecar:./bin/kv
  may use acme:kv by sidecar:./bin/kv
  may use acme:own by sidecar:node:own.js under {{ a = 1 }}
  may use acme:far by remote:ws://far.example:1/rpc under {{ b = 2 }}
  may use acme:old by remote:tcp://127.0.0.1:7
  may not use the network or run programs

  loop:fsx/files@0.1.0
    provider   near, sidecar:./bin/kv
    runs       as a process of its own, over quic
    command    {ws}/bin/kv --name 'a b'
    trust      a native program with your rights, and with the grants of components.site.imports."loop:fsx", \
links."acme:log"
    grant      {{ roots = {{ docs = {{ mode = "ro", path = "{ws}/docs" }} }} }}
    budget     5ms
    because    "loop:fsx" in [components.site.imports] matches its package, in any version (loop.toml:4)

  acme:kv/a
    provider   near, sidecar:./bin/kv
    runs       as a process of its own, over quic
    command    {ws}/bin/kv --name 'a b'
    trust      a native program with your rights, and with the grants of components.site.imports."loop:fsx", \
links."acme:log"
    grant      nothing
    because    "acme:kv" in [components.site.imports] matches its package, in any version (loop.toml:5)

  acme:own/a
    provider   own, sidecar:node:own.js
    runs       as a process of its own for this link, over unix
    command    node {ws}/own.js
    trust      a native program with your rights, and with the grant below
    grant      {{ a = 1 }}
    because    "acme:own" in [components.site.imports] matches its package, in any version (loop.toml:6)

  acme:far/a
    provider   far, remote:ws://far.example:1/rpc
    runs       elsewhere, over ws with mutual tls and token
    trust      whoever answers there, with the grant below
    grant      {{ b = 2 }}
    because    "acme:far" in [components.site.imports] matches its package, in any version (loop.toml:7)

  acme:old/a
    provider   old, remote:tcp://127.0.0.1:7
    runs       elsewhere, over tcp with nothing to secure it
    trust      whoever answers there, with no grants
    grant      nothing
    because    "acme:old" in [components.site.imports] matches its package, in any version (loop.toml:8)
"""


def test_the_text_of_what_runs_elsewhere(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(IMPORTS, "site.wasm", FAR)
    (workspace / "loop.toml").write_text(ELSEWHERE)
    assert main(["explain", "site"]) == 0
    assert capsys.readouterr().out == FAR_TEXT.format(ws=workspace)
    assert main(["explain", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    near = report["components"][0]["imports"][0]
    assert (near["transport"], near["budget"], near["process"][0]) == ("quic", 0.005, f"{workspace}/bin/kv")
    assert near["entrusted"][2] == ['links."acme:log"', {"level": 1}]
    assert "hunter2" not in json.dumps(report)


BARE = '[components.site]\npath = "site.wasm"\n'


@pytest.mark.parametrize(
    "text",
    [
        BARE,
        BARE + "[components.site.imports]\n",
        BARE
        + '[components.site.imports]\n"acme:other".provider = "fsx"\n[providers.fsx]\nuse = "builtin:core"\n',
        BARE + '[providers.files]\nuse = "builtin:fsx"\n[providers.core]\nuse = "builtin:core"\n',
        BARE + '[components.kv]\npath = "kv.wasm"\n',
        BARE + '[components.site.wasi]\nenv = ["LANG"]\n',
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        "loop:fsx/files@0.1.0",
        "loop:core/log@0.1.0",
        "wasi:blobstore/whole@0.3.0-draft",
        "wasi:keyvalue/store@0.2.0-draft",
        "acme:kv/store@1.0.0",
        "log",
        "wasi:cli/stdout@0.2.12",
    ],
)
def test_what_it_says_to_add_can_be_pasted_and_is_enough(text: str, name: str) -> None:
    before = explained(text, name)[name]
    assert before.add is not None
    if before.add.startswith("# in [components.site.wasi]\n"):
        pasted = text + before.add  # that table is the last one
    else:
        assert not before.add.startswith("#")
        pasted = f"{text}\n{before.add}"
    after = explained(pasted, name)[name]
    assert after.answered
    assert after.grant or before.status == "missing"
    assert after.add is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'components.site = { path = "x" }\n',
            '# in components.site\nimports = { "acme:kv" = { provider = "kv" } }\n',
        ),
        (BARE + "imports = {}\n", '# in components.site.imports\n"acme:kv" = { provider = "kv" }\n'),
    ],
)
def test_what_to_add_inside_inline_tables(text: str, expected: str) -> None:
    item = explained(text, "acme:kv/store@1.0.0")["acme:kv/store@1.0.0"]
    assert item.add == f'{expected}\n[providers.kv]\nuse = "component:kv.wasm"\n'


def test_links_that_match_nothing() -> None:
    manifest = loads(SITE.replace('"acme:kv"', '"acme:vk"'), "/ws/loop.toml")
    site, kv = explain(manifest, imports_of)
    assert site.unused == {"acme:vk": "acme:kv"}
    assert kv.unused == {}


def test_components_that_cannot_be_read() -> None:
    def refuse(path: Path) -> list[str]:
        if path.name == "kv.wasm":
            raise LoopError("kv.wasm is a core module, not a component")
        raise FileNotFoundError(2, "No such file or directory", str(path))

    site, kv = explain(loads(SITE, "/ws/loop.toml"), refuse)
    assert site.unread == "not built yet: npm run build"
    assert [item.name for item in site.imports] == ["loop:fsx", "acme:kv"]
    assert not site.answered
    assert kv.unread == "kv.wasm is a core module, not a component"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace in the current folder whose components can be read without the core."""
    inspect = types.ModuleType("loop_kit.inspect")
    inspect.imports = imports_of  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, inspect.__name__, inspect)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.toml").write_text(SITE)
    return tmp_path


def test_the_text(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "site"]) == 0
    assert capsys.readouterr().out == TEXT.format(ws=workspace)


TEXT = """\
site  {ws}/site.wasm
  may read ./docs (as `docs`, read-only)
  may log about site, db.pool from level info on, by python:acme.log:Log, TRUSTED with all the rights of the host
  may tell measurements and spans, by python:acme.log:Log, TRUSTED with all the rights of the host
  may read clocks and random numbers, by python:acme.log:Log, TRUSTED with all the rights of the host
  may use acme:kv by component:kv
  may connect to 127.0.0.1:5432 (by WASI)
  may not run programs

  loop:fsx/files@0.1.0
    provider   files, builtin:fsx
    runs       in this process, as part of loop-kit
    grant      {{ roots = {{ docs = {{ mode = "ro", path = "{ws}/docs" }} }}, max-read = 1048576 }}
    because    "loop:fsx" in [components.site.imports] matches its package, in any version (loop.toml:6)

  loop:core/log@0.1.0
    provider   mine, python:acme.log:Log
    runs       TRUSTED: in this process, with all the rights of the host
    grant      {{ log = {{ level = "info", targets = ["site", "db.pool"] }} }}
    because    "loop:core" in [links] matches its package, in any version (loop.toml:26)

  acme:kv/store@1.0.0
    provider   kv, component:kv
    runs       sandboxed, as a component
    grant      nothing
    because    "acme:kv" in [components.site.imports] matches its package, in any version (loop.toml:7)

  wasi:clocks/monotonic-clock@0.2.12
  wasi:io/streams@0.2.12
    provider   WASI, built in
    because    this part needs no grant

  wasi:filesystem/types@0.2.12
  wasi:filesystem/preopens@0.2.12
    provider   WASI, built in
    grant      nothing: no directory is visible
    to allow more, add
      # in [components.site.wasi]
      dirs = [{{ host = "data", guest = "/data", mode = "ro" }}]

  wasi:sockets/tcp@0.2.12
    provider   WASI, built in
    grant      {{ net = ["127.0.0.1:5432"] }}
    because    [components.site.wasi] grants it (loop.toml:10)
"""


def test_the_docs_show_this_text() -> None:
    shown = (ROOT / "docs" / "cli.md").read_text("utf-8").partition("```text\n")[2].partition("```")[0]
    printed = TEXT.format(ws="/srv/site").split("\n\n")
    assert shown
    assert all(part.rstrip("\n") in [block.rstrip("\n") for block in printed] for part in shown.split("\n\n"))


def test_the_text_of_what_is_missing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "loop.toml").write_text(BARE)
    assert main(["explain"]) == 4
    out = capsys.readouterr().out
    assert (
        "  acme:kv/store@1.0.0\n    missing    no key of the manifest matches it\n    to link it, add\n"
        in out
    )
    assert '      [components.site.imports."acme:kv"]\n      provider = "kv"\n\n      [providers.kv]\n' in out


def test_the_json(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--json", "-m", str(workspace)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["manifest"] == str(workspace / "loop.toml")
    site: dict[str, Any] = report["components"][0]
    assert (site["name"], site["answered"], site["unread"]) == ("site", True, None)
    assert [item["name"] for item in site["imports"] if item["trusted"]] == ["loop:core/log@0.1.0"]
    assert site["imports"][0]["grant"] == {
        "roots": {"docs": {"mode": "ro", "path": str(workspace / "docs")}},
        "max-read": 1 << 20,
    }


def test_names_and_manifests_that_do_not_exist(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "sit"]) == 3
    assert capsys.readouterr().err == (
        'error: loop.toml:1:2: components: there is no component "sit" (did you mean "site"?)\n'
    )
    assert main(["explain", "-m", "nowhere"]) == 3
    assert capsys.readouterr().err == "error: nowhere: cannot be read: No such file or directory\n"
    (workspace / "loop.toml").write_text("")
    assert main(["explain"]) == 0
    assert capsys.readouterr().out == "loop.toml has no components.\n"


def test_without_the_core(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "loop_kit.inspect", None)
    assert main(["explain", "kv"]) == 4
    assert "`loop doctor` says what to do" in capsys.readouterr().out


def test_types_of_wit_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop.toml").write_text(
        f"[components.a]\npath = {str(ROOT / 'examples/plugin.wasm')!r}\n"
        "bind = { typescript = 'src/wit.d.ts' }\n[components.b]\npath = 'b.wasm'\n"
    )
    main(["explain", "a", "-m", str(tmp_path)])
    assert f"  has types of its WIT in {tmp_path}/src/wit.d.ts, by `loop bind`\n" in capsys.readouterr().out
    main(["explain", "-m", str(tmp_path), "--json"])
    told = json.loads(capsys.readouterr().out)["components"]
    assert [each["types"] for each in told] == [[str(tmp_path / "src/wit.d.ts")], []]
