"""What `loop:fsx/files` promises, of every provider in every host."""

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from tests.capabilities.serving import Serving, error_of
from tests.capabilities.trees import Files, files_left, grow, special

FILE, DIRECTORY, LINK, OTHER = "REGULAR_FILE", "DIRECTORY", "SYMBOLIC_LINK", "OTHER"


class Tree:
    """A root `r` in a folder of its own, with a secret beside it."""

    def __init__(self, serve: Serving, folder: Path, files: Files, grant: Mapping[str, Any]) -> None:
        self.top = grow(folder / "top", files)
        grow(folder, {"secret": "SECRET"})
        self.call = serve("files", "fsx", {"roots": {"r": {"path": str(self.top)}}, **grant})

    def read(self, path: str) -> bytes:
        return bytes(self.call("read", "r", path))

    def range(self, path: str, offset: int, length: int) -> bytes:
        return bytes(self.call("read-range", "r", path, offset, length))

    def glob(self, pattern: str) -> list[str]:
        return list(self.call("glob", "r", pattern))

    def list(self, path: str) -> list[tuple[str, str, int]]:
        return [(e.name, e.kind.name, e.size) for e in self.call("list", "r", path)]

    def stat(self, path: str) -> tuple[str, str, int]:
        e = self.call("stat", "r", path)
        return e.name, e.kind.name, e.size

    def error(self, function: str, *args: Any) -> str:
        return error_of(self.call, function, "r", *args)


@pytest.fixture
def tree(serve: Serving, tmp_path: Path) -> Callable[..., Tree]:
    return lambda files=(), **grant: Tree(
        serve, tmp_path, dict(files), {key.replace("_", "-"): value for key, value in grant.items()}
    )


MakeTree = Callable[..., Tree]


# ---- roots


def test_roots_are_known_by_name(serve: Serving, tmp_path: Path) -> None:
    names = ["z", "a", "é", "B", "a-1", "日本"]
    roots = {name: {"path": str(grow(tmp_path / f"{i}", {"f": name}))} for i, name in enumerate(names)}
    call = serve("files", "fsx", {"roots": roots})
    assert call("roots") == ["B", "a", "a-1", "z", "é", "日本"]
    for name in names:
        assert call("root", name) is None
        assert call("read", name, "f").decode() == name
    assert call("read-first", "f") == b"B"
    for name in ("", "A", "b", "a/", "f", str(tmp_path)):
        assert error_of(call, "root", name) == "not-permitted"


def test_no_roots(serve: Serving) -> None:
    call = serve("files", "fsx")
    assert call("roots") == []
    assert error_of(call, "root", "r") == "not-permitted"


def test_a_root_may_be_named_by_a_link(serve: Serving, tmp_path: Path) -> None:
    """Whoever grants it means where it leads; from there on it is the directory, not its name."""
    grow(tmp_path, {"real/f": "IN", "link": "-> real", "other/f": "OUT"})
    call = serve("files", "fsx", {"roots": {"r": {"path": str(tmp_path / "link")}}})
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("other")
    assert call("read", "r", "f") == b"IN"


# ---- list and stat


