"""Plumbing of every test, those beside the capabilities included: what is tested is the installed package."""

import importlib.util
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test, settings
from tests.soaking import Soak, results

SOURCES = Path(__file__).resolve().parent / "python"

settings.register_profile("loop-kit", deadline=None)
settings.register_profile("soak", deadline=None, max_examples=2_000)
if "CI" not in os.environ:  # there hypothesis has a profile of its own, which repeats the same examples
    settings.load_profile("loop-kit")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak",
        type=Path,
        metavar="FILE",
        help="run only the tests that repeat things, at full length, and write what came of it to FILE",
    )
    parser.addoption(
        "--soak-seconds",
        type=float,
        default=1800,
        help="of each test that goes on for a time in a soak (default: 1800)",
    )


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a NATS server."""
    from tests.nats import serving  # needs the package, of which `pytest_configure` says where it is missing

    with serving(tmp_path_factory.mktemp("nats")) as address:
        yield address


@pytest.fixture(scope="module")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`HOST:PORT` of a registry without an API for referrers, Debian's docker-registry."""
    from tests.registries import docker

    with docker(tmp_path_factory.mktemp("docker-registry")) as host:
        yield host


@pytest.fixture(scope="module")
def crane_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`HOST:PORT` of a registry with an API for referrers, go-containerregistry's."""
    from tests.registries import crane

    with crane(tmp_path_factory.mktemp("crane-registry")) as host:
        yield host


@pytest.fixture(scope="module")
def loop_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`HOST:PORT` of a registry with an API for referrers, `loop registry serve`."""
    from tests.registries import ours

    with ours(tmp_path_factory.mktemp("loop-registry")) as host:
        yield host


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> Soak:
    config = request.config
    return Soak(request.node, config.getoption("--soak") is not None, config.getoption("--soak-seconds"))


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # what a shell starts in the background ignores it, and so would every process that a test interrupts
        signal.signal(signal.SIGINT, signal.default_int_handler)
    spec = importlib.util.find_spec("loop_kit")
    if spec is None or spec.origin is None or Path(spec.origin).is_relative_to(SOURCES):
        raise pytest.UsageError(
            "tests run against the installed package: `make setup`, then .venv/bin/pytest"
        )


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    # As packages, pytest would import the source tree's folders next to the installed ones.
    return pytest.Dir.from_parent(parent, path=path) if path.is_relative_to(SOURCES) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps a soak to the tests that can be made longer."""
    if config.getoption("--soak") is not None:
        items[:] = [
            item
            for item in items
            if isinstance(item, pytest.Function)
            and ("soak" in item.fixturenames or is_hypothesis_test(item.obj))
        ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Reports carry these from xdist's workers too.
    told = [r for outcome in ("passed", "failed", "error") for r in terminalreporter.getreports(outcome)]
    reports = [r for r in told if isinstance(r, pytest.TestReport)]  # not of modules that cannot be imported
    soak = terminalreporter.config.getoption("--soak")
    if soak is not None:
        soak.write_text(json.dumps(results(reports), indent=1) + "\n")
    not_run = [text for report in reports for name, text in report.user_properties if name == "not run"]
    if not_run:
        terminalreporter.section(f"snippets of the docs that are marked as not run: {len(not_run)}")
        for text in not_run:
            terminalreporter.line(str(text))
