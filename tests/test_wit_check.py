"""`loop wit check`: what may change in WIT, and what asks for another version."""

import json
from pathlib import Path

import pytest

from loop_kit.cli import main
from loop_kit.errors import LoadError
from loop_kit.wit import Change, compare

OLD = """
package acme:kv@0.1.0;

interface store {
  enum order { up, down }
  record entry { key: string, size: u32 }
  variant error { missing, full(u64) }
  flags access { read, write }
  type name = string;
  resource bucket {
    constructor(name: name);
    get: func(key: string) -> result<option<list<u8>>, error>;
    entries: func(order: order) -> list<entry>;
    open: static func(access: access) -> bucket;
  }
  count: func() -> u32;
  wait: func();
}

interface other { use store.{bucket}; take: func(b: borrow<bucket>); }
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "old.wit", tmp_path / "new.wit"


def changes(files: tuple[Path, Path], new: str, old: str = OLD) -> list[tuple[str, str, bool]]:
    for path, text in zip(files, (old, new), strict=True):
        path.write_text(text)
    return [(change.item, change.what, change.breaks) for change in compare(*files).changes]


def test_what_is_the_same_has_no_changes(files: tuple[Path, Path]) -> None:
    assert changes(files, OLD.replace("{ up, down }", "{ up, /* words */ down }")) == []
    assert changes(files, OLD.replace("@0.1.0", "@0.1.3")) == []


@pytest.mark.parametrize(
    ("was", "is_", "item", "what"),
    [
        ("up, down", "up", "order", "case `down` is gone"),
        ("up, down", "up, down, random", "order", "case `random` is new, which changes every value"),
        ("up, down", "down, up", "order", "its cases are in another order"),
        ("size: u32", "size: u64", "entry", "field `size` was `u32`, is `u64`"),
        ("size: u32 }", "size: u32, at: u64 }", "entry", "field `at` is new, which changes every value"),
        ("full(u64)", "full", "error", "case `full` was `u64`, is without a value"),
        ("missing,", "missing(string),", "error", "case `missing` was without a value, is `string`"),
        ("read, write", "read", "access", "flag `write` is gone"),
        ("type name = string", "type name = u32", "name", "was `string`, is `u32`"),
        ("enum order", "flags order", "order", "was a enum, is a flags"),
        ("get: func(key: string)", "get: func(name: string)", "bucket.get", "parameter `key` is gone"),
        ("get: func(key: string)", "get: func(key: u32)", "bucket.get", "parameter `key` was `string`, is `u32`"),
        ("entries: func(order: order) ->", "entries: func() ->", "bucket.entries", "parameter `order` is gone"),
        ("-> list<entry>", "-> list<tuple<entry>>", "bucket.entries", "gave `list<entry>`, gives `list<tuple<entry>>`"),
        ("count: func() -> u32", "count: func()", "count", "gave `u32`, gives `nothing`"),
        ("wait: func()", "wait: async func()", "wait", "was `func`, is `async func`"),
        ("  count: func() -> u32;\n", "", "count", "the function is gone"),
        ("constructor(name: name);", "", "bucket.constructor", "the function is gone"),
        ("open: static func", "open: func", "bucket.open", "the function is gone"),
        ("borrow<bucket>", "bucket", "take", "parameter `b` was `borrow<acme:kv/store.bucket>`, "
            "is `acme:kv/store.bucket`"),
    ],
)  # fmt: skip
def test_what_breaks_is_said_and_refused(
    files: tuple[Path, Path], was: str, is_: str, item: str, what: str
) -> None:
    assert was in OLD
    found = changes(files, OLD.replace(was, is_, 1))
    assert (item, what, True) in found
    assert compare(*files).refused
    # the next number that promises nothing of the one before
    files[1].write_text(OLD.replace(was, is_, 1).replace("@0.1.0", "@0.2.0"))
    assert not compare(*files).refused


def test_an_interface_or_a_package_that_is_gone_breaks(files: tuple[Path, Path]) -> None:
    without = OLD[: OLD.index("interface other")]
    assert changes(files, without) == [("", "the interface is gone", True)]
    changes(files, OLD.replace("acme:kv@", "acme:keys@"))
    assert len(compare(*files).refused) == 2


def test_what_is_added_is_compatible(files: tuple[Path, Path]) -> None:
    more = OLD.replace("count:", "drop-all: func();\n  record extra { a: u8 }\n  count:").replace(
        "interface other", "interface third {}\ninterface other"
    )
    assert changes(files, more) == [
        ("extra", "a new record", False),
        ("drop-all", "a new function", False),
        ("", "a new interface", False),
    ]
    assert compare(*files).changes[0] == Change("acme:kv/store", "extra", "a new record", False)
    assert not compare(*files).refused


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [
        ("0.1.0", "0.1.0", False), ("0.1.0", "0.1.9", False), ("0.1.0", "0.2.0", True), ("0.1.0", "1.0.0", True),
        ("1.2.3", "1.3.0", False), ("1.2.3", "2.0.0", True), ("0.0.1", "0.0.2", True), ("0.0.1", "0.0.1", False),
        ("0.2.0", "0.1.0", False), ("0.1.0-dev", "0.1.0-dev", True), ("0.1.0-dev", "0.1.0", True),
        ("0.1.0", "0.1.0-dev", False), ("1.0.0", "0.9.0", False),
    ],
)  # fmt: skip
def test_a_version_says_whether_it_may_break(
    files: tuple[Path, Path], old: str, new: str, allowed: bool
) -> None:
    changes(files, OLD.replace("up, down", "up").replace("0.1.0", new), OLD.replace("0.1.0", old))
    assert (not compare(*files).refused) == allowed


def test_the_command_explains_and_refuses(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    changes(files, OLD.replace("size: u32", "size: u64").replace("count:", "more: func();\n  count:"))
    arguments = ["wit", "check", *map(str, files)]
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert (
        "acme:kv/store\n  breaks entry: field `size` was `u32`, is `u64`\n  added more: a new function\n"
        in out
    )
    assert "acme:kv went from 0.1.0 to 0.1.0, which promises that nothing breaks" in out
    assert main([*arguments, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["compatible"], len(told["changes"]), len(told["refused"])) == (False, 2, 1)
    files[1].write_text(OLD)
    assert main(arguments) == 0
    assert capsys.readouterr().out == "nothing changed\n"


def test_what_is_no_wit_is_said(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    files[0].write_text(OLD)
    files[1].write_text("package acme:kv; interface {")
    with pytest.raises(LoadError, match=r"new\.wit"):
        compare(*files)
    assert main(["wit", "check", *map(str, files)]) == 4
    assert "new.wit" in capsys.readouterr().err