def test_entries_are_sorted_and_described(tree: MakeTree) -> None:
    files: dict[str, Any] = {
        "b": "12", "B": "", "é": "", "\U00010000": "", "\uffff": "", "e\u0301": "x", ".hidden": "h",
        "d/x": "1", "a\nb": "", "a\\b": "", " ": "", "...": "", "日本.md": "本", "in": "-> d", "out": "-> ../secret",
        "dangling": "-> nowhere", "a" * 255: "", "b.txt": "", "b-": "",
    }  # fmt: skip
    made = tree(files)
    special(made.top)
    os.close(os.open(os.fsencode(made.top) + b"/\xff.txt", os.O_CREAT))
    assert made.list(".") == [
        (" ", FILE, 0),
        ("...", FILE, 0),
        (".hidden", FILE, 1),
        ("B", FILE, 0),
        ("a\nb", FILE, 0),
        ("a\\b", FILE, 0),
        ("a" * 255, FILE, 0),
        ("b", FILE, 2),
        ("b-", FILE, 0),
        ("b.txt", FILE, 0),
        ("d", DIRECTORY, 0),
        ("dangling", LINK, 0),
        ("e\u0301", FILE, 1),
        ("in", LINK, 0),
        ("out", LINK, 0),
        ("pipe", OTHER, 0),
        ("socket", OTHER, 0),
        ("é", FILE, 0),
        ("日本.md", FILE, 3),
        ("\uffff", FILE, 0),
        ("\U00010000", FILE, 0),
    ]
    for name, kind, size in made.list("."):
        assert made.stat(name) == (name, kind, size)


@pytest.mark.parametrize("path", ["d", "d/", "d/.", "./d", "d//", "in", "in/", "d/../d", "in/../d", "in/."])
def test_ways_to_a_directory(tree: MakeTree, path: str) -> None:
    assert tree({"d/x": "1", "in": "-> d"}).list(path) == [("x", FILE, 1)]


def test_an_empty_directory(tree: MakeTree) -> None:
    made = tree({"d": None})
    assert (made.list("d"), made.list("d/.."), made.glob("**")) == ([], [("d", DIRECTORY, 0)], [])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".", (".", DIRECTORY, 0)),
        ("./", (".", DIRECTORY, 0)),
        ("./.", (".", DIRECTORY, 0)),
        ("d/..", ("..", DIRECTORY, 0)),
        ("d/x", ("x", FILE, 1)),
        ("d/./x", ("x", FILE, 1)),
        ("in", ("in", LINK, 0)),
        ("in/", ("in", DIRECTORY, 0)),
        ("in/.", (".", DIRECTORY, 0)),
        ("in//", ("in", DIRECTORY, 0)),
        ("in/x", ("x", FILE, 1)),
        ("in/l", ("l", LINK, 0)),
        ("out", ("out", LINK, 0)),
        ("l1", ("l1", LINK, 0)),
    ],
)
def test_what_a_path_names(tree: MakeTree, path: str, expected: tuple[str, str, int]) -> None:
    made = tree({"d/x": "1", "d/l": "-> x", "in": "-> d", "out": "-> ../secret", "l1": "-> l1"})
    assert made.stat(path) == expected


@pytest.mark.parametrize("nanoseconds", [0, 1, 1_500_000_000, 1_234_567_890_123_456_789, -1, -1_500_000_000])
def test_times_are_exact(tree: MakeTree, nanoseconds: int) -> None:
    """Before 1970 the nanoseconds count forwards too."""
    made = tree({"f": ""})
    os.utime(made.top / "f", ns=(0, nanoseconds))
    (entry,) = made.call("list", "r", ".")
    for told in (entry, made.call("stat", "r", "f")):
        assert (told.modified.seconds, told.modified.nanoseconds) == divmod(nanoseconds, 10**9)


def test_a_link_has_its_own_time(tree: MakeTree) -> None:
    made = tree({"f": "", "l": "-> f"})
    os.utime(made.top / "f", ns=(0, 5))
    os.utime(made.top / "l", ns=(0, 7), follow_symlinks=False)
    assert [made.call("stat", "r", name).modified.nanoseconds for name in ("f", "l")] == [5, 7]


def test_a_big_directory(tree: MakeTree) -> None:
    names = [f"{n:05}-{'é' * (n % 40)}" for n in range(2000)]
    made = tree(dict.fromkeys(names, ""))
    assert [name for name, _, _ in made.list(".")] == names
    assert made.glob("**") == names
    assert made.glob("0001?-*") == names[10:20]


# ---- read


