#!/usr/bin/env python3
"""Fuzz each target of fuzz/ for a while, and say how to repeat what failed.

cargo-fuzz is installed if it is missing. What it builds needs no nightly compiler, since no sanitizer is used: the
oracles of crates/fuzz find wrong values and panics by themselves. New inputs go to fuzz/corpus, and are where the next
run begins; those that fail go to fuzz/artifacts.

    tools/fuzz.py --seconds 60              each target for a minute
    tools/fuzz.py --seconds 60 values link  only these
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FUZZ = ROOT / "fuzz"
TARGETS = sorted(path.stem for path in (FUZZ / "targets").glob("*.rs"))
VERSION = "0.13.2"
FLAGS = ["--release", "--sanitizer", "none"]
ENGINE = {"values", "memory", "text", "link", "wire"}


def cargo_fuzz() -> dict[str, str]:
    """Installs cargo-fuzz if it is missing; the environment to run it in."""
    if shutil.which("cargo-fuzz") is None:
        command = ["cargo", "install", "--quiet", "--locked", "--version", VERSION, "cargo-fuzz"]
        subprocess.run(command, cwd=ROOT, check=True)
    environment = dict(os.environ)
    if "CARGO_TARGET_DIR" in environment:
        # cargo locks a build folder as a whole, and this build takes minutes
        environment["CARGO_TARGET_DIR"] += "/fuzz"
    return environment


def fuzz(target: str, seconds: int, environment: dict[str, str]) -> dict[str, Any]:
    """Runs one target; what came of it."""
    corpus, artifacts = FUZZ / "corpus" / target, FUZZ / "artifacts" / target
    corpus.mkdir(parents=True, exist_ok=True)
    artifacts.mkdir(parents=True, exist_ok=True)
    log = artifacts / "log"
    seeds = FUZZ / "seeds" / target
    options = [f"-max_total_time={seconds}", "-max_len=1024", "-timeout=60", "-rss_limit_mb=4096"]
    options.append("-print_final_stats=1")
    command = ["cargo", "fuzz", "run", *FLAGS, target, str(corpus), str(seeds), "--", *options]
    start = time.monotonic()
    with log.open("wb") as out:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=out, check=False)
    elapsed = time.monotonic() - start
    text = log.read_text(errors="replace")
    stats = dict(re.findall(r"^stat::(\w+):\s+(\d+)", text, re.MULTILINE))
    inputs, rss = int(stats.get("number_of_executed_units", 0)), int(stats.get("peak_rss_mb", 0))
    print(f"{target:8} {inputs:>10,} inputs {inputs / elapsed:>8,.0f}/s {rss:>6,} MB", flush=True)
    if done.returncode:
        print("\n".join(text.splitlines()[-40:]), file=sys.stderr)
        print(f"\n{target} failed; all that it said is in {log}", file=sys.stderr)
    for path in re.findall(r"Test unit written to (\S+)", text):
        print(
            f"the input is kept; to repeat it, without cargo-fuzz or with it:\n"
            f"  LOOP_FUZZ_INPUT={path} cargo test --release -p loop-fuzz {target}\n"
            f"  cargo fuzz run {' '.join(FLAGS)} {target} {path}",
            file=sys.stderr,
        )
    return {
        "target": target,
        "outcome": "failed" if done.returncode else "passed",
        "seconds": round(elapsed, 1),
        "inputs": inputs,
        "rss": rss << 20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=300, help="for each target (default: 300)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what came of it there")
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)"
    )
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if options.targets and not ENGINE & set(options.targets):
        FLAGS.append("--no-default-features")  # wasmtime takes half an hour
    environment = cargo_fuzz()
    subprocess.run(["cargo", "fuzz", "build", *FLAGS], cwd=ROOT, env=environment, check=True)
    results = [fuzz(t, options.seconds, environment) for t in options.targets or TARGETS]
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(any(r["outcome"] == "failed" for r in results))


if __name__ == "__main__":
    main()
