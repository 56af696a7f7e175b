"""What sidecars write, as log records: by the line, within bounds."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_kit.placements._output import BURST, LONGEST, RATE, Output


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(1)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def logged(*chunks: bytes, clock: float = 0.0) -> list[logging.LogRecord]:
    handler, logger = Records(), logging.getLogger("loop_kit.provider.out")
    logger.addHandler(handler)
    logger.setLevel(1)
    logger.propagate = False
    try:
        output = Output("out", lambda: clock)
        for chunk in chunks:
            output.feed(chunk)
        output.close()
    finally:
        logger.removeHandler(handler)
    return handler.records


def texts(*chunks: bytes) -> list[str]:
    return [record.getMessage() for record in logged(*chunks)]


lines = st.lists(
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="{"), min_size=1)
)


@given(lines, st.data())
def test_it_does_not_matter_how_lines_are_cut_into_chunks(lines: list[str], data: st.DataObject) -> None:
    raw = "\n".join(lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    chunks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert texts(*chunks) == lines


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes_are_taken(chunks: list[bytes]) -> None:
    for text in texts(*chunks):
        assert text.isprintable() or "\t" in text or any(c.isspace() or ord(c) > 127 for c in text)
        assert "\x1b" not in text


@pytest.mark.parametrize(
    ("line", "level", "message", "target"),
    [
        ({"level": "trace", "message": "m"}, 5, "m", ""),
        ({"level": "ERROR", "message": "m", "target": "a.b", "fields": {"k": [1]}}, 40, "m k=[1]", "a.b"),
        ({"level": 7, "message": "m", "fields": 3}, 20, "m", ""),
        ({"message": "a\nb"}, 20, "a\\x0ab", ""),
    ],
)
def test_json(line: dict[str, object], level: int, message: str, target: str) -> None:
    (record,) = logged(json.dumps(line).encode())
    assert (record.levelno, record.getMessage(), vars(record)["target"]) == (level, message, target)


@pytest.mark.parametrize("line", ['{"message": 1}', "{", "[1]", '{"x": "y"}', "{" * 5000, '{"a":' * 1500])
def test_what_is_no_record_is_a_line(line: str) -> None:
    assert texts(line.encode()) == [line]


def test_a_line_is_bounded() -> None:
    assert texts(b"a" * (LONGEST + 1) + b"\nb") == ["a" * LONGEST + " [cut]", "b"]
    assert texts(*[b"a" * 100] * 100) == ["a" * LONGEST + " [cut]"]
    assert texts(b"a" * LONGEST) == ["a" * LONGEST]


def test_a_flood_is_bounded_and_said_to_be() -> None:
    assert texts(b"x\n" * (BURST + 7)) == ["x"] * BURST + [f"7 lines were dropped: more than {RATE} a second"]
    now = 0.0
    output = Output("out", lambda: now)
    output.feed(b"x\n" * (BURST + 7))
    now = 1.0
    output.feed(b"y\n")
    assert output.last[-1] == "y"
    assert len(output.last) == 20
