"""`loop up`, `ps`, `logs`, `restart` and `down`, in a real shell, of real workspaces."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.children import is_gone, until
from tests.cli import LOOP
from tests.running import MANIFEST, Shop, command, endless

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop", tmp_path / "home")


def test_a_workspace_from_its_beginning_to_its_end(shop: Shop) -> None:
    assert shop.loop("ps").stderr == f"{shop.folder}: the workspace does not run; `loop up` starts it\n"
    with shop.up():
        assert shop.get() == 200
        told = shop.ps()
        assert (told["state"], told["name"], told["detached"]) == ("up", "shop", True)
        idle, near, site = (shop.member(name) for name in ("idle", "near", "site"))
        assert (site["phase"], site["placement"], site["generation"]) == ("ready", "component", 1)
        assert site["digest"].startswith("sha256:")
        assert (near["phase"], near["placement"], near["transport"]) == ("ready", "sidecar", "unix")
        assert near["pid"] not in (None, told["pid"])
        assert near["digest"].startswith("sha256:")
        assert (idle["phase"], idle["generation"], idle["pid"]) == ("stopped", 0, None)
        table = shop.loop("ps").stdout.splitlines()
        assert table[0].startswith("shop up for ")
        assert table[1] == f"site at {told['served']['site']}"
        assert table[2].split()[:4] == ["MEMBER", "KIND", "PHASE", "GEN"]
        assert [row.split()[:3] for row in table[3:]] == [
            ["site", "component", "ready"],
            ["idle", "provider", "stopped"],
            ["near", "provider", "ready"],
        ]

        again = shop.loop("up", "--detach")
        assert (again.returncode, again.stdout) == (0, f"shop runs already (process {told['pid']})\n")
        attached = shop.loop("up")
        assert attached.returncode == 1
        assert f"the workspace runs already (process {told['pid']})" in attached.stderr
        assert "hint: `loop ps` shows it" in attached.stderr

        done = shop.loop("down")
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "shop down")
        assert is_gone(told["pid"])
        assert is_gone(near["pid"])
        assert shop.ps()["state"] == "down"
        nothing = shop.loop("down")
        assert (nothing.returncode, nothing.stdout) == (0, f"{shop.folder}: the workspace does not run\n")


def test_members_end_after_those_who_use_them(shop: Shop) -> None:
    with shop.up():
        assert shop.loop("down").returncode == 0
    said = [json.loads(line) for line in shop.loop("logs", "--json").stdout.splitlines()]
    told = [(line["source"], line["message"]) for line in said if line["target"] == "loop_kit.workspace"]
    ends = [
        (source, message.split()[1])
        for source, message in told
        if "is draining" in message or "is stopped" in message
    ]
    assert ends == [("site", "draining"), ("site", "stopped"), ("near", "draining"), ("near", "stopped")]


def test_what_members_say_is_kept_and_followed(shop: Shop) -> None:
    with shop.up():
        shop.get()
        until(lambda: "asked" in shop.loop("logs", "near").stdout)
        assert "asked" not in shop.loop("logs", "site").stdout
        follow = subprocess.Popen(
            [LOOP, "logs", "-f", "-n", "0", "near"],
            cwd=shop.folder,
            env=shop.env,
            stdout=subprocess.PIPE,
            text=True,
        )
        said: list[str] = []
        assert follow.stdout is not None
        reading = threading.Thread(target=lambda: said.extend(follow.stdout or ()))
        reading.start()

        def followed() -> bool:
            shop.get()
            return any("asked" in line for line in said)

        until(followed)
        lines = [json.loads(line) for line in shop.loop("logs", "--json", "near").stdout.splitlines()]
        assert {line["source"] for line in lines} == {"near"}
        first = lines[0]["time"]
        assert first > 1_700_000_000_000
        assert len(shop.loop("logs", "-n", "1", "near").stdout.splitlines()) == 1
        assert shop.loop("logs", "--since", "1h", "near").stdout.count("asked") == len(
            [line for line in lines if line["message"] == "asked"]
        )
        assert shop.loop("logs", "--since", "2999-01-01").stdout == ""
        wrong = shop.loop("logs", "nearby")
        assert (wrong.returncode, wrong.stderr.splitlines()[0]) == (
            2,
            "error: there is no member 'nearby'; there are idle, near, site",
        )
        assert shop.loop("logs", "--since", "soon").returncode == 2
        shop.loop("down")
        assert follow.wait(timeout=20) == 0  # it ends with the workspace
        reading.join()
        follow.stdout.close()
    assert "asked" in shop.loop("logs", "near").stdout, "the log outlives the workspace"


def test_a_member_is_restarted(shop: Shop) -> None:
    with shop.up():
        before = shop.member("near")
        (shop.folder / "near.py").write_text(
            (shop.folder / "near.py").read_text().replace("else 200", "else 202")
        )
        done = shop.loop("restart", "near")
        assert (done.returncode, done.stdout) == (0, "near is ready (generation 2)\n")
        after = shop.until("near", phase="ready", generation=2)
        assert after["pid"] != before["pid"]
        assert is_gone(before["pid"])
        assert shop.until("near", restarts=0)["digest"] != before["digest"]
        assert shop.get() == 202
        for name, complaint in {
            "neat": "error: there is no member 'neat'\nhint: did you mean 'near'?\n",
            "idle": "error: idle was not restarted: idle is not running: nothing has needed it yet\n",
        }.items():
            refused = shop.loop("restart", name)
            assert (refused.returncode, refused.stderr) == (1, complaint)
        (shop.folder / "crash").touch()
        failed = shop.loop("restart", "near")
        assert failed.returncode == 1
        assert "exited with 1 before it was ready\n  no coin for the meter" in failed.stderr
        (shop.folder / "crash").unlink()
        shop.until("near", phase="ready")
        assert shop.get() == 202
    done = shop.loop("restart", "near")
    assert done.returncode == 1
    assert "ended without a word" in done.stderr


def test_a_provider_that_is_killed_in_the_middle_of_a_call(shop: Shop) -> None:
    with shop.up():
        (shop.folder / "hang").touch()
        answers: list[int] = []
        asking = threading.Thread(target=lambda: answers.append(shop.get()))
        asking.start()
        until((shop.folder / "hangs").exists)
        pid = shop.member("near")["pid"]
        (shop.folder / "hang").unlink()
        os.kill(pid, signal.SIGKILL)
        asking.join(timeout=30)
        assert answers == [500]
        after = shop.until("near", phase="ready", restarts=1)
        assert (after["reason"].splitlines()[0], after["generation"]) == ("killed by SIGKILL", 2)
        assert shop.get() == 200
        assert "killed by SIGKILL" in shop.loop("ps").stdout
        until(lambda: "error: GET /n: the peer closed the connection" in shop.loop("logs").stdout)


def test_a_crash_loop_shows_until_somebody_restarts_it(shop: Shop) -> None:
    with shop.up():
        (shop.folder / "crash").touch()
        os.kill(shop.member("near")["pid"], signal.SIGKILL)
        failed = shop.until("near", crash_loop=True)
        assert (failed["phase"], failed["restarts"], failed["pid"]) == ("failed", 5, None)
        assert "no coin for the meter" in failed["reason"]
        row = next(line for line in shop.loop("ps").stdout.splitlines() if line.startswith("near"))
        assert "crash loop" in row
        assert "exited with 1 before it was ready" in row
        assert shop.get() == 500
        (shop.folder / "crash").unlink()
        assert shop.loop("restart", "near").returncode == 0
        assert shop.get() == 200
        assert shop.until("near", phase="ready")["crash_loop"] is False


def test_a_host_that_is_killed_leaves_nothing_behind(shop: Shop) -> None:
    with shop.up():
        told, near = shop.ps(), shop.member("near")
        os.kill(told["pid"], signal.SIGKILL)
        until(lambda: is_gone(told["pid"]) and is_gone(near["pid"]))
        left = shop.ps()
        assert left["state"] == "killed"
        assert f"its host, process {told['pid']}, ended without a word" in left["reason"]
        shown = shop.loop("ps")
        assert (shown.returncode, shown.stdout.partition(":")[0]) == (0, "shop is gone")
        assert shop.ps("--all")["state"] == "killed"
        assert "asked" not in shop.loop("logs", "-f", "near").stdout  # it ends, and does not wait
        again = shop.loop("up", "--detach")
        assert again.returncode == 0, again.stderr
        assert shop.get() == 200
        second = shop.ps()
        assert (second["state"], second["instance"] != told["instance"]) == ("up", True)
        os.kill(second["pid"], signal.SIGKILL)
        until(lambda: shop.ps()["state"] == "killed")
        tidied = shop.loop("down")
        assert tidied.returncode == 0
        assert tidied.stdout.endswith("what it left is removed\n")
        assert shop.ps()["state"] == "down"


def test_a_start_that_fails_says_why(shop: Shop) -> None:
    (shop.folder / "crash").touch()
    failed = shop.loop("up", "--detach")
    assert (failed.returncode, failed.stdout) == (4, "")
    assert failed.stderr.startswith("error: it exited with 4 before it was ready; its last lines:\n")
    assert "sidecar near: exited with 1 before it was ready" in failed.stderr
    assert "no coin for the meter" in failed.stderr
    assert shop.ps()["state"] == "down"
    (shop.folder / "loop.toml").write_text(MANIFEST.replace("serve =", "serv ="))
    assert shop.loop("up", "-d").returncode == 3


def test_a_host_that_does_not_end_is_killed_and_that_is_said(shop: Shop) -> None:
    with shop.up():
        told, near = shop.ps(), shop.member("near")
        os.kill(told["pid"], signal.SIGSTOP)
        done = shop.loop("down", "--timeout", "0.5")
        assert done.returncode == 1
        assert "does not answer" in done.stderr
        assert "shop: did not end within 0.5 s, and was killed, with all its sidecars" in done.stderr
        until(lambda: is_gone(told["pid"]) and is_gone(near["pid"]))
        assert shop.ps()["state"] == "down"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_ends_by_a_signal(shop: Shop, number: int) -> None:
    host = subprocess.Popen([LOOP, "up"], cwd=shop.folder, env=shop.env, stderr=subprocess.PIPE, text=True)
    with shop.ending():
        until(lambda: shop.ps().get("served"))
        assert shop.get() == 200
        near = shop.member("near")
        assert shop.ps()["detached"] is False
        host.send_signal(number)
        _, said = host.communicate(timeout=20)
        assert host.returncode == 0
        assert is_gone(near["pid"])
        assert "near | is ready (generation 1)" in said
        assert "near | asked" in said
        assert shop.ps()["state"] == "down"


@pytest.mark.parametrize("killed", [False, True])
def test_it_can_be_ended_while_it_begins(shop: Shop, killed: bool) -> None:
    build = 'build = "echo $$ > making; mv making building; sleep 1000"'
    hanging = MANIFEST.replace('path = "site.wasm"', f'path = "site.wasm"\n{build}')
    (shop.folder / "loop.toml").write_text(hanging)
    host = subprocess.Popen([LOOP, "up"], cwd=shop.folder, env=shop.env, stderr=subprocess.DEVNULL)
    with shop.ending():
        until((shop.folder / "building").exists)
        shell = int((shop.folder / "building").read_text())
        assert shop.until("site", phase="starting")["generation"] == 1
        if killed:
            host.kill()
            host.wait()
            assert shop.ps()["state"] == "killed"
        else:
            assert shop.loop("down").returncode == 0
            assert host.wait(timeout=10) == 0
        until(lambda: is_gone(shell))


def test_each_use_of_a_grant_is_logged_where_that_is_asked_for(shop: Shop) -> None:
    assert shop.loop("up", "--detach", "--audit").returncode == 0
    with shop.ending():
        shop.get()
        until(lambda: "site | site uses acme:near/near#ask(" in shop.loop("logs", "site").stdout)


def test_machines_are_told_too(shop: Shop) -> None:
    begun = shop.loop("up", "--detach", "--json")
    with shop.ending():
        told = json.loads(begun.stdout)
        assert told == {"state": "up", "pid": shop.ps()["pid"], "began": True, "served": {"site": shop.url()}}
        again = json.loads(shop.loop("up", "-d", "--json").stdout)
        assert again == {"state": "up", "pid": told["pid"], "began": False, "served": {}}
        restarted = json.loads(shop.loop("restart", "near", "--json").stdout)
        assert restarted == {"member": "near", "generation": 2}
        for was in ("up", "down"):
            down = json.loads(shop.loop("down", "--json").stdout)
            assert down == {"folder": str(shop.folder), "state": "down", "was": was}
        wrong = shop.loop("up", "--json")
        assert (wrong.returncode, wrong.stdout) == (2, "")


def test_a_command_runs_to_its_end_in_the_background(shop: Shop) -> None:
    (shop.folder / "hello.wasm").write_bytes(command())
    (shop.folder / "loop.toml").write_text(
        '[components.hello]\npath = "hello.wasm"\nrun = "run"\nwasi = { stdio = true }\n'
    )
    done = shop.loop("up", "--detach")
    assert (done.returncode, done.stdout) == (0, "it has run to its end\n")
    assert "hello from a guest" in shop.loop("logs").stdout
    assert shop.ps()["state"] == "down"


@pytest.mark.parametrize("how", ["up", "run"])
def test_a_command_that_never_ends_holds_nobody_up(shop: Shop, how: str) -> None:
    (shop.folder / "spin.wasm").write_bytes(endless())
    (shop.folder / "loop.toml").write_text(
        '[components.spin]\npath = "spin.wasm"\nrun = "run"\nlimits = { deadline = "1h", cpu = "1h" }\n'
    )
    host = subprocess.Popen([LOOP, how, "."][: 3 if how == "run" else 2], cwd=shop.folder, env=shop.env)
    with shop.ending():
        if how == "up":
            until(lambda: shop.ps()["state"] == "up")
            shop.until("spin", phase="ready")
            assert shop.loop("down").returncode == 0
        else:
            until(lambda: cpu_seconds(host.pid) > 1)  # it spins
            host.send_signal(signal.SIGINT)
        assert host.wait(timeout=20) == (0 if how == "up" else 130)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_two_workspaces_are_told_apart(shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other" / "shop", tmp_path / "home")
    with shop.up(), other.up():
        everything = json.loads(shop.loop("ps", "--all", "--json").stdout)["workspaces"]
        assert {one["folder"] for one in everything} == {str(shop.folder), str(other.folder)}
        assert shop.loop("down").returncode == 0
        assert (shop.ps()["state"], other.ps()["state"]) == ("down", "up")
        assert other.loop("down", "-m", str(other.folder)).returncode == 0
