"""The table of faults: each case by one rule (`judge`). `make faults` runs all, `make test-ci` some of each kind."""

import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from faults import clocks, full, interruptions, remote
from faults.cases import Case, changed, judge
from faults.clocks import CLOCKS, Step
from faults.configuration import CASES
from faults.disks import DISKS
from faults.files import CHECKPOINT, CHECKPOINTS, STORES, write_checkpoint
from faults.full import FULL, Full
from faults.interruptions import INTERRUPTIONS, Interruption
from faults.recorded import RECORDED, configuration, write
from faults.remote import REMOTE, Remote
from helpers import small, staged

from glitchflow.data.generate import generate

pytestmark = pytest.mark.ci

CHOSEN, OF_PROCESSES, OF_CLOCKS = 5, 40, 50  # one in so many is in `make test-ci` too


def table(
    cases: Sequence[Case | Interruption | Full | Step | Remote], chosen: int = CHOSEN
) -> pytest.MarkDecorator:
    """All cases as parameters, by name."""
    rows = [
        pytest.param(case, id=case.name, marks=() if k % chosen == 0 else pytest.mark.slow)
        for k, case in enumerate(cases)
    ]
    return pytest.mark.parametrize("case", rows)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A place with a configuration, a store of 8 events and a checkpoint."""
    place = tmp_path_factory.mktemp("whole")
    experiment = small(place, simulate={"events": 12}, split={"validation": 0.3, "test": 0.3})
    (place / "config.yaml").write_text(experiment.model_copy(update={"workdir": "."}).model_dump_json())
    generate(staged("generate", experiment))
    made = write_checkpoint(place / "train" / "checkpoints")
    assert str(made).endswith(CHECKPOINT)
    return place


@pytest.fixture(scope="session")
def trained(trained_run, tmp_path_factory):
    """A place with all that a run makes: dataset, training, predictions, evaluation."""
    place = tmp_path_factory.mktemp("trained") / "place"
    shutil.copytree(trained_run.workdir, place)
    (place / "config.yaml").write_text(trained_run.model_copy(update={"workdir": "."}).model_dump_json())
    return place


@pytest.fixture(scope="session")
def observed(tmp_path_factory):
    """A place with three frame files, a table of times in them, and the configuration that reads both."""
    place = tmp_path_factory.mktemp("observed")
    experiment = json.loads(small(place).model_dump_json(exclude_unset=True)) | {"workdir": "."}
    experiment.pop("simulate")
    (place / "recorded.yaml").write_text(json.dumps(configuration(experiment)))
    write(place)
    return place


@pytest.fixture(scope="session")
def places(trained, observed, glitches_run, tmp_path_factory):
    """Those places, and one with a generative twin."""
    glitches = tmp_path_factory.mktemp("glitches") / "place"
    shutil.copytree(glitches_run.workdir, glitches)
    (glitches / "config.yaml").write_text(glitches_run.model_copy(update={"workdir": "."}).model_dump_json())
    return {"trained": trained, "observed": observed, "glitches": glitches}


@pytest.fixture(scope="session")
def undisturbed(places, tmp_path_factory):
    """undisturbed(stage): a place in which that stage was given once, and nobody disturbed it."""

    @functools.cache
    def done(stage: str) -> Path:
        place = interruptions.copy(stage, places, tmp_path_factory.mktemp("undisturbed") / "place")
        assert interruptions.again(stage, place) == ""
        return place

    return done


@pytest.fixture(scope="session")
def there(bucket):
    """The bucket's endpoint behind a proxy."""
    with remote.behind() as found:
        yield found


@pytest.fixture(scope="session")
def in_bucket(bucket, there, whole, places, tmp_path_factory):
    """in_bucket(stage): that stage with its store in a bucket, given once, and nobody disturbed it."""
    theirs = f"{bucket}/trained/dataset.zarr"
    remote.stored(places["trained"] / "dataset.zarr", theirs)

    @functools.cache
    def done(stage: str) -> remote.Whole:
        url = theirs if stage in remote.READING else f"{bucket}/undisturbed/dataset.zarr"
        if stage == "inspect":
            done("generate")
        place = tmp_path_factory.mktemp("in_bucket") / "place"
        return remote.undisturbed(stage, places | {"whole": whole}, there, url, place)

    return done


