"""What a watch remembers, as bytes and back."""

import pytest

from glitchflow.online.saved import unpack


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
