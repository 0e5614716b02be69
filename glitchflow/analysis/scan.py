"""Which witnesses are worth training on: those that coincide with the strain more often than chance, over Ray tasks.

    1. the events of the train and validation splits, in order of time -> blocks; the witnesses -> groups
    2. a task reads one block of one group, an event at a time, and keeps a few numbers per event and witness
    3. the driver tests each witness against circular shifts, corrects for their number, ranks and writes

A task holds one event's channels of one group, and the block's masks; the driver a few numbers per event and witness.
What it finds depends on the experiment alone, not on the number of tasks at work.

Shapes: C witness, E event, B event of a block, K shift.
"""

import json
import math
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.cluster import joins, one_session
from glitchflow.config import Cluster, Experiment, Scan
from glitchflow.data.build import BASE_MEMORY, Job, over_tasks, run_tasks
from glitchflow.data.content import Content, content_of
from glitchflow.data.event_images import READERS, Origin
from glitchflow.data.memory import Memory, Shape
from glitchflow.data.objects import together, write_text
from glitchflow.data.provenance import provenance
from glitchflow.data.splits import splits_of_times
from glitchflow.data.store import SPLITS, UNSPLIT, exists, open_store
from glitchflow.errors import InputError
from glitchflow.figures import save
from glitchflow.figures.scan import ranking
from glitchflow.progress import say
from glitchflow.score.coincidence import Peaks, Scores, Tolerance, block_scores, find_peaks, stack
from glitchflow.score.safety import Safety
from glitchflow.score.safety import judge as safety_of
from glitchflow.score.significance import holm, shift_test, smallest_p
from glitchflow.score.statistics import bootstrap_mean
from glitchflow.score.table import plain
from glitchflow.signal.recorded.events import chosen_channels
from glitchflow.signal.recorded.frames import find_files
from glitchflow.signal.recorded.triggers import find_triggers
from glitchflow.signal.streams import SHIFTS, generator

GROUP = 16  # witnesses that a task reads beside the strain
FEWEST = 4  # blocks at least, where there are events for it: shifts of a single one are few
SERIES, IMAGES = 12, 6  # copies of a channel's that are held at once
PAIRS = 3  # channels whose masks are numbers at once
SHOWN = 20  # witnesses in the summary


COLUMNS = tuple(field.name for field in fields(Scores))
Table = NDArray[np.float32]  # (C, column, B): the Scores of some witnesses over a block


@dataclass(frozen=True)
class Survey:
    """Says what is scanned: every task gets the same one."""

    source: str  # a name in READERS
    origin: Origin
    tolerance: Tolerance
    strain: str
    groups: list[list[str]]
    blocks: list[list[int]]  # indices of events, neighbours in time
    families: list[list[str]]  # of the same events

    @property
    def witnesses(self) -> list[str]:
        """List all witnesses, in the order of the groups."""
        return [name for group in self.groups for name in group]

    @property
    def events(self) -> int:
        """Count the events of all blocks."""
        return sum(map(len, self.blocks))


@joins
@one_session()
def scan(experiment: Experiment) -> Path:
    """Write `scan.json`, `scan.png` and `witnesses.txt` under `workdir`; returns the first one's path.

    Raises `InputError` where there is nothing to scan: no dataset or files, fewer than 2 events outside of the test
    split, or no peak in the strain.
    """
    survey = plan_survey(experiment)
    say(f"scanning {len(survey.witnesses)} witnesses over {survey.events} events, from {survey.source}")
    result = judge(experiment.scan, experiment.seed, survey, run_survey(survey, experiment.cluster))
    directory = Path(experiment.workdir)
    text = json.dumps(plain(result | {"provenance": provenance()}), indent=1, allow_nan=False)
    with together(directory) as place:
        write_text(place / "scan.json", text)
        save(ranking(result), place / "scan.png", dpi=150)
        write_text(place / "witnesses.txt", channel_list(result))
    say(table(result))
    return directory / "scan.json"


# -- what is scanned ---------------------------------------------------------------------------------------------


