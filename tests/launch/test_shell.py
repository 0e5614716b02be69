"""All shell scripts by shellcheck."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = (".ci", "containers", "launch", "tests/cluster")
CHECKER = Path(sys.executable).with_name("shellcheck")


def scripts() -> list[Path]:
    """Those that run by themselves, by their first line, and those that are sourced, by their ending."""
    files = [path for place in PLACES for path in sorted((ROOT / place).rglob("*")) if path.is_file()]
    return [
        path
        for path in files
        if path.suffix == ".sh" or path.read_bytes().split(b"\n")[0] in (b"#!/bin/sh", b"#!/usr/bin/env bash")
    ]


@pytest.mark.parametrize("script", scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_shell_is_sound(script):
    shell = "sh" if script.read_text().startswith("#!/bin/sh") else "bash"
    line = [CHECKER, "-s", shell, "-e", "SC2016", script]  # $ in single quotes: on purpose, for other shells
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
