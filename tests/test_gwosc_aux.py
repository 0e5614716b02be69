"""configs/gwosc-aux.yaml from frame files to scores, on files named and laid out as GWOSC's are, of simulated data."""

import json
import re
from pathlib import Path

import pytest
import yaml
from gwpy.timeseries import TimeSeriesDict
from helpers import needs_gwf, run_here

from glitchflow.config.read import load
from glitchflow.data.frames import write_frame

needs_gwf()

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "gwosc-aux.yaml"
START, SECONDS = 1376514048, 512  # a file of the strain; one of the witnesses has 64 s, and begins with it
# what stands for each channel: rates as high as the strain's and twice so, noise that is shared, and silence
STANDS = {
    "H1:GDS-CALIB_STRAIN_AR": "SIM:STRAIN",
    "H1:IMC-WFS_A_DC_PIT_OUT_DQ": "SIM:PEM_1",
    "H1:IMC-WFS_A_DC_YAW_OUT_DQ": "SIM:PEM_2",
    "H1:LSC-POP_A_LF_OUT_DQ": "SIM:PEM_3",
    "H1:LSC-REFL_A_RIN_OUT_DQ": "SIM:ACC_X",
    "H1:PEM-EY_MAINSMON_EBAY_1_DQ": "SIM:ACC_Y",
    "H1:SUS-ETMX_L1_CAL_LINE_OUT_DQ": "SIM:LSC_1",
    "H1:SUS-ETMX_L2_CAL_LINE_OUT_DQ": "SIM:LSC_2",
    "H1:SUS-ETMX_L3_CAL_LINE_OUT_DQ": "SIM:LSC_3",
}


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """A directory of frame files as they come from GWOSC: strain and witnesses apart, of other lengths."""
    made, home = tmp_path_factory.mktemp("stretch"), tmp_path_factory.mktemp("gwosc")
    stretch = [f"workdir={made}", f"stretch.start={START}", f"stretch.duration={SECONDS}"]
    ended = run_here("stretch", ROOT / "configs" / "stretch.yaml", *stretch, "stretch.signals=0")
    assert ended.returncode == 0, ended.stderr
    frames = [str(path) for path in sorted((made / "frames").glob("*.gwf"))]
    assert len(frames) == SECONDS // 64
    strain, *witnesses = STANDS
    whole = TimeSeriesDict.read(frames, [STANDS[strain]])[STANDS[strain]]
    name = home / f"H-H1_HOFT_C00_AR-{START}-{SECONDS}.gwf"
    write_frame(name, START, SECONDS, {strain: whole.value}, "gwf", "")
    for k, path in enumerate(frames):
        piece = TimeSeriesDict.read(path, [STANDS[name] for name in witnesses])
        begins = START + 64 * k
        values = {name: piece[STANDS[name]].value for name in witnesses}
        write_frame(home / f"H-H1_AUX_AR1-{begins}-64.gwf", begins, 64, values, "gwf", "")
    return home


@pytest.mark.ci
def test_every_channel_of_the_configuration_is_there(released, monkeypatch):
    monkeypatch.setenv("GWOSC_DATA", str(released))
    channels = load(CONFIG, []).ingest.channels
    assert [channel.name for channel in channels] == list(STANDS)
    patterns = {re.sub(r"-\*\.gwf$", "", Path(one).name) for channel in channels for one in channel.files}
    assert patterns == {"H-H1_HOFT_C00_AR", "H-H1_AUX_AR1"}
    assert yaml.safe_load(CONFIG.read_text())["ingest"]["times"] == {"start": START + 64, "end": START + 4032}


@pytest.mark.slow
def test_from_files_to_a_scored_twin_and_cleaned_frames(released, tmp_path, monkeypatch):
    monkeypatch.setenv("GWOSC_DATA", str(released))
    times = f"ingest.times={{start: {START + 32}, end: {START + SECONDS - 32}, stride: 4}}"
    own = [
        f"workdir={tmp_path}",
        times,
        "split.guard=16",
        "loader.batch=8",
        "train.epochs=2",
        "harm.signals=20",
    ]
    for stage in ("ingest", "train", "infer", "evaluate", "clean", "report"):
        ended = run_here(stage, CONFIG, *own, *(["--force"] if stage == "clean" else []))
        assert ended.returncode == 0, (stage, ended.stderr)
    scores = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["families"]["recorded"][
        "scores"
    ]
    left = {name: scores[name]["power_left"]["value"] for name in ("nothing", "wiener", "network")}
    assert left["nothing"] == 1 and left["network"] < 1.1, left
    assert scores["network"]["snr_kept_p1"]["value"] > 0.99, "it subtracts, and masks nothing"
    (cleaned,) = (tmp_path / "clean").glob("*.gwf")
    assert cleaned.name == f"H-H1_GDS_CALIB_STRAIN_AR_CLEAN-{START}-{SECONDS}.gwf"
    assert (tmp_path / "report.html").exists()
