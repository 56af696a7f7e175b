"""Python's way: one version of each package, which all who need it can have; where the newest do not fit, older ones."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, ResolutionTooDeep
from resolvelib import Resolver as Solver

from loop_kit.errors import PackageError
from loop_kit.pkg._model import Node, failed

if TYPE_CHECKING:
    from loop_kit.pkg._solve import Package, Source

__all__ = ["flat"]

_T = TypeVar("_T")
_ROUNDS = 20_000
"""Packages that are tried until it is said that there is no answer."""
_SHOWN = 4
_LOOKED = 100
"""Versions of a package of which one must be for this machine."""
_TELL = 2.0
"""Seconds between words about a search that goes on."""


@dataclass(frozen=True)
class _Wanted:
    """What one asks of a package; `here`: on this machine."""

    name: str
    range: str
    here: bool


@dataclass(frozen=True)
class _Chosen:
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class _Provider(AbstractProvider[_Wanted, _Chosen, str]):
    """What the solver asks of a source, from its own thread."""

    def __init__(self, source: Source, ask: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._source = source
        self._ask = ask
        self._within: dict[tuple[str, str], set[str]] = {}
        self.said: dict[str, str] = {}
        """What the source said of packages of which it has nothing that fits."""

    def identify(self, requirement_or_candidate: _Wanted | _Chosen) -> str:
        return requirement_or_candidate.name

    def get_preference(
        self,
        identifier: str,
        resolutions: Mapping[str, _Chosen],
        candidates: Mapping[str, Iterator[_Chosen]],
        information: Mapping[str, Iterator[Any]],
        backtrack_causes: Sequence[Any],
    ) -> Any:
        """What had it go back comes first, then what is asked for the most narrowly."""
        blamed = any(
            identifier == cause.requirement.name or (cause.parent and identifier == cause.parent.name)
            for cause in backtrack_causes
        )
        pinned = any("==" in one.requirement.range for one in information[identifier])
        return not blamed, not pinned, identifier

    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[_Wanted]],
        incompatibilities: Mapping[str, Iterator[_Chosen]],
    ) -> Callable[[], Iterator[_Chosen]]:
        wanted = list(requirements[identifier])
        barred = {one.version for one in incompatibilities[identifier]}
        here = any(one.here for one in wanted)

        def found() -> Iterator[_Chosen]:
            versions = self._versions(identifier, [one.range for one in wanted])
            for (
                one
            ) in wanted:  # what is in all ranges is in each; some are only meant where another names them
                self._within.setdefault((identifier, one.range), set()).update(versions)
            for version in versions:
                if version not in barred and self._ask(self._source.usable(identifier, version, here)):
                    yield _Chosen(identifier, version)

        return found

    def is_satisfied_by(self, requirement: _Wanted, candidate: _Chosen) -> bool:
        known = self._within.get((candidate.name, requirement.range), ())
        fits = candidate.version in known or candidate.version in self._versions(
            candidate.name, [requirement.range]
        )
        return fits and bool(
            self._ask(self._source.usable(candidate.name, candidate.version, requirement.here))
        )

    def get_dependencies(self, candidate: _Chosen) -> Iterable[_Wanted]:
        package = self._ask(self._source.package(candidate.name, candidate.version))
        here = self._source.here.key
        return [_Wanted(need.real, need.range, here in on) for need, on in package.needs]

    def _versions(self, name: str, ranges: list[str]) -> list[str]:
        try:
            return list(self._ask(self._source.versions(name, ranges)))
        except PackageError as error:
            if error.hint is not None:  # it cannot be asked
                raise
            self.said[name] = str(error)
            return []


class _Reporter(BaseReporter[_Wanted, _Chosen, str]):
    """Says now and then that it still looks."""

    def __init__(self, name: str, tell: Callable[[str], object]) -> None:
        self._name, self._tell = name, tell
        self._tried, self._told = 0, time.monotonic()

    def rejecting_candidate(self, criterion: Any, candidate: _Chosen) -> None:
        self._tried += 1
        if time.monotonic() - self._told > _TELL:
            self._told = time.monotonic()
            self._tell(
                f"what {self._name} needs: {self._tried} versions do not fit, {candidate} the last of them …"
            )


async def flat(source: Source, name: str, range_: str) -> list[Node]:
    """The package itself, then all that it needs; the newest that fit together.

    Args:
        source: Where they are.
        name: The package.
        range_: Which versions of it do.

    Raises:
        PackageError: Nothing fits together.
    """
    loop = asyncio.get_running_loop()
    stopped = False

    def ask(question: Coroutine[Any, Any, _T]) -> _T:
        if stopped:
            question.close()
            raise failed("it was given up")
        return asyncio.run_coroutine_threadsafe(question, loop).result()

    versions = await source.versions(name, [range_])
    for version in versions[:_LOOKED]:
        if await source.usable(name, version, here=True):
            break
    else:
        raise failed(f"{name} {versions[0]} has nothing for {source.here.key}")
    provider = _Provider(source, ask)
    solver = Solver(provider, _Reporter(name, source.tell))
    wanted = [_Wanted(name, range_, here=True)]
    try:
        result = await asyncio.to_thread(solver.resolve, wanted, max_rounds=_ROUNDS)
    except ResolutionImpossible as error:
        raise failed(
            _words(name, error.causes, provider.said), "ask for an older version of it, or another range"
        ) from None
    except ResolutionTooDeep:
        raise failed(f"what {name} needs does not fit together in {_ROUNDS} rounds") from None
    finally:
        stopped = True
    packages: dict[str, Package] = {}
    for chosen in result.mapping.values():
        found = await source.package(chosen.name, chosen.version)
        assert found is not None  # or it would not have been taken
        packages[chosen.name] = found if chosen.name != name else await source.whole(found)
    return _nodes(packages, name)


def _nodes(packages: Mapping[str, Package], name: str) -> list[Node]:
    """The tree; what is not needed on every platform is left out where there is nothing for it."""
    platforms = {key for file in packages[name].files for key in file.platforms}
    reached = {key: {name} for key in platforms}
    for key, there in reached.items():
        todo = [name]
        while todo:
            more = {need.real for need, on in packages[todo.pop()].needs if key in on} - there
            there |= more
            todo += more
    everywhere = set.intersection(*reached.values())
    rest = sorted(set.union(*reached.values()) - {name})
    return [
        Node(
            one.name,
            one.version,
            one.into,
            one.files,
            tuple(sorted({need.real for need, _ in one.needs})),
            one.name not in everywhere,
        )
        for one in (packages[each] for each in (name, *rest))
    ]


def _words(name: str, causes: Iterable[Any], said: Mapping[str, str]) -> str:
    by: dict[str, set[str]] = {}
    for cause in causes:
        one = f"{cause.parent or 'you'} ({cause.requirement.range or 'any'})"
        by.setdefault(cause.requirement.name, set()).add(one)
    told = []
    for needed, who in itertools.islice(by.items(), _SHOWN):
        why = f" ({said[needed]})" if needed in said else ""
        told.append(f"{needed} is wanted by {', '.join(sorted(who))}{why}")
    return f"what {name} needs does not fit together: {'; '.join(told)}"
