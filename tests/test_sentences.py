"""What a component may do, in words, and what a change of the manifest does to that."""

import json
import subprocess
from pathlib import Path

import pytest

from loop_kit.cli import main
from loop_kit.manifest import loads
from loop_kit.manifest.sentences import Difference, differences, may

SITE = """\
[components.site]
path = "site.wasm"
env = { MODE = "production" }
wasi = { dirs = [{ host = "data", guest = "/data", mode = "rw" }], net = ["127.0.0.1:5432"], stdio = true }

[components.site.imports]
"loop:fsx" = { provider = "files", grant = { roots.docs = { path = "docs" } } }
"acme:kv" = { provider = "kv" }
"acme:mail" = { provider = "mail", grant = { to = ["a@example.com"] } }

[providers.files]
use = "builtin:fsx"

[providers.core]
use = "sidecar:builtin:core"

[providers.kv]
use = "python:acme.kv:Store"
trusted = true

[providers.mail]
use = "component:mail.wasm"

[links]
"loop:core" = { provider = "core", grant.log = { level = "warn", targets = ["site"] } }
"""


def test_a_grant_reads_like_a_sentence() -> None:
    manifest = loads(SITE, "/ws/loop.toml")
    said = may(manifest, manifest.components["site"])
    assert said.allowed == (
        "read ./docs (as `docs`, read-only)",
        "use acme:kv by python:acme.kv:Store, TRUSTED with all the rights of the host",
        'use acme:mail by component:mail.wasm under { to = ["a@example.com"] }',
        "log about site from level warn on, by sidecar:builtin:core",
        "tell measurements and spans, by sidecar:builtin:core",
        "read clocks and random numbers, by sidecar:builtin:core",
        "read and change ./data (as /data, by WASI)",
        "connect to 127.0.0.1:5432 (by WASI)",
        "see the variables MODE",
        "use standard input and output",
    )
    assert said.denied == ("run programs",)


def test_what_is_not_imported_is_not_used() -> None:
    manifest = loads(SITE, "/ws/loop.toml")
    said = may(manifest, manifest.components["site"], ["acme:kv/store@1.0.0"])
    assert [text for text in said.allowed if "WASI" not in text][:1] == [
        "use acme:kv by python:acme.kv:Store, TRUSTED with all the rights of the host"
    ]
    assert not [text for text in said.allowed if "docs" in text]


def test_nothing_is_granted_by_itself() -> None:
    manifest = loads('[components.a]\npath = "a.wasm"\n', "/ws/loop.toml")
    said = may(manifest, manifest.components["a"])
    assert said.allowed == ()
    assert said.denied == ("touch files", "use the network", "run programs")


def test_a_difference_tells_what_is_wider_and_what_narrower() -> None:
    old = loads(SITE, "/ws/loop.toml")
    new = loads(
        SITE.replace('path = "docs"', 'path = "/"').replace(', net = ["127.0.0.1:5432"]', ""), "/ws/loop.toml"
    )
    assert differences(old, old) == []
    assert differences(old, new) == [
        Difference(
            "site",
            wider=("read / (as `docs`, read-only)",),
            narrower=("read ./docs (as `docs`, read-only)", "connect to 127.0.0.1:5432 (by WASI)"),
        )
    ]
    gone = differences(old, loads("", "/ws/loop.toml"))
    assert [(d.component, d.wider, len(d.narrower)) for d in gone] == [("site", (), 10)]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose manifest is committed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.toml").write_text(SITE)
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for command in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "first")):
        subprocess.run(("git", *command), check=True)
    return tmp_path


def test_explain_compares_with_the_last_commit_or_a_file(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "--diff"]) == 0
    assert capsys.readouterr().out == "no component may more, or less, than by HEAD\n"
    (workspace / "old.toml").write_text(SITE)
    docs = 'roots.docs = { path = "docs" }'
    wider = SITE.replace(docs, 'roots = { docs = { path = "docs" }, etc = { path = "/etc" } }')
    (workspace / "loop.toml").write_text(wider)
    for since in ("HEAD", "old.toml"):
        assert main(["explain", "--diff", since]) == 0
        assert capsys.readouterr().out == "site\n  + may read /etc (as `etc`, read-only)\n"
    assert main(["explain", "--diff", "old.toml", "--json"]) == 0
    (item,) = json.loads(capsys.readouterr().out)["differences"]
    assert item == {"component": "site", "wider": ["read /etc (as `etc`, read-only)"], "narrower": []}
    assert main(["explain", "other", "--diff", "HEAD"]) == 0
    assert "no component" in capsys.readouterr().out


def test_explain_says_what_there_is_nothing_to_compare_with(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "--diff", "v9"]) == 1
    error = capsys.readouterr().err
    assert "v9 is no file, and git has no loop.toml there" in error
    assert len(error.splitlines()) == 1
