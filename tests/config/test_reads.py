"""What a stage may read of an experiment, and that its help says the same."""

import pickle

import pytest

from glitchflow.cli import STAGES
from glitchflow.config import Experiment, Reads, describe
from glitchflow.config.base import Section


def limited(*keys: str) -> tuple[Experiment, Reads]:
    reads = Reads("this", frozenset(keys))
    return Experiment().limited(reads), reads


def test_a_stage_reads_what_is_listed_and_nothing_else():
    experiment, reads = limited("workdir", "train", "store.path", "tune")
    assert experiment.train.epochs == 20
    assert experiment.dataset.name == "dataset.zarr"
    assert reads.seen == {"workdir", "train", "store.path"}
    for read, name in ((lambda e: e.model, "model"), (lambda e: e.store.chunk_mb, "store.chunk_mb")):
        with pytest.raises(RuntimeError, match=f"^this reads {name}, which its --help does not list$"):
            read(experiment)
    with pytest.raises(AttributeError):
        experiment.store.nothing  # noqa: B018


def test_what_is_limited_stays_an_experiment():
    experiment, reads = limited("train", "store.path")
    assert experiment.model_dump(mode="json") == Experiment().model_dump(mode="json")
    again = pickle.loads(pickle.dumps(experiment.model_copy(update={"workdir": "/x"})))  # noqa: S301
    with pytest.raises(RuntimeError, match="reads workdir"):
        again.dataset  # noqa: B018
    pickle.loads(pickle.dumps(experiment.store)).path  # noqa: B018, S301
    assert not reads.seen


def leaves(section: type[Section], prefix: str):
    """Every key below a section: (dotted name, its field)."""
    for name, field in section.model_fields.items():
        inner = [
            a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(a, type)
        ]
        sections = [a for a in inner if issubclass(a, Section)]
        suffix = "[]" if getattr(field.annotation, "__origin__", None) is list and sections else ""
        if sections:
            yield from leaves(sections[0], f"{prefix}{name}{suffix}.")
        else:
            yield f"{prefix}{name}", field


@pytest.mark.parametrize("stage", STAGES)
def test_help_lists_every_key_with_default_unit_and_meaning(stage):
    reads = STAGES[stage].reads.split()
    lines = describe(Experiment, reads).splitlines()
    found = {line.split(" = ")[0].strip(): line for line in lines}
    expected = {
        name: field
        for name, field in leaves(Experiment, "")
        if any(f"{name.replace('[]', '')}.".startswith(f"{listed}.") for listed in reads)
    }
    assert found.keys() == expected.keys()
    assert len(lines) == len(found)
    for name, field in expected.items():
        unit = field.json_schema_extra["unit"]
        assert field.description in found[name]
        assert found[name].endswith(f"[{unit}]" if unit else field.description)


def test_help_shows_defaults_as_yaml():
    lines = describe(Experiment, STAGES["generate"].reads.split())
    for text in (
        "qplot.frange = [10, 200] ",
        "whiten.fftlength = null ",
        "store.series = none ",
        "simulate.detector.coupling.ripple = 6 ",
        "derived[].name = required ",
        "simulate.detector.witnesses = [SIM:ACC_X, SIM:ACC_Y, SIM:SUS, SIM:ASC] ",
        "simulate.start = 1400000000.0 ",
    ):
        assert f"  {text}" in lines


def test_every_section_belongs_to_a_stage():
    listed = {key.split(".")[0] for stage in STAGES.values() for key in stage.reads.split()}
    assert listed == set(Experiment.model_fields)