def test_a_file_as_a_whole(tree: MakeTree) -> None:
    big = bytes(range(256)) * 12_000
    made = tree({"empty": "", "text": "héllo\r\n", "nul": b"\0\xff\n", "big": big, "日本/\U0001f600": "x"})
    assert made.read("empty") == b""
    assert made.read("text") == "héllo\r\n".encode()
    assert made.read("nul") == b"\0\xff\n"
    assert made.read("big") == big
    assert made.read("日本/\U0001f600") == b"x"


@pytest.mark.parametrize(
    "path", ["d/e/f", "./d//e/./f", "l", "d/l", "d/e/up", "d/e/../e/f", "to-d/e/f", "to-d/../l", "chain0"]
)
def test_ways_to_a_file(tree: MakeTree, path: str) -> None:
    files = {"d/e/f": "IN", "l": "-> d/e/f", "d/l": "-> e/f", "d/e/up": "-> ../../d/./e//f", "to-d": "-> d/"}
    chain = {f"chain{n}": f"-> chain{n + 1}" for n in range(39)} | {"chain39": "-> l"}
    # the last of forty links, the most that are followed
    chain["chain39"] = "-> d/e/f"
    assert tree(files | chain).read(path) == b"IN"


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, 4, b"0123"),
        (8, 4, b"89"),
        (9, 1, b"9"),
        (10, 1, b""),
        (11, 1, b""),
        (3, 0, b""),
        (0, 10, b"0123456789"),
        (0, (1 << 32) - 1, b"0123456789"),
        (9, (1 << 32) - 1, b"9"),
        (1 << 32, 1, b""),
        (1 << 44, 1, b""),
        ((1 << 63) - 1, 1, b""),
        (1 << 63, 1, b""),
        ((1 << 64) - 1, 1, b""),
        ((1 << 64) - 1, (1 << 32) - 1, b""),
    ],
)
def test_a_range_stops_at_the_end(tree: MakeTree, offset: int, length: int, expected: bytes) -> None:
    made = tree({"f": "0123456789", "l": "-> f"})
    assert made.range("f", offset, length) == expected
    assert made.range("l", offset, length) == expected


def test_a_range_of_a_sparse_file(tree: MakeTree) -> None:
    made = tree({"f": ""}, max_read=8)
    os.truncate(made.top / "f", 5 << 30)
    assert made.stat("f") == ("f", FILE, 5 << 30)
    assert made.range("f", (5 << 30) - 4, 9) == bytes(4)
    assert made.error("read", "f") == "file-too-large"


def test_files_that_call_themselves_empty(serve: Serving) -> None:
    call = serve("files", "fsx", {"roots": {"r": {"path": "/proc"}}, "max-read": 1 << 20})
    whole = Path("/proc/version").read_bytes()
    assert call("stat", "r", "version").size == 0
    assert call("read", "r", "version") == whole
    assert call("read-range", "r", "version", 3, 5) == whole[3:8]
    small = serve("files", "fsx", {"roots": {"r": {"path": "/proc"}}, "max-read": 5})
    assert small("read-range", "r", "version", 3, 5) == whole[3:8]
    assert error_of(small, "read", "r", "version") == "file-too-large"


# ---- limits


def test_a_grant_bounds_one_answer(tree: MakeTree) -> None:
    made = tree({"a": "1234", "b": "12345", "d/c": ""}, max_read=4, max_entries=3)
    assert made.read("a") == b"1234"
    assert made.error("read", "b") == "file-too-large"
    assert made.error("read-range", "b", 0, 5) == "file-too-large"
    assert made.range("b", 0, 4) == b"1234"
    assert made.range("b", 1, 5) == b"2345"
    assert made.range("b", 5, (1 << 32) - 1) == b""
    assert (len(made.list(".")), len(made.glob("**"))) == (3, 3)
    (made.top / "e").touch()
    assert made.error("list", ".") == "message-size"
    assert made.error("glob", "**") == "message-size"
    assert made.glob("[ab]") == ["a", "b"]
    assert made.list("d") == [("c", FILE, 0)]


