from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product

import pytest

from tests.capabilities.serving import HOSTS, PROVIDERS, Host, Serving


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Host]]:
    cache = tmp_path_factory.mktemp("compiled")
    with ExitStack() as opened:
        yield {name: opened.enter_context(make(cache)) for name, make in HOSTS.items()}


@pytest.fixture(params=product(PROVIDERS, HOSTS), ids="-".join)
def serve(request: pytest.FixtureRequest, hosts: dict[str, Host]) -> Serving:
    """Serves capabilities; each test that asks for it runs with every provider in every host."""
    provider, host = request.param
    return Serving(provider, hosts[host])
