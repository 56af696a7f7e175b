"""The runner of the public suites is itself right: what holds passes, and what does not is noticed."""

import math
from pathlib import Path

import pytest

import loop_kit as loop
from tests.conformance import script, values, wasi
from tests.conformance.cases import Case
from tests.conformance.run import Outcome, known_failures, summary
from tests.conformance.sexpr import Node, SyntaxFault, Text, parse

ECHO = r"""
(component definition $Echo (; a (; nested ;) comment ;)
  (core module $M
    (memory (export "mem") 1)
    (global $calls (mut i32) (i32.const 0))
    (func (export "echo") (param i32) (result i32) local.get 0)
    (func (export "count") (result i32)
      (global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls))
    (func (export "trap") unreachable))
  (core instance $m (instantiate $M))
  (func (export "echo") (param "x" u32) (result u32) (canon lift (core func $m "echo")))
  (func (export "count") (result u32) (canon lift (core func $m "count")))
  (func (export "trap") (canon lift (core func $m "trap"))))
(component instance $a $Echo)
(component instance $b $Echo)
"""


def failures(source: str, host: str) -> list[str]:
    return [message for _, message in script.run(source, host) if message]


@pytest.fixture(params=sorted(script.HOSTS))
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_strings_comments_and_places() -> None:
    source = '(a "x\\"\\n\\00\\u{e9}" ;; no ( here\n (b $"quoted id" (; "(" (; ;) ;)) )'
    (node,) = parse(source)
    assert node.items[1] == Text('x"\n\0é'.encode())
    inner = node.items[2]
    assert isinstance(inner, Node)
    assert inner.items == ("b", '$"quoted id"')
    assert source[inner.start : inner.end].startswith('(b $"quoted')


@pytest.mark.parametrize("source", ["(a", "a)", "(; (a)", '(a "\\q")', "a"])
def test_what_is_no_script_is_refused(source: str) -> None:
    with pytest.raises(SyntaxFault):
        parse(source)


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        ("(u8.const 0xff)", 255),
        ("(s64.const -1_000)", -1000),
        ("(f32.const 0.1)", 0.10000000149011612),
        ("(f64.const -0x1.8p1)", -3.0),
        ("(f64.const nan:0x1)", math.nan),
        ("(bool.const true)", True),
        ('(char.const "⛳")', "⛳"),
        ('(list.const (str.const "a") (str.const "b"))', ["a", "b"]),
        ("(tuple.const (u8.const 1) (bool.const false))", (1, False)),
        ("(option.some (option.none))", loop.Some(None)),
        ("(option.some (u8.const 1))", 1),
        ("(result.ok)", loop.Ok()),
        ("(result.err (u8.const 1))", loop.Err(1)),
    ],
)
def test_constants(constant: str, value: object) -> None:
    (node,) = parse(constant)
    made = values.argument(node, lambda _: 0)
    assert made == value or made != made
    assert values.same(node, value)


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        ("(f64.const 0)", -0.0),
        ("(u32.const 1)", True),
        ("(u32.const 1)", 2),
        ('(list.const (str.const "a"))', "a"),
        ("(list.const (u8.const 1))", b"\1\2"),
        ("(option.some (u8.const 1))", None),
        ("(result.ok)", loop.Err()),
    ],
)
def test_other_values_are_noticed(constant: str, value: object) -> None:
    (node,) = parse(constant)
    assert not values.same(node, value)


def test_what_holds_passes(host: str) -> None:
    source = (
        ECHO
        + """
        (assert_return (invoke $a "count") (u32.const 1))
        (assert_return (invoke $a "count") (u32.const 2))
        (assert_return (invoke "count") (u32.const 1))
        (assert_return (invoke $b "echo" (u32.const 7)) (u32.const 7))
        (assert_trap (invoke $b "trap") "unreachable")
        (assert_trap (invoke $b "count") "cannot enter component instance")
        (assert_trap (component (core module $m (func $f unreachable) (start $f))
                                (core instance (instantiate $m))) "unreachable")
        (assert_invalid (component (export "x" (func 0))) "unknown function")
        (assert_malformed (component quote "(nonsense)") "expected valid component field")
        (component binary "\\00asm\\0d\\00\\01\\00")
        (component definition (import "x" (func)))
        """
    )
    assert failures(source, host) == []


@pytest.mark.parametrize(
    "directive",
    [
        '(assert_return (invoke "echo" (u32.const 7)) (u32.const 8))',
        '(assert_return (invoke "echo" (u32.const 7)))',
        '(assert_return (invoke "trap"))',
        '(assert_return (invoke "missing"))',
        '(assert_return (invoke $missing "echo" (u32.const 7)) (u32.const 7))',
        '(assert_trap (invoke "count") "unreachable")',
        '(assert_trap (invoke "trap") "out of bounds")',
        '(assert_invalid (component) "unknown function")',
        '(assert_malformed (component) "unexpected token")',
        '(component (import "x" (func)))',
        "(component (core module $m (func $f unreachable) (start $f)) (core instance (instantiate $m)))",
        '(assert_dreams "x")',
        "(",
    ],
)
def test_what_does_not_hold_is_noticed(directive: str, host: str) -> None:
    assert len(failures(ECHO + directive, host)) == 1


def test_operations_and_keys_it_does_not_know_fail(tmp_path: Path) -> None:
    app = tmp_path / "case.wasm"
    for config in ('{"operations": [{"type": "dance"}]}', '{"operations": [], "colour": 1}'):
        app.with_suffix(".json").write_text(config)
        assert wasi.run(app, "wasm32-wasip3", wasi.loop_kit) != []


def test_every_known_failure_has_a_reason_and_the_table_counts() -> None:
    assert all(known_failures().values())

    def outcome(name: str, failures: list[str], reason: str | None) -> Outcome:
        return Outcome(Case(f"suite/{name}", list, list), failures, [], reason)

    outcomes = [outcome("a", [], None), outcome("b", ["wrong"], None), outcome("c", ["wrong"], "so it is")]
    outcomes.append(outcome("d", [], "so it was"))
    assert [o.verdict for o in outcomes] == ["passed", "failed", "known", "mended"]
    assert summary(outcomes).splitlines()[-1].split() == ["all", "4", "2", "1", "1", "4", "2"]
