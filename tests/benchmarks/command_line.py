"""Settings of a configuration on a benchmark's command line."""

import argparse
import re
import sys

SETTING = re.compile(r"[a-z_]+(\.\w+)*=")


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, with `overrides`, its settings KEY=VALUE, wherever these stand: an option of many values
    would take them for its own."""
    parser.epilog = "KEY=VALUE: a setting of the configuration, by its path"
    line = sys.argv[1:]
    arguments = parser.parse_args([one for one in line if not SETTING.match(one)])
    arguments.overrides = [one for one in line if SETTING.match(one)]
    return arguments