def test_names_that_are_not_utf_8_do_not_count(tree: MakeTree) -> None:
    made = tree({"a": "", "b": ""}, max_entries=2)
    os.close(os.open(os.fsencode(made.top) + b"/\xff.txt", os.O_CREAT))
    os.mkdir(os.fsencode(made.top) + b"/\xfe")
    assert [name for name, _, _ in made.list(".")] == made.glob("**") == ["a", "b"]


# ---- errors

ODD: Files = {"f": "IN", "d/x": "", "l1": "-> l2", "l2": "-> l1", "dangling": "-> none", "to-f": "-> f"}
ODD_PATHS = [
    ("", "invalid"),
    ("\0", "invalid"),
    ("f\0", "invalid"),
    ("f\0/../f", "invalid"),
    ("none", "no-entry"),
    ("none/f", "no-entry"),
    ("none/../f", "no-entry"),
    ("d/none", "no-entry"),
    ("F", "no-entry"),
    ("f/x", "not-directory"),
    ("f/../f", "not-directory"),
    ("to-f/x", "not-directory"),
    ("a" * 256, "name-too-long"),
    ("é" * 128, "name-too-long"),
    ("d/" + "a" * 300 + "/x", "name-too-long"),
    ("./" * 3000 + "f", "name-too-long"),
    ("d/../" * 1000, "name-too-long"),
    ("..", "not-permitted"),
    ("../top", "not-permitted"),
    ("/", "not-permitted"),
    ("/f", "not-permitted"),
    ("//f", "not-permitted"),
    ("d/../../top/f", "not-permitted"),
    ("l1/x", "loop"),
]
ODD_FILES = [
    ("d", "is-directory"),
    (".", "is-directory"),
    ("d/", "is-directory"),
    ("d/..", "is-directory"),
    ("f/", "not-directory"),
    ("f/.", "not-directory"),
    ("to-f/", "not-directory"),
    ("l1", "loop"),
    ("dangling", "no-entry"),
    ("pipe", "unsupported"),
    ("socket", "unsupported"),
]


@pytest.mark.parametrize(("path", "code"), ODD_PATHS)
def test_a_path_that_leads_nowhere(tree: MakeTree, path: str, code: str) -> None:
    made = tree(ODD)
    assert {made.error(function, path) for function in ("list", "stat", "read")} == {code}
    assert made.error("read-range", path, 0, 1) == code


@pytest.mark.parametrize(("path", "code"), ODD_FILES)
def test_what_cannot_be_read(tree: MakeTree, path: str, code: str) -> None:
    made = tree(ODD)
    special(made.top)
    assert (made.error("read", path), made.error("read-range", path, 0, 0)) == (code, code)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("f", "not-directory"),
        ("f/", "not-directory"),
        ("to-f", "not-directory"),
        ("pipe", "not-directory"),
        ("socket", "not-directory"),
        ("l1", "loop"),
        ("dangling", "no-entry"),
    ],
)
def test_what_cannot_be_listed(tree: MakeTree, path: str, code: str) -> None:
    made = tree(ODD)
    special(made.top)
    assert made.error("list", path) == code


@pytest.mark.parametrize(
    ("path", "code"),
    [("f/", "not-directory"), ("f/.", "not-directory"), ("l1/", "loop"), ("dangling/", "no-entry")],
)
def test_what_stands_before_a_slash_is_a_directory(tree: MakeTree, path: str, code: str) -> None:
    assert tree(ODD).error("stat", path) == code


@pytest.mark.parametrize(("links", "code"), [(41, "loop"), (60, "loop")])
def test_too_many_links(tree: MakeTree, links: int, code: str) -> None:
    chain = {f"l{n}": f"-> l{n + 1}" for n in range(links)} | {f"l{links}": "IN"}
    made = tree(chain)
    assert made.error("read", "l0") == code
    assert made.read(f"l{links - 40}") == b"IN"


