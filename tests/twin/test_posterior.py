"""The posterior kind: what it is given and what not, what it knows before it is trained, and how it draws."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glitchflow.config import Loader, Split
from glitchflow.data.loader import build_loader
from glitchflow.data.memory import Shape
from glitchflow.data.store import open_store
from glitchflow.errors import InputError
from glitchflow.model.flow import LEVEL
from glitchflow.model.posterior import FOUND, X
from glitchflow.train import checkpoint
from glitchflow.train.memory import learning
from glitchflow.train.setup import check, prepare, training_of
from glitchflow.train.workers import World
from glitchflow.twin import kinds, posterior, prior
from glitchflow.twin.front import Front, slowness
from glitchflow.twin.kind import Trained
from glitchflow.twin.ridge import WIDTHS


def directory(run):
    return Path(run.workdir) / "train" / "checkpoints"


@pytest.fixture(scope="module")
def found(posterior_run):
    return checkpoint.find(directory(posterior_run), "best")


@pytest.fixture(scope="module")
def trained(found):
    return found.trained()


@pytest.fixture(scope="module")
def dataset(posterior_run):
    return open_store(posterior_run.dataset)


def rngs(count, seed=1):
    return [np.random.default_rng([seed, k]) for k in range(count)]


def test_its_checkpoint_has_the_coherent_twin_s_network_and_front(found, trained, series_run):
    upon = checkpoint.find(directory(series_run), "best")
    assert found.kind is kinds.KINDS["posterior"] and found.meta.channels == upon.meta.channels
    assert found.normalisation == upon.normalisation
    own, its = trained.network.mean.state_dict(), upon.trained().network.state_dict()
    assert own.keys() == its.keys() and all(torch.equal(own[name], its[name]) for name in own)


def test_nothing_that_it_is_given_is_the_strain_s(trained, dataset):
    """Another strain, or none: the same bits, in what it is given and so in what it draws."""
    front, network = trained.normalisation, trained.network
    series = torch.from_numpy(dataset.events("series", dataset.indices("test")[:3]).astype(np.float64))
    series = series[:, posterior.places(front, dataset)]
    other, gone = series.clone(), series.clone()
    other[:, 0] = torch.randn(other[:, 0].shape, generator=torch.Generator().manual_seed(1)) * 1e-20
    gone[:, 0] = torch.nan
    said = [posterior.given(front, network, one, network.samples) for one in (series, other, gone)]
    assert torch.equal(said[0], said[1]) and torch.equal(said[0], said[2])
    drawn = [posterior.draw(trained, one[1], posterior.chances(network, rngs(4))) for one in said[:2]]
    assert torch.equal(drawn[0], drawn[1])
    witness = series.clone()
    witness[:, 1] = witness[:, 1].flip(-1)
    assert not torch.equal(posterior.given(front, network, witness, network.samples), said[0])


def test_a_loader_gives_the_witnessed_part_and_what_the_coherent_twin_says(trained, dataset, posterior_run):
    front, network = trained.normalisation, trained.network
    reads = posterior.through(front, network, posterior.reads(dataset, front, (), 3))
    batch = next(build_loader(dataset, "train", posterior_run.loader, reads, 3).epoch(0))
    seen, samples = front.seen, network.samples
    assert batch.target.shape == (8, 1, samples) and batch.inputs.shape == (8, 3 + seen, samples)
    order = np.argsort(batch.events)
    w = front.strain(
        torch.from_numpy(dataset.events("witnessed_series", batch.events[order]).astype(np.float64))
    )
    first = w.shape[-1] // 2 - samples // 2
    expected = w[:, first : first + samples].float()
    torch.testing.assert_close(batch.target[order, 0], expected, atol=1e-5, rtol=1e-5)
    assert w.square().sum() > 100, "some is witnessed"
    series = dataset.events("series", batch.events[order], posterior.places(front, dataset))
    y = posterior.given(front, network, torch.from_numpy(series.astype(np.float64)), samples)[:, 0]
    assert y.square().sum() > 1
    torch.testing.assert_close(batch.inputs[order, 2], y, atol=1e-4, rtol=1e-4)
    level = batch.inputs[:, 0, LEVEL, None]
    noise = (batch.inputs[:, X] - batch.target[:, 0]) / level
    band = (front.band[1] - front.band[0]) / (front.rate / 2)
    assert noise.var().item() == pytest.approx(band, rel=0.15), "noise within the band"


def test_what_a_batch_sees_of_an_event_does_not_depend_on_the_batch_but_on_the_epoch(trained):
    front = trained.normalisation
    values, events = torch.randn(6, 2 + front.seen, 512), np.arange(6)
    whole = posterior.view(front, 3, values, events, 1)
    assert torch.equal(posterior.view(front, 3, values[[4, 2]], events[[4, 2]], 1), whole[[4, 2]])
    assert not torch.equal(posterior.view(front, 3, values, events, 2), whole)
    assert torch.equal(
        posterior.view(front, 3, values, events, None), posterior.view(front, 3, values, events, None)
    )


def bare(count=512, templates=2):
    """A network that knows y's errors and amplitudes, and nothing else."""
    made = kinds.build_network(
        {
            "name": "posterior",
            "width": 4,
            "seed": 1,
            "options": {"samples": count, "templates": templates, "rate": 256.0},
        },
        3 + templates + 2,
        (count,),
    )
    made.found[:, 0] = 3
    made.found[::2] *= -1
    made.spread.fill_(0.1)
    made.errors.fill_(np.log(0.25))
    return made.eval()


