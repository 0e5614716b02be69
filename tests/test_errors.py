"""What users are told is one line, whatever a file holds that is quoted in it."""

import pytest

from glitchflow.errors import InputError, RunError


@pytest.mark.parametrize("kind", [InputError, RunError])
def test_what_is_quoted_breaks_no_line_and_moves_no_cursor(kind):
    error = kind("a.csv: there are: a\nb, \x1b[2Jc, déjà, \u202eright")
    assert str(error) == "a.csv: there are: a\\nb, \\x1b[2Jc, déjà, \\u202eright"
    assert str(kind(str(error))) == str(error)
