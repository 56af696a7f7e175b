"""What `loop:core` promises, of every provider in every host."""

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from loop_kit.errors import CallError
from tests.capabilities.serving import Serving

LEVELS = {"trace": 5, "debug": 10, "info": 20, "warn": 30, "error": 40}


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Takes every record."""
    caplog.set_level(1, "loop_kit.guest")
    return caplog


# ---- log


@pytest.mark.parametrize("level", LEVELS)
def test_a_record_arrives_as_it_was_sent(serve: Serving, logs: pytest.LogCaptureFixture, level: str) -> None:
    call = serve("core", "core")
    fields = [("b", "1"), ("a", "2"), ("b", "3"), ("", "ü")]
    assert call("log", level, "site.search", "héllo\n%s", fields) is None
    (record,) = logs.records
    assert (record.levelno, record.name) == (LEVELS[level], "loop_kit.guest.site.search")
    assert vars(record)["fields"] == fields
    assert record.getMessage() == "héllo\n%s b=1 a=2 b=3 =ü"


def test_no_target_and_no_words(serve: Serving, logs: pytest.LogCaptureFixture) -> None:
    serve("core", "core")("log", "info", "", "", [])
    assert [(r.name, r.getMessage(), vars(r)["fields"]) for r in logs.records] == [("loop_kit.guest", "", [])]


@pytest.mark.parametrize("lowest", LEVELS)
def test_a_grant_has_a_lowest_level(serve: Serving, logs: pytest.LogCaptureFixture, lowest: str) -> None:
    call = serve("core", "core", {"log": {"level": lowest}})
    for level in LEVELS:
        call("log", level, "t", level, [])
    assert [r.getMessage() for r in logs.records] == [n for n in LEVELS if LEVELS[n] >= LEVELS[lowest]]


SENT = ["", "site", "site.", "site.x", "site.x.y", "sites", "Site", ".site", "db", "db.pool", "db.pool.y"]


@pytest.mark.parametrize(
    ("targets", "pass_"),
    [
        (["site", "db.pool"], ["site", "site.", "site.x", "site.x.y", "db.pool", "db.pool.y"]),
        (["site.x"], ["site.x", "site.x.y"]),
        ([""], ["", ".site"]),
        ([], []),
    ],
)
def test_a_grant_names_targets(
    serve: Serving, logs: pytest.LogCaptureFixture, targets: list[str], pass_: list[str]
) -> None:
    call = serve("core", "core", {"log": {"targets": targets}})
    for target in SENT:
        call("log", "error", target, target, [])
    assert [r.getMessage() for r in logs.records] == pass_


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (("t", "m" * 40, []), ("m" * 29, [])),
        (("t" * 40, "m", [("", "")]), ("", [])),
        (("t", "é" * 20, []), ("é" * 14, [])),  # one byte is left over
        (("t", "日" * 20, []), ("日" * 9, [])),
        (("t", "abc", [("k", "0123456789"), ("k", "v")]), ("abc", [("k", "v")])),
        (("t", "m" * 13, [("", ""), ("", "")]), ("m" * 13, [("", "")])),
        (("t", "m" * 14, [("", "")]), ("m" * 14, [])),
        (("t", "", [("é", "é" * 4), ("k", "é" * 6)]), ("", [("é", "é" * 4)])),
    ],
)
def test_a_long_record_is_cut_to_size(
    serve: Serving, logs: pytest.LogCaptureFixture, sent: Any, kept: Any
) -> None:
    """At a character; fields stay whole, and each that still fits is kept."""
    serve("core", "core", {"log": {"max-record": 30}})("log", "info", *sent)
    (record,) = logs.records
    message, fields = kept
    assert vars(record)["fields"] == fields
    assert record.getMessage() == " ".join([message, *(f"{key}={value}" for key, value in fields)])


def test_a_record_is_bounded_without_a_grant(serve: Serving, logs: pytest.LogCaptureFixture) -> None:
    """Empty fields count too."""
    call = serve("core", "core")
    call("log", "info", "", "m" * 70_000, [])
    call("log", "info", "", "", [("", "")] * 5_000)
    assert [len(r.getMessage()) for r in logs.records][:1] == [1 << 16]
    assert len(vars(logs.records[1])["fields"]) == 4096


def test_what_the_host_does_not_log_is_dropped(serve: Serving, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "loop_kit.guest")
    caplog.set_level(logging.DEBUG, "loop_kit.guest.site")
    call = serve("core", "core")
    call("log", "info", "", "1", [])
    call("log", "error", "", "2", [])
    call("log", "trace", "site", "3", [])
    call("log", "debug", "site.x", "4", [])
    assert [r.getMessage() for r in caplog.records] == ["2", "4"]


def test_what_goes_wrong_in_the_host_is_not_the_guests(
    serve: Serving, logs: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError("in a filter")

    logger = logging.getLogger("loop_kit.guest.bad")
    logger.addFilter(fail)
    try:
        assert serve("core", "core")("log", "info", "bad", "m", []) is None
    finally:
        logger.removeFilter(fail)
    assert (logs.records, "in a filter" in capsys.readouterr().err) == ([], True)


# ---- clock


def test_the_time_of_day_is_a_time(serve: Serving) -> None:
    """It may be set back: nothing is said of two of them."""
    now = serve("core", "core")("now")
    assert abs(now.seconds - time.time()) < 3600
    assert 0 <= now.nanoseconds < 1_000_000_000


def test_the_monotonic_clock_never_goes_back(serve: Serving) -> None:
    ticks = list(serve("core", "core")("ticks", 10_000))
    assert ticks == sorted(ticks)
    assert ticks[0] < ticks[-1]


def test_the_monotonic_clock_goes_on_between_calls(serve: Serving) -> None:
    call = serve("core", "core", instances="shared")
    ticks = [call("ticks", 1)[0] for _ in range(100)]
    assert ticks == sorted(ticks)


def test_the_monotonic_clock_has_a_step(serve: Serving) -> None:
    assert 0 < serve("core", "core")("resolution") < 1_000_000_000


# ---- random


def test_random_bytes_are_fresh(serve: Serving) -> None:
    call = serve("core", "core")
    assert len({call("bytes", 32) for _ in range(100)}) == 100
    assert [len(call("bytes", n)) for n in (0, 1, 255, 70_000)] == [0, 1, 255, 70_000]


def test_random_bytes_are_of_all_kinds(serve: Serving) -> None:
    assert set(serve("core", "core")("bytes", 1 << 16)) == set(range(256))


def test_random_numbers_use_all_their_bits(serve: Serving) -> None:
    call = serve("core", "core")
    numbers = [call("u64") for _ in range(200)]
    assert len(set(numbers)) == 200
    union, common = 0, (1 << 64) - 1
    for number in numbers:
        union, common = union | number, common & number
    assert (union, common) == ((1 << 64) - 1, 0)


@pytest.mark.parametrize("payload", [1000, 1 << 20])
def test_random_bytes_end_at_the_payload_limit(serve: Serving, payload: int) -> None:
    call = serve("core", "core", payload=payload)
    assert call("count", payload) == payload
    for length in (payload + 1, (1 << 32) - 1):
        with pytest.raises(
            CallError, match=f"{length} random bytes asked for, the payload limit is {payload}"
        ):
            call("count", length)
    assert call("count", 1) == 1


# ---- cancel


def tokens(call: Callable[..., Any], script: str) -> list[bool]:
    """Runs operations such as `n` (a new token), `c0` (a child of token 0), `x1`, `d1`, `?2`."""
    return list(call("tokens", b"".join(bytes([ord(op[0]), int(op[1:] or 0)]) for op in script.split())))


@pytest.mark.parametrize(
    ("script", "cancelled"),
    [
        ("n ?0 x0 ?0 x0 ?0", [False, True, True]),
        ("n n x0 ?0 ?1", [True, False]),
        ("n c0 x0 ?1", [True]),
        ("n c0 x1 ?0 ?1", [False, True]),
        ("n c0 c0 c1 x1 x1 ?0 ?1 ?2 ?3 c3 ?4", [False, True, False, True, True]),
        ("n x0 c0 c1 ?1 ?2", [True, True]),
        ("n c0 c1 c2 x0 ?3", [True]),
        # what is dropped in the middle does not cut the ends apart
        ("n c0 c1 d1 x0 ?2", [True]),
        ("n c0 c1 d1 ?2 x0 ?2", [False, True]),
        ("n c0 c1 c2 d1 d2 ?3 c3 x0 ?3 ?4", [False, True, True]),
        ("n c0 d0 ?1 x1 ?1", [False, True]),
        # a token that was cancelled and then dropped still has cancelled what is below it
        ("n c0 c1 x1 d1 ?2 ?0", [True, False]),
        ("n c0 x0 d0 ?1 c1 ?2", [True, True]),
        ("n c0 c1 c2 x1 d1 d2 ?3 ?0", [True, False]),
    ],
)
def test_cancelling_reaches_descendants_only(serve: Serving, script: str, cancelled: list[bool]) -> None:
    assert tokens(serve("core", "core"), script) == cancelled


def test_many_children_of_one_token(serve: Serving) -> None:
    script = " ".join(["n", *["c0"] * 200, "x7", "?199", "?7", "x0", "?199"])
    assert tokens(serve("core", "core"), script) == [False, True, True]


def test_a_long_line_of_dropped_ancestors_costs_nothing(serve: Serving) -> None:
    assert serve("core", "core")("line", 100_000) is True