def test_draws_of_a_network_that_was_not_trained_are_of_its_prior(trained):
    """Amplitudes of 3 or -3, half each, and beside the template what is not known, of variance 0.25 in the band."""
    network, front = bare(), trained.normalisation
    time = np.arange(512) / 256
    given = torch.zeros(5, 512)
    given[0, 100:200] = 1.0
    given[1] = torch.from_numpy(np.sin(2 * np.pi * 30 * time))
    twin = Trained(posterior.KIND, network, ["S"], front)
    drawn = posterior.draw(twin, given, posterior.chances(network, rngs(400)))
    amplitude = (drawn - given[0]) @ given[1] / given[1].square().sum()
    assert (amplitude.abs() - 3).abs().max() < 0.6
    assert (amplitude > 0).float().mean().item() == pytest.approx(0.5, abs=0.08)
    beside = drawn - given[0] - amplitude[:, None] * given[1]
    band = (front.band[1] - front.band[0]) / (front.rate / 2)
    assert beside.var().item() == pytest.approx(0.25 * band, rel=0.08)
    assert beside.mean(0).abs().max() < 0.15


def test_a_draw_depends_on_its_random_numbers_alone(trained, dataset):
    front, network = trained.normalisation, trained.network
    series = dataset.events("series", dataset.indices("test")[:1], posterior.places(front, dataset))
    given = posterior.given(front, network, torch.from_numpy(series.astype(np.float64)), network.samples)[0]
    one, same, other = (
        posterior.draw(trained, given, posterior.chances(network, rngs(3, seed))) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_how_far_y_is_off_follows_its_power():
    """Errors of a tenth of y where it is loud, of 0.3 where it is silent."""
    network = bare()
    y = torch.zeros(64, 512, dtype=torch.float64)
    y[:, 256:] = 10 * torch.sign(torch.sin(torch.arange(256.0)))
    noise = torch.randn(64, 512, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    prior.learn_errors(network, noise * torch.where(y == 0, 0.3, y.abs() / 10), y, 1.0)
    variance = network.unknown(y)[0]
    assert variance[50].item() == pytest.approx(0.09, rel=0.1)
    assert variance[400].item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("band", [(20.0, 30.0), (4.0, 120.0)])
def test_errors_that_were_put_in_come_back_in_draws(band):
    """Whatever part of what can be sampled the band is: where draws begin, and when they are solved."""
    network, front = bare(), front_of(band=band)
    errors = 0.7 * front.limit(torch.randn(80, 8192, generator=torch.Generator().manual_seed(1)).double())
    off, size = errors[:, 4096:4608], errors[:, 2048:-2048].square().mean().item()
    prior.learn_errors(network, off, torch.ones_like(off), front.kept)
    given = torch.cat([torch.ones(1, 512), torch.zeros(4, 512)])
    twin = Trained(posterior.KIND, network, front.channels, front)
    random = posterior.chances(network, rngs(400))
    drawn = posterior.draw(twin, given, random) - given[0]
    assert drawn[:, 128:384].square().mean().item() == pytest.approx(size, rel=0.1)
    begun = network.begin(
        given.expand(400, -1, -1), random.chosen, random.about, front.limit(random.noise), 0.0
    )
    assert (begun - given[0])[:, 128:384].square().mean().item() == pytest.approx(size, rel=0.1)


def test_a_network_is_given_the_errors_of_its_coherent_one(trained, dataset):
    front, network = trained.normalisation, copy.deepcopy(trained.network)
    posterior.begin(network, front, dataset)
    source = posterior.through(front, network, posterior.reads(dataset, front, (), 0))
    rows = posterior.seen(source, dataset, dataset.indices("train"))
    quiet = ~prior.loud(rows[:, 2 : 2 + front.templates], front.prior)
    w, y = rows[quiet, 0], rows[quiet, 1]
    assert network.unknown(y).mean() * front.kept == pytest.approx((w - y).square().mean().item(), rel=0.15)


def front_of(rate=256.0, band=(10.0, 100.0), slower=1.0, inputs=0):
    """A front that prepares nothing but the band, of a strain and so many witnesses."""
    names = ["S", *(f"W{k}" for k in range(inputs))]
    return Front(
        rate=rate,
        band=band,
        span=2.0,
        channels=names,
        taps=[[1.0]] * len(names),
        inputs=[*range(1, 1 + inputs)],
        products=[],
        scatters=[],
        offsets=[0.0] * len(names),
        slower=slower,
    )


@pytest.mark.parametrize(
    ("rate", "low", "duration"), [(128, 9, 16), (256, 7, 16), (512, 3, 30), (512, 10, 16)]
)
def test_what_is_witnessed_is_cut_where_its_witnesses_are(rate, low, duration):
    """To the sample, also where lengths are so many times those for a band from 10 Hz that they are rounded."""
    front = front_of(rate, (low, rate / 2.2), slowness(low, duration), inputs=1)
    series = np.zeros((1, 3, round(duration * rate)))
    series[:, 1:, round(duration * rate / 2)] = 1  # in the witness, and what it put into the strain
    rows = np.empty((1, 3, 512))
    posterior._fill(front, None, [*series], rows)
    assert np.abs(rows[0, 0]).max() > 0.5 and np.array_equal(rows[0, 0], rows[0, 2])
    assert abs(np.abs(rows[0, 0]).argmax() - 256) <= 1


def test_amplitudes_of_one_size_are_kept_as_a_ring_of_any_phase():
    """Of events whose phases are all within a radian."""
    network, phase = bare(), torch.rand(200, generator=torch.Generator().manual_seed(2)).double()
    prior.learn_amplitudes(network, 0.07 * torch.stack([phase.sin(), phase.cos()], 1), [1], 0.05)
    torch.testing.assert_close(network.found.norm(dim=1), torch.full((FOUND,), 0.07))
    angle = torch.atan2(network.found[:, 0], network.found[:, 1]).sort().values
    torch.testing.assert_close(angle.diff(), torch.full((FOUND - 1,), 2 * np.pi / FOUND), atol=1e-4, rtol=0)
    assert network.spread < 0.01, "much narrower than the ring"
    few = bare()
    few.found.zero_()
    prior.learn_amplitudes(few, 0.07 * torch.ones(3, 2).double(), [1], 0.05)
    assert few.spread.item() == pytest.approx(0.05) and not few.found.any(), "the ridge fit's prior"


def test_an_amplitude_s_own_turns_do_not_say_how_far_it_is_from_others():
    """Of 16 events' three bounces the spread under which others of their law are likeliest, not a narrower one."""
    rng, network = np.random.default_rng(5), bare(templates=6)

    def law(count):
        size, phase = np.exp(0.3 * rng.standard_normal((count, 3))), 2 * np.pi * rng.random((count, 3))
        return torch.from_numpy(np.stack([size * np.sin(phase), size * np.cos(phase)], -1).reshape(count, 6))

    prior.learn_amplitudes(network, law(16), [3], 1.0)
    apart = torch.cdist(law(1000), network.found.double()).square()
    likely = [float((-apart / (2 * w**2)).logsumexp(1).mean() - 6 * np.log(w)) for w in WIDTHS]
    spread = network.spread.item()
    found = float((-apart / (2 * spread**2)).logsumexp(1).mean() - 6 * np.log(spread))
    assert found > max(likely) - 0.2


def test_a_scatterer_turns_its_second_bounce_twice_as_far_and_another_by_itself():
    """Amplitudes of sin and cos of the motion, and of twice the motion, as one that is moved has them."""
    time, shift = torch.linspace(0, 6, 400, dtype=torch.float64), 0.8

    def light(at):
        return torch.stack([(at + 0.3).sin() + 0.5 * (2 * at - 1).sin(), (at.square() / 2).sin()])

    def templates(motion):
        return [part for n in (1, 2) for part in ((n * motion).sin(), (n * motion).cos())]

    basis = torch.stack([*templates(time), *templates(time)[:2]])
    fitted = torch.linalg.lstsq(basis[:4].T, light(time)[0]).solution
    moved = torch.linalg.lstsq(basis[:4].T, light(time + shift)[0]).solution
    known = prior.turned(torch.cat([fitted, torch.tensor([0.0, 2.0])])[None].double(), [2, 1])
    nearest = (known[:, :4] - moved).norm(dim=1).min()
    assert nearest < 0.03 * moved.norm(), "within the step of the phases"
    torch.testing.assert_close(known[:, 4:].norm(dim=1), torch.full((FOUND,), 2.0).double())
    pairs = torch.atan2(known[:, 0], known[:, 1]), torch.atan2(known[:, 4], known[:, 5])
    assert abs(np.corrcoef(*(one.numpy() for one in pairs))[0, 1]) < 0.2


def test_a_scatterer_that_does_not_swing_says_nothing_of_its_amplitude(trained, dataset):
    front = trained.normalisation
    rows = posterior.seen(posterior.reads(dataset, front, (), 0), dataset, dataset.indices("train"))
    loud = prior.loud(rows[:, 2 : 2 + front.templates], front.prior).numpy()
    label = dataset["label"][:][dataset.indices("train")]
    assert set(label[loud]) == {dataset.labels.index("scattered_light")}
    assert not prior.loud(torch.zeros(3, 0, 8), 1.0).any()


def test_what_a_plan_times_is_such_a_network(posterior_run, dataset, trained):
    needs = posterior.needs(dataset.config, dataset.channels, 64)
    settings = posterior_run.model.model_dump() | {"seed": 1}
    options = settings["options"] | needs.options
    planned = kinds.build_network({**settings, "options": options}, needs.given[0], needs.given[1:])
    assert planned(torch.zeros(2, *needs.given)).shape == (2, 2, 512)
    own = {name: weight.shape for name, weight in trained.network.state_dict().items()}
    assert {name: weight.shape for name, weight in planned.state_dict().items()} == own


def test_a_plan_counts_the_truth_that_is_read_beside_the_series(trained, dataset):
    needs = replace(posterior.needs(dataset.config, dataset.channels, 64), start=0)
    reading = posterior.reads(dataset, trained.normalisation, (), 0)
    assert [name for name in needs.beside if name in dataset] == reading.beside != []
    asked = Shape.stored(dataset), Split(), Loader(cache_gb=0), 8, torch.nn.Conv1d(needs.given[0], 1, 1)
    with_truth, without = (
        learning(*asked, one, False).parts["what is read"] for one in (needs, replace(needs, beside=()))
    )
    each = 4 * dataset.config.series.samples * len(reading.beside)
    assert with_truth - without > Shape.stored(dataset).shard * each


def test_it_is_exported_as_it_is(trained):
    form = posterior.KIND.exported
    rows = form.example(3, form.shape(trained.normalisation, ()))
    program = form.program(trained.network, trained.normalisation)
    assert torch.equal(program(rows), trained.network(rows)[:, 0])


def test_the_loss_counts_each_sample_by_its_weight():
    generated = torch.stack([torch.full((2, 8), 2.0), torch.tensor([[1.0], [3.0]]).expand(2, 8)], 1)
    assert posterior.loss("l2", None)(generated, torch.ones(2, 1, 8)).item() == pytest.approx((1 + 3) / 2)
    with pytest.raises(InputError) as error:
        posterior.loss("l1", None)
    assert str(error.value) == (
        "train.loss = l1: a posterior twin is trained with l2, whose mean is what is clean"
    )


def begun(run, tmp_path, made=None, options=None, **changes):
    """made: sections of what the dataset says that it was made from, in place of its own."""
    model = run.model.model_copy(update={"options": run.model.options | (options or {})})
    train, dataset = run.train.model_copy(update=changes), open_store(run.dataset)
    experiment = run.model_copy(update={"train": train, "model": model, "workdir": str(tmp_path)})
    there = dataset.attributes | {"config": dataset.attributes["config"] | (made or {})}
    return check(training_of(experiment), replace(dataset, attributes=there), tmp_path / "train")


def test_a_twin_of_another_span_is_refused_before_it_is_trained_upon(posterior_run, dataset, tmp_path):
    there = dataset.attributes["config"]["qplot"]
    with pytest.raises(InputError) as error:
        begun(posterior_run, tmp_path, {"qplot": there | {"span": 1.5}})
    assert str(error.value) == (
        f"train.init_from: its twin knows qplot.span = {there['span']}, {dataset.path} has 1.5"
    )


def test_a_twin_of_another_width_is_refused_by_the_key_that_names_it(posterior_run, series_run, tmp_path):
    with pytest.raises(InputError) as error:
        begun(posterior_run, tmp_path, options={"mean_width": 8})
    upon = checkpoint.find(directory(series_run), "best")
    assert str(error.value).startswith(
        "model.options.mean_width (its width), experts, sensors: not those of"
        f" {upon.path}, which is {{'name': 'coherent', 'width': 4, "
    )


def test_data_are_prepared_as_its_coherent_twin_s(posterior_run, tmp_path):
    with pytest.raises(InputError) as error:
        begun(posterior_run, tmp_path, init_normalisation="new")
    assert str(error.value) == (
        "train.init_normalisation = new: a posterior twin prepares data as its coherent one does; must be old"
    )


def test_a_twin_that_may_know_the_test_is_refused(posterior_run, series_run, dataset, tmp_path):
    """The same events, shared out otherwise, whatever else is made of them; another seed's are others."""
    made = dataset.attributes["config"]
    split = {"split": made["split"] | {"test": 0.2}}
    with pytest.raises(InputError) as error:
        begun(posterior_run, tmp_path, split | {"store": made["store"] | {"qplot": "float16"}})
    upon = checkpoint.find(directory(series_run), "best").path
    assert str(error.value) == (
        f"train.init_from = {upon}: learned from these events, shared out by another section split than that of"
        f" {dataset.path}, and may know what is the test there; train it again on that"
    )
    assert begun(posterior_run, tmp_path, split | {"seed": made["seed"] + 1}).step == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"span": 1.5}, "qplot.span = 1.5, {path} has {span}"),
        ({"channels": ["X:STRAIN"]}, "channels = ['X:STRAIN'], {path} has []"),
    ],
)
def test_a_twin_of_other_series_is_refused(trained, dataset, changes, words):
    with pytest.raises(InputError) as error:
        posterior.normalisation(dataset, "", dataset.channels, replace(trained.normalisation, **changes))
    what = words.format(path=dataset.path, span=dataset.config.qplot.span)
    assert str(error.value) == f"train.init_from: its twin knows {what}"


