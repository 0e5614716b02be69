"""What a watch remembers, as bytes and back."""

import json

import numpy as np
import pytest

from glitchflow.online.hours import Log
from glitchflow.online.line import Memory
from glitchflow.online.saved import Saved, pack, unpack
from glitchflow.twin.step import State, Step


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"[]\n", "is not what was kept: TypeError: "),
        (b'{"arrays": []}\n', "is not what was kept: KeyError: 'crc'"),
        (b'{"crc": 1, "arrays": []}\n', "differs from its checksum"),
        (b'{"crc": 0, "arrays": []}\n', "is not what was kept: RuntimeError: generator raised StopIteration"),
        (b'{"crc": 0, "arrays": [["f8", [9]]]}\n', "buffer is smaller"),
    ],
)
def test_what_is_not_a_memory_is_a_value_error(content, reason):
    with pytest.raises(ValueError, match=reason):
        unpack(content)


def test_what_an_earlier_version_kept_of_a_step_goes_on():
    """It did not say whether witnesses alone heard a burst."""
    series, nothing = np.arange(3.0), np.zeros((2, 0))
    step = Step(7, series, 2 * series, 3 * series, True, ("A",), ((10.0, 20.0),), alone=True)
    state = State(9, nothing, nothing, np.zeros((0, 2, 4)))
    memory = Memory(5, 5, (), {"S": 512.0}, {}, "float64", 11, nothing, state, (step,))
    kept = pack(Saved(memory, {"twin": "t"}, Log()))
    assert unpack(kept).memory.said[0].alone
    line, _, rest = kept.partition(b"\n")
    head = json.loads(line)
    head["said"] = [one[:4] for one in head["said"]]
    (said,) = unpack(json.dumps(head).encode() + b"\n" + rest).memory.said
    assert (said.start, said.silent, said.passed, said.alone) == (7, ("A",), ((10.0, 20.0),), False)
    np.testing.assert_array_equal(said.white, 3 * series)
