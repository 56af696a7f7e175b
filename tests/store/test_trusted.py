"""Where a workspace has a policy, nothing is fetched or loaded that is not signed as it says."""

import asyncio
from pathlib import Path

import pytest

from loop_kit import Host
from loop_kit.errors import Untrusted
from loop_kit.lock import read
from loop_kit.manifest import load
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor
from loop_kit.trust import PrivateKey, attach, sign
from loop_kit.workspace import Workspace
from tests.store.packed import HELLO, Place, component, hello
from tests.trust.made import ACME, OTHER

NAME = "registry.example/acme/hello"
POLICY = f"""\
[trust]
local = "refuse"
[trust.signers]
acme = "{ACME.public.line}"
[[trust.rules]]
artifacts = ["registry.example/acme/*"]
signers = ["acme"]
"""


def signed(
    place: Place, root: Descriptor, serial: int, version: str = "1.0.0", key: PrivateKey = ACME
) -> None:
    bundle = sign(key, root, NAME, version, serial=serial)
    place.layout.add(None, attach(place.layout.blobs, root, bundle))


@pytest.fixture
def place(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, HELLO + POLICY, captured=capfd, patched=monkeypatch)


def test_what_is_signed_runs_and_the_lock_says_by_whom(place: Place) -> None:
    signed(place, component(place.layout, "1.0", hello()), 7)
    assert f"signed by acme ({ACME.public.id[:16]})" in place.loop("pull").stdout
    entry = read(place.lock).components["hello"]
    assert (entry.serial, entry.version, len(entry.signatures)) == (7, "1.0.0", 1)
    place.layout.folder.rename(place.folder / "gone")
    assert place.loop("run", "--locked", "--offline", ".").stdout == "hello from a guest\n"
    assert "signed by acme" in place.loop("explain", code=None).stdout


@pytest.mark.parametrize("how", ["not at all", "by another", "for another"])
def test_what_is_not_signed_as_it_must_be_is_not_even_fetched(place: Place, how: str) -> None:
    root = component(place.layout, "1.0", hello())
    if how == "by another":
        signed(place, root, 7, key=OTHER)
    if how == "for another":
        signed(place, component(place.layout, "2.0", hello(b"hello from a newer")), 7)
    for args in (("pull",), ("run", "."), ("update",)):
        done = place.loop(*args, code=4)
        assert root.digest in done.stderr
        assert done.stdout == ""
    assert not place.lock.exists()
    code = place.layout.blobs.read(root.digest)
    assert all(digest.encode() not in code for digest in Blobs(place.store) if digest != root.digest) or (
        Blobs(place.store).size(_layer(place, root)) is None
    )


def _layer(place: Place, root: Descriptor) -> str:
    from loop_kit.oci.model import Manifest, parse

    manifest = parse(place.layout.blobs.read(root.digest))
    assert isinstance(manifest, Manifest)
    return manifest.layers[0].digest


def _refused(place: Place) -> str:
    async def main() -> str:
        async with Host() as host, Workspace(host, load(place.folder)) as workspace:
            with pytest.raises(Untrusted) as caught:
                await workspace.load("hello")
            assert workspace.loaded("hello") is None
        return str(caught.value.reason)

    return asyncio.run(main())


def test_at_each_start_the_policy_is_asked_anew(place: Place) -> None:
    signed(place, component(place.layout, "1.0", hello()), 7)
    place.loop("pull")
    manifest = (place.folder / "loop.toml").read_text()
    place.write(manifest.replace(ACME.public.line, OTHER.public.line))
    assert _refused(place) == "unknown-key"
    place.write(manifest.replace("[trust]\n", f'[trust]\nrevoked = ["{ACME.public.id}"]\n'))
    assert _refused(place) == "revoked"
    place.write(manifest)
    lock = place.lock.read_text()
    place.lock.write_text(
        "".join(line for line in lock.splitlines(keepends=True) if "signatures" not in line)
    )
    assert _refused(place) == "no-signature"
    place.lock.write_text(lock.replace("serial = 7", "serial = 8"))
    assert _refused(place) == "rollback"


def test_each_part_of_a_signature_that_is_tampered_with_is_named(place: Place) -> None:
    signed(place, component(place.layout, "1.0", hello()), 7)
    place.loop("pull")
    blobs = Blobs(place.store)
    (digest,) = read(place.lock).components["hello"].signatures
    bundle = next(
        one for one in blobs if one.encode() in blobs.read(digest) and b"dsseEnvelope" in blobs.read(one)
    )
    for part in (digest, bundle):
        data = bytearray(blobs.path(part).read_bytes())
        data[len(data) // 2] ^= 1
        blobs.remove(part)
        blobs.path(part).write_bytes(data)
        done = place.loop("run", ".", code=4)
        assert part in done.stderr
        assert done.stdout == ""
        place.loop("pull")
        assert place.loop("run", ".").stdout == "hello from a guest\n"


def test_an_older_release_than_the_one_that_is_locked_is_refused(place: Place) -> None:
    signed(place, component(place.layout, "1.0", hello(b"hello from a newer")), 9, "1.0.1")
    place.loop("pull")
    before = place.lock.read_text()
    signed(place, component(place.layout, "1.0", hello()), 7)
    done = place.loop("update", code=4)
    assert "older" in done.stderr
    assert place.lock.read_text() == before
    said = place.loop("update", "--allow-downgrade").stdout
    assert "version   1.0.1 → 1.0.0" in said
    assert place.loop("run", "--locked", "--offline", ".").stdout == "hello from a guest\n"


def test_another_signer_is_shown(place: Place) -> None:
    signed(place, component(place.layout, "1.0", hello()), 7)
    place.loop("pull")
    manifest = (place.folder / "loop.toml").read_text()
    place.write(
        manifest.replace("acme = ", "other = ")
        .replace('["acme"]', '["other"]')
        .replace(ACME.public.line, OTHER.public.line)
    )
    signed(place, component(place.layout, "1.0", hello(b"hello from another")), 8, "1.0.5", OTHER)
    said = place.json("update", "--dry-run")["changes"][0]
    assert said["before"]["signed-by"].startswith("acme (")
    assert said["after"]["signed-by"].startswith("other (")
    assert "signed by" in place.loop("update", "--dry-run").stdout


def test_code_of_no_registry_is_refused_where_the_policy_says_so(place: Place) -> None:
    place.write('[components.mine]\npath = "mine.wasm"\nrun = "run"\nwasi.stdio = true\n' + POLICY)
    (place.folder / "mine.wasm").write_bytes(hello())
    done = place.loop("run", ".", code=4)
    assert (
        'components.mine comes from no registry, so nobody has signed it, and [trust] has local = "refuse"'
        in (done.stderr)
    )
    assert done.stdout == ""
    place.write((place.folder / "loop.toml").read_text().replace("refuse", "allow"))
    assert place.loop("run", ".").stdout == "hello from a guest\n"
