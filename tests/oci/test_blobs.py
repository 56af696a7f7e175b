"""Blobs: whole or not at all, by any number of writers."""

import multiprocessing
import stat
from pathlib import Path

import pytest

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci.blobs import Blobs, digest_of, is_digest

DATA = b"some bytes" * 1000
DIGEST = digest_of(DATA)


def write(blobs: Blobs, data: bytes, fault: Exception | None = None) -> None:
    """Writes it as `DIGEST`, from its beginning, until a fault."""
    with blobs.writer(DIGEST, len(DATA)) as writer:
        assert writer is not None
        assert writer.offset == 0
        writer.write(data)
        if fault is not None:
            raise fault


def test_what_was_added_is_read_back_and_is_one_read_only_file(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    assert list(blobs) == []
    assert blobs.size(DIGEST) is None
    assert blobs.add(DATA) == blobs.add(DATA) == DIGEST
    assert (blobs.read(DIGEST), blobs.size(DIGEST), list(blobs)) == (DATA, len(DATA), [DIGEST])
    file = tmp_path / "blobs" / "sha256" / DIGEST[7:]
    assert blobs.path(DIGEST) == file
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]
    blobs.verify(DIGEST)
    blobs.remove(DIGEST)
    blobs.remove(DIGEST)
    with pytest.raises(PackageError, match=f"{DIGEST} is not in"):
        blobs.read(DIGEST)


def test_nothing_that_is_another_blob_is_kept(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    for wrong, said in ((DATA[:-1] + b"!", "it is sha256:"), (DATA + b"!", f"more than {len(DATA)} bytes")):
        with pytest.raises(Damaged, match=said):
            write(blobs, wrong)
    with pytest.raises(Damaged, match=f"5 of {len(DATA)} bytes"):
        write(blobs, DATA[:5])
    assert list(blobs) == []
    assert blobs.sweep() == 5
    assert list((tmp_path / ".partial").iterdir()) == []


def test_a_download_that_broke_off_goes_on(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    with pytest.raises(ConnectionError):
        write(blobs, DATA[:6000], ConnectionError())
    assert list(blobs) == []
    with blobs.writer(DIGEST, len(DATA)) as writer:
        assert writer is not None
        assert writer.offset == 6000
        with blobs.writer(DIGEST, len(DATA)) as other:  # who comes meanwhile begins anew
            assert other is not None
            assert other.offset == 0
            other.write(DATA)
        writer.write(DATA[6000:])
    assert blobs.read(DIGEST) == DATA
    with blobs.writer(DIGEST, len(DATA)) as writer:
        assert writer is None
    assert blobs.sweep() == 0


def test_bytes_that_were_changed_are_told(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    file = blobs.path(blobs.add(DATA))
    file.chmod(0o644)
    file.write_bytes(DATA[:-1] + b"!")
    for look in (blobs.read, blobs.verify):
        with pytest.raises(Damaged) as told:
            look(DIGEST)
        assert told.value.digest == DIGEST
        assert told.value.found == digest_of(DATA[:-1] + b"!")
        assert str(file) in str(told.value)
    with pytest.raises(PackageError, match="more than 10 bytes"):
        blobs.read(DIGEST, most=10)


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "A" * 64, "md5:" + "0" * 32, "sha256:../../x", DIGEST + "0"]
)
def test_what_is_no_digest_is_no_path(text: str, tmp_path: Path) -> None:
    assert not is_digest(text)
    with pytest.raises(PackageError, match="is not a digest"):
        Blobs(tmp_path).path(text)


def _add(folder: Path, times: int) -> None:
    for number in range(times):
        Blobs(folder).add(b"%d" % number * 4000)


def test_processes_that_add_the_same_do_not_disturb_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_add, args=(tmp_path, 50)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    blobs = Blobs(tmp_path)
    assert len(list(blobs)) == 50
    for digest in blobs:
        blobs.verify(digest)
    assert blobs.sweep() == 0