def plan_survey(experiment: Experiment) -> Survey:
    """Choose events and witnesses, and share them out. The test split is left alone: it judges what is
    chosen."""
    settings, content = experiment.scan, content_of(experiment, "ingest")
    source = settings.source
    if source == "auto":
        source = "qplot" if exists(experiment.dataset) else "files"
    if source == "files":
        strain, recorded, derived, events, gps, names = _recorded(content, experiment.cluster)
        groups, origin = grouped(recorded) + grouped(derived), Origin(content, gps=gps)
        family = dict(zip(events.tolist(), names))
    else:
        dataset = open_store(experiment.dataset)
        if source not in dataset:
            raise InputError(f"scan.source = {source}: {dataset.path} has none; see store.series")
        strain, *witnesses = dataset.channels
        groups, origin = grouped(witnesses), Origin(content, dataset)
        gps, events = (
            dataset["gps"][:].tolist(),
            np.concatenate([dataset.indices(s) for s in ("train", "validation")]),
        )
        family = dict(enumerate(dataset.labels[i] for i in dataset["label"][:].tolist()))
    if len(events) < 2:
        raise InputError(
            f"scan.source = {source}: {len(events)} events outside of the test split; shifting them needs two at least"
        )
    ordered = np.sort(events)
    ordered = ordered[np.argsort(np.array(gps)[ordered], kind="stable")]
    count = max(math.ceil(len(ordered) / settings.block), min(FEWEST, len(ordered) // 2))
    blocks = [block.tolist() for block in np.array_split(ordered, count)]
    tolerance = Tolerance(settings.threshold, settings.time_tolerance, settings.frequency_tolerance)
    families = [[family[event] for event in block] for block in blocks]
    return Survey(source, origin, tolerance, strain, groups, blocks, families)


def grouped(names: list[str]) -> list[list[str]]:
    """Cut names into groups of `GROUP`."""
    return [names[i : i + GROUP] for i in range(0, len(names), GROUP)]


def _recorded(
    content: Content, cluster: Cluster
) -> tuple[str, list[str], list[str], NDArray[np.int64], list[float], list[str]]:
    """Strain, recorded and derived witnesses, events, GPS times and the events' families of `ingest`. Every channel has
    files."""
    sources, derived = chosen_channels(content.ingest, content.derived)
    for source in sources:
        find_files(source.files, f"ingest.channels {source.name}: files")
    found = find_triggers(
        content.ingest,
        content.series.duration,
        content.qplot.span,
        content.seed,
        over_tasks(cluster, "state"),
    )
    gps = [trigger.gps for trigger in found]
    splits = splits_of_times(content.split, content.seed, content.series.duration, np.array(gps))
    events = np.flatnonzero((splits != SPLITS.index("test")) & (splits != UNSPLIT))
    names = [source.name for source in sources]
    families = [found[i].label for i in events]
    return names[0], names[1:], [d.name for d in derived], events, gps, families


# -- over Ray ----------------------------------------------------------------------------------------------------


def run_survey(survey: Survey, cluster: Cluster) -> list[Table]:
    """Compute the scores of every witness in every block, a table each."""
    blocks, groups = range(len(survey.blocks)), range(len(survey.groups))
    parts = {(b, g): len(survey.blocks[b]) * len(survey.groups[g]) for b in blocks for g in groups}
    job = Job(
        partial(score_block, survey), "scan", memory(survey).total, "events x witnesses", smaller="scan.block"
    )
    found = run_tasks(job, parts, cluster)
    return [np.concatenate([found[b, g] for g in groups]) for b in blocks]


def memory(survey: Survey) -> Memory:
    """Project the bytes that a task holds."""
    content, dataset = survey.origin.content, survey.origin.dataset
    block = max(map(len, survey.blocks))
    if dataset is not None:
        return surveying(Shape.stored(dataset), survey.source, block)
    f, t = content.qplot.shape
    files = Shape(1 + GROUP, f * t, content.series.samples, 1, 1, 1, 1 + GROUP, {}, False)
    return surveying(files, survey.source, block)


def surveying(shape: Shape, source: str, block: int) -> Memory:
    """Project what a task holds that reads a group's witnesses from a source over a block of events."""
    channels = min(1 + GROUP, shape.channels)
    return Memory(
        {
            "Python and libraries": BASE_MEMORY,
            "a shard": shape.read(source, channels) if source in shape.arrays else 0,
            "an event's series": 0 if source == "qplot" else SERIES * 8 * channels * shape.samples,
            "an event's images": IMAGES * 4 * channels * shape.image,
            "a block's masks": 2 * block * channels * shape.image + PAIRS * 4 * block * shape.image,
        }
    )


def score_block(survey: Survey, part: tuple[int, int]) -> Table:
    """Compute the scores of a group's witnesses over one block of events, compact: the driver keeps all blocks'."""
    events, group = survey.blocks[part[0]], survey.groups[part[1]]
    peaks: dict[int, Peaks] = {
        image.event: find_peaks(image.energy, image.frequency, image.step, survey.tolerance)
        for image in READERS[survey.source](survey.origin, events, [survey.strain, *group])
    }
    scores = block_scores(stack([peaks[event] for event in events]))
    return np.array([[getattr(s, name) for name in COLUMNS] for s in scores], dtype=np.float32)


# -- judging -----------------------------------------------------------------------------------------------------


def judge(settings: Scan, seed: int, survey: Survey, blocks: list[Table]) -> dict[str, Any]:
    """Put together everything `scan.json` says: settings, what could be resolved, and the witnesses, the most
    significant first.

    Raises `InputError` where the strain has no peak in any event.
    """
    witnesses = survey.witnesses
    draws = max(settings.draws, math.ceil(2 * len(witnesses) / settings.alpha))
    columns = [COLUMNS.index(name) for name in ("shifted_overlap", "shifted_correlation")]
    tested = [block[:, columns].astype(np.float64) for block in blocks]
    found = shift_test(tested, generator(seed, SHIFTS), draws)
    adjusted, safety = holm(found.p), _safety(settings, survey, blocks)
    entries = []
    for c, (name, safe) in enumerate(zip(witnesses, safety, strict=True)):
        entry = _entry(seed, settings.bootstrap, [block[c] for block in blocks])
        entries.append(
            {
                "channel": name,
                "significance": float(found.deviation[c].max()),
                "p": float(found.p[c]),
                "p_adjusted": float(adjusted[c]),
                "chosen": bool(adjusted[c] <= settings.alpha) and not (safe and safe.unsafe),
                "safety": safe.told() if safe else None,
                "deviation": dict(zip(("masks", "energies"), found.deviation[c].tolist())),
                **entry,
            }
        )
    usable = max(entry["events"] for entry in entries)
    if not usable:
        raise InputError(
            f"scan.threshold = {settings.threshold:g}: the strain reaches it in none of {survey.events} events"
        )
    smallest = smallest_p([len(block) for block in survey.blocks], draws)
    return {
        "strain": survey.strain,
        "source": survey.source,
        "events": survey.events,
        "events_with_peak": usable,
        "settings": settings.model_dump(mode="json"),
        "draws": draws,
        "smallest_p": smallest,
        "resolvable": smallest * len(witnesses) <= settings.alpha,
        "channels": sorted(entries, key=lambda e: (-e["significance"], e["p"])),
    }


def _safety(settings: Scan, survey: Survey, blocks: list[Table]) -> list[Safety | None]:
    """How each witness answers to events of `scan.signals`, beside background events, where the strain is loudest."""
    family = np.concatenate([np.array(names) for names in survey.families])
    response = np.concatenate([block[:, COLUMNS.index("response")] for block in blocks], axis=1)
    signal, quiet = np.isin(family, settings.signals), family == "background"
    return safety_of(list(response[:, signal]), list(response[:, quiet]), settings.alpha)


def unsafe(result: dict[str, Any]) -> list[str]:
    """Name the witnesses that show signals."""
    told = ((entry["channel"], entry["safety"]) for entry in result["channels"])
    return [name for name, safety in told if safety and safety["unsafe"]]


def _entry(seed: int, resamples: int, blocks: list[Table]) -> dict[str, Any]:
    """Means over a witness's events with their intervals, beside what chance gives."""
    column = {name: [block[i].astype(np.float64) for block in blocks] for i, name in enumerate(COLUMNS)}
    loud, iou, correlation = (np.concatenate(column[name]) for name in ("loud", "iou", "correlation"))
    events = int(np.isfinite(iou).sum())
    entry: dict[str, Any] = {"events": events, "loud": float(np.nansum(loud) / max(events, 1))}
    for name, values, shifted in (
        ("iou", iou, column["shifted_iou"]),
        ("correlation", correlation, column["shifted_correlation"]),
    ):
        interval = asdict(bootstrap_mean(values, seed, resamples))
        chance = sum(float(sums[1:].mean()) for sums in shifted) / max(events, 1)
        entry[name] = interval | {"chance": chance}
    return entry


def chosen(result: dict[str, Any]) -> list[str]:
    """Name the witnesses whose coincidence is not chance, and that show no signals, the most significant first."""
    return [entry["channel"] for entry in result["channels"] if entry["chosen"]]


def channel_list(result: dict[str, Any]) -> str:
    """Write the text of `witnesses.txt`, which `loader.witnesses` and `ingest.witnesses` read."""
    names, alpha = chosen(result), result["settings"]["alpha"]
    head = (
        f"# {len(names)} of {len(result['channels'])} witnesses coincide with {result['strain']} in"
        f" {result['events_with_peak']} events: `glitchflow scan`, at most {alpha:.1%} that any is false"
    )
    return "\n".join([head, *names]) + "\n"


def table(result: dict[str, Any]) -> str:
    """Write the ranking as text, and what is chosen."""
    names, alpha = chosen(result), result["settings"]["alpha"]
    lines = [
        f"{result['strain']}: a peak in {result['events_with_peak']} of {result['events']} events",
        f"  {'witness':<28}{'significance':>13}{'p (adjusted)':>14}{'loud too':>10}  IoU (chance)   correlation",
    ]
    for entry in result["channels"][:SHOWN]:
        iou, correlation = entry["iou"], entry["correlation"]
        lines.append(
            f"{'*' if entry['chosen'] else ' ':>2}{entry['channel']:<28}{entry['significance']:>11.1f} σ"
            f"{entry['p_adjusted']:>14.2g}{entry['loud']:>10.0%}  {iou['value']:.3f} ({iou['chance']:.3f})"
            f"  {correlation['value']:+.3f}"
        )
    if len(result["channels"]) > SHOWN:
        lines.append(f"  and {len(result['channels']) - SHOWN} more in scan.json")
    if not result["resolvable"]:
        lines.append(
            f"not resolvable: with so few events no p-value is below {result['smallest_p']:.2g}, and"
            f" {len(result['channels'])} witnesses at scan.alpha = {alpha:g} need {alpha / len(result['channels']):.2g}"
        )
    if flagged := unsafe(result):
        lines.append(f"unsafe, for signals show in them, and not chosen: {', '.join(flagged)}")
    lines.append(
        f"{len(names)} chosen (*), in witnesses.txt; loader.witnesses and ingest.witnesses take that file"
    )
    return "\n".join(lines)
