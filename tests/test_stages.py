"""A stage's help lists what it reads: nothing more can be read (config/reads.py), and nothing less is listed."""

import pytest
from helpers import READ, beyond_loopback, linked, listeners, small, staged
from posts import write_twin

from glitchflow.cli import STAGES
from glitchflow.command import shown


@pytest.fixture(scope="module")
def everything(trained_run, glitches_run, posterior_run, tmp_path_factory):
    """Every stage, run once with an experiment that remembers what was read of it; what was listened on meanwhile."""
    with listeners() as found:
        run(trained_run, tmp_path_factory.mktemp("stages"))
    return found


def run(trained_run, workdir):
    """What no test runs before (see conftest.py)."""
    from glitchflow.analysis.baseline import baseline
    from glitchflow.analysis.clean.clean import clean
    from glitchflow.analysis.event import event
    from glitchflow.analysis.report import report
    from glitchflow.analysis.scan import scan
    from glitchflow.data.generate import ingest
    from glitchflow.data.stretch import stretch
    from glitchflow.online import watch as watching
    from glitchflow.site import plan
    from glitchflow.site.doctor import doctor
    from glitchflow.train.export import export
    from glitchflow.train.loop import train
    from glitchflow.train.setup import training_of
    from glitchflow.train.tune.search_space import apply, name
    from glitchflow.train.tune.sweep import sweep

    changes = {"store": {"path": str(trained_run.dataset)}, "train": {"workers": 1, "epochs": 1}}
    changes |= {"tune": {"space": {"train.lr": {"choice": [1e-3]}}, "trials": 1}}
    beside = small(workdir, **changes)
    again = small(workdir / "again", ingest={"series_from": str(trained_run.dataset)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SECONDS", 0.0)
        patch.setattr(plan, "on_every_cpu", lambda job, _: [job.make(1)])
        plan.costs(staged("plan", small(workdir / "none", store={"series": "float32"})))
    doctor(staged("doctor", small(workdir / "none")))
    ingest(staged("ingest", again))
    stretch(staged("stretch", small(workdir / "stretch", stretch={"duration": 8})))
    baseline(staged("baseline", beside))
    scan(staged("scan", beside))
    values = {"train.lr": 1e-3}
    train(training_of(apply(beside, values)), workdir / "tune" / "trials" / name(values))
    sweep(staged("tune", beside))  # Ray Tune is told of that trial, and starts no workers
    (workdir / "trained").mkdir()
    made = ("dataset.zarr", "train", "predictions.zarr", "evaluation")
    trained = linked(trained_run, workdir / "trained", *made)
    export(staged("export", trained))
    clean(staged("clean", trained), force=True)
    event(staged("event", trained), trained.simulate.time(17))
    report(staged("report", trained))
    online = small(workdir / "online", online={"source": str(workdir)})
    write_twin(workdir / "online")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "follow", lambda *_: None)
        watching.watch(staged("watch", online))


@pytest.mark.ci
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_all_that_its_help_lists(everything, stage):
    assert READ[stage].seen == READ[stage].keys


@pytest.mark.ci
def test_no_stage_listens_beyond_this_machine(everything):
    """Not Ray, not a worker; `train` in train/test_interruption.py."""
    assert {"gcs_server", "raylet"} <= {name for name, _ in everything}
    assert beyond_loopback(everything) == []


def test_a_path_is_shown_from_here_unless_that_is_far(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "runs" / "x") == "runs/x"
    assert shown(tmp_path.parent / "x") == "../x"
    assert shown("/nowhere/x") == "/nowhere/x"
    assert shown("s3://bucket/x") == "s3://bucket/x"
