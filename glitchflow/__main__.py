"""The program `glitchflow` from its first moment on: a Ctrl-C while its modules are imported is a line, too."""

import sys


def main() -> None:
    """The `glitchflow` command."""
    try:
        from glitchflow.cli import main as command

        command()
    except KeyboardInterrupt:  # before a stage has begun, and listens itself
        sys.exit("glitchflow: stopped before it began")  # status 1


if __name__ == "__main__":
    main()
