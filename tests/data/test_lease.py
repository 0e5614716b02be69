"""One driver at a time."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from glitchflow.data import lease, objects
from glitchflow.errors import InputError, RunError

NAME = ".s.zarr.lease.json"


@pytest.fixture
def path(tmp_path):
    """What is guarded need not be there."""
    return tmp_path / "s.zarr"


class Clock:
    """A lease's time: it passes where somebody waits, and what others do meanwhile was said before."""

    def __init__(self):
        self.passed, self.set, self.later = 0.0, time.time(), []

    def monotonic(self) -> float:
        return self.passed

    def time(self) -> float:
        return self.set + self.passed

    def sleep(self, seconds: float) -> None:
        self.passed += seconds
        due = [act for at, act in self.later if at <= self.passed]
        self.later = [(at, act) for at, act in self.later if at > self.passed]
        for act in due:
            act()

    def after(self, seconds: float, act, *given, **changes) -> None:
        self.later.append((self.passed + seconds, lambda: act(*given, **changes)))


@pytest.fixture
def clock(monkeypatch):
    """Nobody waits: the time is set."""
    clock = Clock()
    monkeypatch.setattr(lease, "time", clock)
    return clock


def read(path) -> dict:
    return json.loads((path.parent / NAME).read_text())


def leave(path, **changes):
    """The lease that another driver left."""
    owner = {
        "id": "x",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": lease._started(os.getpid()),
    }
    new = path.parent / f"{NAME}.new"
    new.write_text(json.dumps(owner | {"time": lease.time.time()} | changes))
    new.rename(path.parent / NAME)


def test_held_and_given_back(path):
    with lease.hold(path) as check:
        owner = read(path)
        assert owner["pid"] == os.getpid()
        check()
    assert not (path.parent / NAME).exists()


def test_a_second_driver_is_refused(path):
    with (
        lease.hold(path),
        pytest.raises(
            RunError, match=rf"another run is writing it \(process {os.getpid()} on .*heard of \d+ s ago"
        ),
        lease.hold(path),
    ):
        pytest.fail("held twice")


def test_a_driver_of_another_host_is_believed_while_its_heart_beats(path, clock):
    leave(path, host="elsewhere", pid=1)
    clock.after(lease.BEAT, leave, path, host="elsewhere", pid=1, time=clock.time() + lease.BEAT)
    with pytest.raises(RunError, match="process 1 on elsewhere"), lease.hold(path):
        pytest.fail("taken over")


def test_a_driver_of_another_host_whose_clock_was_set_back_is_believed_too(path, clock):
    leave(path, host="elsewhere", pid=1, time=clock.time() + 1)
    clock.after(lease.BEAT, leave, path, host="elsewhere", pid=1, time=clock.time() - 3600)
    with pytest.raises(RunError, match="process 1 on elsewhere"), lease.hold(path):
        pytest.fail("taken over")


@pytest.mark.parametrize("host", [socket.gethostname(), "elsewhere"])
@pytest.mark.parametrize("step", [3600, -3600, 86400, -86400])
def test_a_driver_is_believed_while_its_heart_beats_whatever_the_time(path, clock, host, step):
    """As where a clock was set since, here or there, or is wrong on one of two hosts."""
    leave(path, host=host, time=clock.time() - step)
    clock.after(lease.BEAT, leave, path, host=host, time=clock.time() - step + lease.BEAT)
    with pytest.raises(lease.Held, match=r"heard of 0 s ago"), lease.hold(path):
        pytest.fail("taken over")


def test_a_heart_beats_while_the_clock_is_set(path, clock):
    now = clock.set
    with lease.hold(path) as check:
        for clock.set in (now + 86400, now - 86400, -86400):
            clock.after(lease.BEAT, check.__self__.beat_once)
            with pytest.raises(lease.Held, match="another run is writing it"), lease.hold(path):
                pytest.fail("taken over")
            check()
        assert read(path)["time"] < 0  # before 1970
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("ahead", [86400, 86400 * 36500])
def test_a_dead_drivers_lease_of_the_future_is_not_waited_for_until_then(path, clock, ahead):
    leave(path, host="elsewhere", time=clock.time() + ahead)
    with lease.hold(path):
        assert read(path)["pid"] == os.getpid()
    assert clock.passed <= lease.SILENT + 2 * lease.WATCH


