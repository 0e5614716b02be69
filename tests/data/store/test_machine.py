"""Random operations on a store against a model in memory: what is written, killed, damaged, mended and replaced."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stores import Killed, agrees, content, design, write

from glitchflow.data import lease
from glitchflow.data.store import dataset as store
from glitchflow.data.store.verify import find_damage
from glitchflow.data.store.writer import Writer
from glitchflow.errors import InputError, RunError

pytestmark = pytest.mark.ci

SHARD = 4  # events of a shard in `design`


class StoreMachine(RuleBasedStateMachine):
    """A driver that may be killed anywhere, and a disk that may lose or change what is on it.

    The model: of the store that readers see, how many events of which seed it was last finished with (0: none yet),
    and which of its shards were harmed since; of the one being made, the same and which shards are done.
    """

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / "d.zarr"
        self.finished, self.seed = 0, 0
        self.harmed: set[int] = set()
        self.done: set[int] = set()  # of the store at the path, where it is unfinished
        self.events = 0  # of the store at the path, finished or not
        self.beside: tuple[int, int, set[int]] | None = None  # seed, events, done: what is to replace it

    def teardown(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def shards(self) -> set[int]:
        return set(range(-(-self.events // SHARD)))

    def drive(self, events: int, seed: int, overwrite: bool, until: int) -> bool:
        """What a stage does, killed after `until` shards; whether it was."""
        try:
            self._drive(events, seed, overwrite, until)
        except Killed:
            return True
        return False

    def _drive(self, events: int, seed: int, overwrite: bool, until: int) -> None:
        begun = Writer.begin(self.path, lambda: design(events, seed), lambda d: agrees(seed, d), overwrite)
        with begun as writer:
            if len(writer.dataset) < events:
                writer.grow(events, {})
            for count, k in enumerate(writer.missing()):
                if count == until:
                    raise Killed
                write(writer, k, seed)
            if not writer.dataset.complete:
                writer.collect()
                if until >= 100:
                    raise Killed  # with everything done but the last step
                writer.complete()

    @rule(more=st.integers(0, 9), until=st.sampled_from([0, 1, 2, 50, 50, 100]))
    def make_or_extend(self, more: int, until: int) -> None:
        """Make the store, go on with it, or extend it."""
        seed, events = self.seed or 1, max(self.events + more, 1)
        left = self._missing_after_growth(events)
        killed = self.drive(events, seed, False, until)
        self.seed, self.events = seed, events
        made = set(sorted(left)[:until])
        self.done = (self.shards - left) | made
        self.harmed -= made
        self.finished = 0 if killed else events

    def _missing_after_growth(self, events: int) -> set[int]:
        wanted = set(range(-(-events // SHARD)))
        last = {self.events // SHARD} if events > self.events and self.events % SHARD else set()
        return wanted - (self.done - last)

    @precondition(lambda self: self.events)
    @rule(seed=st.integers(1, 3), events=st.integers(1, 14), until=st.sampled_from([0, 1, 2, 50, 50, 100]))
    def overwrite(self, seed: int, events: int, until: int) -> None:
        """Replace the store by one made from other settings."""
        if self.beside and self.beside[0] == seed and self.beside[1] > events:
            events = self.beside[1]  # what is beside and has more events is another store's business
        kept = self.beside[2] if self.beside and self.beside[0] == seed else set()
        before = self.beside[1] if kept else events
        if events > before and before % SHARD:
            kept = kept - {before // SHARD}
        wanted = set(range(-(-events // SHARD)))
        left = wanted - kept
        if self.drive(events, seed, True, until):
            self.beside = (seed, events, kept | set(sorted(left)[:until]))
            return
        self.seed, self.events, self.finished, self.harmed = seed, events, events, set()
        self.done, self.beside = wanted, None

    @precondition(lambda self: self.done)
    @rule(data=st.data(), how=st.sampled_from(["flip", "truncate", "delete"]))
    def harm(self, data: st.DataObject, how: str) -> None:
        """A disk that loses or changes a shard."""
        shard = data.draw(st.sampled_from(sorted(self.done)))
        file = self.path / "qplot" / "c" / str(shard) / "0" / "0" / "0"
        if not file.exists():
            return
        if how == "delete":
            file.unlink()
        elif how == "truncate":
            file.write_bytes(file.read_bytes()[:-3])
        else:
            changed = bytearray(file.read_bytes())
            changed[1] ^= 4
            file.write_bytes(changed)
        if how != "flip" or shard not in self.harmed:  # flipped back is not harmed
            self.harmed.add(shard)
        else:
            self.harmed.discard(shard) if self._intact(shard) else None

    def _intact(self, shard: int) -> bool:
        return shard not in find_damage(store.open_store(self.path, complete=False))[0]

    @precondition(lambda self: self.finished)
    @rule()
    def mend(self) -> None:
        """Verify, and make what is damaged again."""
        with Writer.begin(
            self.path, lambda: pytest.fail("is there"), lambda d: agrees(self.seed, d)
        ) as writer:
            damaged, rest = find_damage(writer.dataset)
            assert not rest
            assert set(damaged) == self.harmed
            writer.forget(damaged)
            for k in writer.missing():
                write(writer, k, self.seed)
            if not writer.dataset.complete:
                writer.collect()
                writer.complete()
        self.harmed = set()

    @precondition(lambda self: self.finished)
    @rule(data=st.data())
    def forget_and_stop(self, data: st.DataObject) -> None:
        """A driver that takes markers back and is killed before it makes the shards again."""
        some = data.draw(st.sets(st.sampled_from(sorted(self.shards)), min_size=1))
        with Writer.begin(
            self.path, lambda: pytest.fail("is there"), lambda d: agrees(self.seed, d)
        ) as writer:
            writer.forget(some)
        self.done, self.finished = self.shards - some, 0

    @rule()
    def a_second_driver(self) -> None:
        """Somebody else is at it: nothing is changed."""
        before = sorted(str(p) for p in self.path.rglob("*"))
        with lease.hold(self.path), pytest.raises(lease.Held):
            self.drive(99, 3, True, 50)
        assert sorted(str(p) for p in self.path.rglob("*")) == before

    @precondition(lambda self: self.events)
    @rule()
    def other_settings(self) -> None:
        """Settings that are not those of what is there are refused."""
        with pytest.raises(InputError, match="was made with another seed"):
            self.drive(self.events, self.seed + 1, False, 50)

    @invariant()
    def readers_get_what_was_written_or_one_line(self) -> None:
        if not self.events:
            assert not store.exists(self.path)
            return
        dataset = store.open_store(self.path, complete=False)
        assert dataset.complete == bool(self.finished)
        assert set(store.missing_shards(dataset)) == self.shards - self.done
        wanted = content(self.events, self.seed)
        if self.finished:
            np.testing.assert_array_equal(dataset["gps"][:], wanted["gps"])
            rows = [i for i in range(self.events) if i % 3]
            np.testing.assert_array_equal(dataset["transient_event"][:], rows)
        else:
            with pytest.raises(InputError, match="incomplete"):
                store.open_store(self.path)
        for shard in self.done:
            span = dataset.layout.span(shard)
            if shard in self.harmed:
                with pytest.raises(RunError, match=f"damaged: (shard {shard}: )?qplot"):
                    dataset["qplot"][span]
            else:
                np.testing.assert_array_equal(dataset["qplot"][span], wanted["qplot"][span])


StoreMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
test_random_operations = StoreMachine.TestCase
