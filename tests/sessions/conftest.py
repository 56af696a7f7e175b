"""Each way to reach a provider."""

import secrets

import pytest

from tests.sessions.ways import WAYS


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    way = str(request.param)
    if way == "nats":
        return f"{request.getfixturevalue('nats')}/kv.{secrets.token_hex(8)}"
    return f"{way}://127.0.0.1:0" if way in ("quic", "http2", "ws") else way
