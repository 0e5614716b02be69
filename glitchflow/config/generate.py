"""The section that says where Q-plots are made, and its keys. No byte of a store's recipe."""

from typing import Literal

from glitchflow.config.base import Section, key


class Generate(Section):
    """Says where `generate` and `ingest` make Q-plots."""

    device: Literal["auto", "cpu", "gpu"] = key(
        "cpu",
        "what Q-plots are made on; auto: GPUs where the cluster has them. A GPU's agree with a CPU's within rounding,"
        " not to the last bit",
    )
    tasks_per_gpu: int = key(
        16,
        "tasks that share a GPU, each with its part of its memory: a core simulates what takes it little",
        gt=0,
    )
