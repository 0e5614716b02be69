"""`make faults` goes on where it was stopped: the cases that passed are in the file that GLITCHFLOW_FAULTS names."""

import os
from pathlib import Path

RECORD = os.environ.get("GLITCHFLOW_FAULTS", "")


def pytest_collection_modifyitems(config, items):
    """Leave out what passed before."""
    record = Path(RECORD)
    passed = set(record.read_text().splitlines()) if RECORD and record.exists() else set()
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in passed])
    items[:] = [item for item in items if item.nodeid not in passed]


def pytest_runtest_logreport(report):
    """Note what passed now: by the process that is told of all workers."""
    if RECORD and "PYTEST_XDIST_WORKER" not in os.environ and report.when == "call" and report.passed:
        with Path(RECORD).open("a") as record:
            record.write(f"{report.nodeid}\n")
