"""The user's own policy, and `--trust`: what belongs to no workspace, or to one without a policy, is judged by it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from loop_kit import blocking
from loop_kit import manifest as manifests
from loop_kit.cli import main
from loop_kit.errors import Untrusted
from loop_kit.host import Host
from loop_kit.oci.layout import Layout
from loop_kit.oci.model import Descriptor
from loop_kit.trust import attach, sign
from loop_kit.workspace import Workspace
from tests.store.packed import component, hello
from tests.trust.made import ACME, NAME, OTHER

POLICY = f"""\
[trust.signers]
acme = "{ACME.public.line}"

[[trust.rules]]
artifacts = ["{NAME}"]
signers = ["acme"]
"""


class Here:
    """A layout with a component, and `loop` in this process with a configuration of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.own = folder / "config" / "loop-kit" / "trust.toml"
        self.own.parent.mkdir(parents=True)
        self.layout = Layout(folder / "dist").create()
        self.root = component(self.layout, "1.0", hello(), version="1.0.0")
        self._capsys = capsys

    def sign(self, key: Any = ACME, root: Descriptor | None = None) -> None:
        root = root or self.root
        self.layout.add(None, attach(self.layout.blobs, root, sign(key, root, NAME, "1.0.0")))

    def loop(self, *args: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = main(args)
        out, err = self._capsys.readouterr()
        return code, out, err

    def refused(self, *args: str, code: int = 4) -> str:
        got, _, err = self.loop(*args)
        assert got == code, err
        assert "Traceback" not in err
        return err


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    for name, folder in (
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_DATA_HOME", "data"),
        ("XDG_STATE_HOME", "state"),
    ):
        monkeypatch.setenv(name, str(tmp_path / folder))
    for name in ("LOOP_TRUST", "LOOP_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return Here(tmp_path, capsys)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was given to the engine, by `loop run` and by `Host.load`."""
    found: list[str] = []
    real, command = Host.load, blocking.Host.command

    async def loaded(self: Host, source: Any, *args: Any, **named: Any) -> Any:
        found.append("load")
        return await real(self, source, *args, **named)

    monkeypatch.setattr(Host, "load", loaded)

    def commanded(self: Any, *args: Any, **named: Any) -> Any:
        found.append("command")
        return command(self, *args, **named)

    monkeypatch.setattr(blocking.Host, "command", commanded)
    return found


REFERENCE = "oci-layout:dist:1.0"


def test_without_a_policy_nothing_is_judged(here: Here, loads: list[str]) -> None:
    assert here.loop("run", REFERENCE)[0] == 0
    assert loads == ["command"]


@pytest.mark.parametrize("where", ["own", "option", "environment"])
def test_what_is_run_by_itself_must_be_signed(
    where: str, here: Here, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = []
    if where == "own":
        here.own.write_text(POLICY)
    else:
        (here.folder / "policy.toml").write_text(POLICY)
        if where == "option":
            more = ["--trust", "policy.toml"]
        else:
            monkeypatch.setenv("LOOP_TRUST", "policy.toml")
    for command in (["run", *more], ["serve", *more]):
        assert "has no signature" in here.refused(*command, REFERENCE)
    here.sign(OTHER)
    assert "a key that the policy does not name" in here.refused("run", *more, REFERENCE)
    assert loads == []
    assert not list((here.folder / "data").rglob("*.json")), "something was pinned"
    here.sign()
    assert here.loop("run", *more, REFERENCE)[0] == 0
    assert here.loop("run", *more, "--offline", REFERENCE)[0] == 0
    assert loads == ["command", "command"]


def test_offline_the_store_is_judged_as_well(here: Here, loads: list[str]) -> None:
    assert here.loop("pull", REFERENCE)[0] == 0
    here.own.write_text(POLICY)
    assert "has no signature" in here.refused("run", "--offline", REFERENCE)
    assert "has no signature" in here.refused("pull", REFERENCE)
    assert loads == []


def test_a_pull_says_who_signed_it(here: Here) -> None:
    here.sign()
    here.own.write_text(POLICY)
    code, out, _ = here.loop("pull", REFERENCE, "--json")
    assert code == 0
    assert json.loads(out)["artifacts"][0]["signed-by"].startswith("acme (")


def test_local_code_may_be_kept_out(here: Here, loads: list[str]) -> None:
    (here.folder / "mine.wasm").write_bytes(hello())
    here.own.write_text(POLICY)
    assert here.loop("run", "mine.wasm")[0] == 0
    loads.clear()
    here.own.write_text(f'[trust]\nlocal = "refuse"\n{POLICY}')
    for command in ("run", "serve", "call"):
        assert "mine.wasm comes from no registry" in here.refused(command, "mine.wasm")
    for provider in ("component:mine.wasm", "python:mine:Files"):
        said = here.refused("conform", provider, "--capability", "loop:fsx")
        assert f"{provider} comes from no registry" in said
    assert "./mine comes from no registry" in here.refused("conform", "stdio:", "--", "./mine")
    assert loads == []


WORKSPACE = """\
[components.hello]
path = "oci-layout:../dist:1.0"
run = "run"
wasi = { stdio = true }
"""


def test_a_workspace_without_a_policy_has_that_of_its_user(here: Here, loads: list[str]) -> None:
    folder = here.folder / "ws"
    folder.mkdir()
    (folder / "loop.toml").write_text(WORKSPACE)
    assert here.loop("pull", "-m", "ws")[0] == 0
    here.own.write_text(POLICY)
    assert "has no signature" in here.refused("run", "ws")
    assert "has no signature" in here.refused("pull", "-m", "ws")

    async def loaded() -> None:
        async with Host() as host, Workspace(host, manifests.load("ws")) as workspace:
            await workspace.load("hello")

    with pytest.raises(Untrusted):
        asyncio.run(loaded())
    assert loads == []
    out = here.loop("explain", "-m", "ws")[1]
    assert f"by your own policy, {here.own}" in out
    assert "must be signed by whoever may sign" in out
    assert json.loads(here.loop("explain", "-m", "ws", "--json")[1])["policy"] == str(here.own)
    # its own comes first
    (folder / "loop.toml").write_text(
        f'{WORKSPACE}\n[[trust.rules]]\nartifacts = ["**"]\nunsigned = "allow"\n'
    )
    out = here.loop("explain", "-m", "ws")[1]
    assert "your own policy" not in out
    here.sign()
    (folder / "loop.toml").write_text(WORKSPACE)
    assert here.loop("pull", "-m", "ws")[0] == 0
    assert here.loop("run", "ws")[0] == 0


def test_another_use_of_a_provider_does_not_lose_it(here: Here) -> None:
    here.own.write_text(POLICY)
    folder = here.folder / "ws"
    folder.mkdir()
    (folder / "loop.toml").write_text('[providers.p]\nuse = "builtin:fsx"\n')
    manifest = manifests.load(folder)
    changed = manifests.with_use(manifest, "p", "builtin:netx")
    assert changed.trust is not None
    assert (changed.trust, changed.trust_source) == (manifest.trust, manifest.trust_source)


def test_verify_judges_by_it_too(here: Here) -> None:
    here.own.write_text(POLICY)
    assert "has no signature" in here.loop("verify", REFERENCE)[1]
    here.sign()
    code, out, _ = here.loop("verify", REFERENCE)
    assert (code, "signed by acme" in out) == (0, True)


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (POLICY, 0o666, "others may write to it"),
        ("[trust", 0o644, "not valid TOML"),
        ("", 0o644, "there is no [trust] in it"),
        (f'{POLICY}\n[components.a]\npath = "a.wasm"\n', 0o644, "only [trust] may stand here"),
        ('[trust.signers]\nacme = { file = "gone.pub" }\n', 0o644, "gone.pub"),
    ],
)
def test_a_policy_that_says_nothing_lets_nothing_through(
    text: str, mode: int, said: str, here: Here, loads: list[str]
) -> None:
    here.sign()
    here.own.write_text(text)
    here.own.chmod(mode)
    err = here.refused("run", REFERENCE, code=3)
    assert said in err
    assert str(here.own) in err
    assert loads == []


def test_what_is_named_and_not_there(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "policy.toml" in here.refused("run", "--trust", "policy.toml", REFERENCE, code=2)
    (here.folder / "ws").mkdir()
    (here.folder / "ws" / "loop.toml").write_text("")
    (here.folder / "policy.toml").write_text(POLICY)
    assert "stands in its [trust]" in here.refused("run", "--trust", "policy.toml", "ws", code=2)
    monkeypatch.setenv("LOOP_TRUST", "gone.toml")
    assert "gone.toml: cannot be read" in here.refused("run", REFERENCE, code=3)
    monkeypatch.delenv("LOOP_TRUST")
    here.own.symlink_to("nowhere")
    assert "cannot be read" in here.refused("run", REFERENCE, code=3)
