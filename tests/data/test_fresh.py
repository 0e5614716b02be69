"""Events drawn anew are those that the store would hold next; a batch of them does not depend on who makes it."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import recipe_of, small

from glitchflow.config.training import Loader as Settings
from glitchflow.data.fresh import LATER, fresh
from glitchflow.data.loader import Loader, build_loader
from glitchflow.data.store import open_store
from glitchflow.errors import InputError
from glitchflow.signal.types import Event
from glitchflow.twin import image


@pytest.fixture(scope="module")
def dataset(dataset_run):
    return open_store(dataset_run.dataset)


def loader(dataset, channels, **settings) -> Loader:
    settings = Settings(**{"batch": 8, "lanes": 4, "fresh": 24, **settings})
    normalisation = image.normalisation(dataset, settings.normalise, channels)
    return build_loader(dataset, "train", settings, image.reads(dataset, normalisation, channels, 1), 1)


@pytest.mark.parametrize("array", ["series", "qplot"])
def test_what_is_drawn_is_what_the_store_holds(dataset, array):
    names = dataset.recorded_channels if array == "series" else dataset.channels
    drawn = fresh(dataset, array, names)[slice(3, 6), ()]
    assert drawn.dtype == dataset[array].dtype
    np.testing.assert_array_equal(drawn, dataset[array][3:6])


def test_channels_come_in_the_order_asked_for(dataset):
    names = [dataset.channels[0], *dataset.channels[:0:-1]]
    places = [dataset.channels.index(name) for name in names]
    drawn = fresh(dataset, "qplot", names)[slice(0, 2), ()]
    np.testing.assert_array_equal(drawn, dataset["qplot"][:2][:, places])


def test_each_epoch_has_events_of_its_own_and_every_number_of_ranks_the_same(dataset):
    train = loader(dataset, dataset.channels)
    seen = [np.concatenate([batch.events for batch in train.epoch(epoch)]) for epoch in (0, 1)]
    assert sorted(np.concatenate(seen)) == list(range(len(dataset), len(dataset) + 48))
    for batch, *parts in zip(train.epoch(1), train.epoch(1, 0, 2), train.epoch(1, 1, 2), strict=True):
        assert (batch.target == np.concatenate([part.target for part in parts])).all()
        assert (batch.inputs == np.concatenate([part.inputs for part in parts])).all()
    resumed = list(train.epoch(1, start=2))
    assert (resumed[0].inputs == batch.inputs).all(), "the last one of three, again"


def test_an_event_that_cannot_be_used_has_one_that_stands_in_for_it(dataset):
    whole = fresh(dataset, "series", dataset.recorded_channels)
    recipe = whole.factory.recipe

    def event(index: int) -> Event:
        made = recipe.event(index)
        return replace(made, skipped="not locked") if index in (4, 4 + LATER, 6) else made

    spoilt = replace(whole, factory=replace(whole.factory, recipe=replace(recipe, event=event)))
    drawn, wanted = spoilt[slice(3, 7), ()], [3, 4 + 2 * LATER, 5, 6 + LATER]
    np.testing.assert_array_equal(drawn, [recipe.event(index).series[:3] for index in wanted])


def test_where_none_can_be_used_that_is_said(dataset):
    whole = fresh(dataset, "series", dataset.recorded_channels)
    recipe = replace(whole.factory.recipe, event=lambda index: replace(lost, skipped="S: not locked"))
    lost = whole.factory.recipe.event(0)
    spoilt = replace(whole, factory=replace(whole.factory, recipe=recipe))
    with pytest.raises(InputError) as error:
        spoilt[slice(96, 97), ()]
    assert str(error.value) == "loader.fresh: event 96 of the recipe cannot be used: S: not locked"


def test_recorded_events_cannot_be_drawn(dataset):
    recorded = replace(dataset, attributes=dataset.attributes | {"config": {"ingest": {}}})
    with pytest.raises(InputError) as error:
        fresh(recorded, "qplot", dataset.channels)
    assert str(error.value) == (
        f"loader.fresh: {dataset.path} holds recorded events, which nothing draws anew"
    )


def test_fewer_than_a_batch_is_refused(dataset):
    with pytest.raises(InputError, match=r"^loader.fresh = 4: less than loader.batch = 8$"):
        loader(dataset, dataset.channels, fresh=4)


# -- some witnesses of a detector that has many ------------------------------------------------------------------

HARD = {
    "events": 12,
    "detector": {
        "witnesses": [],
        "background": 1,
        "rate": 0.2,
        "subsystems": [
            {"name": "PEM", "count": 5, "telling": 3, "hears": ["ringdown"], "bursts": 0.05, "shared": 0.5},
            {"name": "AUX", "count": 9, "rate": 128},
        ],
        "families": {
            "ringdown": {"frequency": [30, 80]},
            **{name: {"weight": 0} for name in ("sine_gaussian", "whistle", "scattered_light", "bilinear")},
            **{name: {"weight": 0} for name in ("blip", "chirp")},
        },
        "faults": {"dead": ["SIM:AUX_9"]},
        "unsafe": "SIM:AUX_8",
    },
}


def hard(tmp_path, *only: str):
    values = {**HARD, "detector": {**HARD["detector"], "only": list(only)}}
    return small(tmp_path, simulate=values, derived=[])


def test_a_witness_that_is_not_made_changes_nothing_of_those_that_are(tmp_path):
    every, some = (recipe_of(hard(tmp_path, *only)) for only in ((), ("SIM:PEM_2", "SIM:AUX_9")))
    assert some.channels == ["SIM:STRAIN", "SIM:PEM_2", "SIM:AUX_9"]
    a, b = (recipe.event.args[0].instrument for recipe in (every, some))
    places = [every.channels.index(name) for name in some.channels]
    np.testing.assert_array_equal(a.spectra.colour(np.array(places)), b.spectra.colour(np.arange(3)))
    heard = a.couplings["ringdown"], b.couplings["ringdown"]
    np.testing.assert_array_equal(heard[0].response[[0, 2]], heard[1].response)
    np.testing.assert_array_equal(a.shared[0].at(1e9)[[0, 2]], b.shared[0].at(1e9))
    assert b.leak is None
    events = every.event(5), some.event(5)
    assert events[0].transients == events[1].transients != ()
    np.testing.assert_array_equal(events[0].witnessed, events[1].witnessed)
    assert list(events[1].valid) == [True, True, False], "AUX_9 is dead in both"
