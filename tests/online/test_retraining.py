"""Couplings drift, and a twin follows them: the loop that a site's timer turns, beside a `watch` that never stops."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import needs_gwf

from glitchflow.config import load
from glitchflow.data.frames import write_frame
from glitchflow.data.generate import ingest
from glitchflow.online import shadow
from glitchflow.signal.recorded.samples import read_samples
from glitchflow.train import checkpoint
from glitchflow.train.loop import train
from glitchflow.train.setup import training_of

needs_gwf()

START, RATE, SPAN = 1_000_000_000, 256, 4  # GPS s, Hz, s of a file
BEFORE, AFTER = 1.0, 1.8  # the strain's part of what the witness sees
LEARNED = 200  # s that a twin learns from
DRIFTED = 24  # s of frames before the coupling is another one
EDGE = 6  # s at a begin that no crop knows all of
LATE = 3  # s of the newest frames that are not out yet
AGAIN = 40  # s by which the second twin is judged
EPOCHS = {"before": 2, "after": 8}


def burst(gps: int) -> np.ndarray:
    """What shakes the detector in a second: in three of five a sine-Gaussian of SNR 20 to 30."""
    rng, time = np.random.default_rng(gps), np.arange(RATE) / RATE
    if rng.random() < 0.4:
        return np.zeros(RATE)
    frequency, middle, snr, phase = (
        rng.uniform(*span) for span in ((25, 70), (0.3, 0.7), (20, 30), (0, 6.28))
    )
    shape = np.exp(-(((time - middle) / 0.05) ** 2)) * np.sin(2 * np.pi * frequency * (time - middle) + phase)
    return snr * shape / np.linalg.norm(shape)


def put(directory: Path, first: int, last: int, gain: float) -> None:
    """Let seconds `first` to `last` appear, of a coupling that is `gain`."""
    directory.mkdir(exist_ok=True)
    for start in range(first, last, SPAN):
        made = []
        for gps in range(START + start, START + start + SPAN):
            rng, shaken = np.random.default_rng([gps, 1]), burst(gps)
            made.append((rng.standard_normal(RATE) + gain * shaken, 0.3 * rng.standard_normal(RATE) + shaken))
        strain, witness = (np.concatenate(part) for part in zip(*made))
        hidden = directory / f".S-S_ALL-{START + start}-{SPAN}.gwf"
        write_frame(hidden, START + start, SPAN, {"S": strain, "ACC": witness}, "gwf", "x.format")
        hidden.rename(directory / hidden.name[1:])


def left(online: Path, first: int, last: int, gain: float) -> float:
    """What is left of the witnessed part's power, by the truth, in the seconds that came out of it."""
    over, all_of_it = 0.0, 0.0
    for gps in range(START + first, START + last):
        path = online / f"S-S_GLITCHFLOW-{gps}-1.gwf"
        clean = read_samples(str(path), "", ["S_CLEAN"])["S_CLEAN"].values
        witnessed = gain * burst(gps)
        noise = np.random.default_rng([gps, 1]).standard_normal(RATE)
        over += np.square(clean - noise).sum()
        all_of_it += np.square(witnessed).sum()
    return over / all_of_it


