"""Numbers as people read them."""

from __future__ import annotations

from loop_kit.bench._results import Run

__all__ = ["LABELS", "amount", "duration", "figure", "rate"]

LABELS = {"lift_lower": "lift/lower"}


def duration(us: float) -> str:
    """Such as `7.3 us`, `420 us`, `1.8 ms`."""
    return (
        f"{_digits(us)} us"
        if us < 999.5
        else f"{_digits(us / 1e3)} ms"
        if us < 999.5e3
        else f"{us / 1e6:.3g} s"
    )


def rate(calls: float) -> str:
    """Such as `152 k/s`."""
    return f"{_digits(calls)}/s" if calls < 999.5 else f"{_digits(calls / 1e3)} k/s"


def amount(bytes_: float) -> str:
    """Such as `1.2 GB/s`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= size:
            return f"{_digits(bytes_ / size)} {unit}/s"
    return f"{_digits(bytes_)} B/s"


def figure(run: Run) -> str:
    """The number that says most of a run: how long a call takes, or how many there are in a second."""
    return duration(run.p50_us) if run.p50_us is not None else rate(run.rate)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
