"""The soak: the tests that repeat things at full length, and every oracle for long. `make soak` runs it.

What came of it is written to soak/results.json: the machine, versions, counts, durations and resident memory.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.report import machine

from tests.checkout import ROOT

FOLDER = ROOT / "soak"
PACKAGES = ("loop-kit", "hypothesis", "pytest", "wasmtime")


def step(name: str, command: list[str], output: Path) -> tuple[Any, bool]:
    """Runs a command that writes JSON: what it wrote, and whether it succeeded."""
    print(f"soak: {name}", flush=True)
    output.unlink(missing_ok=True)
    done = subprocess.run([sys.executable, *command], cwd=ROOT, check=False)
    return json.loads(output.read_text()) if output.exists() else [], done.returncode == 0


def random_input(seconds: int) -> tuple[Any, bool]:
    """Every oracle on random input: ten times as fast as with coverage, which finds other things."""
    print("soak: random input", flush=True)
    command = ["cargo", "test", "--release", "--locked", "-p", "loop-fuzz", "--", "--nocapture"]
    environment = os.environ | {"LOOP_FUZZ_SECONDS": str(seconds)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    found = re.findall(r"(\w+): (\d+) inputs in ([\d.]+) s", done.stdout)
    return [{"target": t, "inputs": int(n), "seconds": float(s)} for t, n, s in found], done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--seconds",
        type=int,
        default=1800,
        help="of each oracle, twice, and of each test with rounds (default: 1800)",
    )
    parser.add_argument("pytest", nargs="*", metavar="ARG", help="handed on to pytest")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    start = time.monotonic()
    fuzzed, tests = FOLDER / "fuzz.json", FOLDER / "tests.json"
    pytest = ["-m", "pytest", "-n", "2", f"--soak={tests}", "--hypothesis-profile=soak"]
    pytest.append(f"--soak-seconds={options.seconds}")
    # hours are not a hang here
    pytest += ["--timeout=7200", "--override-ini=faulthandler_timeout=14400", *options.pytest]
    fuzz = ["tools/fuzz.py", f"--seconds={options.seconds}", f"--json={fuzzed}"]
    test_results, tests_passed = step("tests", pytest, tests)
    fuzz_results, fuzz_passed = step("fuzzing", fuzz, fuzzed)
    random_results, random_passed = random_input(options.seconds)
    rustc = subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    document = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "versions": {p: version(p) for p in PACKAGES} | {"rustc": rustc.split()[1]},
        "seconds": round(time.monotonic() - start, 1),
        "passed": tests_passed and fuzz_passed and random_passed,
        "tests": test_results,
        "fuzz": fuzz_results,
        "random": random_results,
    }
    results = FOLDER / "results.json"
    results.write_text(json.dumps(document, indent=1) + "\n")
    print(f"soak: {'passed' if document['passed'] else 'FAILED'}; {results.relative_to(ROOT)}")
    sys.exit(not document["passed"])


if __name__ == "__main__":
    main()
