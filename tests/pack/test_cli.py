"""`loop pack`."""

import json
import os
from pathlib import Path

import pytest

from loop_kit.oci.layout import Layout, check
from loop_kit.store import Store
from tests.cli import loop
from tests.pack.workspaces import WIT, loop_toml, written

CODE = """
from loop_kit.provider import provider


@provider("acme:text/filter", wit="wit")
class Filter:
    def echo(self, text):
        return text * 2
"""
TOML = loop_toml("""
use = "sidecar:python:text:Filter"
sources = ["**"]
env = { TOKEN = { file = "token.txt" } }
pack = { version = "1.0.0" }
""")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    written(tmp_path / "ws", {"loop.toml": TOML, "text.py": CODE, "wit/text.wit": WIT})
    return tmp_path / "ws"


SECRETS = {
    ".env": "TOKEN=x",
    "deploy/.env.production": "TOKEN=x",
    "server.key": "x",
    "token.txt": "x",
    ".ssh/config": "x",
    "keys.py": "KEY = '''-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n'''\n",
    "user.txt": "-----BEGIN USER NKEY SEED-----\nSUAAVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVV\n",
}
HARMLESS = {
    ".env.example": "TOKEN=",
    "look.py": 'MARK = "-----BEGIN PRIVATE KEY-----"\n',
    "ca.pem": "-----BEGIN CERTIFICATE-----\n",
}


def test_secrets_stay_out_and_it_says_so(folder: Path) -> None:
    for name, text in {**SECRETS, **HARMLESS, "ignored.bin": "x", ".gitignore": "*.bin\n"}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "link").symlink_to("text.py")
    done = loop("pack", "text", "--dry-run", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (said,) = json.loads(done.stdout)
    assert {item["path"] for item in said["left-out"]} == set(SECRETS)
    assert {item["path"] for item in said["files"]} == {
        "text.py", "wit/text.wit", "app.wasm", "loop.toml", "link", ".gitignore", *HARMLESS,
    }  # fmt: skip
    shown = loop("pack", "text", "--dry-run", cwd=folder).stdout
    assert "left out: server.key, which is named as secrets are" in shown
    assert "left out: token.txt, which is a secret of loop.toml" in shown
    assert "left out: keys.py, which holds a private key" in shown
    assert shown.endswith("nothing was packed\n")
    assert not (folder.parent / "data").exists()
    loop("pack", "text", "-o", "oci-layout:out", cwd=folder)
    assert not [
        path for path in (folder / "out").rglob("*") if path.is_file() and b"MIIEow" in path.read_bytes()
    ]


def test_all_of_a_workspace_goes_into_a_layout(folder: Path) -> None:
    done = loop("pack", "-o", "oci-layout:out", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [(each["name"], each["kind"], each["version"]) for each in said] == [
        ("app", "component", None), ("text", "python", "1.0.0"),
    ]  # fmt: skip
    layout = Layout(folder / "out")
    assert check(layout.folder) == []
    for each in said:
        assert layout.resolve(each["name"]).digest == each["digest"]
    again = loop("pack", "text", "-o", "oci-layout:out:v1", cwd=folder)
    assert said[1]["digest"] in again.stdout
    assert layout.resolve("v1").digest == said[1]["digest"]
    both = loop("pack", "-o", "oci-layout:out:v1", cwd=folder)
    assert (both.returncode, "a tag where one thing is packed" in both.stderr) == (2, True)


def test_the_store_keeps_what_was_packed_last(folder: Path) -> None:
    first = json.loads(loop("pack", "text", "--json", cwd=folder).stdout)[0]["digest"]
    (folder / "text.py").write_text(CODE + "\n# another one\n")
    second = json.loads(loop("pack", "text", "--json", cwd=folder).stdout)[0]["digest"]
    assert first != second
    store = Store(folder.parent / "data/loop-kit/store")
    assert [(root.name, root.digest) for root in store.roots()] == [("packed:ws/text", second)]
    assert store.verify() == []
    store.gc()
    with store.use() as use:
        assert use.blobs.size(first) is None
        assert use.blobs.size(second) is not None
    assert store.verify() == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nobody"], 4, "no component and no provider 'nobody'"),
        (["text", "--target", "amiga"], 4, "'amiga' is a target of no machine that is known"),
        (["text", "-o", "out"], 4, "it does not begin with oci-layout:"),
        (["text", "-o", "oci-layout:."], 4, "is not empty, and no OCI layout"),
    ],
)
def test_what_does_not_do_is_said_in_a_line_or_two(
    arguments: list[str], code: int, said: str, folder: Path
) -> None:
    done = loop("pack", *arguments, cwd=folder)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_workspace_with_nothing_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").write_text('[providers.files]\nuse = "builtin:fsx"\n')
    done = loop("pack", cwd=tmp_path)
    assert (done.returncode, "of its own to pack" in done.stderr) == (2, True)


def test_names_and_targets_are_completed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    from tests.cli import LOOP

    for words, expected in (
        ("loop pack t", "text"),
        ("loop pack --target aarch64-a", "aarch64-apple-darwin"),
    ):
        env = {
            **os.environ,
            "_LOOP_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        done = subprocess.run([LOOP], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
        assert done.stdout == f"plain,{expected}\n"