def test_errors_are_learned_where_there_is_always_light(trained, dataset, monkeypatch):
    network = copy.deepcopy(trained.network)
    monkeypatch.setattr(
        posterior.prior, "loud", lambda templates, prior: torch.ones(len(templates), dtype=bool)
    )
    posterior.begin(network, trained.normalisation, dataset)
    assert torch.isfinite(network.get_buffer("errors")).all()


def test_it_is_trained_upon_a_coherent_twin_or_one_of_its_own(posterior_run, trained_run, found, tmp_path):
    with pytest.raises(InputError) as error:
        begun(posterior_run, tmp_path, init_from="")
    assert str(error.value) == (
        "train.init_from: model.name=posterior is trained upon a coherent twin: name a checkpoint of one"
    )
    image = checkpoint.find(directory(trained_run), "best").path
    with pytest.raises(InputError) as error:
        begun(posterior_run, tmp_path, init_from=str(image))
    assert str(error.value) == (
        f"train.init_from = {image}: its network is of the image kind, model.name of the posterior one"
    )
    assert begun(posterior_run, tmp_path, init_from=str(found.path)).step == 0


def test_every_worker_s_loader_goes_through_the_coherent_network(posterior_run, series_run, tmp_path):
    """That of one that is not the first too, which finds nothing else of the start by itself."""
    second = prepare(training_of(posterior_run), open_store(posterior_run.dataset), World(rank=-1), tmp_path)
    upon = checkpoint.find(directory(series_run), "best").weights()
    assert all(torch.equal(value, upon[name]) for name, value in second.model.mean.state_dict().items())


def test_what_it_cannot_be_shown(trained, dataset, posterior_run):
    front = trained.normalisation
    with pytest.raises(InputError) as error:
        posterior.reads(Unknowing("there.zarr"), front, (), 3)
    assert str(error.value) == (
        "there.zarr: does not know the witnessed part of its strain, which a posterior twin learns; a simulated store"
        " with store.series does"
    )
    fresh = posterior_run.loader.model_copy(update={"fresh": 16})
    with pytest.raises(
        InputError, match=r"^loader.fresh = 16: a posterior twin learns from the witnessed part that"
    ):
        build_loader(dataset, "train", fresh, posterior.reads(dataset, front, (), 3), 3)
    with pytest.raises(InputError) as error:
        posterior.sees(replace(front, span=5.0))
    assert str(error.value) == (
        "qplot.span = 5: a posterior twin draws what lies within the 4 s that its coherent twin sees at once"
    )


class Unknowing:
    """A store of a recording."""

    def __init__(self, path):
        self.path = path

    def __contains__(self, name):
        return False
