"""The unit of a site that runs `watch` for ever: as systemd reads it, and as the command is."""

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from glitchflow.cli import STAGES

UNIT = Path(__file__).parents[2] / "launch" / "systemd" / "glitchflow-watch@.service"


def read() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(UNIT)
    return parser


def test_it_runs_a_stage_and_ends_where_the_configuration_is_wrong():
    service = read()["Service"]
    program, stage, config = shlex.split(service["ExecStart"])
    assert (Path(program).name, Path(config).name) == ("glitchflow", "%i.yaml")
    assert stage in STAGES
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", "2")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_understands_it(tmp_path):
    copy = tmp_path / UNIT.name.replace("@", "@h1")
    python = shutil.which("true")
    text = UNIT.read_text().replace("/opt/glitchflow/bin/glitchflow", python).replace("User=glitchflow\n", "")
    copy.write_text(text)
    line = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copy]
    done = subprocess.run(line, capture_output=True, text=True)
    if "Failed to initialize manager" in done.stderr:
        pytest.skip(f"systemd cannot be asked here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert copy.name not in done.stderr, done.stderr
