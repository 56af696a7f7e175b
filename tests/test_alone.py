"""Locks of files that other processes may have."""

import fcntl
from pathlib import Path

from loop_kit._alone import locked_alone


def test_who_waits_is_told_once_and_has_the_lock_then(tmp_path: Path) -> None:
    told = []
    with (tmp_path / "lock").open("wb") as other, (tmp_path / "lock").open("wb") as own:
        locked_alone(other.fileno(), lambda: told.append("at once"))
        assert told == []

        def waiting() -> None:
            told.append("waiting")
            other.close()  # as it is where its process has ended

        locked_alone(own.fileno(), waiting)
        assert told == ["waiting"]
        with (tmp_path / "lock").open("wb") as third:
            try:
                fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
    raise AssertionError("nobody has the lock")
