"""A trained twin from Python: a generative one draws what the command draws. A coherent one: clean/test_line.py."""

from pathlib import Path

import numpy as np
import pytest

import glitchflow
from glitchflow.analysis.sample import find_twin
from glitchflow.data.store import open_store
from glitchflow.errors import InputError


def test_draws_are_those_of_the_command(glitches_run):
    samples = open_store(Path(glitches_run.workdir) / "samples.zarr")
    twin = glitchflow.open_twin(glitches_run.workdir)
    assert (twin.strain, twin.families) == ("SIM:STRAIN", ["sine_gaussian", "scattered_light", "blip"])
    drawn = twin.sample(count=70, seed=glitches_run.seed)
    assert [one.name for one in drawn] == [samples.labels[k] for k in samples["label"][:]]
    strain = find_twin(glitches_run).normalisation.undo(samples["series"][:])
    assert np.array_equal(np.stack([one.value for one in drawn]), strain)
    assert {one.sample_rate.value for one in drawn} == {256}
    assert drawn[0].t0.value == -1


def test_a_family_and_its_snr(glitches_run):
    twin = glitchflow.open_twin(glitches_run.workdir)
    white = find_twin(glitches_run).normalisation
    (one,) = twin.sample(family="blip", snr=(12, 13))
    assert one.name == "blip"
    assert 12 <= np.linalg.norm(np.convolve(white.taps, one.value)[: len(one)]) <= 13
    assert np.array_equal(twin.sample("blip", 3, (12, 13))[0].value, one.value)
    assert not np.array_equal(twin.sample("blip", 1, (12, 13), seed=2)[0].value, one.value)
    with pytest.raises(InputError, match="there are: sine_gaussian, scattered_light, blip"):
        twin.sample("koi")
    with pytest.raises(InputError, match=r"^sample: count: .*greater than 0"):
        twin.sample(count=0)
    with pytest.raises(InputError, match=r"^models:/twin/1: give the directory that a stage fetched it into"):
        glitchflow.open_twin("models:/twin/1")


def test_other_networks_say_what_would_do(trained_run):
    with pytest.raises(InputError) as error:
        glitchflow.open_twin(trained_run.workdir)
    assert str(error.value).endswith(
        ": is of the image kind, with which open_twin neither cleans nor draws; coherent twins clean,"
        " generative ones draw"
    )
