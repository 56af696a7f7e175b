"""The error tree.

LoopError                    anything loop-kit raises on purpose
├── ManifestError            loop.toml cannot be used as it is
├── LoadError                a component cannot be loaded
│   ├── LinkError            its imports are missing or do not fit
│   └── PackageError         an artifact, a registry, the store or loop.lock is not as it should be
│       ├── Damaged              bytes are not those of their digest
│       └── Untrusted            it is not signed by whom the policy names
├── NoSuchExport             a call names no export, or more than one (also a LookupError)
├── CallError                a call ended without a result
│   ├── ArgumentError        an argument does not fit its WIT type (also a TypeError)
│   ├── GuestTrap            the guest trapped
│   ├── ProviderError        a provider raised
│   │   └── ProviderTypeError    … or returned a value that does not fit (also a TypeError)
│   ├── DeadlineExceeded     the call's wall-clock time is up (also a TimeoutError)
│   ├── LimitExceeded        CPU time, memory or stack is used up
│   ├── Overloaded           more calls at once than the limit
│   ├── ProviderGone         the instance, or the peer, is gone; a new call gets a new one
│   ├── NotGranted           a peer serves nothing under that link
│   ├── BadHandle            a resource was dropped, or belongs to another link
│   ├── Cancelled            a peer gave the call up because it was cancelled
│   └── Reentered            a shared instance was called from within its own call
├── PeerError                no session with a peer, or its end
│   ├── NotOffered           it does not offer an interface or a function (also a LookupError)
│   ├── VersionMismatch      its contract or its protocol is another
│   ├── Unauthenticated      it does not believe who calls
│   └── ProtocolError        it broke the rules of the wire
├── WireError                bytes are not a value of their type, or a value has no bytes (also a ValueError)
├── HostClosed               the host was closed
└── ForkError                use after fork

`Err` is not in this tree: it is the error case of a WIT `result`, a value that a component or provider chose.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ArgumentError",
    "BadHandle",
    "CallError",
    "Cancelled",
    "Damaged",
    "DeadlineExceeded",
    "ForkError",
    "GuestTrap",
    "HostClosed",
    "LimitExceeded",
    "LinkError",
    "LinkProblem",
    "LoadError",
    "LoopError",
    "ManifestError",
    "NoSuchExport",
    "NotGranted",
    "NotOffered",
    "Overloaded",
    "PackageError",
    "PeerError",
    "Problem",
    "ProtocolError",
    "ProviderError",
    "ProviderGone",
    "ProviderTypeError",
    "Reentered",
    "Unauthenticated",
    "Untrusted",
    "VersionMismatch",
    "WireError",
]


class LoopError(Exception):
    """Base of every error that loop-kit raises on purpose.

    Attributes:
        hint: What to do about it, where loop-kit knows; else None.
    """

    hint: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # `args` is the text alone, not what the constructors take
        return _restore, (type(self), self.args, self.__dict__)


def _restore(cls: type[LoopError], args: tuple[Any, ...], fields: dict[str, Any]) -> LoopError:
    made = cls.__new__(cls, *args)
    made.args = args
    made.__dict__.update(fields)
    return made


def again(error: BaseException) -> BaseException:
    """A copy of one of our errors, with its cause and without its traceback; any other as it is."""
    if not isinstance(error, LoopError):
        return error
    made = copy.copy(error)
    made.__cause__ = error.__cause__
    return made


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a manifest, and where.

    Attributes:
        path: The manifest as it was named, for messages.
        line: 1-based line, or None where the problem has no place in the text.
        column: 1-based column in characters, or None.
        key: Dotted path of the table or key (`components.site.limits`), "" for the whole file.
        message: What is wrong.
        hint: What to do about it, or None.
    """

    path: str
    line: int | None
    column: int | None
    key: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.path, self.line, self.column) if part is not None)
        key = f"{self.key}: " if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}: {key}{self.message}{hint}"


