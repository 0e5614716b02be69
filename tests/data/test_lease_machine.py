"""Drivers of several hosts that take a lease, beat, fall silent, wake up and give it back, in any order.

The clock is the machine's own: it goes on when a rule says so, or a driver waits, while those that are awake beat.
"""

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from glitchflow.data import lease, objects
from glitchflow.errors import RunError

PAUSES = st.sampled_from([1.0, lease.BEAT, lease.SILENT, lease.SILENT + 1, 100.0])
DRIVERS = st.integers(0, 2)


@dataclass
class Driver:
    host: str
    mine: lease._Lease | None = None
    awake: bool = True  # its heart beats


class Leases(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.path, self.now, self.made = self.directory / "s.zarr", 1000.0, 0
        self.drivers = [Driver(f"host{k}") for k in range(3)]
        self.before = lease.time, lease.socket
        lease.time = SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now, sleep=self.pass_by)
        lease.socket = SimpleNamespace(gethostname=lambda: self.host)
        self.host = ""

    def teardown(self):
        lease.time, lease.socket = self.before
        shutil.rmtree(self.directory)

    def pass_by(self, seconds):
        """Time goes on by steps no longer than a beat, and all that are awake beat."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + lease.BEAT)
            for driver in self.drivers:
                if driver.mine and driver.awake and not driver.mine.lost:
                    driver.mine.beat_once()

    def beats(self, mine):
        """Whether its last beat is so fresh that the next one comes in time."""
        return not mine.lost and self.now - mine.beaten < lease.SILENT - lease.BEAT

    @rule(number=DRIVERS)
    def take(self, number):
        driver = self.drivers[number]
        if driver.mine:
            return
        self.made += 1
        self.host = driver.host
        place, name = objects.parted(self.path)
        owner = lease.Owner(f"{self.made}", driver.host, self.made, None, self.now)
        mine = lease._Lease(self.path, place, f".{name}.lease.json", owner)
        live = [other for other in self.drivers if other.mine and other.awake and self.beats(other.mine)]
        try:
            lease._take(mine)
        except lease.Held:
            return
        assert not live, "taken from a driver whose heart beats"
        driver.mine, driver.awake = mine, True

    @rule(number=DRIVERS, seconds=PAUSES)
    def fall_silent(self, number, seconds):
        """Stopped, or cut off from the disk, for some time at least."""
        self.drivers[number].awake = False
        self.pass_by(seconds)

    @rule(number=DRIVERS)
    def wake_up(self, number):
        self.drivers[number].awake = True

    @rule(number=DRIVERS, other=DRIVERS, seconds=PAUSES)
    def sleep_while_another_comes(self, number, other, seconds):
        self.take(number)
        self.fall_silent(number, seconds)
        self.take(other)
        self.wake_up(number)

    @rule(number=DRIVERS)
    def forget(self, number):
        """Killed: it never gives anything back."""
        self.drivers[number].mine = None

    @rule(number=DRIVERS)
    def give_back(self, number):
        driver = self.drivers[number]
        if driver.mine and driver.mine.is_mine(driver.mine.read()):
            objects.delete(driver.mine.place, driver.mine.name)
        driver.mine = None

    @rule(seconds=PAUSES)
    def go_on(self, seconds):
        self.pass_by(seconds)

    @precondition(lambda self: any(driver.mine for driver in self.drivers))
    @rule(number=DRIVERS)
    def ask(self, number):
        driver = self.drivers[number]
        if driver.mine and driver.awake:
            with contextlib.suppress(RunError):
                driver.mine.check()

    @invariant()
    def at_most_one_may_write(self):
        """Of those that are awake, each of which asks before it writes."""
        allowed = 0
        for driver in self.drivers:
            if driver.mine and driver.awake:
                with contextlib.suppress(RunError):
                    driver.mine.check()
                    allowed += 1
        assert allowed <= 1

    @invariant()
    def no_claim_is_left(self):
        assert not list(self.directory.glob(".s.zarr.lease.json.*"))


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=100, stateful_step_count=30)
