"""What is installed from a wheel is whole: every file of the package comes along, and the command runs."""

import os
import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
COMMAND = """
import glitchflow
from glitchflow.cli import main
print(glitchflow.__file__)
main()
"""


@pytest.mark.slow
def test_a_wheel_is_whole(tmp_path):
    tracked = subprocess.run(
        ["git", "ls-files", "glitchflow"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    source = tmp_path / "source"  # setuptools builds beside what it builds
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, source], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, source], check=True, timeout=250)
    (wheel,) = tmp_path.glob("glitchflow-*.whl")
    with ZipFile(wheel) as file:
        inside = set(file.namelist())
    assert {name for name in tracked if name} <= inside
    place = tmp_path / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", place, wheel], check=True, timeout=250)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "init", "mine.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(str(place))
    assert (tmp_path / "mine.yaml").exists()


def test_the_version_is_the_changelog_s():
    """setup.cfg, CITATION.cff and the newest release of the changelog say the same, day included."""
    (version,) = re.findall(r"^version = (\S+)$", (ROOT / "setup.cfg").read_text(), re.M)
    cited = (ROOT / "CITATION.cff").read_text()
    (released,) = re.findall(r"^date-released: (\S+)$", cited, re.M)
    newest = re.findall(r"^## \[(\d\S*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)[0]
    assert newest == (version, released)
    assert f"\nversion: {version}\n" in cited
