"""Log records of components, as records of `logging`."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence

__all__ = ["emit"]

# TRACE has no number of its own in `logging`; 5 is what others use.
_LEVELS = (5, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)


def emit(level: int, target: str, message: str, fields: Sequence[tuple[str, str]]) -> None:
    """A component's log record as one of Python's, with its fields as `record.fields`.

    Args:
        level: 0 for trace to 4 for error.
        target: The part of the component that speaks; the logger is `loop_kit.guest` and this.
        message: For people.
        fields: For machines.
    """
    logger = logging.getLogger(f"loop_kit.guest.{target}" if target else "loop_kit.guest")
    if not logger.isEnabledFor(_LEVELS[level]):
        return
    text = " ".join([message, *(f"{key}={value}" for key, value in fields)])
    try:
        logger.log(_LEVELS[level], "%s", text, extra={"fields": fields})
    except Exception:
        # Logging never fails for a component; what a filter of the host raised is told as a handler's errors are.
        if logging.raiseExceptions:
            traceback.print_exc()