def test_a_claim_of_the_future_is_forgotten(path):
    leave(path, started="1")
    content = {"id": "y", "host": "elsewhere", "pid": 1, "started": "0", "time": time.time() + 86400}
    (path.parent / f"{NAME}.x").write_text(json.dumps(content))
    with pytest.raises(lease.Held), lease.hold(path):
        pytest.fail("the next one gets it")
    with lease.hold(path):
        assert read(path)["pid"] == os.getpid()


def test_a_driver_of_another_host_that_lost_its_power_is_awaited_and_replaced(path, clock, capsys):
    leave(path, host="elsewhere", pid=1, time=clock.time() + 1)  # by that host's clock
    with lease.hold(path):
        assert read(path)["pid"] == os.getpid()
    assert clock.passed > lease.SILENT
    assert capsys.readouterr().err == f"{path}: waiting for a sign of life of process 1 on elsewhere\n"


def test_a_lease_given_back_while_one_waits_is_taken(path, clock):
    leave(path, host="elsewhere", pid=1)
    clock.after(1, (path.parent / NAME).unlink)
    with lease.hold(path):
        assert read(path)["pid"] == os.getpid()
    assert clock.passed < lease.BEAT


def test_it_lies_beside_what_it_guards(path):
    path.mkdir()
    with lease.hold(path):
        assert not list(path.iterdir())
        path.rmdir()
        with pytest.raises(RunError, match="another run is writing it"), lease.hold(path):
            pytest.fail("held twice")
    assert not list(path.parent.iterdir())


def test_directories_that_it_made_and_nobody_used_go(tmp_path):
    with lease.hold(tmp_path / "a" / "b" / "s.zarr"):
        pass
    assert not list(tmp_path.iterdir())
    with lease.hold(tmp_path / "a" / "b" / "s.zarr"):
        (tmp_path / "a" / "b" / "s.zarr").mkdir()
    assert (tmp_path / "a" / "b" / "s.zarr").exists()


def test_of_many_that_come_at_once_one_gets_it(path):
    held, refused, gate, over = [], [], threading.Barrier(8), threading.Event()

    def come():
        gate.wait()
        try:
            with lease.hold(path):
                held.append(1)
                over.wait(300)
        except lease.Held:
            refused.append(1)
            if len(refused) == 7:
                over.set()

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 7)
    assert not list(path.parent.iterdir())


def test_of_many_that_take_over_a_dead_ones_one_gets_it(path):
    leave(path, started="1")
    test_of_many_that_come_at_once_one_gets_it(path)


def test_who_died_while_taking_over_is_forgotten(path):
    leave(path, started="1")
    claim = path.parent / f"{NAME}.x"
    claim.write_text(
        json.dumps({"id": "y", "host": socket.gethostname(), "pid": 1, "started": "0", "time": 0})
    )
    with pytest.raises(lease.Held), lease.hold(path):
        pytest.fail("the next one gets it")
    with lease.hold(path):
        assert read(path)["pid"] == os.getpid()


def test_who_took_its_lease_again_before_another_claimed_it_keeps_it(path, monkeypatch, clock):
    leave(path, host="elsewhere", time=clock.time() - 2 * lease.SILENT)
    claiming = objects.put_new

    def late(place, name, content):
        if name == f"{NAME}.x":  # the other one has looked, and has not claimed yet
            leave(path, host="elsewhere")
        return claiming(place, name, content)

    monkeypatch.setattr(lease.objects, "put_new", late)
    with pytest.raises(lease.Held, match="another run is writing it"), lease.hold(path):
        pytest.fail("taken over")
    assert read(path)["id"] == "x" and not list(path.parent.glob(f"{NAME}.x*"))


def test_a_silent_driver_is_replaced(path, clock):
    leave(path, host="elsewhere", time=clock.time() - lease.SILENT - 1)
    with lease.hold(path):
        assert read(path)["pid"] == os.getpid()


def test_a_dead_driver_of_this_host_is_replaced_at_once(path):
    process = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    leave(path, pid=int(process.stdout))
    with lease.hold(path):
        assert read(path)["pid"] == os.getpid()


UNREADABLE = ["", "{}", "[]", "null", "nonsense", '{"id": 3, "time": "x"}']
UNREADABLE += ['{"id": "x", "host": "h", "pid": 1, "started": "1", "time": NaN}']  # another time at each look


