"""The fuzzer's command: a case by number, twice the same, and what a reader that is wrong is called."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults import fuzz

TESTS = Path(__file__).parents[1]


def fuzzed(*words):
    path = os.pathsep.join((str(TESTS), str(TESTS.parent)))
    ran = subprocess.run(
        [sys.executable, "-m", "faults.fuzz", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    return ran.returncode, ran.stdout


@pytest.mark.ci
def test_a_case_is_done_again_by_its_number():
    first, second = (fuzzed("--seed", "2", "--case", "yaml:3", "--only", "yaml") for _ in range(2))
    assert first == second and first[0] == 0 and first[1].strip() in ("read", "refused")


def test_a_reader_that_ends_in_a_traceback_is_wrong(tmp_path):
    def reads(path):
        raise KeyError("what nobody expects")

    said = fuzz.outcome(fuzz.Reader(lambda path: None, reads, "a"), tmp_path / "a")
    assert said.startswith("Traceback") and "what nobody expects" in said
