"""Grants of `loop:process`, `wasi:keyvalue` and `wasi:blobstore` in `loop.toml`: read, refused, and told in words."""

from typing import Any

import pytest

from loop_kit import _core
from loop_kit.manifest._grants import blobstore, keyvalue, process
from tests.manifests import WS, problems, read

PROCESS = 'providers.p.use = "builtin:process"\n[links."loop:process"]\nprovider = "p"\n'
STORE = 'providers.p.use = "builtin:keyvalue"\n[links."wasi:keyvalue"]\nprovider = "p"\n'


def test_a_grant_of_programs_is_read_in_the_units_of_its_provider() -> None:
    grant = (
        read(
            PROCESS
            + """
        [links."loop:process".grant]
        max-lifetime = "30s"
        max-output = "1MiB"
        roots.r = { path = "work", mode = "rw" }
        [links."loop:process".grant.programs.sed]
        path = "bin/sed"
        args = [["-n", "{number}p"], ["{path}", "..."]]
        read = ["data"]
        limits = { cpu = 2, memory = "1GiB" }
        """
        )
        .links["loop:process"]
        .grant
    )
    assert grant["max-lifetime"] == 30.0
    assert grant["max-output"] == 1 << 20
    assert grant["roots"]["r"] == {"path": WS / "work", "mode": "rw"}
    sed = grant["programs"]["sed"]
    assert (sed["path"], sed["read"]) == (WS / "bin/sed", (WS / "data",))
    assert sed["args"] == (("-n", "{number}p"), ("{path}", "..."))
    assert sed["limits"] == {"cpu": 2, "memory": 1 << 30}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("grant.programs.p = {}", 'grant.programs.p: missing key "path"'),
        ('grant.programs.p = { path = "p", args = ["-x"] }', ".args[0]: expected an array, got the string"),
        ('grant.programs.p = { path = "p", sha256 = "12" }', ".sha256: expected 64 hexadecimal digits"),
        (
            'grant.programs.p = { path = "p", confine = "no" }',
            '.confine: expected "require", "prefer" or "off"',
        ),
        (
            'grant.programs.p = { path = "p", env = ["A=B"] }',
            ".env[0]: expected the name of an environment variable",
        ),
        ('grant.programs.p = { path = "p", limits.cpus = 1 }', 'unknown key "cpus" (did you mean "cpu"?)'),
        ('grant.program.p = { path = "p" }', 'unknown key "program" (did you mean "programs"?)'),
    ],
)
def test_what_a_grant_of_programs_may_not_say(text: str, complaint: str) -> None:
    assert any(complaint in line for line in problems(PROCESS + text)), problems(PROCESS + text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('grant.buckets.b = { mode = "wo" }', '.buckets.b.mode: expected "ro" or "rw"'),
        ("grant.buckets.b = { max-size = 0 }", "a size must be from 1"),
        ("grant.bucket.b = {}", 'unknown key "bucket" (did you mean "buckets"?)'),
    ],
)
def test_what_a_grant_of_buckets_may_not_say(text: str, complaint: str) -> None:
    assert any(complaint in line for line in problems(STORE + text)), problems(STORE + text)


@pytest.mark.parametrize(
    ("kernel", "confine", "held"),
    [
        ((True, 7), "prefer", "confined by seccomp and landlock 7"),
        ((True, 7), "off", "not confined"),
        ((True, 0), "prefer", "confined by seccomp; this kernel lacks landlock"),
        ((False, 2), "prefer", "confined by landlock 2; this kernel lacks seccomp and landlock"),
        ((False, 0), "prefer", "not confined; this kernel lacks seccomp and landlock"),
        ((True, 2), "require", "refused here: this kernel lacks landlock"),
    ],
)
def test_a_grant_of_programs_in_words_says_what_holds_them(
    kernel: tuple[bool, int], confine: str, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "confinement", lambda: kernel)
    sed = {"path": "/bin/sed", "fixed": ["-u"], "args": [["-n", "{number}p"], []], "confine": confine}
    said = process.sentences({"programs": {"sed": sed}, "roots": {"r": {"path": "/work", "mode": "rw"}}})
    assert said == [
        f"run `/bin/sed -u -n {{number}}p` or `/bin/sed -u` (as `sed`, {held})",
        "run programs in /work (as `r`, read and write)",
        "have 8 programs at once, each for 600 s at most",
    ]


def test_what_widens_a_program_is_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "confinement", lambda: (True, 7))
    wide: dict[str, Any] = {"path": "/bin/sh", "net": True, "exec": True}
    (said, _) = process.sentences({"programs": {"sh": wide}, "max-children": 2, "max-lifetime": 1.5})
    assert said.startswith("run `/bin/sh` (as `sh`, with the network, and what programs it starts, ")
    assert process.sentences({}) == []


def test_a_grant_of_buckets_in_words() -> None:
    said = keyvalue.sentences({"buckets": {"a": {}, "b": {"mode": "rw", "max-size": 1024}}})
    assert said == ["read the bucket `a`", "read and write the bucket `b`, up to 1024 bytes"]
    assert keyvalue.sentences({}) == []


def test_a_grant_of_containers_in_words() -> None:
    said = blobstore.sentences(
        {
            "containers": {
                "a": {"max-size": 10},
                "own-*": {"mode": "rw", "create": True, "max-size": 1024, "max-objects": 5},
            }
        }
    )
    assert said == [
        "read the container `a`, up to 10 bytes",
        "read and write containers whose names begin with `own-`, up to 1024 bytes in 5 objects each",
        "create and delete containers whose names begin with `own-`",
    ]
    assert blobstore.sentences({}) == []


def test_a_grant_of_containers_is_read_and_refused() -> None:
    text = """
        providers.p.use = "python:loop_kit.capabilities.blobstore:BlobStore"
        links."wasi:blobstore" = { provider = "p", grant.containers.c = { mode = "rw", max-size = "1KiB" } }
    """
    grant = read(text).links["wasi:blobstore"].grant
    assert grant == {"containers": {"c": {"mode": "rw", "max-size": 1024}}}
    (problem,) = problems(text.replace("max-size", "max-sise"))
    assert 'did you mean "max-size"?' in problem
