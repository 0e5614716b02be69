"""Draws of a generative twin as a family of the recipe `detector`."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers import edit_attributes, recipe_of, staged

from glitchflow.config import parse
from glitchflow.data.generate import generate
from glitchflow.data.store import open_store
from glitchflow.errors import InputError, RunError
from glitchflow.signal.simulation.sampled import find_draws

KEY = "simulate.detector.families.sampled.path"


@pytest.fixture(scope="module")
def path(glitches_run):
    return Path(glitches_run.workdir) / "samples.zarr"


def of_draws(run, path, **changes):
    """The same detector, all of whose transients are draws."""
    values = run.model_dump(mode="json")
    detector = values["simulate"]["detector"] | {"background": 0.0, "jitter": 0.0}
    detector["families"] = {name: {**one, "weight": 0.0} for name, one in detector["families"].items()}
    detector["families"]["sampled"] = {"weight": 1.0, "path": str(path)}
    values["simulate"]["detector"] = detector
    return recipe_of(parse({**values, **changes}, "here"))


def test_an_event_holds_a_draw_as_it_was_drawn(glitches_run, path):
    recipe, samples = of_draws(glitches_run, path), zarr.open_group(path, mode="r")
    assert recipe.labels == ["background", "sampled"] and recipe.witnessed == []
    assert recipe.couplings["sampled"]["draws"] == 70 and "weights" in recipe.couplings["sampled"]
    taps, series = samples.attrs["taps"], samples["series"][:]
    for index in range(4):
        event = recipe.event(index)
        assert event.label == 1 and not event.witnessed.any()
        white = np.convolve(taps, event.transient)[: event.transient.size]
        middle = white[(white.size - 512) // 2 :][:512]
        near = [np.linalg.norm(middle - one) / np.linalg.norm(one) for one in series]
        assert min(near) < 1e-3
        assert event.snr == pytest.approx(float(samples["snr"][int(np.argmin(near))]), rel=0.2)


def test_draws_that_are_no_glitches_alone_are_refused(glitches_run, path, tmp_path):
    def refused(**changes):
        with pytest.raises(InputError) as error:
            of_draws(glitches_run, changes.pop("path", path), **changes)
        return str(error.value)

    noisy = shutil.copytree(path, tmp_path / "noisy.zarr")
    edit_attributes(noisy, series_are="glitches in N(0, 1)")
    assert refused(path=noisy) == (
        f"{KEY} = {noisy}: its series are glitches in N(0, 1); draws without noise come from a twin of store.transients"
    )
    older = shutil.copytree(path, tmp_path / "older.zarr")
    edit_attributes(older, schema=3)
    assert refused(path=older) == (
        f"{KEY} = {older}: is no finished store of draws of version 2; `glitchflow sample` makes one"
    )
    assert refused(path=glitches_run.dataset).endswith(
        "is no finished store of draws of version 2; `glitchflow sample` makes one"
    )
    assert refused(path=tmp_path / "none").startswith(f"{KEY} = {tmp_path}/none: no store of draws there: ")
    with pytest.raises(InputError) as error:
        find_draws(str(path), 512, 8)
    assert str(error.value) == f"{KEY} = {path}: has 256 Hz; series.sample_rate must be the same, and is 512"
    with pytest.raises(InputError) as error:
        find_draws(str(path), 256, 1)
    assert str(error.value) == f"{KEY} = {path}: draws last 2 s; series.duration must be longer than 1"


def test_draws_that_were_made_anew_are_the_ones_that_are_read(tmp_path):
    place, time = str(tmp_path / "samples.zarr"), (np.arange(64) - 32) / 8
    about = {"schema": 2, "source": "sample", "complete": True, "series_are": "glitches alone"}
    about |= {"sample_rate": 8.0, "taps": [1.0, -0.5], "sampled": {}}
    for count in (3, 5):
        values = count + np.random.default_rng(1).random((count, 16))
        zarr.create_group(place, attributes=about, overwrite=True).create_array("series", data=values)
        draws = find_draws(place, 8, 8)
        white = np.convolve(draws.taps, draws.strain(count - 1, time))[24:40]
        assert draws.count == count
        np.testing.assert_allclose(white, values[-1])


def test_a_family_without_a_store_is_refused(glitches_run):
    with pytest.raises(InputError) as error:
        of_draws(glitches_run, "")
    assert "simulate.detector.families.sampled" in str(error.value)
    assert "path: which draws? name a store that `sample` wrote" in str(error.value)


def test_a_dataset_is_not_extended_by_draws_that_were_made_anew(glitches_run, path, tmp_path):
    mine = shutil.copytree(path, tmp_path / "samples.zarr")
    values = glitches_run.model_dump(mode="json")
    values["simulate"]["detector"]["families"]["sampled"] = {"weight": 1.0, "path": str(mine)}
    values |= {"workdir": str(tmp_path), "model": {"name": "unet"}}
    values["simulate"]["events"] = 16

    def made(events):
        generate(
            staged("generate", parse({**values, "simulate": values["simulate"] | {"events": events}}, "here"))
        )

    made(16)
    made(20)
    edit_attributes(mine, sampled={**zarr.open_group(mine, mode="r").attrs["sampled"], "weights": "others"})
    with pytest.raises(InputError) as error:
        made(24)
    assert str(error.value) == (
        f"{tmp_path}/dataset.zarr: its events have draws that simulate.detector.families.sampled.path no longer holds;"
        " choose another workdir or --overwrite it"
    )
    assert len(open_store(tmp_path / "dataset.zarr")) == 20, "nothing was changed"


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"taps": [0.0, 1.0]}, "damaged: taps: the first is zero"),
        ({"taps": []}, "damaged: taps: List should have at least 1 item after validation, not 0"),
        ({"sample_rate": "8"}, "damaged: sample_rate: Input should be a valid number"),
        ({"series_are": None}, "damaged: series_are: Input should be a valid string"),
    ],
)
def test_what_a_damaged_store_of_draws_says_of_itself_is_not_believed(tmp_path, changes, says):
    place, about = str(tmp_path / "samples.zarr"), {"schema": 2, "source": "sample", "complete": True}
    about |= {"series_are": "glitches alone", "sample_rate": 8.0, "taps": [1.0], "sampled": {}} | changes
    zarr.create_group(place, attributes=about).create_array("series", data=np.ones((3, 16)))
    with pytest.raises(InputError) as error:
        find_draws(place, 8, 8)
    assert str(error.value) == f"{KEY} = {place}: {says}"


def test_a_draw_that_cannot_be_read_is_a_line(tmp_path):
    place, about = tmp_path / "samples.zarr", {"schema": 2, "source": "sample", "complete": True}
    about |= {"series_are": "glitches alone", "sample_rate": 8.0, "taps": [1.0], "sampled": {}}
    zarr.create_group(place, attributes=about).create_array("series", data=np.ones((3, 16)))
    (chunk,) = (path for path in (place / "series" / "c").rglob("*") if path.is_file())
    chunk.write_bytes(b"nonsense")
    draws = find_draws(str(place), 8, 8)
    with pytest.raises(RunError) as error:
        draws.strain(1, np.zeros(64))
    assert str(error.value).startswith(f"{KEY} = {place}: damaged: draw 1: Zstd decompression error")
