"""What several tests make: a small experiment, and a user's own parts that are named by import path."""

from __future__ import annotations

from pathlib import Path

import torch

from glitchflow.config import Experiment, parse


def small(workdir: Path, **changes: object) -> Experiment:
    """The quickstart made small: 96 events of 8 s at 256 Hz in 16 shards, 16 x 16 pixels."""
    values: dict = {
        "workdir": str(workdir),
        "seed": 3,
        "series": {"duration": 8, "sample_rate": 256},
        "simulate": {
            "events": 96,
            "detector": {
                "witnesses": ["SIM:ACC", "SIM:SUS"],
                "jitter": 0.2,
                "families": {"sine_gaussian": {"frequency": [20, 80]}, "blip": {"frequency": [30, 80]}},
            },
        },
        "derived": [{"name": "SIM:FRINGE", "function": "scatter", "channels": ["SIM:SUS"]}],
        "qplot": {"q": 8, "frange": [12, 90], "shape": [16, 16], "span": 2, "fftlength": 2},
        "split": {"validation": 0.2, "test": 0.25},
        "loader": {"batch": 8},
        "model": {"width": 4, "options": {"depth": 2}},
        "train": {"epochs": 2, "workers": 2, "warmup": 2, "samples": 0},
        "evaluate": {"bootstrap": 100},
    }
    for name, value in changes.items():
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    return parse(values)


def loss_not_finite(prediction, target):
    return (prediction - target).abs().mean() * float("nan")


def OwnModel(witnesses, shape):
    return torch.nn.Conv2d(witnesses, 1, 3, padding=1)
