"""The grant of `loop:process`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit import _core
from loop_kit._units import parse_duration
from loop_kit.manifest._shape import Bool, Choice, Duration, Field, Integer, ListOf, MapOf, Size, Table, Text
from loop_kit.manifest._text import ENV_NAME, FILE, NAME, TEXT

__all__ = ["GRANT", "sentences"]

_LANDLOCK_LEAST = 3


def _root(**values: Any) -> dict[str, Any]:
    return {"mode": "ro"} | values


_LIMITS = Table(
    "process-limits",
    "Limits of each process, as setrlimit has them.",
    dict,
    {
        "cpu": Field(Integer(1), "Seconds of processor time."),
        "memory": Field(Size(), "Address space."),
        "file-size": Field(Size(), "A file that it writes."),
        "open-files": Field(Integer(1), "Open files."),
        "processes": Field(Integer(1), "Processes that the host's user has in all when it starts another."),
    },
)

_PROGRAM = Table(
    "process-program",
    "A program, what it is given, and what it may touch.",
    dict,
    {
        "path": Field(FILE, "The program's file.", required=True),
        "sha256": Field(
            Text("64 hexadecimal digits", r"^[0-9A-Fa-f]{64}$"), "The digest that the file must have."
        ),
        "fixed": Field(ListOf(TEXT), "Arguments that come before all others."),
        "args": Field(
            ListOf(ListOf(TEXT)),
            "What may follow them: forms, each a list of patterns with {text}, {word}, {number} and {path}. "
            "Nothing may, if absent.",
        ),
        "set": Field(
            MapOf(TEXT, key_pattern=ENV_NAME.pattern, key_expects=ENV_NAME.expects),
            "Its environment variables.",
        ),
        "env": Field(ListOf(ENV_NAME), "Names of variables that a call may set."),
        "read": Field(ListOf(FILE), "What it may read besides the system's own files and the roots."),
        "write": Field(ListOf(FILE), "What it may read and write besides the roots."),
        "exec": Field(Bool(), "Whether it may start other programs.", default=False),
        "net": Field(Bool(), "Whether it may use the network and other sockets.", default=False),
        "confine": Field(
            Choice(("require", "prefer", "off")),
            'What if the kernel cannot hold it to that: refuse it, or run it all the same. "off" does not try.',
            default="prefer",
        ),
        "limits": Field(_LIMITS, _LIMITS.doc),
    },
)

GRANT = Table(
    "grant-loop-process",
    "The programs that the component may run.",
    dict,
    {
        "programs": Field(
            MapOf(_PROGRAM, key_pattern=NAME.pattern, key_expects=NAME.expects),
            "Programs by the name that the component knows them by.",
        ),
        "roots": Field(
            MapOf(
                Table(
                    "process-root",
                    "A directory.",
                    _root,
                    {
                        "path": Field(FILE, "The directory on the host.", required=True),
                        "mode": Field(Choice(("ro", "rw")), "What programs may do there.", default="ro"),
                    },
                ),
                key_pattern=NAME.pattern,
                key_expects=NAME.expects,
            ),
            "Directories for programs to run in, by the name that the component knows them by.",
        ),
        "max-children": Field(Integer(1), "Programs at once.", default=8),
        "max-output": Field(
            Size(), "Bytes of output, and of errors, that one run holds at most.", default=16 << 20
        ),
        "max-lifetime": Field(Duration(), "How long a program runs at most.", default="10m"),
    },
)


def sentences(grant: Mapping[str, Any]) -> list[str]:
    """What the grant lets a component do, each as the end of "NAME may"."""
    programs: Mapping[str, Any] = grant.get("programs", {})
    said = [f"run {_command(name, program)}" for name, program in programs.items()]
    if programs:
        roots: Mapping[str, Any] = grant.get("roots", {})
        said += [
            f"run programs in {root['path']} (as `{name}`, {_MODES[root.get('mode', 'ro')]})"
            for name, root in roots.items()
        ]
        seconds = parse_duration(grant.get("max-lifetime", "10m"))
        said.append(f"have {grant.get('max-children', 8)} programs at once, each for {seconds:g} s at most")
    return said


_MODES = {"ro": "read-only", "rw": "read and write"}


def _command(name: str, program: Mapping[str, Any]) -> str:
    fixed = [str(program["path"]), *program.get("fixed", ())]
    forms = [" ".join([*fixed, *form]) for form in program.get("args", ((),))]
    able = [
        text
        for key, text in (("net", "with the network"), ("exec", "and what programs it starts"))
        if program.get(key)
    ]
    held = _held(program.get("confine", "prefer"))
    return f"{' or '.join(f'`{form}`' for form in forms)} (as `{name}`{''.join(f', {x}' for x in (*able, held))})"


def _held(confine: str) -> str:
    """What the kernel of this machine holds a program by."""
    if confine == "off":
        return "not confined"
    seccomp, landlock = _core.confinement()
    has = [*(["seccomp"] if seccomp else []), *([f"landlock {landlock}"] if landlock else [])]
    lacks = [*([] if seccomp else ["seccomp"]), *([] if landlock >= _LANDLOCK_LEAST else ["landlock"])]
    if confine == "require" and lacks:
        return f"refused here: this kernel lacks {' and '.join(lacks)}"
    held = f"confined by {' and '.join(has)}" if has else "not confined"
    return f"{held}; this kernel lacks {' and '.join(lacks)}" if lacks else held
