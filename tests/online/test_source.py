"""What comes out of a directory of frames, second by second: the samples that were written, or why there are none."""

import numpy as np
import pytest
from helpers import needs_gwf

from glitchflow.data.frames import write_frame
from glitchflow.online.source import Inbox, look, oldest, take

needs_gwf()

START, WAIT = 1_000_000_000, 10.0
RATES = {"S:STRAIN": 512, "S:FAST": 256, "S:SLOW": 16}


def series(start: int, seconds: int, names=tuple(RATES)) -> dict:
    made = {}
    for name in names:
        rng = np.random.default_rng([start, RATES[name]])
        made[name] = rng.standard_normal(seconds * RATES[name]).astype("f8" if name == "S:STRAIN" else "f4")
    return made


def put(directory, start, seconds=1, names=tuple(RATES), group="ALL", form="gwf"):
    made = series(start, seconds, names)
    path = directory / f"S-S_{group}-{start}-{seconds}.{form}"
    write_frame(path, start, seconds, made, "gwf" if form == "gwf" else "hdf5", "x.format")
    return made, path


@pytest.fixture
def inbox(tmp_path) -> Inbox:
    return Inbox(tmp_path, {name: name for name in RATES}, WAIT)


def taken(inbox, gps, now=0.0):
    look(inbox, gps, now)
    return take(inbox, gps, now)


@pytest.mark.parametrize("form", ["gwf", "h5"])
def test_samples_are_those_that_were_written(inbox, tmp_path, form):
    made, _ = put(tmp_path, START, 3, form=form)
    look(inbox, 0, 0.0)
    assert oldest(inbox) == START
    for k in range(3):
        second = taken(inbox, START + k)
        for name, rate in RATES.items():
            one = second.found[name]
            assert (one.start, one.rate, one.values.dtype) == (START + k, rate, made[name].dtype)
            np.testing.assert_array_equal(one.values, made[name][k * rate : (k + 1) * rate])
        assert not second.missing
    assert taken(inbox, START + 3) is None
    assert not inbox.seen and not inbox.read, "what is over is forgotten"


def test_groups_in_files_of_their_own_are_put_together(inbox, tmp_path):
    strain, _ = put(tmp_path, START, 1, ["S:STRAIN"], "HOFT")
    assert taken(inbox, START) is None, "the witnesses may come yet"
    witnesses, _ = put(tmp_path, START - 2, 4, ["S:FAST", "S:SLOW"], "AUX")
    second = taken(inbox, START, 1.0)
    np.testing.assert_array_equal(second.found["S:FAST"].values, witnesses["S:FAST"][512:768])
    np.testing.assert_array_equal(second.found["S:STRAIN"].values, strain["S:STRAIN"])


def test_a_late_file_is_waited_for_and_then_missing(inbox, tmp_path):
    put(tmp_path, START)
    assert taken(inbox, START) is not None
    put(tmp_path, START + 2)
    assert taken(inbox, START + 1, 1.0) is None
    assert taken(inbox, START + 1, 10.9) is None
    second = taken(inbox, START + 1, 11.0)
    assert not second.found and second.missing == dict.fromkeys(sorted(RATES), "no file has it")
    assert taken(inbox, START + 2, 11.0).found.keys() == RATES.keys()
    put(tmp_path, START + 1)
    look(inbox, START + 3, 12.0)
    assert inbox.late == 1


def test_a_late_file_is_waited_for_though_one_before_it_never_came(inbox, tmp_path):
    """Later files of the same kind say that there are more to come."""
    for k in (0, 2, 4):
        put(tmp_path, START + k)
        look(inbox, START, float(k))
    assert not take(inbox, START, 4.0).missing
    assert take(inbox, START + 1, 11.9) is None
    assert set(take(inbox, START + 1, 12.0).missing) == set(RATES)
    assert not take(inbox, START + 2, 12.0).missing
    assert take(inbox, START + 3, 12.0) is None, "it may come until 14"
    put(tmp_path, START + 3)
    assert not taken(inbox, START + 3, 13.9).missing


def test_nothing_is_missing_as_long_as_nothing_later_came(inbox, tmp_path):
    put(tmp_path, START)
    assert taken(inbox, START) is not None
    assert taken(inbox, START + 1, 1e6) is None


