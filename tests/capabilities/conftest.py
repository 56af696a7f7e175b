from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product

import pytest

from tests.capabilities.serving import HOSTS, PROVIDERS, Host, Serving, Sidecars


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Host]]:
    cache = tmp_path_factory.mktemp("compiled")
    with ExitStack() as opened:
        yield {name: opened.enter_context(make(cache)) for name, make in HOSTS.items()}


@pytest.fixture(scope="session")
def sidecars(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecars]:
    made = Sidecars(tmp_path_factory.mktemp("sidecars"))
    yield made
    made.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test that asks for `serve` with every provider in every host."""
    if "serve" in metafunc.fixturenames:
        ways = [*product(PROVIDERS, HOSTS)]
        here = metafunc.definition.get_closest_marker("in_process")
        if "fsx" in metafunc.module.__name__ and here is None:
            # one host is enough: what differs between hosts is on this side of the wire
            ways.append(("sidecar", "asynchronous"))
        metafunc.parametrize("serve", ways, ids="-".join, indirect=True)


@pytest.fixture
def serve(request: pytest.FixtureRequest, hosts: dict[str, Host]) -> Serving:
    """Serves capabilities by a provider in a host."""
    provider, host = request.param
    if provider == "sidecar":
        sidecars: Sidecars = request.getfixturevalue("sidecars")
        return Serving(sidecars.link, hosts[host])
    return Serving(PROVIDERS[provider], hosts[host])
