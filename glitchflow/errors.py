"""What a user is told: an error that one line explains, and that decides the exit status."""


class InputError(Exception):
    """The user's input is wrong: one line that names file, key, value and what is allowed. Exit status 2."""


class RunError(Exception):
    """A run cannot go on for a reason the user can act on: one line. Exit status 1."""
