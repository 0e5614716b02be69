"""Files of a store and of a checkpoint, each harmed in every way."""

import json
from pathlib import Path

import torch
from faults.cases import HARMS, Case, Harm, a_directory, harmed

from glitchflow.train import checkpoint
from glitchflow.twin.kinds import build_network

INSPECT = ("inspect", "PLACE/dataset.zarr", "--verify")
VERIFY = ("generate", "PLACE/config.yaml", "--verify")
EXPORT = ("export", "PLACE/config.yaml")
BYTES = tuple(harm for harm in HARMS if harm is not a_directory)
STORE = (
    "zarr.json",
    "qplot/zarr.json",
    "qplot/c/0/0/0/0",
    "gps/zarr.json",
    "gps/c/0",
    "split/c/0",
    "witnessed/c/0/0/0",
    ".done/all.json",
)
CHECKPOINT = "train/checkpoints/step-00000007"


def write_checkpoint(path: Path) -> Path:
    """A small network's, of step 7, under `path`."""
    model = {"name": "unet", "width": 2, "options": {"depth": 1}, "seed": 1}
    meta = {
        "step": 7,
        "model": model,
        "channels": ["S", "W"],
        "shape": [4, 4],
        "geometry": {"qplot": {"q": 9.0}},
        "normalisation": {"kind": "log1p", "offset": [0.5, 0.5], "scale": [1.0, 2.0]},
        "metrics": {"validation_loss": 0.5},
    }
    weights = build_network(model, 1, (4, 4)).state_dict()
    return checkpoint.save(path, meta, weights, {"at": torch.zeros(1)})


def edited(**changes: object) -> Harm:
    """Other values in the checkpoint's meta.json, without a word in its checksum."""

    def edit(place):
        file = place / CHECKPOINT / "meta.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return edit


STORES = [
    *harmed(tuple(f"dataset.zarr/{name}" for name in STORE), INSPECT, "PLACE/dataset.zarr"),
    # not a directory in the place of a shard: what cannot be written is noted as missing, and so it is
    *harmed(tuple(f"dataset.zarr/{name}" for name in STORE), VERIFY, "PLACE/dataset.zarr", BYTES),
]
CHECKPOINTS = [
    *harmed((f"{CHECKPOINT}/weights.pt", f"{CHECKPOINT}/meta.json"), EXPORT, f"PLACE/{CHECKPOINT}"),
    *(
        Case(f"export: meta.json with another {name}", EXPORT, f"PLACE/{CHECKPOINT}", edited(**{name: value}))
        for name, value in {
            "step": -1,
            "kind": "none",
            "channels": [],
            "shape": [],
            "model": {"name": "os:system", "options": {}},
            "normalisation": {},
            "geometry": [],
            "metrics": {"validation_loss": "low"},
            "sha256": {},
        }.items()
        if name != "sha256"
    ),
    Case(
        "export: code of somebody else's",
        EXPORT,
        f"PLACE/{CHECKPOINT}",
        edited(model={"name": "builtins:input", "options": {}}, sha256={}),
    ),
]