def test_a_group_that_does_not_come_is_waited_for_once(inbox, tmp_path):
    for k in range(3):
        put(tmp_path, START + k, 1, ["S:STRAIN"], "HOFT")
    put(tmp_path, START, 1, ["S:FAST", "S:SLOW"], "AUX")
    assert not taken(inbox, START).missing
    assert taken(inbox, START + 1, 9.0) is None
    assert sorted(taken(inbox, START + 1, 10.0).missing) == ["S:FAST", "S:SLOW"]
    put(tmp_path, START + 3, 1, ["S:STRAIN"], "HOFT")
    assert taken(inbox, START + 3, 11.0).missing, "not again"
    put(tmp_path, START + 4, 1, ["S:STRAIN"], "HOFT")
    put(tmp_path, START + 5, 1, ["S:FAST", "S:SLOW"], "AUX")
    assert taken(inbox, START + 4, 12.0) is None, "but when its files come again"


def test_a_channel_that_its_file_lacks_costs_itself_and_no_time(inbox, tmp_path):
    put(tmp_path, START)
    put(tmp_path, START + 1, 1, ["S:STRAIN", "S:SLOW"])
    taken(inbox, START)
    second = taken(inbox, START + 1)
    assert second.missing == {"S:FAST": "no file has it"}
    assert second.found.keys() == {"S:STRAIN", "S:SLOW"}


@pytest.mark.parametrize("damaging", [lambda b: b[: len(b) // 2], lambda b: b[:500] + b"\x00" + b[501:]])
def test_a_damaged_file_is_tried_again_and_then_given_up(inbox, tmp_path, damaging):
    made, path = put(tmp_path, START)
    whole = path.read_bytes()
    path.write_bytes(damaging(whole))
    assert taken(inbox, START, 0.0) is None
    path.write_bytes(whole)
    np.testing.assert_array_equal(taken(inbox, START, 5.0).found["S:FAST"].values, made["S:FAST"])
    _, path = put(tmp_path, START + 1)
    path.write_bytes(damaging(path.read_bytes()))
    assert taken(inbox, START + 1, 6.0) is None
    second = taken(inbox, START + 1, 16.0)
    assert not second.found and second.missing["S:FAST"].startswith(f"{path} ")
    look(inbox, START + 2, 16.0)
    assert inbox.damaged == 1


def test_a_second_file_of_the_same_time_changes_nothing(inbox, tmp_path):
    made, path = put(tmp_path, START)
    (tmp_path / path.name.replace("ALL", "ALL_COPY")).write_bytes(path.read_bytes())
    np.testing.assert_array_equal(taken(inbox, START).found["S:STRAIN"].values, made["S:STRAIN"])


def test_a_file_with_a_time_far_ahead_ends_no_wait_and_a_stream_there_does(inbox, tmp_path):
    put(tmp_path, START)
    put(tmp_path, START + 5000)
    assert taken(inbox, START).found
    look(inbox, START + 1, 100.0)
    assert take(inbox, START + 1, 100.0) is None and oldest(inbox, START + 1) is None
    for k in (1, 2):
        put(tmp_path, START + 5000 + k)
    look(inbox, START + 1, 101.0)
    assert oldest(inbox, START + 1) == START + 5000
    assert not take(inbox, START + 1, 111.0).found


def test_hidden_files_are_somebody_s_copies_in_the_making(inbox, tmp_path):
    _, path = put(tmp_path, START)
    path.rename(tmp_path / f".new.{path.name}")
    look(inbox, 0, 0.0)
    assert oldest(inbox) is None


def test_what_lay_there_at_the_beginning_is_not_late(inbox, tmp_path):
    put(tmp_path, START)
    look(inbox, START + 10, 0.0)
    put(tmp_path, START + 1)
    look(inbox, START + 10, 1.0)
    assert inbox.late == 1


def test_half_a_file_is_read_again_when_it_is_whole(inbox, tmp_path):
    _, path = put(tmp_path, START, form="h5")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert taken(inbox, START) is None
    path.write_bytes(content)
    assert len(taken(inbox, START, 1.0).found) == 3
