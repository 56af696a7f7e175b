from collections.abc import Iterator
from itertools import product

import pytest

from tests.capabilities.serving import HOSTS, PROVIDERS, Serving


@pytest.fixture(params=product(PROVIDERS, HOSTS), ids="-".join)
def serve(request: pytest.FixtureRequest) -> Iterator[Serving]:
    provider, host = request.param
    with HOSTS[host]() as opened:
        yield Serving(provider, opened)
