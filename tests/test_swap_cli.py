"""`loop swap`, in a real shell, of a workspace that runs."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.children import is_gone, until
from tests.cli import LOOP
from tests.running import MANIFEST, NEAR, Shop, site

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SIDECAR = "sidecar:python:near:Near"
TRUSTED = MANIFEST.replace(f'use = "{SIDECAR}"\n', f'use = "{SIDECAR}"\ntrusted = true\n', 1)
IMPORT = "site/acme:near/near"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop", tmp_path / "home", TRUSTED)


def write(shop: Shop, status: int) -> None:
    (shop.folder / "near.py").write_text(NEAR.replace("else 200", f"else {status}"))


def test_a_provider_moves_while_requests_come(shop: Shop) -> None:
    with shop.up():
        url, over = shop.url(), threading.Event()
        found: list[int] = []

        def ask() -> None:
            while not over.is_set():
                found.append(shop.get_at(url))

        asking = [threading.Thread(target=ask) for _ in range(3)]
        for thread in asking:
            thread.start()
        until(lambda: len(found) > 5)
        before = shop.member("near")
        shown = shop.loop("swap", "near", "--to", "python:near:Near", "--dry-run")
        assert (shown.returncode, shown.stdout.splitlines()) == (
            0,
            [
                f"near  {SIDECAR} → python:near:Near",
                f"{IMPORT}  {SIDECAR} → python:near:Near",
                "nothing was changed; all grants would stay as they are",
            ],
        )
        assert shop.member("near") == before
        write(shop, 201)
        done = shop.loop("swap", "near", "--to", "python:near:Near", "--drain", "5s")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == "near was swapped; all grants are as they were"
        until(lambda: found[-1] == 201)
        near = shop.member("near")
        assert (near["placement"], near["generation"], near["pid"]) == ("python", 2, None)
        until(lambda: is_gone(before["pid"]))
        write(shop, 202)
        again = shop.loop("swap", "near", "--json")
        assert json.loads(again.stdout) == {
            "member": "near",
            "dry-run": False,
            "changes": [
                {"member": member, "before": "python:near:Near", "after": "python:near:Near"}
                for member in ("near", IMPORT)
            ],
        }
        until(lambda: found[-1] == 202)
        over.set()
        for thread in asking:
            thread.join()
        assert set(found) == {200, 201, 202}  # nobody was refused
        assert found.count(200) > 0


def test_a_program_of_this_folder_serves(shop: Shop) -> None:
    inner = shop.folder / "inner"
    inner.mkdir()
    program = inner / "near"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -m loop_kit.serve near:Near\n")
    program.chmod(0o755)
    with shop.up():
        write(shop, 203)
        done = subprocess.run(
            [LOOP, "swap", "near", "--to", "sidecar:./near"],
            cwd=inner,
            env=shop.env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert f"near  {SIDECAR} → sidecar:./inner/near" in done.stdout
        assert shop.get() == 203
        assert shop.member("near")["source"] == "sidecar:./inner/near"
        # from the manifest's folder, where there is no such file here
        assert shop.loop("swap", "near", "--to", "sidecar:./inner/near", "--dry-run").returncode == 0


def test_a_component_is_replaced(shop: Shop) -> None:
    with shop.up():
        same = shop.loop("swap", "site")
        assert (same.returncode, same.stdout) == (0, "site is what its code says already\n")
        (shop.folder / "site.wasm").write_bytes(site() + bytes([0, 4, 3]) + b"new")
        before = shop.member("site")
        dry = json.loads(shop.loop("swap", "site", "--dry-run", "--json").stdout)["changes"]
        assert [(change["member"], change["before"]) for change in dry] == [("site", before["digest"])]
        done = shop.loop("swap", "site")
        assert done.returncode == 0, done.stderr
        after = shop.member("site")
        assert (after["digest"], after["generation"]) == (dry[0]["after"], 2)
        assert shop.get() == 200


def test_what_cannot_be_swapped_goes_on(shop: Shop) -> None:
    with shop.up():
        pid = shop.member("near")["pid"]
        begin = "error: near was not swapped, and goes on as before: "
        for arguments, words in {
            ("near", "--to", "builtin:near"): f"{begin}loop.toml:",
            ("near", "--to", "python:nowhere:Near"): f"{begin}python:nowhere:Near: ",
            ("near", "--to", "component:./none.wasm"): f"{begin}providers.near: cannot read ",
            ("neat",): "error: there is no member 'neat'\nhint: did you mean 'near'?\n",
            (
                "site",
                "--to",
                "component:site",
            ): "error: site was not swapped, and goes on as before: site is a component",
        }.items():
            refused = shop.loop("swap", *arguments)
            assert (refused.returncode, refused.stdout) == (1, "")
            assert words in refused.stderr, refused.stderr
            assert "Traceback" not in refused.stderr
        for drain in ("soon", "0s", "48h"):
            assert shop.loop("swap", "near", "--drain", drain).returncode == 2
        for arguments in ((), ("near", "--all"), ("--all", "--to", SIDECAR), ("--all", "--watch")):
            assert shop.loop("swap", *arguments).returncode == 2
        (shop.folder / "crash").touch()
        failed = shop.loop("swap", "near")
        assert (failed.returncode, "no coin for the meter" in failed.stderr) == (1, True)
        assert shop.get() == 200
        assert shop.member("near")["pid"] == pid
    gone = shop.loop("swap", "near")
    assert (gone.returncode, "ended without a word" in gone.stderr) == (1, True)


def test_the_workspace_becomes_what_its_manifest_says(shop: Shop) -> None:
    manifest = shop.folder / "loop.toml"
    with shop.up():
        same = shop.loop("swap", "--all")
        assert (same.returncode, same.stdout) == (0, "shop is what its manifest says already\n")
        pid = shop.member("near")["pid"]
        text = (
            manifest.read_text().replace('"near" }', '"far" }').replace("[providers.near]", "[providers.far]")
        )
        manifest.write_text(text.replace("providers.idle", "providers.more"))
        write(shop, 204)
        dry = shop.loop("swap", "--all", "--dry-run")
        assert (dry.returncode, dry.stdout.splitlines()) == (
            0,
            [
                f"far  new: {SIDECAR}",
                f"idle  gone: {SIDECAR}",
                f"more  new: {SIDECAR}",
                f"near  gone: {SIDECAR}",
                f"{IMPORT}  near: use acme:near by {SIDECAR} → far: use acme:near by {SIDECAR}",
                "nothing was changed",
            ],
        )
        assert shop.get() == 200
        done = shop.loop("swap", "--all")
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "shop was swapped")
        assert shop.get() == 204
        until(lambda: is_gone(pid))
        assert [one["name"] for one in shop.ps()["members"]] == ["site", "far", "more"]
        manifest.write_text("[providers.far]\nuse = 7\n")
        wrong = shop.loop("swap", "--all")
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert wrong.stderr.startswith("error: shop was not swapped, and goes on as before: ")
        assert "loop.toml:2:7: providers.far.use: " in wrong.stderr
        assert shop.get() == 204
        # the host reads the file, wherever the command is given
        manifest.write_text(text)
        (shop.folder / "crash").touch()
        failed = shop.loop("swap", "--all")
        assert failed.returncode == 0, failed.stderr  # `far` stays, and `idle` is not needed
        manifest.write_text(text.replace("trusted = true", "trusted = true\nconfig = { a = 1 }"))
        failed = shop.loop("swap", "--all")
        assert (failed.returncode, "no coin for the meter" in failed.stderr) == (1, True)
        assert shop.get() == 204


def test_it_is_swapped_whenever_its_code_changes(shop: Shop) -> None:
    with shop.up():
        command = [LOOP, "swap", "near", "--to", "python:near:Near", "--watch"]
        watching = subprocess.Popen(
            command, cwd=shop.folder, env=shop.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert watching.stdout is not None
        assert watching.stderr is not None
        try:
            for line in watching.stderr:
                if line.startswith("watching near"):
                    break
            write(shop, 205)
            until(lambda: shop.get() == 205)
            write(shop, 206)
            until(lambda: shop.get() == 206)
            (shop.folder / "near.py").write_text("def")
            assert any("error: near: was not swapped" in line for line in watching.stderr)
            assert shop.get() == 206
            write(shop, 207)
            until(lambda: shop.get() == 207)
            watching.send_signal(signal.SIGINT)
            said, _ = watching.communicate(timeout=20)
        finally:
            watching.kill()
            watching.wait()
        assert watching.returncode == 130
        assert f"near  {SIDECAR} → python:near:Near" in said
        assert said.count("near was swapped") >= 4
