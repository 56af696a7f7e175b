"""The conformance suite of the OCI distribution specification, all four of its workflows."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import trustme

from tests import registries
from tests.checkout import ROOT


@pytest.mark.parametrize("guarded", [False, True], ids=["as it is", "by TLS and with a login"])
def test_the_suite_of_the_specification_passes(guarded: bool, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    more: dict[str, Any] = {}
    asked = {}
    if guarded:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(tmp_path / "key.pem")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        more = {"login": True, "tls": (tmp_path / "certificate.pem", tmp_path / "key.pem")}
        asked = {
            "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
            "OCI_USERNAME": registries.USER,
            "OCI_PASSWORD": registries.PASSWORD,
        }
    asked |= {
        "OCI_TLS": "enabled" if guarded else "disabled",
        "OCI_VERSION": "1.1",
        "OCI_RESULTS_DIR": str(tmp_path / "results"),
        # what is left to a registry, too
        "OCI_API_BLOBS_UPLOAD_CANCEL": "true",
        "OCI_API_BLOBS_DIGEST_HEADER": "true",
        "OCI_API_MANIFESTS_DIGEST_HEADER": "true",
    }
    with registries.ours(tmp_path / "registry", "--delete", **more) as host:
        asked["OCI_REGISTRY"] = host
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
