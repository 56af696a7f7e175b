"""Where the journal's events come from: `logging`, spans, members."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from loop_kit import telemetry
from loop_kit._members import Member
from loop_kit._records import without_fields
from loop_kit.dev._journal import Journal
from loop_kit.dev._log import Told, shown

__all__ = ["SpanSource", "line_of", "logged", "member_of", "refusal_of"]

FIELDS = 32
"""Fields of a line that are kept."""
LONGEST_FIELD = 1 << 10
"""Characters of a field that are kept."""

_LEVELS = (
    (logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"), (logging.DEBUG, "debug"),
)  # fmt: skip
_GUEST, _PROVIDER = "loop_kit.guest", "loop_kit.provider."


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    """A log record as a `line` of `loop:devserver/events`."""
    given = getattr(record, "fields", None) or ()
    pairs = dict(given) if isinstance(given, dict) else {str(key): str(value) for key, value in given}
    text = without_fields(record.getMessage(), pairs)
    if record.exc_info and record.exc_info[0] is not None:
        text += f"\n{logging.Formatter().formatException(record.exc_info)}"
    source, target = getattr(record, "component", ""), record.name
    if record.name.startswith(_PROVIDER):
        source, target = record.name.removeprefix(_PROVIDER), getattr(record, "target", "")
    elif record.name.startswith(_GUEST):
        target = record.name.removeprefix(_GUEST).removeprefix(".")
    level = next((name for least, name in _LEVELS if record.levelno >= least), "trace")
    fields = [
        (shown(key, LONGEST_FIELD), shown(value, LONGEST_FIELD))
        for key, value in list(pairs.items())[:FIELDS]
    ]
    return {
        "time": int(record.created * 1000),
        "level": level,
        "source": source,
        "target": shown(target, LONGEST_FIELD),
        "message": shown(text),
        "fields": fields,
    }


def refusal_of(line: dict[str, Any]) -> dict[str, Any]:
    """What a hint of loop-kit's says, as a `refusal`: what is lacking before the `;`, and what to add after it."""
    what, _, proposal = line["message"].partition("; ")
    return {
        "time": line["time"],
        "importer": line["source"],
        "interface": line["target"],
        "what": what,
        "proposal": proposal,
    }


def member_of(member: Member) -> dict[str, Any]:
    """A member as `loop:devserver/workspace` has it."""
    why, line_end, words = member.reason.partition("\n")
    if member.pause is not None:
        why += f" (started again after {member.pause:.3g} s)"
    return {
        "name": member.name,
        "kind": member.kind,
        "placement": member.placement,
        "transport": member.transport,
        "source": member.source,
        "phase": str(member.phase),
        "generation": member.generation,
        "digest": member.digest,
        "pid": member.pid,
        "since": int(member.since * 1000),
        "restarts": member.restarts,
        "reason": shown(why + line_end + words),
        "crash_loop": member.crash_loop,
    }


class Lines(logging.Handler):
    """Tells each record to a function as a line, with whether it is a refusal."""

    def __init__(self, told: Told) -> None:
        super().__init__()
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        """Tells a record; what is wrong with it is printed, as handlers do."""
        try:
            self._told(line_of(record), bool(getattr(record, "refusal", False)))
        except Exception:
            self.handleError(record)


@contextlib.contextmanager
def logged(*told: Told) -> Iterator[None]:
    """Has all that is logged told to functions while it lasts: what loop-kit and its guests say, at every level."""
    root, ours = logging.getLogger(), logging.getLogger("loop_kit")
    handlers, level = [Lines(each) for each in told], ours.level
    for handler in handlers:
        root.addHandler(handler)
    ours.setLevel(5)  # TRACE
    try:
        yield
    finally:
        ours.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)


class SpanSource:
    """Spans for a journal, for as long as somebody asks for them: they cost, and are made only if somebody listens."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._users = 0
        self._listening: telemetry.Listening | None = None

    @contextlib.contextmanager
    def wanted(self) -> Iterator[None]:
        """While it lasts, spans are told."""
        self._users += 1
        if self._listening is None:
            self._listening = telemetry.listen(on_span=self._ended)
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._listening.close()
                self._listening = None

    def _ended(self, span: telemetry.Span) -> None:
        name, error = shown(span.name, LONGEST_FIELD), ""
        if span.status == "error":
            error = shown(span.reason or "failed", LONGEST_FIELD)
        told = {
            "trace": span.trace_id,
            "id": span.span_id,
            "parent": span.parent_id or "",
            "name": name,
            "source": "",  # a span does not tell whose it is
            "start": span.start,
            "nanoseconds": max(0, span.end - span.start),
            "error": error,
        }
        self._journal.tell("spans", ("span", told), len(name) + len(error))