@contextmanager
def unprivileged() -> Iterator[None]:
    """The rights of somebody else, since root may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.in_process
def test_what_the_system_denies(tree: MakeTree) -> None:
    """Also within a walk, which leaves it out."""
    made = tree({"closed/f": "", "closed/d/f": "", "f": "", "open/f": ""})
    for name in ("closed", "f"):
        (made.top / name).chmod(0)
    try:
        with unprivileged():
            assert made.error("list", "closed") == "access"
            assert made.error("read", "closed/f") == "access"
            assert made.error("stat", "closed/f") == "access"
            assert made.error("read", "f") == "access"
            assert made.error("read-range", "f", 0, 1) == "access"
            assert made.stat("f") == ("f", FILE, 0)
            assert made.glob("f") == ["f", "open/f"]
    finally:
        for name in ("closed", "f"):
            (made.top / name).chmod(0o755)


def test_reading_that_fails(serve: Serving) -> None:
    """A process's memory has nothing at its start."""
    call = serve("files", "fsx", {"roots": {"r": {"path": "/proc/self"}}})
    assert error_of(call, "read", "r", "mem") == "io"
    assert error_of(call, "read-range", "r", "mem", 0, 1) == "io"


@pytest.mark.in_process
def test_an_error_with_no_name_has_words(tree: MakeTree) -> None:
    made = tree({"f": "", "d/f": ""})
    with files_left(0), pytest.raises(loop.Err) as caught:
        made.read("d/f")
    code: Any = caught.value.value
    assert (code.case, code.value[:19]) == ("other", "Too many open files")
    assert made.read("d/f") == b""


def test_no_error_carries_a_path_of_the_host(tree: MakeTree) -> None:
    made = tree({**ODD, "abs": f"-> {Path.cwd()}"})
    for path in [*(path for path, _ in ODD_PATHS), "abs", "abs/x"]:
        for function in ("list", "read"):
            with pytest.raises(loop.Err) as caught:
                made.call(function, "r", path)
            told = repr(caught.value)
            assert str(made.top.parent) not in told
            assert str(Path.cwd()) not in told


# ---- what changes


def test_what_a_root_holds_is_what_is_there(tree: MakeTree) -> None:
    made = tree({"f": "old"})
    assert made.read("f") == b"old"
    (made.top / "f").write_text("newer")
    assert (made.read("f"), made.stat("f")) == (b"newer", ("f", FILE, 5))
    (made.top / "f").unlink()
    assert (made.error("read", "f"), made.list(".")) == ("no-entry", [])


def test_a_root_is_the_directory_that_was_opened(tree: MakeTree) -> None:
    """Moving it takes it along; putting another in its place changes nothing."""
    made = tree({"f": "IN"})
    made.top.rename(made.top.parent / "moved")
    grow(made.top, {"f": "OTHER"})
    assert made.read("f") == b"IN"
    assert made.error("read", "../top/f") == "not-permitted"


def test_a_root_that_is_gone(tree: MakeTree) -> None:
    made = tree()
    made.top.rmdir()
    assert made.error("read", "f") == "no-entry"
    assert made.error("stat", "f") == "no-entry"


@pytest.mark.in_process
def test_calls_leave_no_file_open(tree: MakeTree) -> None:
    made = tree({"d/f": "IN", "l": "-> d/f", "big": bytes(100)}, max_read=50)

    def use() -> None:
        made.list("d")
        made.read("l")
        made.glob("**")
        made.stat("d/../d/f")
        for function, path in (
            ("read", "big"),
            ("read", "d"),
            ("list", "l"),
            ("stat", "d/x"),
            ("read", "d/../.."),
        ):
            made.error(function, path)

    use()
    gc.collect()  # roots of earlier tests are closed now, and not while this one counts
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        use()
    assert len(os.listdir("/proc/self/fd")) == before
