"""Whatever a file or a command line holds: an experiment, or one line that says why it is none."""

import json

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from glitchflow.config import Experiment, load, parse
from glitchflow.config.base import inner_section
from glitchflow.errors import InputError

WORDS = [
    "train",
    "none",
    "flow",
    "unet",
    "s3://a/b",
    "1e-3",
    "${seed}",
    "os:system",
    "H1:A",
    ".nan",
    "a b",
    "",
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def keys_of(section) -> list[str]:
    """The keys of a section, and a wrong one."""
    return [*getattr(section, "model_fields", {}), "nosuch"]


@st.composite
def experiments(draw) -> dict:
    """Sections and keys by their names, with any values."""
    found: dict = {}
    for name in draw(st.lists(st.sampled_from(keys_of(Experiment)), max_size=4, unique=True)):
        field = Experiment.model_fields.get(name)
        keys = keys_of(inner_section(field.annotation)) if field else ["nosuch"]
        inner = st.dictionaries(st.sampled_from(keys), VALUES, max_size=4)
        found[name] = draw(st.one_of(inner, VALUES))
    return found


def outcome(function, *given):
    """An experiment or None; what is raised says something."""
    try:
        return function(*given)
    except InputError as error:
        assert str(error).strip()
        return None


@settings(max_examples=100)
@given(experiments())
def test_any_values(values):
    made = outcome(parse, values)
    if made is not None:
        again = parse(json.loads(made.model_dump_json()))
        assert again.model_dump_json() == made.model_dump_json()


@settings(max_examples=60)
@given(
    experiments(), st.lists(st.text(max_size=20) | st.sampled_from(["seed=3", "train.lr=", "a.b.c={", "=,"]))
)
def test_any_values_in_a_file_and_overrides(tmp_path_factory, values, overrides):
    path = tmp_path_factory.getbasetemp() / "properties.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    made = outcome(load, path, overrides)
    assert made is None or isinstance(made, Experiment)


@settings(max_examples=60)
@given(
    st.one_of(st.binary(max_size=64), st.text(max_size=64).map(lambda text: text.encode("utf-8", "replace")))
)
def test_any_bytes_for_a_file(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "properties.yaml"
    path.write_bytes(content)
    made = outcome(load, path)
    assert made is None or isinstance(made, Experiment)
