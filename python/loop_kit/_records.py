"""Log records of components, as records of `logging`."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence

__all__ = ["emit", "to_host", "without_fields"]

# TRACE has no number of its own in `logging`; 5 is what others use.
_LEVELS = (5, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)


def emit(
    level: int,
    target: str,
    message: str,
    fields: Sequence[tuple[str, str]],
    trace: bytes | None = None,
    *,
    component: str = "",
    refusal: bool = False,
) -> None:
    """A component's log record as one of Python's, with its fields as `record.fields`.

    Args:
        level: 0 for trace to 4 for error.
        target: The part of the component that speaks; the logger is `loop_kit.guest` and this.
        message: For people.
        fields: For machines.
        trace: The span that it belongs to, which `record.trace` has, or None.
        component: Whose it is, which `record.component` has; "": it is not known.
        refusal: Whether loop-kit says what a grant lacks, and not the component; `record.refusal` has it.
    """
    logger = logging.getLogger(f"loop_kit.guest.{target}" if target else "loop_kit.guest")
    if not logger.isEnabledFor(_LEVELS[level]):
        return
    text = " ".join([message, *(f"{key}={value}" for key, value in fields)])
    try:
        extra = {"fields": fields, "trace": trace, "component": component, "refusal": refusal}
        logger.log(_LEVELS[level], "%s", text, extra=extra)
    except Exception:
        # Logging never fails for a component; what a filter of the host raised is told as a handler's errors are.
        if logging.raiseExceptions:
            traceback.print_exc()


def without_fields(text: str, fields: Mapping[str, str]) -> str:
    """The message of a record that ends with its fields."""
    for key, value in reversed([*fields.items()]):
        text = text.removesuffix(f" {key}={value}")
    return text


class _Lines(logging.Handler):
    """Writes records to standard error as `docs/sidecars.md` has them, for the host to log."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = dict(getattr(record, "fields", ()))
            text = without_fields(self.format(record), fields)
            level = next((name for least, name in _NAMES if record.levelno >= least), "trace")
            said = {"level": level, "target": record.name, "message": text, "fields": fields}
            sys.stderr.write(f"{json.dumps(said)}\n")
        except Exception:
            self.handleError(record)


_NAMES = (
    (logging.ERROR, "error"),
    (logging.WARNING, "warn"),
    (logging.INFO, "info"),
    (logging.DEBUG, "debug"),
)


def to_host() -> None:
    """Has what a provider's process logs reach the host that started it, which decides what is shown; else a person."""
    if "LOOP_PROVIDER_ADDRESS" in os.environ:
        logging.getLogger().addHandler(_Lines())
        logging.getLogger().setLevel(logging.INFO)
        logging.getLogger("loop_kit").setLevel(_LEVELS[0])
    else:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
