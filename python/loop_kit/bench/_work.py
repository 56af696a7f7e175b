"""What is measured: fixed, so that runs can be compared."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FILE_SIZE", "WORKLOADS", "Workload"]

_KIB, _MIB = 1 << 10, 1 << 20
# Of the file that `fsx read` reads.
FILE_SIZE = 64 * _KIB


@dataclass(frozen=True, slots=True)
class Workload:
    """Calls of one kind.

    Attributes:
        name: Of the row.
        guest: The component that makes the call, a file of `guests`.
        package: Of the interface that it imports.
        export: Its function that makes it.
        args: What that function takes before `spin`.
        payload: Bytes of the value that travels; one way for streams, files and the log, both ways otherwise.
        ways: How often they travel.
        in_flight: Calls at once.
    """

    name: str
    guest: str
    package: str
    export: str
    args: tuple[int, ...] = ()
    payload: int = 0
    ways: int = 2
    in_flight: int = 1


def _echo(name: str, size: int) -> Workload:
    return Workload(f"echo {name}", "echo", "loop:bench", "bytes", (size,), size)


def _small(in_flight: int = 1) -> Workload:
    name = "echo small" if in_flight == 1 else f"echo small, {in_flight} in flight"
    return Workload(name, "echo", "loop:bench", "small", in_flight=in_flight)


WORKLOADS = (
    _small(),
    _small(8),
    _small(32),
    _small(128),
    Workload("echo record", "echo", "loop:bench", "typed", payload=13),
    _echo("1 KiB", _KIB),
    _echo("64 KiB", 64 * _KIB),
    _echo("1 MiB", _MIB),
    _echo("16 MiB", 16 * _MIB),
    Workload("stream 16 MiB", "stream", "loop:bench", "take", (16 * _MIB,), 16 * _MIB, ways=1),
    Workload("fsx read 64 KiB", "files", "loop:fsx", "read", payload=FILE_SIZE, ways=1),
    Workload("log", "log", "loop:core", "log", payload=37, ways=1),
)