def test_the_page_counts_what_there_is():
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text()
    kinds = {
        "files of a configuration": sum(case.name.startswith("file: ") for case in CASES),
        "values of keys": sum(case.name.startswith("value: ") for case in CASES),
        "command lines": sum(": " not in case.name for case in CASES),
        "files of a store, `inspect --verify`": sum(case.name.startswith("inspect") for case in STORES),
        "files of a store, `generate --verify`": sum(case.name.startswith("generate") for case in STORES),
        "files of a checkpoint, `export`": len(CHECKPOINTS),
        "frame files, `ingest`": sum(case.name.startswith("frames: ") for case in RECORDED),
        "trigger tables, `ingest`": sum(case.name.startswith("table: ") for case in RECORDED),
        "places that take nothing": len(DISKS),
        "commands that are ended": len(INTERRUPTIONS),
        "disks that fill": len(FULL),
        "clocks that are set": len(CLOCKS),
        "object stores": len(REMOTE),
    }
    for kind, count in kinds.items():
        assert f"| {kind} | {count} |" in page
    assert f"| together | {sum(kinds.values())} |" in page


@table(CASES)
def test_configuration(case, whole, tmp_path):
    assert judge(case, whole, tmp_path / "place") == ""


@table(STORES)
def test_stores(case, whole, tmp_path):
    assert judge(case, whole, tmp_path / "place") == ""


@table(CHECKPOINTS)
def test_checkpoints(case, whole, tmp_path):
    assert judge(case, whole, tmp_path / "place") == ""


@table(RECORDED)
def test_recorded(case, observed, tmp_path):
    assert judge(case, observed, tmp_path / "place") == ""


@table(DISKS)
def test_disks(case, trained, tmp_path):
    assert judge(case, trained, tmp_path / "place") == ""


@table(INTERRUPTIONS, OF_PROCESSES)
def test_interruptions(case, places, undisturbed, tmp_path):
    assert interruptions.judge(case, places, undisturbed(case.stage), tmp_path) == ""


@table(FULL)
def test_full(case, places, undisturbed, tmp_path):
    assert full.judge(case, places, undisturbed(case.stage), tmp_path) == ""


@table(CLOCKS, OF_CLOCKS)
def test_clocks(case, places, undisturbed, tmp_path):
    assert clocks.judge(case, places, undisturbed(case.stage), tmp_path) == ""


@table(REMOTE, OF_PROCESSES)
def test_remote(case, whole, places, there, in_bucket, tmp_path):
    places = places | {"whole": whole}
    assert remote.judge(case, places, there, in_bucket(case.stage), tmp_path / "place") == ""


@pytest.mark.slow
@pytest.mark.timeout(900)  # ten commands, each with a Ray of its own
def test_a_run_whose_store_is_in_a_bucket_is_that_of_a_local_one(there, bucket, tmp_path):
    """Of a hundred requests one fails, and one is late: files and numbers are those of files beside each other."""
    config = small(tmp_path, train={"workers": 1}).model_copy(update={"workdir": "."}).model_dump_json()
    url, found = f"{bucket}/whole/dataset.zarr", {}
    for name in ("local", "away"):
        place = tmp_path / name
        place.mkdir()
        (place / "config.yaml").write_text(config)
        store = f"{place}/dataset.zarr" if name == "local" else url
        there.proxy.now("some", 0)
        for stage in ("generate", "train", "infer", "evaluate", "report"):
            words = (stage, "config.yaml", f"store.path={store}", "cluster.cpus=1")
            done = there.given(words, place)
            assert done.returncode == 0, done.stderr
        found[name] = place
    assert min(there.proxy.drawn["503"], there.proxy.drawn["late"]) > 5
    there.proxy.now("", 0)
    remote.fetched(url, found["away"] / "dataset.zarr")
    metrics = found["away"] / "evaluation" / "metrics.json"
    metrics.write_bytes(metrics.read_bytes().replace(url.encode(), f"{found['away']}/dataset.zarr".encode()))
    away, local = (interruptions.essence(found[name]) for name in ("away", "local"))
    assert away.keys() == local.keys()
    # these say when a store was made and where it is; arrays, weights, states and scores do not
    about = [name for name in local if name.endswith(("zarr.json", "meta.json", "baseline.json", ".html"))]
    assert changed(local | dict.fromkeys(about, ""), away | dict.fromkeys(about, "")) == ""
