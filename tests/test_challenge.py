"""The benchmark of every method: what it runs, what it keeps, and the tables of its records; nothing is trained."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"
SCORES = {"residual": {"value": 0.5}, "left": {"value": 0.25}, "skill": {"value": None}}


@pytest.fixture
def challenge(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import challenge

    yield challenge
    sys.modules.pop("challenge", None)


@pytest.fixture
def stages(challenge, monkeypatch):
    """What would be run, as (stage, settings); a stage leaves what the next one looks for."""
    told = []

    def run(task, stage, *settings):
        told.append((stage, settings))
        keys = dict(one.split("=", 1) for one in settings)
        where = Path(keys["workdir"])
        made = {"generate": Path(keys["store.path"]), "train": where / "train/checkpoints/initial"}.get(stage)
        if made:
            made.mkdir(parents=True)
        if stage == "evaluate":
            beside = keys["evaluate.beside"].strip("[]").split(",")
            own = [one for one in keys["evaluate.methods"].strip("[]").split(",") if one]
            methods = ["nothing", "network", *(f"network:{Path(one).name}" for one in beside if one), *own]
            family = {"glitches": 3, "events": 4, "scores": dict.fromkeys(methods, SCORES)}
            (where / "evaluation").mkdir(parents=True, exist_ok=True)
            file = where / "evaluation" / "metrics.json"
            file.write_text(json.dumps({"families": {"witnessed": family}}))
        return 1.5

    monkeypatch.setattr(challenge, "run", run)
    return told


def told_of(stages):
    return [
        (stage, Path(dict(s.split("=", 1) for s in settings)["workdir"]).name) for stage, settings in stages
    ]


def test_a_network_alone_and_another_that_joins_it_later(challenge, stages, tmp_path):
    run = challenge.Run("hard", 2, tmp_path / "hard2", ["train.workers=1"])
    record = challenge.scored(run, ["coherent"], keep=False)
    first = [
        ("generate", "hard2"),
        ("scan", "hard2"),
        ("train", "coherent"),
        ("infer", "coherent"),
        ("infer", "coherent_untrained"),
        ("evaluate", "coherent"),
    ]
    assert told_of(stages) == first
    assert "train.epochs=5" in stages[2][1]
    assert stages[2][1][-1] == "train.workers=1", "what a user says is last"
    assert f"loader.witnesses={tmp_path}/hard2/witnesses.txt" in stages[2][1]
    assert list(record["families"]["witnessed"]["methods"]) == ["nothing", "coherent", "coherent_untrained"]
    assert record["families"]["witnessed"]["methods"]["coherent"] == {"residual": 0.5, "left": 0.25}
    assert not run.dataset.exists()
    assert challenge.scored(run, ["coherent"], keep=False) == json.loads(
        (run.home / "record.json").read_text()
    )
    assert len(stages) == len(first), "what is known is not made again"
    both = challenge.scored(run, ["coherent", "unet_l1"], keep=True)
    assert told_of(stages)[len(first) :] == [
        ("generate", "hard2"),
        ("train", "unet_l1"),
        ("infer", "unet_l1"),
        ("infer", "unet_l1_untrained"),
        ("evaluate", "coherent"),
    ]
    assert set(both["families"]["witnessed"]["methods"]) == {
        "nothing",
        "coherent",
        "coherent_untrained",
        "unet_l1",
        "unet_l1_untrained",
    }
    assert run.dataset.exists()


def test_a_method_of_ones_own_joins_a_record_that_was_done(challenge, stages, tmp_path):
    settings = ("easy", 2, tmp_path / "easy2", [])
    challenge.scored(challenge.Run(*settings), ["coherent"], keep=False)
    before = len(stages)
    record = challenge.scored(challenge.Run(*settings, ["mine:fit"]), ["coherent"], keep=False)
    assert told_of(stages)[before:] == [("generate", "easy2"), ("evaluate", "coherent")]
    assert "evaluate.methods=[mine:fit]" in stages[-1][1]
    assert "mine:fit" in record["families"]["witnessed"]["methods"]
    challenge.scored(challenge.Run(*settings, ["mine:fit"]), ["coherent"], keep=False)
    assert len(stages) == before + 2, "what is known is not made again"


def a_record(seed, **methods):
    family = {"glitches": 3, "events": 4, "methods": methods}
    return {"task": "easy", "seed": seed, "minutes": {"train": 2.0 * seed}, "families": {"witnessed": family}}


def test_tables_have_the_mean_over_seeds_and_half_of_their_range(challenge):
    records = [a_record(k, good={"residual": 0.1 * k}, bad={"residual": 2.0}) for k in (1, 2)]
    scores, families, minutes = challenge.tables(records)
    assert scores.splitlines()[1:] == [
        "easy: seeds [1, 2], [3, 3] glitches",
        "",
        "| method | sees the target | residual |",
        "|---|---|---|",
        "| good | no | 0.15 ± 0.05 |",
        "| bad | no | 2 ± 0 |",
    ]
    assert families.splitlines()[1] == "easy: residual by family"
    assert minutes.splitlines()[-1] == "| train | 3 ± 1 |"


def test_what_others_say_of_the_same_events_joins_the_tables(challenge):
    ours = [a_record(k, nothing={"residual": 1.0}, mine={"residual": 0.5}) for k in (1, 2)]
    theirs = [a_record(k, peer={"residual": 0.25 * k}, mine={"residual": 0.6}) for k in (1, 2)]
    theirs[1]["peers"] = {"peer": {"sees": True}}
    theirs[0]["families"]["witnessed"]["methods"]["once"] = {"residual": 2.0}
    ours[1]["families"]["witnessed"]["methods"]["mine"]["left"] = 0.125
    scores, *_ = challenge.tables([*ours, *theirs])
    rows = scores.splitlines()[-4:]
    assert rows == [
        "| peer | yes | 0.375 ± 0.12 | – |",
        "| mine | no | 0.6 ± 0 | 0.125 (1) |",
        "| nothing | no | 1 ± 0 | – |",
        "| once | no | 2 (1) | – |",
    ]
    assert set(ours[0]["families"]["witnessed"]["methods"]) == {"nothing", "mine"}, (
        "a record stays what it was"
    )


def test_records_of_others_are_rendered_and_what_is_none_is_refused(challenge, tmp_path, monkeypatch, capsys):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps([a_record(1, mine={"residual": 0.25}) | {"peers": {"mine": {"sees": True}}}]))
    bad.write_text(json.dumps({"task": "easy", "seed": 1, "minutes": {}}))
    monkeypatch.setattr(sys, "argv", ["challenge.py", "--render", str(good)])
    assert challenge.main() == 0
    assert "| mine | yes | 0.25 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"bad\.json: no record: families: Field required$"):
        challenge.read([bad])


def test_settings_may_stand_behind_an_option_of_many_values(challenge, monkeypatch, tmp_path):
    told = []

    def scored(run, networks, keep):
        told.append((run.name, run.seed, run.overrides, networks))
        return a_record(run.seed, nothing={"residual": 1.0})

    monkeypatch.setattr(challenge, "scored", scored)
    line = (
        f"--workdir {tmp_path} --tasks hard --networks coherent --seeds 2 3 train.workers=1 loader.fresh=64"
    )
    monkeypatch.setattr(sys, "argv", ["challenge.py", *line.split()])
    assert challenge.main() == 0
    settings = ["train.workers=1", "loader.fresh=64"]
    assert told == [("hard", seed, settings, ["coherent"]) for seed in (2, 3)]


def test_the_page_is_what_is_rendered_of_its_records(challenge):
    docs = BENCHMARKS.parents[1] / "docs"
    records = sorted((docs / "challenge").glob("*.json"))
    assert records
    assert (docs / "challenge.md").read_text() == challenge.page(challenge.read(records))