def configuration(tmp_path: Path) -> Path:
    """A configuration of a small coherent twin, as docs/online.md has them."""
    live = str(tmp_path / "live")
    channels = [{"name": name, "files": [f"{live}/*.gwf"]} for name in ("S", "ACC")]
    tree = {
        "workdir": str(tmp_path / "run"),
        "seed": 3,
        "series": {"duration": 8, "sample_rate": RATE},
        "ingest": {"channels": channels, "times": {"stride": 4}},
        "whiten": {"asd": "dataset", "filter": "prediction", "fftlength": 2},
        "qplot": {"q": 8, "frange": [20, 90], "shape": [16, 16], "span": 2},
        "store": {"series": "float32"},
        "split": {"validation": 0.1, "test": 0.1},
        "loader": {"batch": 8},
        "model": {"name": "coherent", "width": 4, "options": {"experts": 2, "sensors": 1}},
        "train": {"loss": "l2", "workers": 1, "warmup": 2, "samples": 0, "lr": 3e-3},
        "online": {"source": live, "block": 1, "next": str(tmp_path / "next")},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def learn(config: Path, first: int, last: int, workdir: Path, epochs: int, *more: str) -> Path:
    """`ingest` and `train` a stretch of time; return the run."""
    times = [f"ingest.times.start={START + first + 4}", f"ingest.times.end={START + last - 4}"]
    experiment = load(str(config), [*times, f"workdir={workdir}", f"train.epochs={epochs}", *more])
    ingest(experiment)
    train(training_of(experiment), workdir / "train")
    return workdir


class Watched:
    """A `watch` in a process of its own, and what it said so far."""

    def __init__(self, config: Path) -> None:
        self.live, self.online = config.parent / "live", config.parent / "run" / "online"
        self.said = config.parent / "said"
        line = [sys.executable, "-c", "from glitchflow.cli import main; main()", "watch", str(config)]
        with self.said.open("w") as file:
            self.process = subprocess.Popen(line, stderr=file, stdout=subprocess.DEVNULL)

    def came(self, second: int) -> None:
        """Wait until a second came out."""
        wanted = self.online / f"S-S_GLITCHFLOW-{START + second}-1.gwf"
        while not wanted.exists():
            assert self.process.poll() is None, self.said.read_text()
            time.sleep(0.1)

    def goes_on(self, second: int, words: str) -> int:
        """Let one file after the other appear until it says so; return the second after the last."""
        while words not in self.said.read_text():
            put(self.live, second, second + SPAN, AFTER)
            second += SPAN
            self.came(second - LATE)
            time.sleep(0.5)
        return second

    def ends(self) -> str:
        """End it, as a site does, and return what it said."""
        self.process.terminate()
        assert self.process.wait() == 0
        return self.said.read_text()


@pytest.mark.ci
@pytest.mark.timeout(
    900
)  # a process that is told second by second, and a training, on a machine that may be busy
def test_a_twin_that_learns_from_the_last_stretch_takes_over_where_couplings_drifted(tmp_path):
    """The residual rises, comes back, and not one second is missing or there twice. `pytest -s` prints what is left."""
    config, live, online = configuration(tmp_path), tmp_path / "live", tmp_path / "run" / "online"
    put(live, 0, LEARNED, BEFORE)
    run = learn(config, 0, LEARNED, tmp_path / "run", EPOCHS["before"])
    for path in live.iterdir():
        path.unlink()
    begin = LEARNED
    change, stop = begin + DRIFTED, begin + DRIFTED + LEARNED
    put(live, begin, change, BEFORE)
    put(live, change, stop, AFTER)
    watched = Watched(config)
    watched.came(stop - LATE)
    before = left(online, begin + EDGE, change, BEFORE)
    drifted = left(online, change + EDGE, stop - LATE, AFTER)
    assert before < 0.05 and drifted > 3 * before

    asked = checkpoint.find(run, str(run)).path
    again = f"train.init_from={asked}", "train.init_normalisation=old"
    following = learn(config, change, stop, tmp_path / "runs" / "42", EPOCHS["after"], *again)
    (tmp_path / "next").symlink_to(following)
    second = watched.goes_on(stop, "runs in the shadow of")
    (online / shadow.OVER).touch()
    second = watched.goes_on(second, "is asked from here on")
    put(live, second, second + AGAIN, AFTER)
    watched.came(second + AGAIN - LATE)
    said = watched.ends()

    came = sorted(int(path.name.split("-")[2]) - START for path in online.glob("S-*.gwf"))
    assert came == list(range(begin, came[-1] + 1)) and came[-1] >= second + AGAIN - LATE
    after = left(online, second, second + AGAIN - LATE, AFTER)
    print(f"left {before:.3f}, drifted {drifted:.3f}, after it learned {after:.3f}")
    assert after < drifted / 2
    assert "Traceback" not in said
    numbers = [line.split(",") for line in (online / "twins.csv").read_text().splitlines()[1:]]
    assert [line[2] for line in numbers] == [
        str(asked),
        str(checkpoint.find(following, str(tmp_path / "next")).path),
    ]
