"""What runs, what is restored, and what is left alone."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from loop_kit.pkg import Tools
from loop_kit.task._cache import Output, Result
from loop_kit.task._key import Parts
from loop_kit.task._run import Runner
from tests.task.workspaces import Workspace, pair

BOTH_RAN = {"a:build": "ran", "b:build": "ran"}
BOTH_FRESH = {"a:build": "fresh", "b:build": "fresh"}
BOTH_CACHED = {"a:build": "cached", "b:build": "cached"}


@pytest.fixture
def two(tmp_path: Path) -> Workspace:
    return pair(tmp_path)


@pytest.fixture
def one(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.write("in", "1")
    return made


def task(made: Workspace, run: str, more: str = "") -> None:
    made.write("loop.toml", f'[workspace]\nname = "w"\n[tasks.t]\nrun = """{run}"""\n{more}\n')


def test_what_has_not_changed_is_left_alone(two: Workspace) -> None:
    assert two.run("build") == BOTH_RAN
    assert two.read("packages/b/dist/out") == "two one "
    assert two.lines == ["a:build: made a"]
    before = (two.root / "packages/b/dist/out").stat()
    assert two.run("build") == BOTH_FRESH
    assert (two.root / "packages/b/dist/out").stat() == before
    assert two.lines == []


def test_a_change_runs_what_comes_after_it_too(two: Workspace) -> None:
    two.run("build")
    two.write("packages/b/src/x", "TWO ")
    assert two.run("build") == {"a:build": "fresh", "b:build": "ran"}
    two.write("packages/a/src/x", "ONE ")
    assert two.run("build") == BOTH_RAN
    assert two.read("packages/b/dist/out") == "TWO ONE "
    two.write("packages/a/src/x", "one ")
    two.write("packages/b/src/x", "two ")
    assert two.run("build") == BOTH_CACHED
    assert two.read("packages/b/dist/out") == "two one "


def test_a_touch_a_rewrite_and_a_move_to_and_fro_change_nothing(two: Workspace) -> None:
    two.run("build")
    file = two.root / "packages/a/src/x"
    os.utime(file)
    assert two.run("build") == BOTH_FRESH
    file.write_text("one ")
    assert two.run("build") == BOTH_FRESH
    file.rename(file.with_name("y"))
    file.with_name("y").rename(file)
    assert two.run("build") == BOTH_FRESH


@pytest.mark.parametrize("how", ["new", "gone", "renamed", "executable"])
def test_which_files_there_are_counts_too(two: Workspace, how: str) -> None:
    two.run("build")
    file = two.root / "packages/a/src/x"
    match how:
        case "new":
            two.write("packages/a/src/deep/y", "y")
            two.write("packages/a/build.sh", "cat src/x > dist/out\n")
        case "gone":
            file.unlink()
            two.write("packages/a/build.sh", "echo > dist/out\n")
        case "renamed":
            file.rename(file.with_name("y"))
        case "executable":
            file.chmod(0o755)
    assert two.run("build") == BOTH_RAN


def test_a_change_of_the_same_size_at_the_same_time_is_found(two: Workspace) -> None:
    """Times are no proof: neither of a file that was just read, nor where somebody sets them back."""
    file = two.root / "packages/a/src/x"
    two.run("build")
    for text in ("1ne ", "2ne ", "3ne "):
        found = file.stat()
        file.write_text(text)
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
        assert two.run("build") == BOTH_RAN
        assert two.read("packages/b/dist/out") == f"two {text}"


def test_outputs_that_were_lost_or_changed_are_restored(two: Workspace) -> None:
    two.write("packages/a/build.sh", "echo x > dist/tool\nchmod 755 dist/tool\nln -s tool dist/link\n")
    two.write("packages/b/build.sh", "echo x > dist/y\n")
    two.run("build")
    tool = two.root / "packages/a/dist/tool"
    for spoil in (
        lambda: shutil.rmtree(tool.parent),
        lambda: tool.write_text("other"),
        lambda: tool.chmod(0o644),
        lambda: tool.with_name("link").unlink(),
    ):
        spoil()
        assert two.run("build") == {"a:build": "cached", "b:build": "fresh"}
        assert (tool.read_text(), tool.stat().st_mode & 0o777) == ("x\n", 0o755)
        assert os.readlink(tool.with_name("link")) == "tool"
    assert two.run("build") == BOTH_FRESH


def test_another_checkout_takes_what_is_known(two: Workspace, tmp_path: Path) -> None:
    two.run("build")
    other = pair(tmp_path / "other")
    other.cache = two.cache
    assert other.run("build") == BOTH_CACHED
    assert other.read("packages/b/dist/out") == "two one "
    assert other.ended["a:build"].log == "made a\n"


@pytest.mark.parametrize(
    "damage",
    [
        "blob",
        "blob gone",
        "blob cut",
        "blob of zeros",
        "blob empty",
        "result",
        "result cut",
        "another's result",
    ],
)
def test_a_damaged_cache_is_not_believed(two: Workspace, damage: str) -> None:
    two.run("build")
    shutil.rmtree(two.root / "packages/a/dist")
    shutil.rmtree(two.root / "packages/b/dist")
    results = sorted(path for path in two.cache.folder.glob("results/*/*"))
    for path in results if "result" in damage else two.cache.folder.glob("blobs/*/*"):
        match damage:
            case "blob gone":
                path.unlink()
            case "blob cut" | "result cut" | "blob of zeros" | "blob empty":  # as after a loss of power
                whole = path.read_bytes()
                path.chmod(0o644)
                cut = {"blob empty": b"", "blob of zeros": bytes(len(whole))}
                path.write_bytes(cut.get(damage, whole[: len(whole) // 2]))
            case "another's result":
                path.write_bytes(results[0].read_bytes())
            case _:
                path.chmod(0o644)
                data = bytearray(path.read_bytes())
                data[len(data) // 2] ^= 1
                path.write_bytes(data)
    found = two.run("build")
    assert set(found.values()) <= {"ran", "cached"}
    assert "ran" in found.values()
    assert two.read("packages/b/dist/out") == "two one "
    if damage.startswith("blob"):
        assert "cannot be used" in two.notes("a:build")
    assert two.run("build") == BOTH_FRESH


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "other", ".git/hooks/x", "w/.git/config", "w//x"]
)
def test_a_result_cannot_write_elsewhere(path: str) -> None:
    result = Result("00", (Output(path, "sha256:0", 0o644, 1),), "", 0.0)
    with pytest.raises(ValueError, match="an output elsewhere"):
        Result.parse("00", "w", result.to_bytes())
    inside = Result("00", (Output("w/x", "sha256:0", 0o4755, 1),), "", 0.0)
    with pytest.raises(ValueError, match="mode of its own kind"):
        Result.parse("00", "w", inside.to_bytes())
    with pytest.raises(ValueError, match="the result of 00"):
        Result.parse("01", "w", result.to_bytes())
    with pytest.raises(ValueError, match="no result"):
        Result.parse("00", "w", json.dumps({"key": "00"}).encode())


@pytest.mark.parametrize("at", ["w", None])
@pytest.mark.parametrize(
    "wrong", [{"path": 1}, {"digest": None}, {"mode": "x"}, {"size": "1"}, {"mode": True}]
)
def test_a_result_of_other_types_is_none(wrong: dict[str, object], at: str | None) -> None:
    said = json.loads(Result("00", (Output("w/x", "sha256:0", 0o644, 1),), "", 0.0).to_bytes())
    said["outputs"][0] |= wrong
    with pytest.raises(ValueError, match="an output is none"):
        Result.parse("00", at, json.dumps(said).encode())
    with pytest.raises(ValueError, match="no result"):
        Result.parse("00", at, b"[" * 200_000)


def test_nothing_is_restored_through_a_link(two: Workspace, tmp_path: Path) -> None:
    two.run("build")
    shutil.rmtree(two.root / "packages/a/dist")
    (tmp_path / "elsewhere").mkdir()
    (two.root / "packages/a/dist").symlink_to(tmp_path / "elsewhere")
    two.write("packages/a/build.sh", "cat src/* > dist/out\necho made a\n")
    assert two.run("a:build")["a:build"] in ("ran", "failed")
    assert "is a link" in two.notes("a:build")


def test_variables_tools_and_definitions_count(one: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    program = one.write("../bin/prog", "#!/bin/sh\necho 1\n", 0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("MODE", "x")
    monkeypatch.setenv("OTHER", "x")
    more = 'inputs = ["in"]\nenv = ["MODE"]\ntool = "prog"'
    task(one, "echo $MODE$OTHER; prog", more)
    assert one.run("t") == {"w:t": "ran"}
    assert one.lines == ["w:t: x", "w:t: 1"]  # what is not named is not seen
    monkeypatch.setenv("OTHER", "y")
    assert one.run("t") == {"w:t": "fresh"}
    monkeypatch.setenv("MODE", "y")
    assert one.judge("t")["w:t"].reasons == ("variable MODE has changed",)
    assert one.run("t") == {"w:t": "ran"}
    program.write_text("#!/bin/sh\necho 2\n")
    assert one.judge("t")["w:t"].reasons == ("tool prog has changed",)
    assert one.run("t") == {"w:t": "ran"}
    assert one.lines == ["w:t: y", "w:t: 2"]
    task(one, "echo other; prog", more)
    assert one.judge("t")["w:t"].reasons == ("the command is another",)
    assert one.run("t") == {"w:t": "ran"}
    monkeypatch.delenv("MODE")
    assert one.judge("t")["w:t"].reasons == ("variable MODE is gone",)
    task(one, "prog", 'tool = "no-such-program"')
    assert one.run("t") == {"w:t": "failed"}
    assert "there is no program 'no-such-program' in PATH" in one.ended["w:t"].reason


def test_the_version_of_a_tool_of_the_command_counts(one: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    task(one, "echo {tool:esbuild}", 'inputs = ["in"]')

    def look() -> tuple[Parts, str]:
        with one.session() as session:
            runner = Runner(session.plan, session.before, session.state, session.looks, one.cache)
            return runner.look(session.plan.tasks["w:t"])

    parts, key = look()
    assert parts.tools == {"esbuild": Tools().identity("esbuild")}
    monkeypatch.setattr(Tools, "identity", lambda tools, name: f"{name} other")
    assert look()[1] != key


def test_installed_packages_count_by_their_lock(one: Workspace) -> None:
    task(one, "cat node_modules/x", 'inputs = ["in"]')
    one.write("node_modules/x", "1")
    one.write("node_modules/.package-lock.json", "1")
    assert one.run("t") == {"w:t": "ran"}
    assert one.run("t") == {"w:t": "fresh"}
    one.write("node_modules/.package-lock.json", "2")
    assert one.run("t") == {"w:t": "ran"}


def test_all_of_the_folder_counts_but_what_git_ignores_and_what_was_built(one: Workspace) -> None:
    (one.root / ".git").mkdir()
    one.write(".gitignore", "*.log\n")
    task(one, "cat in > dist/out", 'outputs = ["dist/**"]')
    assert one.run("t") == {"w:t": "ran"}
    for path in ("x.log", "build/x", "dist/other", "node_modules/x", ".loop/x"):
        one.write(path, "x")
        assert one.run("t") == {"w:t": "fresh"}, path
    one.write("deep/er/x", "x")
    assert one.judge("t")["w:t"].reasons == ("file deep/er/x is new",)
    assert one.run("t") == {"w:t": "ran"}
    one.write("deep/.gitignore", "x\n")
    assert one.judge("t")["w:t"].reasons == ("file deep/.gitignore is new", "file deep/er/x is gone")


def test_patterns_take_and_leave_out(one: Workspace) -> None:
    task(one, "cat src/a.js", 'inputs = ["src/*.{js,ts}", "!src/*.test.js", "one"]')
    for path in ("src/a.js", "src/a.test.js", "src/deep/b.js", "src/c.css"):
        one.write(path, "1")
    assert one.run("t") == {"w:t": "ran"}
    for path, how in {
        "src/a.test.js": "fresh", "src/deep/b.js": "fresh", "src/c.css": "fresh", "in": "fresh", "src/a.js": "ran",
        "src/d.ts": "ran", "one": "ran",
    }.items():  # fmt: skip
        one.write(path, "2")
        assert one.run("t") == {"w:t": how}, path


def test_a_failure_is_told_and_not_kept(two: Workspace) -> None:
    two.write("packages/a/build.sh", "echo half > dist/out\necho why\nexit 3\n")
    assert two.run("build") == {"a:build": "failed", "b:build": "skipped"}
    assert (two.ended["a:build"].reason, two.ended["a:build"].log) == ("exited with 3", "why\n")
    assert two.ended["b:build"].reason == "a:build failed"
    assert list(two.cache.folder.glob("results/*/*")) == []
    assert two.run("build") == {"a:build": "failed", "b:build": "skipped"}
    assert "it failed, or was ended, the last time" in two.judge("build")["a:build"].reasons
    two.write("packages/a/build.sh", "cat src/* > dist/out\n")
    assert two.run("build") == BOTH_RAN


def test_what_a_failed_or_killed_run_left_is_nobodys_output(one: Workspace) -> None:
    task(one, "touch dist/$(cat in); test $(cat in) != bad", 'inputs = ["in"]\noutputs = ["dist/**"]')
    one.write("dist/mine", "")
    one.write("in", "bad")
    assert one.run("t") == {"w:t": "failed"}
    assert sorted(os.listdir(one.root / "dist")) == ["bad", "mine"]
    one.write("in", "good")
    assert one.run("t") == {"w:t": "ran"}
    assert sorted(os.listdir(one.root / "dist")) == ["good", "mine"]


def test_keep_going_goes_on_with_what_does_not_need_it(two: Workspace) -> None:
    two.write("packages/c/loop.toml", '[workspace]\ndepends = ["b"]\n')
    two.write("packages/c/build.sh", "true\n")
    two.write("packages/d/loop.toml", '[workspace]\nname = "d"\n')
    two.write("packages/d/build.sh", "true\n")
    two.write("packages/a/build.sh", "exit 1\n")
    assert two.run("build", jobs=1) == dict.fromkeys(("b:build", "c:build", "d:build"), "skipped") | {
        "a:build": "failed"
    }
    found = two.run("build", jobs=1, keep_going=True)
    assert found == {"a:build": "failed", "b:build": "skipped", "c:build": "skipped", "d:build": "ran"}
    assert two.ended["c:build"].reason == "b:build failed"


def test_what_it_wrote_before_is_gone_when_it_runs_anew(one: Workspace) -> None:
    task(one, "touch dist/$(cat in)", 'inputs = ["in"]\noutputs = ["dist/**"]')
    one.run("t")
    one.write("in", "2")
    one.run("t")
    assert os.listdir(one.root / "dist") == ["2"]
    one.write("in", "1")
    assert one.run("t") == {"w:t": "cached"}
    assert os.listdir(one.root / "dist") == ["1"]
    one.write("dist/mine", "")
    one.write("in", "2")
    assert one.run("t") == {"w:t": "cached"}
    assert sorted(os.listdir(one.root / "dist")) == ["2", "mine"]  # what no task made is left alone


def test_undeclared_outputs_are_told(one: Workspace) -> None:
    task(one, "mkdir -p more; echo > more/x; echo > dist/y", 'inputs = ["in"]\noutputs = ["dist/**"]')
    one.run("t")
    assert "none of its outputs, and will not be restored: more/x" in one.notes("w:t")
    task(one, "echo > dist/y", 'inputs = ["in"]\noutputs = ["dist/**"]')
    one.run("t")
    assert one.notes("w:t") == ""


def test_two_tasks_cannot_write_the_same_file(one: Workspace) -> None:
    one.write(
        "loop.toml",
        '[workspace]\nname = "w"\n'
        + "".join(
            f'[tasks.{n}]\nrun = "echo {n} > dist/x"\ninputs = ["in"]\noutputs = ["dist/**"]\n' for n in "ab"
        ),
    )
    found = one.run("a", "b", jobs=1)
    assert found == {"w:a": "ran", "w:b": "failed"}
    assert "dist/x is an output of w:a too" in one.ended["w:b"].reason


def test_a_task_that_changes_its_inputs_runs_until_it_does_not(one: Workspace) -> None:
    task(one, "sort -o in in; echo once", 'inputs = ["in"]')
    one.write("in", "2\n1\n")
    assert one.run("t") == {"w:t": "ran"}
    assert one.lines == ["w:t: once", "w:t: once"]
    assert one.run("t") == {"w:t": "fresh"}
    task(one, "cat in in > dist/x; cat dist/x > in", 'inputs = ["in"]\noutputs = ["dist/**"]')
    assert one.run("t") == {"w:t": "ran"}
    assert "it is not kept: while it ran, file in has changed" in one.notes("w:t")
    assert one.run("t") == {"w:t": "ran"}


def test_what_is_not_to_be_kept_runs_each_time(one: Workspace) -> None:
    one.write(
        "loop.toml",
        '[workspace]\nname = "w"\n[tasks.t]\nrun = "echo"\ncache = false\n[tasks.all]\ndeps = ["t"]\n',
    )
    assert one.run("all") == {"w:t": "ran", "w:all": "fresh"}
    assert one.run("all") == {"w:t": "ran", "w:all": "fresh"}
    assert one.judge("all")["w:t"].reasons == ("its result is not kept: cache = false",)


def test_force_runs_what_is_asked_for_alone(two: Workspace) -> None:
    two.run("build")
    assert two.run("b:build", force=True) == {"a:build": "fresh", "b:build": "ran"}


def test_a_member_means_its_own_task(two: Workspace) -> None:
    assert two.run("build", member="packages/a") == {"a:build": "ran"}
    assert two.run("build", member="packages/b") == {"a:build": "fresh", "b:build": "ran"}


def test_an_output_of_one_task_that_another_reads(one: Workspace) -> None:
    one.write(
        "loop.toml",
        """\
        [workspace]
        name = "w"
        [tasks.gen]
        run = "sed s/1/one/ in > src/gen"
        inputs = ["in"]
        outputs = ["src/gen"]
        [tasks.t]
        run = "cat src/* > dist/x"
        deps = ["gen"]
        inputs = ["src/**"]
        outputs = ["dist/x"]
        """,
    )
    one.write("src/a", "a ")
    assert one.run("t") == {"w:gen": "ran", "w:t": "ran"}
    assert one.read("dist/x") == "a one"
    assert one.run("t") == {"w:gen": "fresh", "w:t": "fresh"}
    one.write("in", "2")
    assert one.run("t") == {"w:gen": "ran", "w:t": "ran"}
    assert one.read("dist/x") == "a 2"
    (one.root / "src/gen").unlink()
    assert one.run("t") == {"w:gen": "cached", "w:t": "fresh"}


def test_output_is_bounded_and_what_is_left_running_is_ended(one: Workspace) -> None:
    task(one, "yes | head -c 3000000; sleep 1000 & echo end", "sandbox = false")
    began = time.monotonic()
    assert one.run("t") == {"w:t": "ran"}
    assert time.monotonic() - began < 60
    log = one.ended["w:t"].log
    assert len(log) < 1_100_000
    assert "bytes left out" in log
    assert log.endswith("end\n")


def test_a_line_without_end_is_told_in_parts(one: Workspace) -> None:
    task(one, "head -c 5000000 /dev/zero; echo; echo end", "sandbox = false")
    assert one.run("t") == {"w:t": "ran"}
    told = [line.removeprefix("w:t: ") for line in one.lines]
    assert "".join(told) == "\0" * 5_000_000 + "end"
    assert max(map(len, told)) < 1_200_000


def test_state_that_is_damaged_or_gone_is_found_out_again(two: Workspace) -> None:
    two.run("build")
    state = two.root / ".loop/task/state.json"
    for text in (
        "",
        "{",
        "[]",
        '{"format": 1}',
        json.dumps({"format": 1, "version": "test", "last": {"a:build": 1}}),
    ):
        state.write_text(text)
        assert two.run("build") == BOTH_FRESH
    shutil.rmtree(two.root / ".loop")
    assert two.run("build") == BOTH_FRESH


@pytest.mark.parametrize("repository", [None, "", "workspace"])
def test_patterns_of_inputs_lead_out_of_the_workspace(repository: str | None, tmp_path: Path) -> None:
    made = Workspace(tmp_path)
    if repository is not None:
        (tmp_path / repository / ".git").mkdir(parents=True)
    beside = tmp_path / "src/deep/in"
    beside.parent.mkdir(parents=True)
    task(made, "cat ../src/deep/in > out", 'inputs = ["../src/**"]\noutputs = ["out"]')
    for text in ("1", "22"):
        beside.write_text(text)
        assert made.run("t") == {"w:t": "ran"}
        assert made.read("out") == text
    assert made.run("t") == {"w:t": "fresh"}
