"""`loop copy`, `loop mirror` and `loop inspect --layout`, as users run them."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loop_kit.cli import _artifacts
from loop_kit.oci.blobs import Blobs, digest_of
from loop_kit.oci.layout import Layout, check
from loop_kit.oci.model import Descriptor, Index
from tests.children import until
from tests.cli import LOOP, loop
from tests.oci.artifacts import put, put_blob, put_component, put_signature
from tests.oci.faulty import Request, faulty, on


@pytest.fixture
def signed(tmp_path: Path) -> Descriptor:
    """A component in the layout `site`, with its signature."""
    layout = Layout(tmp_path / "site").create()
    descriptor, _ = put_component(layout.blobs)
    signature, _ = put_signature(layout.blobs, descriptor)
    layout.add("1.0", descriptor)
    layout.add(None, signature)
    return descriptor


def good(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def said(result: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert result.returncode == code, result.stderr
    return json.loads(result.stdout)


def test_copy_there_and_back(signed: Descriptor, docker_registry: str, tmp_path: Path) -> None:
    there = f"{docker_registry}/cli/site"
    text = good(loop("copy", "oci-layout:site", f"{there}:1.0", cwd=tmp_path))
    assert text.startswith(f"{there}:1.0  {signed.digest}\n  2 blobs, ")
    for source in ("oci-layout:site:1.0", "oci-layout:site"):  # the target's tag is the source's
        assert good(loop("copy", source, there, cwd=tmp_path)).startswith(f"{there}:1.0  ")
    assert "all of it was there" in good(loop("copy", "oci-layout:site", there, cwd=tmp_path))
    back = said(loop("copy", f"{there}:1.0", "oci-layout:back", "--json", cwd=tmp_path))
    assert back == {
        "source": f"{there}:1.0",
        "target": "oci-layout:back:1.0",
        "digest": signed.digest,
        "media-type": signed.media_type,
        "new": True,
        "blobs": 2,
        "bytes": back["bytes"],
        "referrers": [],
    }
    assert Layout(tmp_path / "back").resolve("1.0").digest == signed.digest
    by_digest = f"{there}@{signed.digest}"
    assert said(loop("copy", by_digest, "oci-layout:back:2.0", "--json", cwd=tmp_path))["new"] is False
    assert check(tmp_path / "back") == []


def test_mirror_takes_signatures_and_only_what_is_missing(
    signed: Descriptor, docker_registry: str, crane_registry: str, tmp_path: Path
) -> None:
    first = said(loop("mirror", "oci-layout:site", f"{docker_registry}/m", "--json", cwd=tmp_path))
    (artifact,) = first["artifacts"]
    assert artifact["target"] == f"{docker_registry}/m/site:1.0"
    assert (artifact["new"], artifact["blobs"], len(artifact["referrers"])) == (True, 4, 1)
    # from a repository by its name, with all its tags but that which stands in for an API
    source = f"{docker_registry}/m/site"
    assert "would be copied" in good(loop("mirror", source, crane_registry, "--dry-run", cwd=tmp_path))
    text = good(loop("mirror", source, crane_registry, cwd=tmp_path))
    assert text.startswith(f"+ {crane_registry}/m/site:1.0  ")
    assert text.endswith(", 1 that refer to it\n")
    assert text.count("\n") == 1
    assert (
        good(loop("mirror", source, crane_registry, cwd=tmp_path))
        == f"= {crane_registry}/m/site:1.0  is there\n"
    )
    # into a folder to carry away, and from there
    good(loop("mirror", f"{crane_registry}/m/site", "oci-layout:stick", cwd=tmp_path))
    assert check(tmp_path / "stick/m/site") == []
    assert "is there" in good(loop("mirror", source, "oci-layout:stick", cwd=tmp_path))
    last = said(loop("mirror", "oci-layout:stick", f"{docker_registry}/last", "--json", cwd=tmp_path))
    assert last["artifacts"][0]["target"] == f"{docker_registry}/last/m/site:1.0"
    assert last["artifacts"][0]["digest"] == signed.digest
    # what is missing alone: a second signature
    layout = Layout(tmp_path / "site")
    layout.add(None, put_signature(layout.blobs, signed, b"once more")[0])
    again = said(loop("mirror", "oci-layout:site", f"{docker_registry}/m", "--json", cwd=tmp_path))
    assert (again["artifacts"][0]["new"], again["artifacts"][0]["blobs"]) == (True, 2)
    assert len(again["artifacts"][0]["referrers"]) == 2


def test_where_one_cannot_be_mirrored_the_others_are(
    signed: Descriptor, crane_registry: str, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "site")
    layout.add("0.9", Descriptor(signed.media_type, f"sha256:{'0' * 64}", 5))
    result = loop("mirror", "oci-layout:site", crane_registry, "--json", cwd=tmp_path)
    outcomes = {each["source"]: each for each in said(result, 4)["artifacts"]}
    assert "error" in outcomes["oci-layout:site:0.9"]
    assert outcomes["oci-layout:site:1.0"]["new"]
    assert "error: 1 of 2 could not be copied: sha256:00" in result.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["copy", "site", "oci-layout:x"], 4, "error: 'site' names no artifact: it does not begin with a registry"),
        (["copy", "oci-layout:nowhere", "oci-layout:x"], 4, "error: there is no folder nowhere"),
        (["copy", "127.0.0.1:1/a:1", "oci-layout:x"], 4, "error: 127.0.0.1:1: it refuses connections\nhint: does the"),
        (["copy", "oci-layout:site:2", "oci-layout:x"], 4, "error: site does not list 2; it has 1.0"),
        (["copy", "oci-layout:site:1.0", "oci-layout:full"], 4, "full is not empty, and no OCI layout"),
        (["copy", "oci-layout:site:1.0", "oci-layout:x", "--max-size", "10"], 4, "hint: `--max-size` lets it have more"),
        (["copy", "oci-layout:site:1.0", "oci-layout:x", "--max-size", "many"], 2, "expected a size such as"),
        (["copy", "a", "b", "--platform", "linux"], 2, "'linux' is no platform such as linux/amd64"),
        (["mirror", "oci-layout:site"], 2, "Missing argument"),
        (["mirror", "oci-layout:empty", "localhost"], 4, "error: empty is no OCI layout: it has no oci-layout"),
        (["inspect"], 2, "name a component, or say --layout DIR"),
        (["inspect", "--layout", "nowhere"], 2, "does not exist"),
    ],
)  # fmt: skip
def test_what_goes_wrong(signed: Descriptor, args: list[str], code: int, words: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    (tmp_path / "empty").mkdir()
    result = loop(*args, cwd=tmp_path)
    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_inspect_a_layout(signed: Descriptor, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "site")
    two = put(layout.blobs, Index((signed, put_blob(layout.blobs, b"a note", "text/plain"))))
    layout.add("both", two)
    text = good(loop("inspect", "--layout", "site", cwd=tmp_path))
    for words in (
        f"1.0  {signed.digest}\n  kind       application/vnd.wasm.config.v0+json, ",
        "\n  layer      application/wasm, 4 B  sha256:5694d08a2e53ffcae0c3103e5ad6",
        "\n  made       2026-01-01T00:00:00Z, for wasip2\n  exports    wasi:cli/run@0.2.6\n",
        f"\n  refers to  {signed.digest}\n",
        "\n  index      2 of ",
    ):
        assert words in text
    found = said(loop("inspect", "--layout", "site", "--json", cwd=tmp_path))
    assert found["faults"] == []
    component, signature, both = found["artifacts"]
    assert component["tags"] == ["1.0"]
    assert component["runs"] == component["layers"][0]["digest"]
    assert component["wasm"]["exports"] == ["wasi:cli/run@0.2.6"]
    assert (signature["tags"], signature["subject"]) == ([], signed.digest)
    assert signature["kind"] == "application/x.signature+json"
    assert [each["media-type"] for each in both["manifests"]] == [signed.media_type, "text/plain"]


def test_inspect_names_what_is_wrong(signed: Descriptor, tmp_path: Path) -> None:
    layer = Blobs(tmp_path / "site").path(
        "sha256:5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b"
    )
    layer.chmod(0o644)
    layer.write_bytes(b"cod3")
    result = loop("inspect", "--layout", "site", "--json", cwd=tmp_path)
    (fault,) = said(result, 4)["faults"]
    assert (fault["kind"], fault["part"]) == ("wrong-bytes", "layer")
    assert "error: site: one part is not as it should be: index.json" in result.stderr
    text = loop("inspect", "--layout", "site", cwd=tmp_path)
    assert text.returncode == 4
    assert "\nwrong-bytes  index.json $.manifests[0] " in text.stdout
    (tmp_path / "site" / "index.json").write_text("[]")
    text = loop("inspect", "--layout", "site", cwd=tmp_path)
    assert text.stdout == "malformed  index.json: index: index.json: $: expected an object, found []\n"


def test_words_of_others_do_not_move_the_cursor(signed: Descriptor, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "site")
    config = json.loads(layout.blobs.read(_config(layout, signed)))
    config["component"]["imports"] = ["\x1b[2Jgone"]
    data = json.dumps(config).encode()
    made = put_blob(layout.blobs, data, "application/vnd.wasm.config.v0+json")
    manifest = json.loads(layout.blobs.read(signed.digest))
    manifest["config"] = made.document()
    listed = put_blob(layout.blobs, json.dumps(manifest).encode(), signed.media_type)
    layout.add("2.0", listed)
    text = good(loop("inspect", "--layout", "site", cwd=tmp_path))
    assert "imports    ?[2Jgone" in text
    assert "\x1b" not in text


def _config(layout: Layout, manifest: Descriptor) -> str:
    found = json.loads(layout.blobs.read(manifest.digest))["config"]["digest"]
    assert isinstance(found, str)
    return found


def test_completion(signed: Descriptor, tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    for line, offered in (
        ("loop copy oci", ["oci-layout:"]),
        ("loop copy oci-layout:si", ["oci-layout:site", "oci-layout:sites"]),
        ("loop mirror x oci-layout:site/bl", ["oci-layout:site/blobs"]),
        ("loop copy --platform linux/arm64", ["linux/arm64"]),
        ("loop copy --with", ["--with-referrers"]),
    ):
        *words, last = line.split()
        env = {
            **os.environ,
            "_LOOP_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)),
        }
        result = subprocess.run([LOOP], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert [found.partition(",")[2] for found in result.stdout.split()] == offered, last


def test_a_copy_that_is_killed_goes_on(docker_registry: str, tmp_path: Path) -> None:
    """Of what came before nothing is fetched again, and no name stands for less than all of it."""
    layout = Layout(tmp_path / "large").create()
    descriptor, manifest = put_component(layout.blobs, os.urandom(8 << 20))
    layout.add("1.0", descriptor)
    good(loop("copy", "oci-layout:large", f"{docker_registry}/killed", cwd=tmp_path))
    layer = manifest.layers[0]
    partial = tmp_path / "out/.partial" / layer.digest[7:]
    with faulty(docker_registry) as server:
        server.rules = [
            on("GET", layer.digest, lambda request: _stalls(request, layout.blobs.read(layer.digest)))
        ]
        argv = [LOOP, "copy", f"{server.host}/killed:1.0", "oci-layout:out"]
        with subprocess.Popen(argv, cwd=tmp_path) as process:
            until(lambda: partial.exists() and partial.stat().st_size >= 1 << 20)
            process.kill()
        size = partial.stat().st_size
        assert Layout(tmp_path / "out").index() == Index()
        server.rules.clear()
        server.asked.clear()
        good(loop(*argv[1:], cwd=tmp_path))
        ranges = [headers["range"] for _, path, headers in server.asked if layer.digest in path]
    assert ranges == [f"bytes={size}-"]
    assert check(tmp_path / "out") == []
    assert Layout(tmp_path / "out").resolve("1.0").digest == descriptor.digest


def _stalls(request: Request, data: bytes) -> bool:
    """Sends a part, and then nothing until the other side has gone."""
    request.send_response(200)
    request.send_header("content-length", str(len(data)))
    request.end_headers()
    request.wfile.write(data[: 2 << 20])
    request.wfile.flush()
    while request.connection.recv(1):
        pass
    return request.hang_up()


def test_progress_is_shown_after_a_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("loop_kit.cli._progress.time.monotonic", lambda: now[0])
    blobs = [Descriptor("application/x", digest_of(b"%d" % size), size) for size in (3 << 20, 1 << 20)]
    with _artifacts.Transfer("site") as progress:
        for blob in blobs:
            progress(blob, 0)
        for now[0] in (0.5, 1.5, 2.0, 7.0):
            progress(blobs[0], 1 << 19)
        progress(blobs[1], 1 << 20)
        now[0] = 20
        progress(blobs[0], 1 << 20)
    assert capsys.readouterr().err.splitlines() == [
        "site: 1.0 MiB of 4.0 MiB, 0 of 2 blobs",
        "site: 2.0 MiB of 4.0 MiB, 0 of 2 blobs",
        "site: 4.0 MiB of 4.0 MiB, 2 of 2 blobs",
    ]
