"""Signatures as they are fetched: within bounds, whatever a place says that it has."""

from pathlib import Path

import pytest

from loop_kit.errors import PackageError
from loop_kit.oci._places import Folder
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import EMPTY_CONFIG, Descriptor, Manifest, describe
from loop_kit.trust import attach, sign
from loop_kit.trust._fetch import fetch
from loop_kit.trust._verify import MOST_BUNDLES
from loop_kit.trust.bundle import MEDIA_TYPE
from tests.trust.made import ACME, NAME, Artifact, artifact


class Place(Folder):
    """A place that says of itself what refers to something."""

    def __init__(self, made: Artifact, *listed: Descriptor) -> None:
        super().__init__(made.blobs)
        self._listed = [*listed]

    async def referrers(self, digest: str) -> list[Descriptor]:
        return self._listed


def said(made: Artifact, layers: int = 1, size: int = 2, kind: str = MEDIA_TYPE) -> Descriptor:
    """A manifest that refers to an artifact, with so many layers that are said to be so long."""
    made.blobs.add(b"{}")
    parts = tuple(Descriptor(MEDIA_TYPE, made.blobs.add(b"%2d" % at), size) for at in range(layers))
    document = Manifest(EMPTY_CONFIG, parts, made.root, artifact_type=kind)
    made.blobs.add(document.to_bytes())
    return describe(document, document.to_bytes(), artifact_type=MEDIA_TYPE)


@pytest.fixture
def made(tmp_path: Path) -> Artifact:
    return artifact(tmp_path / "there")


async def test_what_is_none_is_left_there(made: Artifact, tmp_path: Path) -> None:
    real = attach(made.blobs, made.root, sign(ACME, made.root, NAME, "1.0.0"))
    other = said(made, kind="text/plain")  # whatever it was listed as
    unlike = Descriptor(other.media_type, other.digest, other.size, artifact_type="text/plain")
    here = Blobs(tmp_path / "here")
    assert [one.digest for one in await fetch(Place(made, real, other, unlike), made.root, here)] == [
        real.digest
    ]
    assert (
        len(list(here)) == 4
    )  # the signature, its manifest, the empty config; and the manifest of what is none


@pytest.mark.parametrize(
    ("listed", "problem"),
    [
        (lambda made: [said(made)] * (MOST_BUNDLES + 1), f"more than {MOST_BUNDLES} signatures"),
        (lambda made: [said(made, layers=8)], "more than 8 parts"),
        (lambda made: [said(made, size=2 << 20)], "too long for a signature"),
        (
            lambda made: [
                Descriptor(said(made).media_type, made.layer.digest, 1 << 20, artifact_type=MEDIA_TYPE)
            ],
            "is no manifest of a signature",
        ),
        (lambda made: [Descriptor("a/b", made.layer.digest, 9, artifact_type=MEDIA_TYPE)], "is no manifest"),
        (
            lambda made: [
                Descriptor(said(made).media_type, f"sha256:{'0' * 64}", 9, artifact_type=MEDIA_TYPE)
            ],
            "the manifest of a signature: ",
        ),
        (
            lambda made: [Descriptor(said(made).media_type, "md5:0", 9, artifact_type=MEDIA_TYPE)],
            "not one that",
        ),
    ],
)
async def test_what_is_too_much_is_refused(
    listed: object, problem: str, made: Artifact, tmp_path: Path
) -> None:
    place = Place(made, *listed(made))  # type: ignore[operator]
    with pytest.raises(PackageError, match=problem):
        await fetch(place, made.root, Blobs(tmp_path / "here"))
