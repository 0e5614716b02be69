"""Signals that are injected: what hears them is unsafe, what does not is not, by however little."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import small

from glitchflow.analysis.evaluate import safety as module
from glitchflow.analysis.evaluate.safety import UNMOVED, Injection, inject, instrument_of
from glitchflow.data import generate
from glitchflow.data.event_images import images
from glitchflow.data.store import open_store
from glitchflow.score.statistics import Bootstrap
from glitchflow.twin.kind import Trained
from glitchflow.twin.kinds import KINDS

INTERVAL = Bootstrap(1, 100)


class Copies(torch.nn.Module):
    """A twin that has learned to copy one of its witnesses."""

    def __init__(self, witness: int) -> None:
        super().__init__()
        self.witness, self.weight = witness, torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs):
        return self.weight * inputs[:, [self.witness]]


def stored(workdir, unsafe: str, series: str = "float64"):
    """A small store of a detector one of whose witnesses hears what is in the strain."""
    detector = {
        "witnesses": ["SIM:ACC", "SIM:MIC", "SIM:SUS"],
        "unsafe": unsafe,
        "coupling": {"gain": [3, 3]},
    }
    plain = small(workdir, simulate={"events": 24}, store={"series": series})
    simulate = plain.simulate.model_dump(mode="json")
    simulate["detector"] |= detector | {"coupling": simulate["detector"]["coupling"] | detector["coupling"]}
    experiment = small(workdir, simulate=simulate, store={"series": series})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "run_tasks", lambda job, parts, *_: {part: job.make(part) for part in parts})
        generate.generate(experiment)
    return experiment, open_store(experiment.dataset)


@pytest.fixture(scope="module")
def unsafe(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("unsafe"), "SIM:ACC")


def twin(dataset, kind: str, channels: list[str], witness: str) -> Trained:
    """A twin of either kind that is given these channels and copies one witness of them."""
    normalisation = KINDS[kind].normalisation(dataset, "log1p", channels)
    place = channels.index(witness) - 1
    if kind == "coherent":  # its inputs follow the templates
        names = [normalisation.channels[i] for i in normalisation.inputs]
        place = normalisation.templates + names.index(witness)
    return Trained(KINDS[kind], Copies(place), channels, normalisation)


def run_of(dataset, tmp_path, monkeypatch, *names: str):
    paths = {name: tmp_path / name for name in names}
    for path in paths.values():
        path.touch()
    ours = SimpleNamespace(as_named=lambda model: None)  # a network of ours
    monkeypatch.setattr(module, "open_checkpoint", lambda path: ours)
    return SimpleNamespace(dataset=dataset, networks=paths, own="")


def told(unsafe, tmp_path, monkeypatch, kind: str, witness: str, left_out: str = "") -> dict:
    experiment, dataset = unsafe
    recorded = dataset.channels if kind == "image" else dataset.recorded_channels
    channels = [name for name in recorded if name != left_out]
    monkeypatch.setattr(module, "load_network", lambda path: twin(dataset, kind, channels, witness))
    run = run_of(dataset, tmp_path, monkeypatch, "network")
    return inject(run, np.arange(24), None, experiment.harm, 0.01, INTERVAL)["network"]


@pytest.mark.parametrize("kind", ["image", "coherent"])
def test_a_twin_of_an_unsafe_witness_fails(unsafe, tmp_path, monkeypatch, capsys, kind):
    found = told(unsafe, tmp_path, monkeypatch, kind, "SIM:ACC")
    assert capsys.readouterr().err == "injecting signals into 24 events: SIM:ACC hears them\n"
    assert found["by"] == "injection" and found["events"] == 24
    assert found["unsafe"] and found["p"] < 1e-4
    assert found["effect"]["low"] > 0.1


@pytest.mark.parametrize(
    ("kind", "witness", "left_out"),
    [
        ("image", "SIM:SUS", ""),
        ("image", "SIM:FRINGE", ""),
        ("image", "SIM:MIC", "SIM:ACC"),
        ("coherent", "SIM:MIC", ""),
        ("coherent", "SIM:MIC", "SIM:ACC"),
    ],
)
def test_a_twin_without_it_is_not_moved_at_all(unsafe, tmp_path, monkeypatch, kind, witness, left_out):
    found = told(unsafe, tmp_path, monkeypatch, kind, witness, left_out)
    assert not found["unsafe"] and found["p"] == 1.0
    assert found["effect"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_what_leaks_is_what_the_detector_says(unsafe):
    """The strain has the signal as it is, the unsafe witness what its transfer function makes of it, others nothing."""
    experiment, dataset = unsafe
    instrument, some = instrument_of(dataset, None), np.array([1, 4])
    injection = Injection(dataset, instrument, experiment.harm, 1)
    kept = dataset.events("series", some).astype(np.float64)
    signal = injection.signals(some, kept[:, 0])
    change = injection.leaked(some, kept, signal) - kept
    np.testing.assert_allclose(change[:, 0], signal, rtol=1e-6, atol=1e-6 * np.abs(signal).max())
    names = dataset.recorded_channels
    assert not change[:, names.index("SIM:SUS")].any()
    place = 1 + instrument.place("SIM:ACC")
    response = instrument.leak.at(float(dataset["gps"][1]))[1]
    floor = instrument.spectra.floor(slice(None))
    wanted = np.fft.rfft(signal[0]) / floor[0] * response * floor[place]
    heard = np.fft.rfft(change[0, names.index("SIM:ACC")])
    # at the Nyquist frequency a series keeps the real part
    np.testing.assert_allclose(heard[:-1], wanted[:-1], rtol=1e-6, atol=1e-6 * np.abs(wanted).max())


def test_images_made_of_stored_series_are_those_of_the_store(unsafe):
    dataset, some = unsafe[1], np.array([0, 3])
    found = images(dataset, some, dataset.all_series(some), dataset.channels)
    np.testing.assert_allclose(found, dataset.events("qplot", some), rtol=1e-3, atol=1e-3)


def test_where_no_witness_hears_signals_nothing_is_asked(tmp_path, monkeypatch):
    experiment, dataset = stored(tmp_path, "", "none")
    run = run_of(dataset, tmp_path, monkeypatch, "network")
    found = inject(run, np.arange(24), None, experiment.harm, 0.01, INTERVAL)
    assert found == {"network": UNMOVED.told()}
