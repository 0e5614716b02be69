"""The scripts of the gallery run as they are, and write the pictures that the pages show."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "docs" / "gallery").glob("*.py"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory made like a clone's."""
    (tmp_path / "docs" / "gallery").mkdir(parents=True)
    (tmp_path / "runs").mkdir()
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(name: str, place: Path) -> None:
    """Run a script; its picture is as large as the one that is committed, and not blank."""
    runpy.run_path(str(ROOT / "docs" / "gallery" / f"{name}.py"))
    made, committed = (
        matplotlib.image.imread(at / "docs" / "gallery" / f"{name}.png") for at in (place, ROOT)
    )
    assert made.shape[1] == committed.shape[1]
    assert made[..., :3].std() > 0.01


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_short_and_its_picture_small_and_shown(script):
    assert len(script.read_text().splitlines()) < 30
    assert script.with_suffix(".png").stat().st_size < 200_000
    pages = "".join((ROOT / "docs" / f"{page}.md").read_text() for page in ("gallery", "concepts", "phase"))
    assert re.search(rf"^!\[.+\]\(gallery/{script.stem}\.png\)$", pages, re.M)
    assert f"\n[{script.name}](gallery/{script.name})\n" in pages


@pytest.mark.ci
@pytest.mark.parametrize("name", ["families", "mask"])
def test_what_needs_nothing_runs(name, place):
    draw(name, place)


@pytest.mark.ci
def test_the_q_transform_beside_gwpy_s_runs(place, recorded_data, monkeypatch):
    monkeypatch.setenv("GLITCHFLOW_TEST_DATA", str(recorded_data))
    draw("qtransform", place)


@pytest.mark.ci
def test_drawn_glitches_run(place, glitches_run):
    (place / "runs" / "generative").symlink_to(glitches_run.workdir)
    draw("drawn", place)


@pytest.mark.slow
def test_an_hour_runs(place):
    draw("hour", place)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_sea_floor_runs(place):
    if not (Path(os.environ.get("GLITCHFLOW_TEST_DATA", "/nowhere")) / "m08a").is_dir():
        pytest.skip("GLITCHFLOW_TEST_DATA has no m08a: docs/seafloor.md says where it comes from")
    for stage in ("ingest", "train"):
        line = [
            sys.executable,
            "-c",
            "from glitchflow.cli import main; main()",
            stage,
            "configs/seafloor.yaml",
        ]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    for name in ("asd", "earthquake"):
        draw(name, place)
