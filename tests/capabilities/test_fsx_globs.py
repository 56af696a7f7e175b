"""What patterns of `loop:fsx/files` mean, of every provider in every host."""

from pathlib import Path

import pytest

from tests.capabilities.serving import Serving, error_of
from tests.capabilities.trees import files_left, grow, special

TREE = [
    "a.txt", "src/a.txt", "src/deep/b.rs", "src/deep/src/c.rs", ".hidden", ".dir/.f", "#x", "!y", "x y",
    "x[1].txt", "{a}.txt", "x*y", "a,b", "é", "日本.md", "q\\r", "line\nend",
]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*.txt", ["a.txt", "src/a.txt", "x[1].txt", "{a}.txt"]),
        ("/*.txt", ["a.txt", "x[1].txt", "{a}.txt"]),
        ("/a.txt", ["a.txt"]),
        ("a.txt", ["a.txt", "src/a.txt"]),
        ("**/a.txt", ["a.txt", "src/a.txt"]),
        ("src/*.txt", ["src/a.txt"]),
        ("src/**/*.rs", ["src/deep/b.rs", "src/deep/src/c.rs"]),
        ("src/**/src/*", ["src/deep/src/c.rs"]),
        ("**/src/**", ["src/a.txt", "src/deep/b.rs", "src/deep/src/c.rs"]),
        ("**/deep/**/*.rs", ["src/deep/b.rs", "src/deep/src/c.rs"]),
        ("/src/deep/*.rs", ["src/deep/b.rs"]),
        ("deep/*.rs", []),
        ("**/deep/*.rs", ["src/deep/b.rs"]),
        ("s[r]c/*", ["src/a.txt"]),
        ("s[!x]c/*", ["src/a.txt"]),
        ("s[^r]c/*", []),
        ("src", []),
        ("src/", []),
        ("a.txt/", []),
        ("./a.txt", []),
        ("../*", []),
        ("link/*", []),
        ("link", []),
        ("pipe", []),
        ("A.TXT", []),
        ("{.h,x}*", [".hidden", "x y", "x*y", "x[1].txt"]),
        ("{a,{b,c}}.{txt,rs}", ["a.txt", "src/a.txt", "src/deep/b.rs", "src/deep/src/c.rs"]),
        ("{src,.dir}/*", [".dir/.f", "src/a.txt"]),
        (".*", [".dir/.f", ".hidden"]),
        ("\\#x", ["#x"]),
        ("\\!y", ["!y"]),
        ("x\\*y", ["x*y"]),
        ("x[[]1].txt", ["x[1].txt"]),
        ("x[[]1[]].txt", ["x[1].txt"]),
        ("\\{a\\}.txt", ["{a}.txt"]),
        ("a,b", ["a,b"]),
        ("q\\\\r", ["q\\r"]),
        ("x y ", ["x y"]),
        ("x\\ y", ["x y"]),
        ("日本.md", ["日本.md"]),
        ("日*", ["日本.md"]),
        ("line?end", ["line\nend"]),
        ("[", None),
        ("[a", None),
        ("[]a", None),
        ("[z-a]", None),
        ("{a", None),
        ("a}", None),
        ("a\\", None),
        ("", None),
        (" ", None),
        ("\t\u3000", None),
        ("#x", None),
        ("!a", None),
        ("a\0", None),
    ],
)
def test_patterns_are_those_of_ripgrep(
    serve: Serving, tmp_path: Path, pattern: str, matches: list[str] | None
) -> None:
    """None: it is refused."""
    grow(tmp_path, dict.fromkeys(TREE, "") | {"link": "-> src", "file-link": "-> a.txt"})
    special(tmp_path)
    call = serve("files", "fsx", {"roots": {"r": {"path": str(tmp_path)}}})
    if matches is None:
        assert error_of(call, "glob", "r", pattern) == "invalid"
    else:
        assert call("glob", "r", pattern) == matches


def test_everything(serve: Serving, tmp_path: Path) -> None:
    grow(tmp_path, dict.fromkeys(TREE, "") | {"link": "-> src"})
    call = serve("files", "fsx", {"roots": {"r": {"path": str(tmp_path)}}})
    for pattern in ("**", "*", "/**", "**/*", "**/**", "{**/*,x}"):
        assert call("glob", "r", pattern) == sorted(TREE)


def test_braces_within_braces_end_somewhere(serve: Serving, tmp_path: Path) -> None:
    call = serve("files", "fsx", {"roots": {"r": {"path": str(grow(tmp_path, {"x": ""}))}}})
    assert call("glob", "r", "{" * 32 + "x" + "}" * 32) == ["x"]
    for pattern in ("{" * 33 + "x" + "}" * 33, "\\{" * 33 + "x", "{" * 2000 + "x" + "}" * 2000, "{a," * 1300):
        assert error_of(call, "glob", "r", pattern) == "invalid"


def test_a_pattern_may_be_as_long_as_a_path(serve: Serving, tmp_path: Path) -> None:
    call = serve("files", "fsx", {"roots": {"r": {"path": str(grow(tmp_path, {"a" * 255: ""}))}}})
    assert call("glob", "r", "[a]" * 255 + "*" * (4096 - 765)) == ["a" * 255]
    for pattern in ("a" * 4097, "é" * 2049):
        assert error_of(call, "glob", "r", pattern) == "name-too-long"


@pytest.mark.parametrize(
    "piece", ["*a", "**/a/", "{a,b}", "{a,aa}", "{*,*a}", "[a-z]", "?*", "a**", "**/*a*/", "{**/a,*}/"]
)
def test_no_pattern_takes_exponential_time(serve: Serving, tmp_path: Path, piece: str) -> None:
    """Matching by trial and error would not end."""
    files = ["a" * 250, "/".join(["a" * 30] * 30), "/".join("a" * 60)]
    call = serve("files", "fsx", {"roots": {"r": {"path": str(grow(tmp_path, dict.fromkeys(files, "")))}}})
    for pattern in (piece * (4000 // len(piece)), piece * 20):
        assert set(call("glob", "r", pattern)) <= set(files)
        assert call("glob", "r", f"{pattern}b") == []


def test_a_deep_tree_takes_few_descriptors(serve: Serving, tmp_path: Path) -> None:
    deep = "d/" * 300 + "f"
    call = serve("files", "fsx", {"roots": {"r": {"path": str(grow(tmp_path, {deep: ""}))}}})
    with files_left(8):
        assert call("glob", "r", "f") == [deep]
