"""What docs/trust.md says is told about each kind of tampering: the cases of the tests are those of its tables."""

import functools
import os
import re

from loop_kit.errors import LoopError
from tests.checkout import ROOT

ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| `([^`]+)` \|$", re.MULTILINE)
"""Whatever was tampered with, in one of these ways, and what is said then."""
_OTHERS = [
    (re.compile(pattern), to)
    for pattern, to in (
        (r"127\.0\.0\.1:[0-9]+", "HOST"),
        (r"(?<![\w:])(\.\./|/)[\w./-]*/(?=[\w.]+)", "…/"),
        (r"sha256[:-][0-9a-f]{64}|sha256:[0-9a-f]+…", "sha256:…"),
        (r"\b[0-9a-f]{64}\b", "…"),
        (r"\b[0-9a-f]{16}\b", "…"),
        (r":[0-9]+:[0-9]+: not valid TOML.*", ": not valid TOML"),
        (r"is not JSON: .*", "is not JSON"),
        (r"\b[0-9]+ (?=of |bytes)", "N "),
    )
]


@functools.cache
def rows() -> dict[tuple[str, str], str]:
    """What is said, by what was tampered with and how."""
    text = (ROOT / "docs" / "trust.md").read_text()
    found = {}
    for what, how, said in ROW.findall(text[text.index("## What was tried") :]):
        for way in how.split(", "):
            assert (what, way) not in found, f"docs/trust.md has {what}, {way} twice"
            found[what, way] = said
    return found


def shown(error: LoopError | str) -> str:
    """A message as the tables have it: without what is another each time."""
    text = str(error)
    if (at := text.find("error: ")) >= 0:  # of a command, whose progress stands before
        text = text[at + len("error: ") :]
    text = text.partition("\n")[0].strip()
    for pattern, to in _OTHERS:
        text = pattern.sub(to, text)
    return text


def check(what: str, how: str, error: LoopError | str) -> None:
    """Compares what was said with the tables."""
    if collected := os.environ.get("LOOP_TAMPER_ROWS"):
        with open(collected, "a") as file:
            file.write(f"| {what} | {how} | `{shown(error)}` |\n")
        return
    assert rows()[what, how] == shown(error)
