"""What is kept of what happened, and who hears of it: bounded, whatever comes."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from loop_kit.dev import _journal
from loop_kit.dev._journal import Journal
from loop_kit.dev._log import Log, Tail, last_words, open_output, shown
from loop_kit.dev._sources import line_of, refusal_of
from loop_kit.errors import Overloaded


async def taken(subscriber: _journal.Subscriber, count: int) -> list[Any]:
    """So many events, of which there must be enough."""
    found = []
    async with asyncio.timeout(20):
        async for event in subscriber.events():
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_history_comes_first_in_the_order_in_which_it_happened() -> None:
    journal = Journal()
    for n in range(3):
        journal.tell("lines", ("line", n))
        journal.tell("members", ("member", n))
        journal.tell("spans", ("span", n))
    subscriber = journal.subscribe(["lines", "members"], 3)
    journal.tell("lines", ("line", "new"))
    journal.tell("assets", ("assets", []))
    assert await taken(subscriber, 4) == [("member", 1), ("line", 2), ("member", 2), ("line", "new")]
    nothing = journal.subscribe(["lines"])
    journal.tell("lines", ("line", "newest"))
    assert await taken(nothing, 1) == [("line", "newest")]


async def test_a_flood_of_lines_leaves_the_history_of_members() -> None:
    journal = Journal(kept=10)
    journal.tell("members", ("member", "kv"))
    for n in range(100):
        journal.tell("lines", ("line", n))
    told = await taken(journal.subscribe(["lines", "members"], 50), 12)
    assert told == [("lost", 90), ("member", "kv"), *(("line", n) for n in range(90, 100))]


async def test_whoever_reads_too_slowly_loses_the_oldest_and_is_told() -> None:
    journal = Journal(kept=4)
    slow, fast = journal.subscribe(["lines"]), journal.subscribe(["lines"])
    reading = asyncio.create_task(taken(fast, 10))
    for n in range(10):
        journal.tell("lines", ("line", n))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert await reading == [("line", n) for n in range(10)]
    assert await taken(slow, 5) == [("lost", 6), *(("line", n) for n in range(6, 10))]


async def test_bytes_are_bounded_as_well() -> None:
    journal = Journal(kept=1000, kept_bytes=10_000)
    for n in range(100):
        journal.tell("lines", ("line", n), 4000)
    assert await taken(journal.subscribe(["lines"], 1000), 3) == [("lost", 98), ("line", 98), ("line", 99)]


async def test_events_may_come_from_any_thread() -> None:
    journal = Journal()
    subscriber = journal.subscribe(["lines"])

    def tell() -> None:
        for n in range(500):
            journal.tell("lines", ("line", n))

    threads = [threading.Thread(target=tell) for _ in range(4)]
    reading = asyncio.create_task(taken(subscriber, 2000))
    await asyncio.sleep(0)
    for thread in threads:
        thread.start()
    found = [value for _, value in await reading]
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([*range(500)] * 4)


async def test_a_subscriber_that_leaves_is_forgotten_and_their_number_is_bounded() -> None:
    journal = Journal()
    subscribers = [journal.subscribe(["lines"]) for _ in range(_journal.SUBSCRIBERS)]
    with pytest.raises(Overloaded, match="64 listen already"):
        journal.subscribe(["lines"])
    ended = asyncio.create_task(taken(subscribers[0], 1))
    await asyncio.sleep(0)
    for subscriber in subscribers:
        subscriber.close()
    assert await ended == []
    assert not journal.wanted("lines")
    journal.subscribe(["lines"]).close()


# pytest keeps every record of its own process
FLOOD = """
import asyncio, json, logging, os, sys, time
from pathlib import Path
from loop_kit.dev._journal import Journal
from loop_kit.dev._log import Log
from loop_kit.dev._sources import logged

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def main():
    journal, log = Journal(), Log(Path(sys.argv[1]) / "log", most=1 << 20)
    stuck = journal.subscribe(["lines"])
    logger = logging.getLogger("loop_kit.provider.chatty")

    def told(line, refusal):
        journal.tell("lines", ("line", line), len(line["message"]))

    def chatter(lines):
        for n in range(lines):
            logger.info("%s", f"line {n} of very many", extra={"fields": [("n", str(n))], "target": "t"})

    with logged(told, log.line):
        chatter(25_000)  # both are full, and whatever else is kept has been
        before, began = resident(), time.monotonic()
        chatter(100_000)
        seconds, grown = time.monotonic() - began, resident() - before
    async for event in stuck.events():
        print(json.dumps({"grown": grown, "seconds": seconds, "first": event}))
        return

