"""Other clients with a login: skopeo, which speaks as docker does. tests/oci/test_interop.py has oras and wkg."""

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from tests import registries
from tests.cli import loop

LOGIN = f"{registries.USER}:{registries.PASSWORD}"


def skopeo(*args: str, cwd: Path) -> Any:
    result = subprocess.run(["skopeo", *args], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout) if result.stdout.startswith("{") else result.stdout


def image(folder: Path) -> None:
    """An image in an OCI layout that was put there by hand: one layer with a file."""
    from loop_kit.oci.layout import Layout
    from loop_kit.oci.model import Manifest
    from tests.oci.artifacts import put, put_blob

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("hello")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    layout = Layout(folder).create()
    layer = put_blob(layout.blobs, packed.getvalue(), "application/vnd.oci.image.layer.v1.tar")
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        "history": [{"created_by": "a test"}],
    }
    made = put_blob(layout.blobs, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
    layout.add("1.0", put(layout.blobs, Manifest(made, (layer,))))


def test_images_of_docker_go_there_and_back(tmp_path: Path) -> None:
    image(tmp_path / "image")
    insecure = ["--insecure-policy", "copy"]
    to, out = (
        ["--dest-tls-verify=false", "--dest-creds", LOGIN],
        ["--src-tls-verify=false", "--src-creds", LOGIN],
    )
    with registries.ours(tmp_path / "registry", "--delete", login=True) as host:
        for kind in ("oci", "v2s2"):  # OCI's manifest, and docker's
            name = f"docker://{host}/by/skopeo:{kind}"
            skopeo(*insecure, *to, "--format", kind, "oci:image:1.0", name, cwd=tmp_path)
            skopeo(*insecure, *out, name, f"dir:{kind}", cwd=tmp_path)
            assert len(list((tmp_path / kind).iterdir())) == 4
        options = ["--tls-verify=false", "--creds", LOGIN]
        listed = skopeo("list-tags", *options, f"docker://{host}/by/skopeo", cwd=tmp_path)
        assert listed["Tags"] == ["oci", "v2s2"]
        shown = skopeo("inspect", *options, f"docker://{host}/by/skopeo:v2s2", cwd=tmp_path)
        assert (shown["Os"], len(shown["Layers"])) == ("linux", 1)
        # between two repositories the blobs are not sent again
        skopeo(
            *insecure, *out, *to, f"docker://{host}/by/skopeo:oci", f"docker://{host}/other:1", cwd=tmp_path
        )
        skopeo("delete", *options, f"docker://{host}/by/skopeo:v2s2", cwd=tmp_path)
        assert skopeo("list-tags", *options, f"docker://{host}/by/skopeo", cwd=tmp_path)["Tags"] == ["oci"]
        folder = ["--folder", str(tmp_path / "registry/data")]
        said = json.loads(loop("registry", "ls", "--json", *folder).stdout)
    assert [each["name"] for each in said["repositories"]] == ["by/skopeo", "other"]