@pytest.mark.parametrize("content", UNREADABLE)
def test_a_lease_that_nobody_can_read_is_taken_over(path, clock, capsys, content):
    (path.parent / NAME).write_text(content)
    with lease.hold(path):
        assert read(path)["pid"] == os.getpid()
    assert capsys.readouterr().err == (
        f"{path}: nobody can read its lease {NAME}; taken over in 10 s if that stays so\n"
    )
    assert not list(path.parent.iterdir())


def test_who_holds_a_lease_that_nobody_can_read_writes_it_anew(path, clock):
    with lease.hold(path) as check:
        (path.parent / NAME).write_text("{}")
        clock.after(lease.BEAT, check.__self__.beat_once)
        with pytest.raises(lease.Held, match="another run is writing it"), lease.hold(path):
            pytest.fail("taken over")
        check()


@pytest.mark.parametrize("content", UNREADABLE)
def test_a_claim_that_nobody_can_read_is_forgotten(path, content):
    leave(path, started="1")
    (path.parent / f"{NAME}.x").write_text(content)
    with pytest.raises(lease.Held), lease.hold(path):
        pytest.fail("the next one gets it")
    with lease.hold(path):
        assert read(path)["pid"] == os.getpid()


def test_a_process_id_used_again_is_not_the_driver(path):
    leave(path, started="1")
    with lease.hold(path):
        assert read(path)["started"] != "1"


@pytest.mark.parametrize("finished", [False, True])
def test_what_is_missing_after_a_take_over_is_told_as_that(path, clock, finished):
    """As the directory in which `clean` was writing, which the other one has put into its place."""
    with pytest.raises(lease.Held, match="another run has taken it over"), lease.hold(path):
        clock.sleep(lease.SILENT + 1)  # this process stood still
        if finished:
            (path.parent / NAME).unlink()
        else:
            leave(path, host="elsewhere")
        raise FileNotFoundError(2, "No such file or directory")


def test_an_error_of_who_still_holds_it_stays_what_it_is(path):
    with pytest.raises(FileNotFoundError), lease.hold(path):
        raise FileNotFoundError(2, "No such file or directory")


def test_who_was_replaced_notices_and_leaves_the_lease_alone(path):
    with lease.hold(path) as check:
        leave(path, host="elsewhere")
        check.__self__.beat_once()
        with pytest.raises(lease.Held, match="another run has taken it over"):
            check()
    assert read(path)["host"] == "elsewhere"


def test_the_heart_beats_through_every_error(path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    put, errors = objects.put, iter([KeyError("no bucket"), RuntimeError("reset"), OSError(5, "away")])
    beaten = threading.Event()

    def unreliable(place, name, content):
        if (error := next(errors, None)) is not None:
            raise error
        put(place, name, content)
        beaten.set()

    with lease.hold(path) as check:
        monkeypatch.setattr(objects, "put", unreliable)
        assert beaten.wait(300), "after the errors"
        check()


@pytest.mark.parametrize("taken", [False, True])
def test_an_owner_whose_beats_failed_for_too_long_takes_it_again_unless_another_has(
    path, monkeypatch, clock, taken
):
    """As on a disk that is full for a while: two must never write."""

    def away(*_):
        raise OSError(5, "away")

    put = objects.put
    with lease.hold(path) as check:
        monkeypatch.setattr(objects, "put", away)
        clock.sleep(lease.SILENT + 1)
        with pytest.raises(RunError, match=r": cannot be written: away$"):
            check()
        if taken:
            leave(path, host="elsewhere")
        monkeypatch.setattr(objects, "put", put)
        if taken:
            with pytest.raises(lease.Held, match="another run has taken it over"):
                check()
        else:
            check()
    assert (
        (read(path)["host"] == "elsewhere")
        if taken
        else not path.with_name(f".{path.name}.lease.json").exists()
    )


def test_a_place_that_is_no_directory_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunError, match=r"file/s.zarr: cannot be written: "),
        lease.hold(tmp_path / "file" / "s.zarr"),
    ):
        pytest.fail("held")


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/"])
def test_a_bucket_is_no_store(url):
    with pytest.raises(
        InputError, match=r"is a bucket; name a place inside it, as s3://bucket/+dataset.zarr$"
    ):
        objects.parted(url)
    assert objects.parted("s3://bucket/d.zarr") == ("s3://bucket", "d.zarr")
    assert objects.beside("s3://bucket/a/d.zarr", ".new") == "s3://bucket/a/d.zarr.new"
