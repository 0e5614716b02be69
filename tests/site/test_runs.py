"""The records of runs, by the command, and the table of them."""

import json
import os
import socket
from datetime import datetime, timedelta

import pytest
from helpers import run_here, small

from glitchflow.site import runs as records
from glitchflow.site.runs import recorded, runs


def lines(workdir):
    return [json.loads(line) for line in (workdir / records.NAME).read_text().splitlines()]


def test_a_command_leaves_its_record(tmp_path):
    """Where the workdir was made by the run, too; one that only reads, or that is never made, leaves none."""
    experiment = small(tmp_path / "run", simulate={"events": 8}, split={"validation": 0.3, "test": 0.3})
    config = tmp_path / "config.yaml"
    config.write_text(experiment.model_dump_json())
    assert run_here("evaluate", str(config)).returncode == 2
    assert not (tmp_path / "run").exists()
    done = run_here("generate", str(config), "store.shard_mb=2")
    assert done.returncode == 0, done.stderr
    (record,) = lines(tmp_path / "run")
    assert record["seconds"] > 0
    assert record | {"run": "", "began": "", "seconds": 0} == {
        "run": "",
        "stage": "generate",
        "config": str(config),
        "overrides": ["store.shard_mb=2"],
        "began": "",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "seconds": 0,
        "exit": 0,
        "said": "",
        "score": {},
    }
    refused = run_here("infer", str(config))
    assert refused.returncode == 2
    first, second, third = lines(tmp_path / "run")
    assert second == {name: third[name] for name in second}, "it is there from the beginning"
    assert f"glitchflow: {third['said']}" == refused.stderr.splitlines()[-1]
    table = run_here("runs", str(tmp_path)).stdout.splitlines()
    assert table[0].split() == list(records.COLUMNS)
    began = first["began"][:19]
    assert [line.split()[:5] for line in table[1:2]] == [
        [began, "generate", f"{first['seconds']:.0f}", "s", "done"]
    ]
    assert "  infer " in table[2] and "  exit 2  " in table[2]
    told = json.loads(run_here("runs", str(tmp_path), "--json").stdout)
    assert [(r["stage"], r["state"], r["workdir"]) for r in told] == [
        ("generate", "done", "run"),
        ("infer", "exit 2", "run"),
    ]


def test_scores_are_those_of_their_own_time(tmp_path):
    metrics = tmp_path / "evaluation" / "metrics.json"
    metrics.parent.mkdir()
    for value in (0.25, 0.125):
        scores = {"residual": {"value": None}, "removed": {"value": value}}
        with recorded(tmp_path, "evaluate", "a.yaml", []):
            metrics.write_text(json.dumps({"families": {"witnessed": {"scores": {"network": scores}}}}))
    epochs = [{"kind": "epoch", "step": k, "validation_loss": loss} for k, loss in enumerate((3.0, 1.5, 2.0))]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in epochs))
    with recorded(tmp_path, "train", "a.yaml", []):
        pass
    found = [r["score"] for r in json.loads(runs(tmp_path, True))]
    assert found == [{"removed": 0.25}, {"removed": 0.125}, {"validation_loss": 1.5}]


def test_a_run_without_an_end_is_at_work_or_was_killed(tmp_path, monkeypatch):
    with recorded(tmp_path, "train", "a.yaml", []):
        assert json.loads(runs(tmp_path, True))[0]["state"] == "at work"
        begun = (tmp_path / records.NAME).read_text()
    gone = os.fork()
    if not gone:
        os._exit(0)
    os.waitpid(gone, 0)
    killed = json.loads(begun) | {"pid": gone}
    (tmp_path / records.NAME).write_text(json.dumps(killed) + "\n" + begun[:20])  # and a line cut off
    assert [r["state"] for r in json.loads(runs(tmp_path, True))] == ["killed"]
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert [r["state"] for r in json.loads(runs(tmp_path, True))] == ["no end yet"]


def test_how_long_a_run_took_does_not_hang_on_a_clock_that_is_set(tmp_path, monkeypatch):
    class Set(datetime):
        days = 0

        @classmethod
        def now(cls, zone):
            return datetime.now(zone) - timedelta(days=cls.days)

    monkeypatch.setattr(records, "datetime", Set)
    with recorded(tmp_path, "generate", "a.yaml", []):
        Set.days = 1
    assert 0 <= lines(tmp_path)[-1]["seconds"] < 3600


def test_a_place_that_takes_nothing_ends_no_run(tmp_path):
    (tmp_path / records.NAME).mkdir()
    with recorded(tmp_path, "train", "a.yaml", []):
        pass
    assert runs(tmp_path, False) == f"{tmp_path}: no runs"


def test_where_there_is_nothing(tmp_path):
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / records.NAME).write_text("no record\n")
    assert runs(tmp_path, False) == f"{tmp_path}: no runs"
    done = run_here("runs", str(tmp_path / "none"))
    assert (done.returncode, done.stderr) == (2, f"glitchflow: {tmp_path}/none: no such directory\n")


@pytest.mark.parametrize("stage", ["plan", "doctor"])
def test_what_writes_nothing_leaves_no_record(stage):
    from glitchflow.cli import STAGES

    assert not STAGES[stage].writes


DONE = {
    "run": "a",
    "stage": "train",
    "config": "c.yaml",
    "overrides": [],
    "began": "2026",
    "host": "h",
    "pid": 1,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": None},
        {"config": ""},
        {"overrides": "x"},
        {"pid": 10**30},
        {"pid": -1},
        {"seconds": "long", "exit": 0},
        {"score": [1]},
        {"score": {"left": "low"}},
        {"began": 5},
    ],
)
def test_a_record_of_other_values_is_left_out(tmp_path, changes):
    (tmp_path / records.NAME).write_text(json.dumps(DONE | changes) + "\n")
    assert runs(tmp_path, as_json=False) == f"{tmp_path}: no runs"


def test_names_from_files_do_not_steer_the_terminal(tmp_path):
    wicked = {"stage": "\x1b[2J", "overrides": ["a=\n", "\u202etxt"], "exit": 0, "host": "h"}
    (tmp_path / records.NAME).write_text(json.dumps(DONE | wicked) + "\n")
    table = runs(tmp_path, as_json=False)
    assert len(table.splitlines()) == 2
    assert "\\x1b[2J" in table and "a=\\n \\u202etxt" in table
    assert all(line.isprintable() for line in table.splitlines())
