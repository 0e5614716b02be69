"""What a store holds, as text or JSON."""

import json
from collections.abc import Iterator
from typing import Any

from glitchflow.data.store import (
    SPLITS,
    UNSPLIT,
    Dataset,
    find_damage,
    foreign_objects,
    missing_shards,
    open_store,
)


def inspect(path: str, verify: bool = False, as_json: bool = False) -> tuple[str, bool]:
    """Return a description of the store at `path`, and whether it is complete and (with `verify`) undamaged.

    Raises `InputError` where there is no store of a schema that is read, `RunError` where its metadata are damaged.
    """
    dataset = open_store(path, complete=False)
    if verify:
        damaged, rest = find_damage(dataset)
        rest += [f"foreign: {name}" for name in foreign_objects(dataset)] if not rest else []
    else:
        damaged, rest = dict.fromkeys([] if dataset.complete else missing_shards(dataset), "missing"), []
    facts = describe(dataset) | {
        "damaged": {str(k): reason for k, reason in damaged.items()},
        "problems": rest,
    }
    intact = bool(not damaged and not rest and facts["complete"])
    return (json.dumps(facts, indent=1) if as_json else text(facts, verify)), intact


def describe(dataset: Dataset) -> dict[str, Any]:
    """Collect the facts of a store that a reader asks for first; JSON."""
    attributes, layout = dataset.attributes, dataset.layout
    arrays = {name: dataset[name] for name in attributes["arrays"]}
    facts: dict[str, Any] = {
        "path": dataset.path,
        "source": attributes["source"],
        "complete": attributes["complete"],
        "events": layout.events,
        "shards": layout.shards,
        "events_per_shard": layout.shard,
        "events_per_chunk": layout.chunk,
        "channels": dataset.channels,
        "arrays": {name: [list(array.shape), str(array.array.dtype)] for name, array in arrays.items()},
        "bytes": sum(array.array.nbytes for array in arrays.values()),
        "axes": attributes.get("axes", "known"),
        "couplings": attributes.get("couplings", {}),
        "provenance": attributes["provenance"],
    }
    if attributes["complete"]:
        named = {"label": dataset.labels, "split": list(SPLITS)}
        for name, words in ((name, words) for name, words in named.items() if name in dataset):
            values = dataset[name][:]
            facts[name] = {word: int((values == i).sum()) for i, word in enumerate(words)}
        if "split" in dataset and (spare := int((dataset["split"][:] == UNSPLIT).sum())):
            facts["split"]["none"] = spare
        facts["skipped"] = dataset.skipped
    return facts


def text(facts: dict[str, Any], verified: bool = False) -> str:
    """Put the same in words; `damaged` (by shard) and `problems` are what was found to be wrong, if anything was."""
    provenance = facts["provenance"]
    lines = [
        f"{facts['path']}: {facts['events']} events of source {facts['source']}, {facts['bytes'] / 1e6:.1f} MB",
        f"  made      {provenance['date']} on {provenance['host']}, glitchflow {provenance['versions']['glitchflow']}"
        f" ({(provenance['revision'] or 'no revision')[:12]})",
        f"  layout    {facts['shards']} shards of {facts['events_per_shard']} events,"
        f" chunks of {facts['events_per_chunk']}",
        f"  channels  {', '.join(facts['channels'])}",
        *(
            f"  {name:<9} {' '.join(map(str, shape))} {kind}"
            for name, (shape, kind) in facts["arrays"].items()
        ),
    ]
    if facts["axes"] != "known":
        lines.append(
            "  axes      not known: frequency and time are as `qplot` said, not as the file of Q-plots did"
        )
    for name in ("label", "split"):
        if name in facts:
            lines.append(f"  {name + 's':<9} " + ", ".join(f"{word} {n}" for word, n in facts[name].items()))
    lines += list(_couplings(facts["couplings"]))
    lines += [f"  shard {k}: {reason}" for k, reason in facts["damaged"].items()]
    if facts.get("skipped"):
        lines.append(f"  skipped   {len(facts['skipped'])} events that could not be used, in no split")
    lines += [f"  {problem}" for problem in facts["problems"]]
    if not facts["complete"]:
        lines.append("  incomplete")
    elif verified and not facts["damaged"] and not facts["problems"]:
        lines.append("  every shard matches its checksum")
    return "\n".join(lines)


def _couplings(couplings: dict[str, Any]) -> Iterator[str]:
    """A synthetic dataset's couplings, a line for each path from a disturbance to a witness."""
    for family, channels in couplings.get("linear", {}).items():
        for channel, path in list(channels.items())[1:]:  # the first is the strain's own: gain 1, no delay
            gain, delay = path["gain"], path["delay"] * 1e3
            yield f"  coupling  {family} to {channel}: gain {gain:.2f}, delay {delay:+.1f} ms"
    if "scattered_light" in couplings:
        light = couplings["scattered_light"]
        yield (
            f"  coupling  scattered_light of {light['witness']}: strain amplitude {light['strain_amplitude']:.3g}"
        )
    if "bilinear" in couplings:
        bilinear = couplings["bilinear"]
        yield (
            f"  coupling  bilinear of {bilinear['vibration']} and {bilinear['swing']}: strength"
            f" {bilinear['strength']:.2f}"
        )
    if couplings.get("deaf"):
        yield f"  deaf      {', '.join(couplings['deaf'])}"
    if "drift" in couplings:
        yield f"  drift     {couplings['drift']['size']:.0%} over {couplings['drift']['period']:g} s"
