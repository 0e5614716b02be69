"""What the README says is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from glitchflow.config import STAGES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs(tmp_path, ray_session):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_ADDRESS")}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "'SIM:STRAIN'" in result.stdout
    assert "(160, 5, 64, 64)" in result.stdout
    assert (tmp_path / "runs" / "python" / "event.png").stat().st_size > 10_000


@pytest.mark.parametrize("line", re.findall(r"^glitchflow (\w+ .*)$", README, flags=re.M))
def test_its_commands_exist(line):
    stage, *words = line.split("#")[0].split()
    assert stage in {*STAGES, "inspect", "submit"}
    for word in words:
        if word.startswith("configs/") and word != "configs/mine.yaml":
            assert (ROOT / word).exists()


def test_its_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, flags=re.M):
        assert f"\n{target}: " in makefile


def test_its_tree_is_the_tree():
    """Every file the tree names is there, and every module of the package folders is named."""
    (tree,) = re.findall(r"```\n(glitchflow/\n.*?)```", README, flags=re.S)
    names = {path.name for path in (ROOT / "glitchflow").rglob("*.py")}
    for name in re.findall(r"(\w+\.py)", tree):
        assert name in names, name
    for folder in (ROOT / "glitchflow").iterdir():
        if folder.is_dir() and not folder.name.startswith("__"):
            assert f"  {folder.name}/" in tree
