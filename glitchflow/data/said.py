"""What is said of a dataset when it is finished: what of its events could not be used, and what follows from that."""

from collections import Counter

from glitchflow.data.objects import Location
from glitchflow.data.store import SPLITS, Dataset
from glitchflow.errors import RunError
from glitchflow.progress import say


def say_skipped(path: Location, skipped: dict[int, str], events: int) -> None:
    """How many events were left out, by channel and kind of reason, with an example of each. Raises `RunError` where
    none is left."""
    kinds = Counter(reason.split(" GPS ")[0] for reason in skipped.values())
    say(
        f"{path}: {len(skipped)} of {events} events could not be used; `glitchflow inspect {path} --json` lists them"
    )
    for kind, count in kinds.most_common(5):
        example = next(i for i, reason in skipped.items() if reason.startswith(kind))
        say(f"  {count} x {kind} (event {example}: {skipped[example]})")
    if len(skipped) == events:
        raise RunError(f"{path}: none of its {events} events could be used: {skipped[min(skipped)]}")


def say_empty(dataset: Dataset) -> None:
    """Which splits have none of the events that can be used: they are shared out before that is known of them."""
    split, there = dataset.config.split, set(dataset["split"][:].tolist())
    shares = {"train": 1.0, "validation": split.validation, "test": split.test}
    empty = [name for i, name in enumerate(SPLITS) if shares[name] and i not in there]
    if dataset.recorded and empty and not split.groups:
        say(
            f"{dataset.path}: no event that can be used is in the split {', '.join(empty)}; `glitchflow ingest --split`"
            " shares out those that can be"
        )


def say_missing(dataset: Dataset) -> None:
    """How many events lack which witness."""
    usable, valid = dataset["split"][:] >= 0, dataset["valid"]
    without = sum((~valid[span][usable[span]]).sum(0) for span in valid.spans)
    for channel, count in zip(dataset.channels, without):
        if count:
            say(
                f"{dataset.path}: {channel} has no data in {count} of {usable.sum()} events, where its image is 0"
            )
