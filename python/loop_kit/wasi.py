"""What a component may reach through WASI."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["Dir", "Stdio", "Wasi"]

Stdio = Literal["inherit"] | Callable[[bytes], None] | None


@dataclass(frozen=True, slots=True)
class Dir:
    """A directory of the host that a component sees.

    Attributes:
        host: The directory on the host.
        guest: Its path as the component sees it.
        writable: Whether the component may change what is in it.
    """

    host: str | os.PathLike[str]
    guest: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wasi:
    """What a component may reach through WASI. The default is nothing but clocks and random numbers.

    Attributes:
        args: Its arguments; the first is the program's name.
        env: Its whole environment: nothing is inherited.
        dirs: The directories that it sees.
        net: Addresses for TCP and UDP as `HOST:PORT`, where the host is a name, an address, a network such as
            `10.0.0.0/8` or `*`, and the port a number or `*`. Names can be looked up once one is listed.
        http: Servers that `wasi:http` requests may be sent to, in the same form; `*.example.org` is allowed too.
        stdin: `"inherit"`, the bytes to read, or None for an empty input.
        stdout: `"inherit"`, a function that takes bytes, or None to drop it.
        stderr: The same.
    """

    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    dirs: Sequence[Dir] = ()
    net: Sequence[str] = ()
    http: Sequence[str] = ()
    stdin: Literal["inherit"] | bytes | None = None
    stdout: Stdio = None
    stderr: Stdio = None

    def core(self) -> dict[str, Any]:
        """The grant as the compiled core takes it.

        Raises:
            ValueError: A directory's path in the guest is empty.
        """
        for directory in self.dirs:
            if not directory.guest:
                raise ValueError(f"the directory {directory.host} needs a path that the component sees it by")
        return {
            "args": list(self.args),
            "env": list(self.env.items()),
            "dirs": [(str(Path(d.host)), d.guest, d.writable) for d in self.dirs],
            "net": list(self.net),
            "http": list(self.http),
            "stdin": self.stdin,
            "stdout": self.stdout,
            "stderr": self.stderr,
        }
