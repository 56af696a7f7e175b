"""The conformance suite of the OCI distribution specification, all four of its workflows."""

import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

from tests import registries
from tests.checkout import ROOT


def test_the_suite_of_the_specification_passes(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    asked = {
        "OCI_TLS": "disabled",
        "OCI_VERSION": "1.1",
        "OCI_RESULTS_DIR": str(tmp_path / "results"),
        # what is left to a registry, too
        "OCI_API_BLOBS_UPLOAD_CANCEL": "true",
        "OCI_API_BLOBS_DIGEST_HEADER": "true",
        "OCI_API_MANIFESTS_DIGEST_HEADER": "true",
    }
    with registries.ours(tmp_path / "registry", "--delete", login=True) as host:
        asked |= {
            "OCI_REGISTRY": host,
            "OCI_USERNAME": registries.USER,
            "OCI_PASSWORD": registries.PASSWORD,
        }
        result = subprocess.run(
            [registries.pinned("conformance")],
            cwd=tmp_path / "run",
            env=os.environ | asked,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert result.returncode == 0, result.stdout[-5000:]
    suite = ElementTree.parse(tmp_path / "results/junit.xml").find("testsuite")
    assert suite is not None
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert failed == []
    counts = {name: int(suite.get(name) or 0) for name in ("tests", "failures", "errors", "skipped")}
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    said = re.search(r"(\d+) passed, (\d+) failed, (\d+) skipped", (ROOT / "docs/registries.md").read_text())
    assert said is not None
    found = (passed, counts["failures"] + counts["errors"], counts["skipped"])
    assert tuple(map(int, said.groups())) == found, "docs/registries.md states another score"
    shown = re.findall(r"^  (Blob|Manifest|Tag|Referrers|Ping)[^:]*: +(\w+)$", result.stdout, re.M)
    assert {outcome for _, outcome in shown} <= {"Pass", "Disabled"}, shown
