"""Processes that are killed at any moment."""

from __future__ import annotations

import time
from collections.abc import Iterable
from multiprocessing.process import BaseProcess


def kill(workers: Iterable[BaseProcess], seconds: float) -> None:
    """Starts processes that go on for ever, and kills them after a while; when does not matter."""
    workers = [*workers]
    for worker in workers:
        worker.start()
    time.sleep(seconds)
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join()
        assert worker.exitcode == -9, "it failed before it was killed"
