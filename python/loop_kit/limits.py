"""What one component may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from loop_kit._units import parse_duration, parse_size

__all__ = ["Instances", "Limits"]

Instances = Literal["per-call", "shared"] | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one component; all have defaults, and only fuel is off by default.

    Sizes are bytes or text such as `"64MiB"`; durations are seconds or text such as `"250ms"`. None: unlimited.

    Attributes:
        memory: Linear memory of one instance, all its memories together.
        table_elements: Table elements of one instance.
        deadline: Wall-clock time of one call. Told apart at a resolution of 10 ms.
        cpu: CPU time of one call, at the same resolution.
        fuel: Instructions of one call, for runs that must be deterministic; None: not counted.
        concurrent_calls: Calls at once; one more raises Overloaded.
        payload: Host memory that the values of one transfer from the guest may take.
        instances: `"per-call"`: a fresh instance for each call. `"shared"`: one for all, which keeps state. A number:
            a pool of up to so many, each reused one call at a time. None: shared where an export deals in resources,
            per call otherwise.
        cancel_grace: How long a cancelled call on a shared instance may run on before the instance is retired.
    """

    memory: int | str = "256MiB"
    table_elements: int = 1 << 20
    deadline: float | str | None = 30.0
    cpu: float | str | None = 30.0
    fuel: int | None = None
    concurrent_calls: int = 256
    payload: int | str = "256MiB"
    instances: Instances | None = None
    cancel_grace: float | str = 1.0

    def __post_init__(self) -> None:
        self.core()  # a wrong value is an error here, not at the first load

    def core(self) -> dict[str, Any]:
        """The limits as the compiled core takes them.

        Raises:
            ValueError: A size, duration or number is out of range.
        """
        for name in ("table_elements", "concurrent_calls"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        known: dict[Any, int | None] = {None: None, "per-call": 0, "shared": -1}
        instances = known.get(self.instances, self.instances)
        if self.instances not in known and not (isinstance(instances, int) and instances >= 1):
            raise ValueError(f'instances must be "per-call", "shared" or a number from 1, got {instances!r}')
        return {
            "memory": parse_size(self.memory),
            "table_elements": self.table_elements,
            "deadline": None if self.deadline is None else parse_duration(self.deadline),
            "cpu": None if self.cpu is None else parse_duration(self.cpu),
            "fuel": self.fuel,
            "concurrent_calls": self.concurrent_calls,
            "payload": parse_size(self.payload),
            "instances": instances,
            "cancel_grace": parse_duration(self.cancel_grace),
        }
