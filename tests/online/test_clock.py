"""The machine's clock is set by an hour, forward or back, while a `watch` runs: nothing that it does hangs on it."""

import json
import threading
import time

import pytest
from helpers import needs_gwf
from posts import START, Patience, hours, out, put, run, same

from glitchflow.data import lease
from glitchflow.errors import RunError
from glitchflow.online.watch import follow

needs_gwf()

HOUR = 3600.0


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_clock_that_is_set_by_an_hour_changes_nothing(post, frames, monkeypatch, step):
    """`wait` is counted by a clock that nobody sets, `keep` by the frames' own times."""
    for k in range(8):
        if k != 4:
            put(frames, START + k)
    undisturbed = post("undisturbed", wait=5)
    run(undisturbed, looks=8)
    real, off = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + off)
    monkeypatch.setattr(lease, "BEAT", 0.01)
    one = post(wait=5)

    class Set(Patience):
        """Somebody sets the clock while a second is waited for; then another one tries to begin."""

        def wait(self, timeout: float) -> bool:
            nonlocal off
            if self.now == 2:
                off = step
                heartbeat = directory.parent / f".{directory.name}.lease.json"
                while abs(json.loads(heartbeat.read_text())["time"] - time.time()) > HOUR / 2:
                    threading.Event().wait(0.01)
                with pytest.raises(RunError, match="another run is writing it"), lease.hold(directory):
                    pass
            return super().wait(timeout)

    directory, stop = one.outbox.directory, Set(8)
    with lease.hold(directory) as still_mine:
        follow(one, stop, still_mine, clock=lambda: stop.now)
    assert list(out(one)) == [START + k for k in range(7)]
    same(out(one), out(undisturbed))
    assert hours(one) == hours(undisturbed)