class ManifestError(LoopError):
    """A manifest cannot be used; carries every problem found, not only the first.

    `path`, `line`, `column`, `key` and `hint` are those of the first problem in the file. The text has one
    line a problem: `loop.toml:12:5: components.site.limits: unknown key "memry" (did you mean "memory"?)`.

    Attributes:
        problems: All problems, in the order of the file; never empty.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.line or 0, p.column or 0)))
        first = self.problems[0]
        self.path = first.path
        self.line = first.line
        self.column = first.column
        self.key = first.key
        self.hint = first.hint
        super().__init__("\n".join(map(str, self.problems)))


class LoadError(LoopError):
    """A component cannot be loaded: not WebAssembly, not valid, or beyond what this engine supports."""


@dataclass(frozen=True, slots=True)
class LinkProblem:
    """One import that is not satisfied.

    Attributes:
        interface: The import, "" for functions at the root of the world.
        item: The function or resource in it that is missing, or None for the whole interface.
        message: What is wrong.
        offered: The names that were there instead.
    """

    interface: str
    item: str | None
    message: str
    offered: tuple[str, ...] = ()

    def __str__(self) -> str:
        wanted = self.item or self.interface
        near = difflib.get_close_matches(wanted, [name for name in self.offered if name != wanted], 1, 0.5)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        offered = f"; offered: {', '.join(self.offered)}" if self.offered else "; nothing was offered"
        path = f"{self.interface}#{self.item}" if self.item and self.interface else wanted
        return f"{path}: {self.message}{offered}{hint}"


class LinkError(LoadError):
    """Imports of a component are missing or do not fit; carries every one.

    Attributes:
        problems: One a missing or unfit import; never empty.
    """

    def __init__(self, problems: Iterable[LinkProblem]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {p}" for p in self.problems)
        super().__init__(f"the component's imports are not satisfied:\n{lines}")
        if not any(p.offered for p in self.problems):
            self.hint = (
                "link them in a loop.toml (`loop explain` says what to add), or `load(…, imports={…})`"
            )


class PackageError(LoadError):
    """An artifact, a registry, the store or a lockfile is not as it should be."""

    def within(self, where: str) -> PackageError:
        """The same, with what it is about said before."""
        made = PackageError(f"{where}: {self}")
        made.hint = self.hint
        return made


class Damaged(PackageError):
    """Bytes are not those of their digest.

    Attributes:
        digest: What they should be, `sha256:…`.
        found: What they are: a digest, or in words.
    """

    def __init__(self, digest: str, found: str, where: str) -> None:
        super().__init__(f"{where} is not {digest}: it is {found}")
        self.digest = digest
        self.found = found
        self._where = where

    def within(self, where: str) -> Damaged:
        """The same, with what it is about said before."""
        made = Damaged(self.digest, self.found, f"{where}: {self._where}")
        made.hint = self.hint
        return made


class Untrusted(PackageError):
    """Something is not signed by whom the policy names.

    Attributes:
        reason: Why, in a word: `no-signature`, `malformed`, `unknown-key`, `not-allowed`, `revoked`, `bad-signature`,
            `payload-type`, `wrong-subject`, `wrong-name`, `wrong-version`, `future`, `expired`, `rollback`,
            `threshold`, `no-rule` or `local`.
    """

    reason: str = ""


class NoSuchExport(LoopError, LookupError):
    """A call names no export, or a bare name that several interfaces have.

    Attributes:
        name: What was asked for.
        exports: The paths that the component exports.
    """

    def __init__(self, name: str, exports: Iterable[str]) -> None:
        self.name = name
        self.exports = tuple(sorted(exports))
        near = difflib.get_close_matches(name, self.exports, 1, 0.5)
        if near:
            self.hint = f"did you mean {near[0]!r}?"
        # bare names and those without a version are ways to say the same
        full = [e for e in self.exports if not any(o != e and o.endswith(f"#{e}") for o in self.exports)]
        listed = ", ".join(full) or "nothing"
        super().__init__(f"no export {name!r}; exported: {listed}" + (f" ({self.hint})" if near else ""))


class CallError(LoopError):
    """A call ended without a result."""


class ArgumentError(CallError, TypeError):
    """An argument does not fit its WIT type, or the number of arguments is wrong.

    Attributes:
        interface: Interface of the export, "" at the root.
        function: Its WIT name.
        parameter: The parameter, "" where the number of arguments is wrong.
        path: Where in the value (`.point.x`, `[3]`), "" at the top.
        expected: The WIT type.
        got: What was passed.
    """

    def __init__(
        self, text: str, interface: str, function: str, parameter: str, path: str, expected: str, got: str
    ) -> None:
        super().__init__(text)
        self.interface = interface
        self.function = function
        self.parameter = parameter
        self.path = path
        self.expected = expected
        self.got = got


class GuestTrap(CallError):
    """The guest trapped: it hit `unreachable`, read out of bounds, ran out of stack.

    Attributes:
        export: The export that was called.
        reason: What happened.
        code: wasmtime's trap code (`UnreachableCodeReached`, `StackOverflow`), or None.
        backtrace: The guest's frames with function names (and source lines where debug info exists), or None.
    """

    def __init__(self, export: str, reason: str, code: str | None, backtrace: str | None) -> None:
        text = f"{export}: {reason}"
        super().__init__(f"{text}\n{backtrace.rstrip()}" if backtrace else text)
        self.export = export
        self.reason = reason
        self.code = code
        self.backtrace = backtrace


class ProviderError(CallError):
    """A provider raised an exception other than `Err`; it is this one's `__cause__`.

    Attributes:
        interface: The import that the provider serves, "" at the root.
        function: Its WIT name.
    """

    def __init__(self, text: str, interface: str, function: str) -> None:
        super().__init__(text)
        self.interface = interface
        self.function = function


class ProviderTypeError(ProviderError, TypeError):
    """A provider returned a value that does not fit the WIT type of the import's result.

    Attributes:
        path: Where in the value, "" at the top.
        expected: The WIT type.
        got: What was returned.
    """

    def __init__(self, text: str, interface: str, function: str, path: str, expected: str, got: str) -> None:
        super().__init__(text, interface, function)
        self.path = path
        self.expected = expected
        self.got = got


class DeadlineExceeded(CallError, TimeoutError):
    """The wall-clock time of a call is up.

    Attributes:
        seconds: The deadline.
    """

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


class LimitExceeded(CallError):
    """A call used up a resource.

    Attributes:
        what: `cpu`, `memory` or `stack`.
        limit: Seconds, bytes, or None.
    """

    def __init__(self, text: str, what: str, limit: float | None) -> None:
        super().__init__(text)
        self.what = what
        self.limit = limit


class Overloaded(CallError):
    """More calls at once than the component's limit; try again later.

    Attributes:
        limit: The limit.
    """

    def __init__(self, text: str, limit: int) -> None:
        super().__init__(text)
        self.limit = limit


class ProviderGone(CallError):
    """The instance is gone: it trapped, or was retired. Or the peer is: it left, crashed, or cannot be reached.

    Attributes:
        retryable: The call had not reached it, so that it may be made again.
    """

    retryable: bool = False


class NotGranted(CallError):
    """A provider serves nothing under the link that a call was made in.

    Attributes:
        link: The link, as the provider knows it.
    """

    def __init__(self, text: str, link: str) -> None:
        super().__init__(text)
        self.link = link


class BadHandle(CallError):
    """A resource was dropped, or belongs to another link or session."""


class Cancelled(CallError):
    """A peer gave a call up because it was cancelled there."""


class Reentered(CallError):
    """A shared instance was called from within its own call, which would never end."""


class PeerError(LoopError):
    """There is no session with a peer, or it has ended."""


class NotOffered(PeerError, LookupError):
    """A peer does not offer an interface or a function.

    Attributes:
        wanted: What was asked for.
        offered: What it offers instead, as it says.
    """

    def __init__(self, text: str, wanted: str, offered: str) -> None:
        super().__init__(text)
        self.wanted = wanted
        self.offered = offered


class VersionMismatch(PeerError):
    """A peer offers another version or another contract under the same name.

    Attributes:
        interface: The interface, "" where the protocol itself is another.
        ours: What this side has: a name with its version, or the digest of its WIT.
        theirs: What the peer has.
    """

    hint = "give both sides the same WIT, or what has changed a version of its own"

    def __init__(self, text: str, interface: str, ours: str, theirs: str) -> None:
        super().__init__(text)
        self.interface = interface
        self.ours = ours
        self.theirs = theirs


class Unauthenticated(PeerError):
    """A peer does not believe who calls."""


class ProtocolError(PeerError):
    """A peer broke the rules of the wire, or sent bytes that are no value."""


class WireError(LoopError, ValueError):
    """Bytes are not a value of their type, or a value does not fit the type that it is to be written as.

    Attributes:
        kind: The cause in a word. Of bytes: `truncated`, `overflow`, `too-long`, `invalid-utf8`, `invalid-value`,
            `invalid-discriminant`, `trailing-bytes` or `limit`. Of a value: `mismatch` or `bad-handle`. Of the type
            itself: `bad-type`.
        offset: The byte where the part begins that is wrong, of a `bad-type` that of its text; None for a value.
        path: Where in the value (`.point.x`, `[3]`), "" at the top.
        expected: The WIT type of that part, "" where the type is wrong itself.
        got: What was there instead; None for bytes.
    """

    def __init__(
        self,
        text: str,
        kind: str,
        offset: int | None,
        path: str = "",
        expected: str = "",
        got: str | None = None,
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.offset = offset
        self.path = path
        self.expected = expected
        self.got = got


class HostClosed(LoopError):
    """The host was closed; nothing can be called or loaded."""


class ForkError(LoopError):
    """The process was forked from one that had used loop_kit; use the "spawn" start method."""