asyncio.run(main())
"""


def test_a_hundred_thousand_lines_at_full_speed_take_no_more_memory(tmp_path: Path) -> None:
    """Each as a record of `logging`, into the journal, its history, a reader that is stuck, and the log."""
    done = subprocess.run([sys.executable, "-c", FLOOD, tmp_path], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["grown"] < 4 << 20, told
    assert told["first"] == ["lost", 125_000 - _journal.KEPT]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3 << 20


def record(name: str, message: str, **extra: Any) -> logging.LogRecord:
    made = logging.getLogger("x").makeRecord(
        name, logging.WARNING, "f", 1, "%s", (message,), None, extra=extra
    )
    made.created = 1_700_000_000.5
    return made


def test_a_line_tells_whose_it_is() -> None:
    line = line_of(record("loop_kit.provider.kv", "slow n=7", fields=[("n", "7")], target="db"))
    assert line == {
        "time": 1_700_000_000_500,
        "level": "warn",
        "source": "kv",
        "target": "db",
        "message": "slow",
        "fields": [("n", "7")],
    }
    guest = line_of(record("loop_kit.guest.site.pool", "full", component="site"))
    assert (guest["source"], guest["target"]) == ("site", "site.pool")
    other = line_of(record("acme.db", "hm"))
    assert (other["source"], other["target"]) == ("", "acme.db")


def test_a_line_is_bounded_and_controls_no_terminal() -> None:
    fields = [(f"{n}\x1b", "v" * 5000) for n in range(100)]
    line = line_of(record("loop_kit.guest", "\x1b[2J" + "x" * 100_000, fields=fields))
    assert len(line["message"]) < 9000
    assert "\x1b" not in str(line)
    assert line["message"].startswith("\\x1b[2J")
    assert (len(line["fields"]), max(len(value) for _, value in line["fields"])) == (32, 1024)
    assert shown("two\nlines\tstay") == "two\nlines\tstay"


def test_a_hint_becomes_a_refusal_with_its_proposal() -> None:
    line = line_of(
        record("loop_kit.guest.loop:fsx", "the grant has no root `x`; add `roots.x.path`", component="site")
    )
    assert refusal_of(line) == {
        "time": 1_700_000_000_500,
        "importer": "site",
        "interface": "loop:fsx",
        "what": "the grant has no root `x`",
        "proposal": "add `roots.x.path`",
    }


def said(n: int) -> dict[str, Any]:
    return {
        "time": n + 1,
        "level": "info",
        "source": "kv",
        "target": "",
        "message": f"line {n}",
        "fields": [],
    }


def test_the_log_keeps_the_newest_and_is_followed_over_its_turns(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log, tail = Log(path, most=2000), Tail(path)
    log.line(said(0))
    assert [line["message"] for line in tail.begin()] == ["line 0"]
    found = []
    for n in range(1, 200):
        log.line(said(n))
        if n % 7 == 0:  # a file holds more lines than that
            found += tail.more()
    found += tail.more()
    assert [line["message"] for line in found] == [f"line {n}" for n in range(1, 200)]
    assert {file.name for file in tmp_path.iterdir()} == {"log", "log.1"}
    assert all(file.stat().st_size < 2200 and file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir())
    with closing(Tail(path)) as again:
        kept = [line["message"] for line in again.begin()]
    assert kept == [f"line {n}" for n in range(200 - len(kept), 200)]
    assert len(kept) > 20
    tail.close()
    log.close()
    log.line(said(0))  # after its end it is harmless


def test_a_damaged_line_is_shown_as_it_is(tmp_path: Path) -> None:
    damaged = ["{", "[]", '{"time": "x"}', '{"time": 1, "fields": [1]}', "\x1b[2J"]
    path = tmp_path / "log"
    path.write_text("\n".join([*damaged, json.dumps(said(4)), ""]))
    with closing(Tail(path)) as tail:
        told = [(line["time"], line["message"]) for line in tail.begin()]
    assert told == [*((0, shown(text)) for text in damaged), (5, "line 4")]


# pytest has the standard output and error of its own process
WRITES = """
import json, os, subprocess, sys
from pathlib import Path
from loop_kit.dev._log import Streams

told = []
streams = Streams(Path(sys.argv[1]), lambda line, refusal: told.append((line["level"], line["target"], line["message"])))
os.write(1, b'{"time":1,"level":"info","source":"files","target":"","message":"forged","fields":[]}\\n\\x1b[2Jha')
streams.take()
streams.take()
subprocess.run(["sh", "-c", "echo lf; echo of a child >&2"], check=True)
streams.take()
print("\\n".join(map(str, range(2000))), flush=True)
streams.take()
os.write(2, b"x" * 20_000)
streams.take()
Path(sys.argv[1]).with_suffix(".told").write_text(json.dumps(told))
os.write(2, b"the last words\\n")
os.kill(os.getpid(), 9)
"""


def test_standard_output_becomes_lines_that_say_nothing_of_themselves(tmp_path: Path) -> None:
    log = tmp_path / "shop.log"
    os.write(output := open_output(log), b"before it took over\n")
    subprocess.run([sys.executable, "-c", WRITES, log], stdout=output, stderr=output, check=False)
    os.close(output)
    told = json.loads(log.with_suffix(".told").read_text())
    assert {target for _, target, _ in told} == {"output"}
    messages = [message for _, _, message in told]
    assert messages[0] == "before it took over"
    assert messages[1].startswith('{"time":1,"level":"info","source":"files"')
    assert messages[2:4] == ["\\x1b[2Jhalf", "of a child"]
    assert messages[4:505] == [
        *map(str, range(1500, 2000)),
        "of what was written before this, only the last 500 lines are kept",
    ]
    assert len(messages[505]) == 8192
    assert [line["message"] for line in last_words(log)] == ["the last words"]
    assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.glob("*.out"))
