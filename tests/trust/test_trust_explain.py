"""`loop explain` of a workspace with a policy."""

import json
from pathlib import Path

import pytest

from loop_kit.cli import main
from loop_kit.trust._members import covered
from tests.manifests import read
from tests.trust.made import ACME, OPS

MANIFEST = f"""\
[components.site]
path = "oci:mirror.local:5000/acme/site:1.2.0"

[components.tool]
path = "oci:elsewhere.example/tool:1"

[components.mine]
path = "mine.wasm"

[providers.kv]
use = "oci:registry.example/acme/kv@sha256:{"0" * 64}"

[providers.layout]
use = "oci-layout:dist:1"

[providers.files]
use = "builtin:fsx"

[providers.near]
use = "component:mine"

[providers.file]
use = "component:lib/x.wasm"

[providers.shipped]
use = "component:loop:core/virtual-clock"

[providers.own]
use = "python:acme.kv:Kv"
trusted = true

[providers.aside]
use = "sidecar:./kv"

[providers.far]
use = "remote:tcp://127.0.0.1:7000"

[trust.mirrors]
"mirror.local:5000" = "registry.example"

[trust.signers]
acme = "{ACME.public.line}"
ops = "{OPS.public.line}"

[[trust.rules]]
artifacts = ["registry.example/acme/kv"]
signers = ["acme", "ops"]
threshold = 2

[[trust.rules]]
artifacts = ["registry.example/acme/*"]
signers = ["acme"]
max-age = "90d"
"""


def test_each_member_with_code_of_its_own_has_an_answer() -> None:
    found = {item.member: (item.verdict, item.why, item.place) for item in covered(read(MANIFEST))}
    local = ("local", "comes from no registry, so no signature is asked for", None)
    assert found == {
        "components.site": ("signed", "must be signed by acme in the last 90 days", "loop.toml:50"),
        "components.tool": (
            "refused",
            "nobody may sign elsewhere.example/tool: no rule of [trust] names it",
            None,
        ),
        "components.mine": local,
        "providers.kv": ("signed", "must be signed by 2 of acme, ops", "loop.toml:45"),
        "providers.layout": (
            "signed",
            "must be signed by whoever may sign what its signature calls it",
            None,
        ),
        "providers.file": local,
        "providers.own": local,
        "providers.aside": local,
    }
    assert covered(read('[components.a]\npath = "a.wasm"')) == ()


def test_local_code_may_be_refused() -> None:
    found = covered(read(f'{MANIFEST}\n[trust]\nlocal = "refuse"'))
    refused = [item.member for item in found if item.why == 'comes from no registry, and local = "refuse"']
    assert refused == ["components.mine", "providers.file", "providers.own", "providers.aside"]


def test_rules_that_ask_for_no_signature() -> None:
    text = '[components.a]\npath = "oci:a.example/b:1"\n[[trust.rules]]\nartifacts = ["**"]\nunsigned = "allow"\n'
    (item,) = covered(read(text))
    assert (item.verdict, item.why) == ("unsigned", "needs no signature")
    (item,) = covered(read(f'{text}signers = ["x"]\n[trust.signers]\nx = "{ACME.public.line}"'))
    assert (item.verdict, item.why) == ("unsigned", "must be signed by x, if it is signed at all")


def test_the_command_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop.toml").write_text(MANIFEST)
    assert main(["explain", "-m", str(tmp_path)]) == 4  # nothing of it is there
    text = capsys.readouterr().out
    assert (
        "\ntrust\n  components.site  oci:mirror.local:5000/acme/site:1.2.0\n    must be signed by acme"
        in text
    )
    main(["explain", "-m", str(tmp_path), "tool", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert [(item["member"], item["verdict"]) for item in document["trust"]] == [
        ("components.tool", "refused")
    ]
