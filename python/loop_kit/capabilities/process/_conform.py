"""What every provider of `loop:process` must do."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from loop_kit import Err, _core
from loop_kit.conform import Provided, Scene, Suite, expect, fails
from loop_kit.placements.builtin import builtin

__all__ = ["SUITE"]


def _below(grant: Mapping[str, Any]) -> dict[str, Any]:
    """What a recorder is linked to."""
    return {"loop:process": builtin("process", **grant), "loop:core": builtin("core")}


SUITE = Suite(
    "loop:process",
    (
        Provided("builtin:process"),
        Provided("component:loop:process/recorder", ("commands",), imports=_below),
    ),
)

_SH = {"path": "/bin/sh", "args": [["-c", "{text}"]]}
_TOOLS = {"exec": True, "set": {"PATH": "/usr/bin:/bin"}}


def _sh(**more: Any) -> dict[str, Any]:
    """A grant of a shell with any script; `more` are keys of the grant, `sh` those of the program."""
    return {"programs": {"sh": _SH | more.pop("sh", {})}} | more


def _command(*args: str, program: str = "sh", **rest: Any) -> dict[str, Any]:
    return {"program": program, "args": list(args), "env": [], "cwd": None, "timeout": None} | rest


def _script(text: str, **rest: Any) -> dict[str, Any]:
    return _command("-c", text, **rest)


async def _run(process: Any, script: str, stdin: bytes = b"", **rest: Any) -> tuple[str, Any, bytes, bytes]:
    """How it ended, with what, and what it wrote."""
    output = await process.commands.run(_script(script, **rest), stdin)
    return (
        output.status.case,
        getattr(output.status, "value", None),
        bytes(output.stdout),
        bytes(output.stderr),
    )


async def _refused(made: Any, what: str) -> tuple[str, Any]:
    """The `error-code` that a call fails with, and what it holds."""
    error = await fails(made, Err, what)
    assert isinstance(error, Err)
    code: Any = error.value
    return str(code.case), getattr(code, "value", None)


def _confined() -> bool:
    """Whether this kernel holds programs by all that there is. A provider elsewhere has the same one."""
    seccomp, landlock = _core.confinement()
    return seccomp and landlock >= 6


async def _bytes(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def _text(stream: Any, until: bytes | None = None) -> bytes:
    """All of a stream, or what it brings until something is in it."""
    read = b""
    async for chunk in stream:
        read += bytes(chunk)
        if until is not None and until in read:
            break
    return read


@SUITE.case("commands", "a program answers with its output, its errors and its exit code")
async def _(scene: Scene) -> None:
    async with scene.client(_sh(sh=_TOOLS)) as process:
        expect(await process.commands.programs(), ["sh"], "the programs of the grant")
        answer = await _run(process, "cat; echo no >&2; exit 7", b"in")
        expect(answer, ("exited", 7, b"in", b"no\n"), "what it left")
        expect((await _run(process, "kill -9 $$"))[:2], ("signaled", 9), "how it ended")
        big = b"x" * 1_000_000
        expect((await _run(process, "cat", big))[2] == big, True, "more than a pipe holds")
        expect((await _run(process, "exit 3", big))[:2], ("exited", 3), "one that does not read its input")


@SUITE.case("commands", "a program that the grant does not name does not run")
async def _(scene: Scene) -> None:
    async with scene.client(_sh()) as process:
        for program in ("bash", "/bin/sh", "../sh", ""):
            code, key = await _refused(process.commands.run(_command(program=program), b""), program)
            expect((code, key), ("not-permitted", f"no key `grant.programs.{program}`"), program)
    async with scene.client() as process:
        expect(await process.commands.programs(), [], "the programs of an empty grant")


@SUITE.case("commands", "arguments are those of a form of the grant, and nothing becomes an option")
async def _(scene: Scene) -> None:
    echo = {
        "path": "/bin/echo",
        "fixed": ["fixed"],
        "args": [["-n", "{number}"], ["{path}", "..."], ["--name={word}"]],
    }
    async with scene.client({"programs": {"echo": echo}}) as process:

        async def said(*args: str) -> bytes:
            return bytes((await process.commands.run(_command(*args, program="echo"), b"")).stdout)

        expect(await said("-n", "1"), b"fixed -n 1\n", "the first form")
        expect(await said("a", "b/c"), b"fixed a b/c\n", "the second")
        expect(await said("--name=x"), b"fixed --name=x\n", "the third")
        for args in ((), ("-n",), ("-n", "-1"), ("-x",), ("a", "-x"), ("a", ".."), ("/a",), ("--name=",)):
            code, key = await _refused(said(*args), repr(args))
            expect((code, "`grant.programs.echo.args`" in key), ("not-permitted", True), repr(args))
        expect((await _refused(said("a\0b"), "a NUL"))[0], "invalid", "a NUL in an argument")


@SUITE.case("commands", "a grant without arguments allows none")
async def _(scene: Scene) -> None:
    async with scene.client({"programs": {"echo": {"path": "/bin/echo"}}}) as process:
        output = await process.commands.run(_command(program="echo"), b"")
        expect(bytes(output.stdout), b"\n", "without any")
        call = process.commands.run(_command("x", program="echo"), b"")
        expect((await _refused(call, "an argument"))[0], "not-permitted", "with one")


@SUITE.case("commands", "the environment is that of the grant and the call alone")
async def _(scene: Scene) -> None:
    env = {"path": "/usr/bin/env", "set": {"A": "1", "B": "2"}, "env": ["B", "C"]}
    async with scene.client({"programs": {"env": env}}) as process:

        async def has(*pairs: tuple[str, str]) -> bytes:
            asked = _command(program="env", env=list(pairs))
            return bytes((await process.commands.run(asked, b"")).stdout)

        expect(await has(), b"A=1\nB=2\n", "what the grant sets")
        expect(await has(("B", "3"), ("C", "4")), b"A=1\nB=3\nC=4\n", "with what the call sets")
        for name in ("D", "A", "PATH", "LD_PRELOAD", "B=1", ""):
            expect((await _refused(has((name, "x")), name))[0], "not-permitted", f"the variable {name!r}")
        expect((await _refused(has(("B", "\0")), "a NUL"))[0], "invalid", "a NUL in a value")


@SUITE.case("commands", "a folder is below its root, whatever links there are")
async def _(scene: Scene) -> None:
    root = scene.folder / "root"
    (root / "in").mkdir(parents=True)
    (scene.folder / "out").mkdir()
    (root / "link").symlink_to("../out")
    (root / "file").write_text("")
    async with scene.client(_sh(roots={"r": {"path": str(root)}})) as process:

        async def where(name: str, path: str) -> bytes:
            return (await _run(process, "pwd -P", cwd={"root": name, "path": path}))[2].strip()

        real = os.fsencode(root.resolve())
        expect(await where("r", "in"), real + b"/in", "a folder of the root")
        expect(await where("r", "in/.."), real, "the root itself")
        for path in ("link", "..", "/", "in/../../out", str(scene.folder)):
            expect((await _refused(where("r", path), path))[0], "not-permitted", path)
        for path, code in (
            ("none", "no-entry"),
            ("file", "not-directory"),
            ("", "invalid"),
            ("a\0", "invalid"),
        ):
            expect((await _refused(where("r", path), path))[0], code, repr(path))
        answer = await _refused(where("x", "."), "a root that was not granted")
        expect(answer, ("not-permitted", "no key `grant.roots.x`"), "its error")
        expect((await _run(process, "pwd -P"))[2], b"/\n", "where it is without one")


@SUITE.case("commands", "a program is the file that the grant found, whatever its name leads to later")
async def _(scene: Scene) -> None:
    program, link = scene.folder / "program", scene.folder / "link"
    _copy("/bin/echo", program)
    link.symlink_to(program)
    async with scene.client({"programs": {"p": {"path": str(link)}}}) as process:
        before = await process.commands.run(_command(program="p"), b"")
        _copy("/usr/bin/env", scene.folder / "other")
        link.unlink()
        link.symlink_to(scene.folder / "other")
        os.replace(scene.folder / "other", program)
        after = await process.commands.run(_command(program="p"), b"")
        expect((bytes(before.stdout), bytes(after.stdout)), (b"\n", b"\n"), "what it says, before and after")


@SUITE.case("commands", "a program with a digest is what has it, and nothing else is granted")
async def _(scene: Scene) -> None:
    program = _copy("/bin/echo", scene.folder / "program")
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    async with scene.client({"programs": {"p": {"path": str(program), "sha256": digest}}}) as process:
        _copy("/usr/bin/env", program)  # the very file, in place
        output = await process.commands.run(_command(program="p"), b"")
        expect(bytes(output.stdout), b"\n", "what it says")

    async def refused() -> None:
        async with scene.client({"programs": {"p": {"path": str(program), "sha256": digest}}}) as process:
            await process.commands.programs()

    error = await fails(refused(), Exception, "another file")
    expect("grant.programs.p.sha256" in str(error), True, f"the key in: {error}")


@SUITE.case("commands", "a program has three descriptors and no more")
async def _(scene: Scene) -> None:
    ls = {"path": "/bin/ls", "args": [["{text}"]], "read": ["/proc"]}
    async with scene.client({"programs": {"ls": ls}}) as process:
        output = await process.commands.run(_command("/proc/self/fd", program="ls"), b"")
        # the fourth is what `ls` opened to look
        expect(bytes(output.stdout).split(), [b"0", b"1", b"2", b"3"], "its descriptors")


@SUITE.case("commands", "nothing of its group outlives a program")
async def _(scene: Scene) -> None:
    async with scene.client(_sh(sh=_TOOLS)) as process:
        _, code, stdout, _ = await _run(process, "sleep 1000 & echo $!")
        expect(code, 0, "the exit code of the program itself")
        await _until_gone(int(stdout))
        if _confined():
            status, code, _, stderr = await _run(process, "setsid sleep 1000 & wait $!; exit $?")
            expect((status, code == 0), ("exited", False), "leaving the group")
            expect(b"not permitted" in stderr, True, f"why: {stderr!r}")


@SUITE.case("commands", "a program is killed when its time is over")
async def _(scene: Scene) -> None:
    forever = "while :; do :; done"
    async with scene.client(_sh()) as process:
        expect(await _run(process, forever, timeout=50_000_000), ("timed-out", None, b"", b""), "by the call")
    async with scene.client(_sh(**{"max-lifetime": 0.05})) as process:
        expect((await _run(process, forever))[0], "timed-out", "by the grant")
        expect((await _run(process, forever, timeout=10**12))[0], "timed-out", "by the grant, not the call")


@SUITE.case("commands", "output is bounded")
async def _(scene: Scene) -> None:
    async with scene.client(_sh(sh=_TOOLS, **{"max-output": 1000})) as process:
        expect(len((await _run(process, "head -c 1000 /dev/zero"))[2]), 1000, "as much as is allowed")
        for script in ("head -c 1001 /dev/zero", "cat /dev/zero", "cat /dev/zero >&2"):
            expect((await _refused(_run(process, script), script))[0], "message-size", script)


@SUITE.case("commands", "limits of the grant hold")
async def _(scene: Scene) -> None:
    limits = {"cpu": 1, "open-files": 20}
    async with scene.client(_sh(sh={"limits": limits})) as process:
        expect((await _run(process, "ulimit -n; ulimit -c"))[2], b"20\n0\n", "open files, and no core")
        status, number, _, _ = await _run(process, "while :; do :; done")
        expect((status, number in (9, 24)), ("signaled", True), "processor time")


@SUITE.case("commands", "a program touches the files of its grant, where the kernel can hold it")
async def _(scene: Scene) -> None:
    for name in ("secret", "ro", "rw"):
        (scene.folder / name).mkdir()
        (scene.folder / name / "file").write_text(name)
    roots = {
        name: {"path": str(scene.folder / name), "mode": mode} for name, mode in (("ro", "ro"), ("rw", "rw"))
    }
    async with scene.client(_sh(roots=roots)) as process:

        async def reads(name: str) -> bytes:
            return (await _run(process, f"read x < '{scene.folder / name}/file'; echo $x"))[2].strip()

        async def writes(name: str) -> bool:
            return bool((await _run(process, f"echo > '{scene.folder / name}/new'"))[1] == 0)

        expect([await reads("ro"), await reads("rw")], [b"ro", b"rw"], "what the roots hold")
        expect(await writes("rw"), True, "writing to a root with `rw`")
        if _confined():
            expect(await reads("secret"), b"", "reading beside the roots")
            expect([await writes("ro"), await writes("secret")], [False, False], "writing elsewhere")
            expect((await _run(process, "read x < /proc/1/environ; echo $x"))[2], b"\n", "other processes")
            expect((await _run(process, "kill -0 1"))[1] == 0, False, "a signal to another process")
            expect((await _run(process, "/bin/echo x"))[1], 126, "another program")


@SUITE.case("children", "a child is written to and read from while it runs")
async def _(scene: Scene) -> None:
    async with scene.client(_sh()) as process:
        script = "while read line; do echo got $line; done; echo end >&2; exit 5"
        child = await process.children.spawn(_script(script), None)
        stdout, stderr = await child.stdout(), await child.stderr()
        await child.stdin(_bytes(b"a\nb", b"\n", b"c\n"))
        expect(await _text(stdout), b"got a\ngot b\ngot c\n", "its output")
        expect(await _text(stderr), b"end\n", "its errors")
        for _ in range(2):
            status = await child.wait()
            expect((status.case, status.value), ("exited", 5), "how it ended")
        for name in ("stdout", "stderr"):
            expect((await _refused(getattr(child, name)(), name))[0], "busy", f"{name} again")
        expect((await _refused(child.stdin(_bytes(b"")), "stdin"))[0], "busy", "stdin again")
        size = {"columns": 1, "rows": 1}
        expect((await _refused(child.resize(size), "resize"))[0], "unsupported", "a size without a terminal")


@SUITE.case("children", "megabytes pass both ways at once")
async def _(scene: Scene) -> None:
    async with scene.client({"programs": {"cat": {"path": "/bin/cat"}}}) as process:
        child = await process.children.spawn(_command(program="cat"), None)
        stdout = await child.stdout()
        chunks = [bytes([i]) * 250_000 for i in range(8)]
        write = asyncio.ensure_future(child.stdin(_bytes(*chunks)))
        read = await _text(stdout)
        await write
        expect(read == b"".join(chunks), True, "what comes back is what went in")


@SUITE.case("children", "a program that reads no more ends what is written to it")
async def _(scene: Scene) -> None:
    async with scene.client(_sh()) as process:
        child = await process.children.spawn(_script("exec <&-; echo closed"), None)
        expect(await _text(await child.stdout()), b"closed\n", "its output")
        endless = _bytes(*([b"x" * 100_000] * 100))
        expect((await _refused(child.stdin(endless), "writing"))[0], "pipe", "writing")


@SUITE.case("children", "signals reach the whole group")
async def _(scene: Scene) -> None:
    async with scene.client(_sh(sh=_TOOLS)) as process:
        script = "trap 'echo int' INT; trap 'echo term; exit 6' TERM; echo $$; while :; do sleep 0.01; done"
        child = await process.children.spawn(_script(script), None)
        stdout = await child.stdout()
        await _text(stdout, b"\n")
        await child.signal("interrupt")
        expect(b"int\n" in await _text(stdout, b"int\n"), True, "the first")
        await child.signal("terminate")
        status = await child.wait()
        expect((status.case, status.value), ("exited", 6), "how it ended")
        await child.signal("kill")  # nobody is there, and nothing happens
        child = await process.children.spawn(_script("sleep 1000 & echo $!; wait"), None)
        below = int(await _text(await child.stdout(), b"\n"))
        await child.signal("kill")
        status = await child.wait()
        expect((status.case, status.value), ("signaled", 9), "how it ended")
        await _until_gone(below)


@SUITE.case("children", "a child that is dropped is killed, with its group")
async def _(scene: Scene) -> None:
    async with scene.client(_sh(sh=_TOOLS)) as process:
        child = await process.children.spawn(_script("sleep 1000 & echo $$ $!; wait"), None)
        stdout = await child.stdout()
        pids = [int(pid) for pid in (await _text(stdout, b"\n")).split()]
        child.close()
        expect(await _text(stdout), b"", "what follows")
        for pid in pids:
            await _until_gone(pid)


@SUITE.case("children", "no more than the grant's children run at once")
async def _(scene: Scene) -> None:
    async with scene.client(_sh(**{"max-children": 2})) as process:
        first = await process.children.spawn(_script("read line"), None)
        second = await process.children.spawn(_script("read line"), None)
        call = process.children.spawn(_script(""), None)
        expect((await _refused(call, "a third"))[0], "quota", "a third")
        expect((await _refused(_run(process, ""), "a third"))[0], "quota", "a third that is run")
        await first.signal("kill")
        await first.wait()
        expect((await _patient(lambda: _run(process, "exit 4")))[1], 4, "one after another has ended")
        second.close()


@SUITE.case("children", "a terminal is one, and has a size")
async def _(scene: Scene) -> None:
    async with scene.client(_sh(sh=_TOOLS)) as process:
        script = (
            "test -t 0 && test -t 1 && test -t 2 && stty size; trap 'stty size; exit 4' WINCH; echo ready; "
            "while :; do sleep 0.01; done"
        )
        child = await process.children.spawn(_script(script), {"columns": 80, "rows": 24})
        stdout = await child.stdout()
        expect((await _text(stdout, b"ready\r\n"))[:7], b"24 80\r\n", "what it shows")
        expect((await _refused(child.stderr(), "stderr"))[0], "unsupported", "a second output")
        await child.resize({"columns": 100, "rows": 30})
        expect(b"30 100\r\n" in await _text(stdout), True, "what it shows of another size")
        expect((await child.wait()).value, 4, "its exit code")
        child = await process.children.spawn(
            _script("read line; echo got $line"), {"columns": 80, "rows": 24}
        )
        stdout = await child.stdout()
        await child.stdin(_bytes(b"hello\n"))
        expect(await _text(stdout), b"hello\r\ngot hello\r\n", "what it shows, with the echo")


def _copy(of: str, to: Path) -> Path:
    """A copy of a program, which no other test knows."""
    shutil.copy(os.path.realpath(of), to)
    return to


async def _until_gone(pid: int) -> None:
    """Waits for the end of a process."""
    for _ in range(2000):
        if _has_ended(pid):
            return
        await asyncio.sleep(0.005)
    expect(pid, None, "a process that is still there")


def _has_ended(pid: int) -> bool:
    """Whether it has; a zombie that others have to reap has too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def _patient(make: Any) -> Any:
    """Asks again while there are too many: a place is given back a moment after the end is told."""
    while True:
        try:
            return await make()
        except Err as error:
            code: Any = error.value
            if code.case != "quota":
                raise
        await asyncio.sleep(0.005)
