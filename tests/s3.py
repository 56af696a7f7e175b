"""An S3 server: moto's."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

# Ends with its standard input.
_SERVE = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""


@contextmanager
def serving(bucket: str) -> Iterator[str]:
    """Its address, `http://127.0.0.1:PORT`, with an empty bucket; ends with the block."""
    argv = [sys.executable, "-c", _SERVE]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            while not (address := process.stdout.readline().strip()).startswith("http"):
                assert address, "the server ended by itself"
            with urllib.request.urlopen(urllib.request.Request(f"{address}/{bucket}", method="PUT")):
                pass
            yield address
        finally:
            process.stdin.close()
