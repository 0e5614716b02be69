"""What a user is told: an error that one line explains, and that decides the exit status."""


def printable(text: str) -> str:
    """What a file says may hold line ends and a terminal's controls: they are shown, as Python writes them."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


class _OneLine(Exception):
    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(_OneLine):
    """The user's input is wrong: one line that names file, key, value and what is allowed. Exit status 2."""


class RunError(_OneLine):
    """A run cannot go on for a reason the user can act on: one line. Exit status 1."""


class Died(RunError):
    """Processes that were at work for a run have ended, and what replaced them too."""
