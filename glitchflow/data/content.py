"""What a dataset's bytes follow from: the sections of an experiment that its store keeps."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, ValidationError

from glitchflow.config import (
    Derived,
    Experiment,
    Ingest,
    QPlot,
    Section,
    Series,
    Simulate,
    Split,
    Store,
    Whiten,
    upgrade,
)
from glitchflow.data.objects import reason
from glitchflow.errors import RunError

Source = Literal["simulate", "ingest"]
NOT_KEPT = {"store": {"path", "quota_gb", "quota_files"}}  # where a store lies is no part of what it is


class Content(Section):
    """The sections that a dataset is made from; of `simulate` and `ingest` the one that is not `source` is ignored."""

    source: Source
    seed: int = 1
    series: Series = Series()
    simulate: Simulate = Simulate()
    ingest: Ingest = Ingest()
    derived: list[Derived] = Field([])
    whiten: Whiten = Whiten()
    qplot: QPlot = QPlot()
    store: Store = Store()
    split: Split = Split()

    @property
    def reads_files(self) -> bool:
        """Whether series are cut from files of recorded channels."""
        ingest = self.ingest
        return self.source == "ingest" and not (ingest.series_from or ingest.qplots_from)

    def kept(self) -> dict[str, Any]:
        """The part of it that a store of this source keeps, as JSON."""
        other = "ingest" if self.source == "simulate" else "simulate"
        return self.model_dump(mode="json", exclude={"source": True, other: True, **NOT_KEPT})


def content_of(experiment: Experiment, source: Source) -> Content:
    """The sections of an experiment that a dataset of this source is made from."""
    other = "ingest" if source == "simulate" else "simulate"
    names = Content.model_fields.keys() - {"source", other}
    return Content(source=source, **{name: getattr(experiment, name) for name in names})


def read_content(attributes: dict[str, Any], path: str) -> Content:
    """The sections in a store's attributes, of any version so far. Raises `RunError` where they are none."""
    source = "simulate" if "simulate" in attributes["config"] else "ingest"
    try:
        return Content.model_validate({"source": source, **upgrade(attributes["config"])})
    except (ValidationError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: damaged: the config in its zarr.json: {reason(error)}") from None


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Every key in which two nested dictionaries differ, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            yield from differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
    elif old != new:
        yield f"{name} = {old} there, {new} here"
