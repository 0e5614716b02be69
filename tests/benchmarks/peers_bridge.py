"""Runs in a peer's environment, where there is nothing of ours: `python peers_bridge.py PEER GIVEN.npz MADE.npz`.

Arrays and numbers come in as a .npz file, and what the peer makes of them goes out as another. An error is the peer's
own: its last line says why the peer did not run.

Shapes: E event, C channel (the target first), N sample, S step, T trigger, R round.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CONTEXT = 1024  # samples before and after, 4 s of 512 Hz together, that an updating filter is fitted to
ROUNDS = """[hveto]
snr-thresholds = 7.75, 8, 8.5, 9, 10, 11, 12, 15, 20, 40, 100, 300
time-windows = .1, .2, .4, .8, 1
minimum-significance = 5
[primary]
channel = {primary}
trigger-generator = omicron
snr-threshold = 6
frequency-range = {low}, {high}
[auxiliary]
trigger-generator = omicron
frequency-range = {low}, {high}
channels =
    {auxiliary}
[segments]
analysis-flag = H1:ANALYSED:1
"""  # those of its documentation, but for the channels and their frequencies


def franc(given):
    """Fits a filter to `train` (E, C, N) and applies it to `apply` (E', C, N), with each of `taps` and `steps` (S,), 0
    for one that has none; returns `said` (S, E', N), what it expects of the target."""
    import franc as peer

    kind, updating = str(given["kind"]), str(given["kind"]) == "UpdatingWienerFilter"
    train, apply = (given[name].astype(np.float64) for name in ("train", "apply"))
    said = []
    for taps, step in zip(given["taps"].tolist(), given["steps"].tolist()):
        settings = {"step_scale": step} if step else {}
        settings |= {"order": 2} if kind == "PolynomialLMSFilter" else {}
        settings |= {"context_pre": CONTEXT, "context_post": CONTEXT} if updating else {}
        one = getattr(peer.filtering, kind)(apply.shape[1] - 1, taps, taps // 2, **settings)
        if not updating:  # which is fitted where it is applied
            one.condition_multi_sequence(train[:, 1:], train[:, 0])
        said.append(one.apply_multi_sequence(apply[:, 1:], apply[:, 0]))
    return {"said": np.array(said)}


def nomad(given):
    """Fits couplings on the seconds `train` of the frame files `frames` and measures on those of `apply`; returns
    `said` (N,), what it expects of the target, from GPS `start` on, and the `rate` of that."""
    from gwpy.timeseries import TimeSeries

    target, names = str(given["target"]), given["frames"].tolist()
    settings = {
        "ifo": target.partition(":")[0],
        "target": target,
        "noise_witnesses": given["witnesses"].tolist(),
        "modulation_witnesses": given["modulations"].tolist(),
        "fs": int(given["rate"]),  # the strain's: below it, an estimate is late by a sample's hold
        "fband": given["band"].tolist(),
        "modulation_order": int(given["order"]),
        "n_sos": 12,
        "maxiter": 5000,
        "antialias_bandstops": 1,
    }
    Path("settings.yaml").write_text(json.dumps(settings))
    pieces = (Path(name).stem.split("-") for name in names)
    Path("cache").write_text("".join(f"{' '.join(p)} file://localhost{n}\n" for p, n in zip(pieces, names)))
    for program, some, rest in (
        ("train", given["train"], ("--config", "settings.yaml", "--output", "model.h5")),
        ("subtract", given["apply"], ("--model", "model.h5", "--measure-only", "--write-frames")),
    ):
        when = ("--data-source", "frames", "--frame-cache", "cache", "--start", some[0], "--end", some[1])
        run(f"nomad-{program}", *rest, *when)
    made = sorted(str(path) for path in Path().glob("*.gwf"))[1:]  # in the first one its filters begin
    found = TimeSeries.read(made, f"{target}_NOMAD_NOISE")
    return {"said": found.value, "start": found.t0.value, "rate": found.sample_rate.value}


def hveto(given):
    """Chooses rounds by triggers: `time`, `frequency`, `snr`, and `channel`, 0 for the target, (T,) each, in the
    analysed `segments` (S, 2); returns of each round (R,) the `winner`, its `window` in s, the `least` SNR and the
    `significance`."""
    import h5py
    from gwpy.segments import DataQualityFlag, Segment

    known, (low, high) = given["segments"], given["band"]
    start, stop = int(known.min()), int(np.ceil(known.max()))
    columns, names, caches = ("time", "frequency", "snr"), [], {"primary": [], "auxiliary": []}
    for k in np.unique(given["channel"]):
        # files are matched by a name's beginning: all are as long
        names.append(f"H1:CHANNEL{k:05d}")
        path = Path(f"H1-CHANNEL{k:05d}_OMICRON-{start}-{stop - start}.h5").resolve()
        mine = given["channel"] == k
        with h5py.File(path, "w") as file:
            file["triggers"] = np.rec.fromarrays([given[c][mine] for c in columns], names=columns)
        caches["auxiliary" if k else "primary"].append(f"{path}\n")
    for name, files in caches.items():
        Path(name).write_text("".join(files))
    flag = DataQualityFlag("H1:ANALYSED:1", *([Segment(*one) for one in known.tolist()],) * 2)
    flag.write("segments.h5", path="H1:ANALYSED:1")
    told = ROUNDS.format(primary=names[0], low=low, high=high, auxiliary="\n    ".join(names[1:]))
    Path("rounds.ini").write_text(told)
    files = ("-f", "rounds.ini", "-p", "primary", "-a", "auxiliary", "-S", "segments.h5", "-o", "out")
    run("hveto", start, stop, "-i", "H1", *files)
    stats = Path("out/summary-stats.json")  # which is not there where no round was significant
    rounds = json.loads(stats.read_text())["rounds"] if stats.exists() else []
    return {
        "winner": np.array([int(one["name"].removeprefix("H1:CHANNEL")) for one in rounds], int),
        **{to: np.array([float(one[key]) for one in rounds]) for to, key in HVETO.items()},
    }


HVETO = {"window": "window", "least": "snr", "significance": "significance"}  # as its summary names them


def run(program, *arguments):
    """Runs a program of this environment, and ends as it did where it failed."""
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(done.returncode)


PEERS = {"franc": franc, "gw-nomad": nomad, "hveto": hveto}

if __name__ == "__main__":
    name, before, after = sys.argv[1], *map(os.path.abspath, sys.argv[2:])
    with np.load(before) as found:
        given = dict(found)
    with tempfile.TemporaryDirectory() as room:
        os.chdir(room)
        np.savez(after, **PEERS[name](given))
