"""`loop key`, `loop sign` and `loop verify`, on layouts and registries."""

import asyncio
import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loop_kit.cli import main
from loop_kit.oci.layout import Layout
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.trust.bundle import MEDIA_TYPE
from tests.cli import LOOP
from tests.registries import crane, docker
from tests.trust.made import ACME, Artifact, artifact

Loop = Callable[..., tuple[int, str, str]]
NAME = "registry.example/acme/site"


@pytest.fixture
def loop(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """Runs `loop` in this process, with keys, records and a folder of its own: the exit code, stdout and stderr."""
    monkeypatch.setenv("LOOP_KEYS", os.fspath(tmp_path / "keys"))
    monkeypatch.setenv("XDG_STATE_HOME", os.fspath(tmp_path / "state"))
    monkeypatch.delenv("LOOP_KEY_PASSPHRASE", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        code = main(args)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def said(loop: Loop, *args: str, code: int = 0) -> Any:
    got, out, err = loop(*args, "--json")
    assert (got, err) == (code, "")
    return json.loads(out)


@pytest.fixture
def made(loop: Loop, tmp_path: Path) -> Artifact:
    """The artifact of a layout `dist`, listed as 1.2.0, and a key `acme`."""
    layout = Layout(tmp_path / "dist").create()
    found = artifact(tmp_path / "dist")
    layout.add("1.2.0", found.root)
    assert loop("key", "new", "acme")[0] == 0
    return found


POLICY = """\
[trust.signers]
acme = { file = "keys/acme.pub" }

[[trust.rules]]
artifacts = ["registry.example/acme/*", "127.0.0.1:*/acme/*"]
signers = ["acme"]
"""


def test_keys(loop: Loop, tmp_path: Path) -> None:
    assert "There are no keys" in loop("key", "ls")[1]
    code, out, _ = loop("key", "new", "acme")
    private = (tmp_path / "keys" / "acme.key").read_text()
    assert code == 0
    assert stat.S_IMODE((tmp_path / "keys" / "acme.key").stat().st_mode) == 0o600
    found = said(loop, "key", "show", "acme")
    assert found["pem"] == (tmp_path / "keys" / "acme.pub").read_text()
    assert f'acme = "{found["key"]}"' in out
    (tmp_path / "partner.pub").write_text(ACME.public.pem)
    assert said(loop, "key", "import", "partner.pub") == {
        "name": "partner", "id": ACME.public.id, "key": ACME.public.line, "pem": ACME.public.pem, "signs": False,
    }  # fmt: skip
    assert [key["signs"] for key in said(loop, "key", "ls")["keys"]] == [True, False]
    code, out, _ = loop("key", "ls")
    assert [line.split()[::2][0] for line in out.splitlines()] == ["acme", "partner"]
    shown = [loop(*args) for args in (("key", "ls"), ("key", "show", "acme"), ("key", "ls", "--json"))]
    assert not any(private.splitlines()[1] in text for _, *texts in shown for text in texts)
    code, _, err = loop("key", "new", "acme")
    assert (code, err.splitlines()[0].startswith("error: there is a key 'acme' already")) == (4, True)


def test_names_of_keys_are_completed(loop: Loop, tmp_path: Path) -> None:
    for name in ("acme", "acme-2", "other"):
        loop("key", "new", name)
    env = {"_LOOP_COMPLETE": "bash_complete", "COMP_WORDS": "loop\nkey\nshow\nac", "COMP_CWORD": "3"}
    done = subprocess.run([LOOP], env=os.environ | env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain,acme", "plain,acme-2"]


def test_a_layout_is_signed_and_verified(loop: Loop, made: Artifact, tmp_path: Path) -> None:
    assert "no signatures: there is no policy" in loop("verify", "--layout", "dist")[1]
    signed = said(loop, "sign", "oci-layout:dist:1.2.0", "--key", "acme", "--name", NAME, "--expires", "90d")
    assert (signed["digest"], signed["name"], signed["version"]) == (made.root.digest, NAME, "1.2.0")
    assert signed["expires"] - signed["signed"] == 90 * 86_400
    assert "1 signature(s), not judged: there is no policy" in loop("verify", "--layout", "dist")[1]
    (tmp_path / "loop.toml").write_text(POLICY)
    for args in (
        ("--layout", "dist"),
        ("oci-layout:dist:1.2.0",),
        ("--layout", "dist", "--name", NAME),
        ("--layout", "dist", "--key", "acme"),
    ):
        code, out, err = loop("verify", *args)
        assert (code, err) == (0, "")
        assert f"signed by acme ({signed['key'][:16]})" in out
        assert f"as {NAME} 1.2.0, release {signed['serial']}" in out
    found = said(loop, "verify", "--layout", "dist")
    assert found["trusted"] is True
    assert found["faults"] == []
    assert found["artifacts"][0]["identity"]["signers"] == [{"name": "acme", "key": signed["key"]}]


def test_what_is_refused_says_why_and_exits_with_4(loop: Loop, made: Artifact, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    found = said(loop, "verify", "--layout", "dist", "--policy", "policy.toml", code=4)
    assert (found["trusted"], found["artifacts"][0]["reason"]) == (False, "no-signature")
    loop("sign", "oci-layout:dist:1.2.0", "--key", "acme", "--name", NAME)
    code, out, _ = loop(
        "verify", "oci-layout:dist:1.2.0", "--policy", "policy.toml", "--name", "registry.example/acme/tool"
    )
    assert code == 4
    assert f"refused  registry.example/acme/tool@{made.root.digest}: it was signed as {NAME}" in out
    loop("key", "new", "other")
    found = said(loop, "verify", "--layout", "dist", "--key", "other", code=4)
    assert found["artifacts"][0]["reason"] == "unknown-key"
    layer = made.blobs.path(made.layer.digest)
    layer.chmod(0o644)
    layer.write_bytes(b"Component")
    found = said(loop, "verify", "--layout", "dist", "--key", "acme", code=4)
    assert [(fault["part"], fault["digest"]) for fault in found["faults"]] == [("layer", made.layer.digest)]
    code, out, _ = loop("verify", "--layout", "dist", "--key", "acme")
    assert code == 4
    assert "signatures were not judged, since 1 part(s) are damaged" in out


def test_signing_again_renews(loop: Loop, made: Artifact) -> None:
    args = ("sign", "oci-layout:dist:1.2.0", "--key", "acme", "--name", NAME)
    first = said(loop, *args)
    again = said(loop, *args, "--expires", "30d")
    assert again["serial"] == first["serial"]
    assert said(loop, *args, "--version", "1.2.1")["serial"] > first["serial"]
    assert said(loop, *args, "--serial", "7")["serial"] == 7


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("sign", "oci-layout:dist:1.2.0", "--key", "acme"), 2, "say what it is called, by --name"),
        (("sign", "oci-layout:dist", "--key", "acme", "--name", NAME), 2, "say which version it is, by --version"),
        (("sign", "oci-layout:dist:1.2.0", "--key", "none", "--name", NAME), 4, "there is no key 'none'"),
        (("sign", "oci-layout:none:1", "--key", "acme", "--name", NAME), 4, "there is no folder none"),
        (("sign", "oci-layout:dist:1.2.0", "--key", "acme", "--name", "a b"), 4, "cannot be signed: name of"),
        (("sign", "oci-layout:dist:1.2.0", "--key", "acme", "--name", NAME, "--expires", "soon"), 2, "a duration"),
        (("sign", "site", "--key", "acme"), 4, "names no artifact"),
        (("verify",), 2, "name an ARTIFACT, or a folder by --layout"),
        (("verify", "--layout", "none"), 4, "there is no folder none"),
        (("verify", "--layout", "dist", "--policy", "loop.toml"), 3, "there is no [trust] in it"),
        (("verify", "--layout", "dist", "--policy", "loop.toml", "--key", "acme"), 2, "--key stands for a policy"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told(
    args: tuple[str, ...], code: int, text: str, loop: Loop, made: Artifact, tmp_path: Path
) -> None:
    (tmp_path / "loop.toml").write_text("")
    got, out, err = loop(*args)
    assert (got, out) == (code, "")
    assert text in err


def test_a_locked_key(loop: Loop, made: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "phrase").write_text("open sesame\n")
    (tmp_path / "phrase").chmod(0o600)
    assert loop("key", "new", "locked", "--passphrase-file", "phrase")[0] == 0
    args = ("sign", "oci-layout:dist:1.2.0", "--key", "locked", "--name", NAME)
    code, _, err = loop(*args)
    assert code == 4
    assert "is locked by a passphrase" in err
    assert loop(*args, "--passphrase-file", "phrase")[0] == 0
    monkeypatch.setenv("LOOP_KEY_PASSPHRASE", "open sesame")
    assert loop(*args)[0] == 0
    monkeypatch.setenv("LOOP_KEY_PASSPHRASE", "wrong")
    code, out, err = loop(*args)
    assert code == 4
    assert "the passphrase is wrong" in err
    assert "wrong," in err
    assert "sesame" not in out + err


@pytest.fixture(params=[docker, crane], ids=["docker-registry", "crane"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """One without the API for referrers, and one with it."""
    with request.param(tmp_path / "registry") as host:
        yield host


async def push(host: str, artifact: Artifact, tag: str) -> None:
    async with Registry(host) as to:
        for part in (artifact.config, artifact.layer):
            await to.push_blob("acme/site", part, artifact.blobs)
        await to.push_manifest("acme/site", artifact.blobs.read(artifact.root.digest), tag=tag)


def test_a_registry_keeps_signatures_beside_what_they_sign(
    registry: str, loop: Loop, made: Artifact, tmp_path: Path
) -> None:
    (tmp_path / "loop.toml").write_text(POLICY)
    newer = artifact(tmp_path / "newer", b"newer component")
    name = f"{registry}/acme/site"
    asyncio.run(push(registry, made, "1.2.0"))
    assert said(loop, "verify", f"{name}:1.2.0", code=4)["artifacts"][0]["reason"] == "no-signature"
    signed = said(loop, "sign", f"{name}:1.2.0", "--key", "acme")
    assert (signed["name"], signed["version"]) == (name, "1.2.0")
    assert said(loop, "verify", f"{name}:1.2.0")["trusted"] is True
    assert said(loop, "verify", f"{name}@{made.root.digest}")["trusted"] is True

    async def referrers() -> list[str | None]:
        async with Registry(registry) as asked:
            root = await asked.resolve(Reference.parse(f"{name}:1.2.0"))
            return [one.artifact_type for one in await asked.referrers("acme/site", root.digest)]

    assert asyncio.run(referrers()) == [MEDIA_TYPE]

    # a newer release, and then somebody who has `latest` be the older one again
    for release, tag in ((newer, "1.3.0"), (newer, "latest")):
        asyncio.run(push(registry, release, tag))
    said(loop, "sign", f"{name}:1.3.0", "--key", "acme")
    assert said(loop, "verify", f"{name}:latest")["artifacts"][0]["identity"]["version"] == "1.3.0"
    asyncio.run(push(registry, made, "latest"))
    assert said(loop, "verify", f"{name}:latest", code=4)["artifacts"][0]["reason"] == "rollback"
    asyncio.run(push(registry, made, "1.3.0"))
    assert said(loop, "verify", f"{name}:1.3.0", code=4)["artifacts"][0]["reason"] == "wrong-version"
    assert said(loop, "verify", f"{name}:1.2.0")["trusted"] is True
    assert said(loop, "verify", f"{name}@{newer.root.digest}")["trusted"] is True
