"""Places that take nothing, for each stage that writes."""

from faults.cases import Case

CONFIG = "PLACE/config.yaml"
STAGES = {
    "generate": (),
    "stretch": ("stretch.duration=16",),
    "baseline": (),
    "train": (),
    "tune": ("tune.space={train.lr: {choice: [0.001, 0.002]}}",),
    "export": (),
    "infer": (),
    "evaluate": (),
    "clean": ("--force",),
    "report": (),
}
PLACES = {"below a file": "PLACE/config.yaml/x", "where the system writes alone": "/proc/glitchflow"}
DISKS = [
    Case(f"{stage}: {words}", (stage, CONFIG, *more, f"workdir={place}"), place)
    for words, place in PLACES.items()
    for stage, more in STAGES.items()
]
