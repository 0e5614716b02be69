"""Where, when and with what something was made."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def provenance() -> dict[str, Any]:
    """Where, when and with what a file was made; never part of what is compared."""
    packages = ("glitchflow", "torch", "numpy", "scipy", "gwpy", "zarr", "ray")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "revision": _revision(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def _revision() -> str | None:
    """The git revision of the image or the source tree that runs, where it runs from one."""
    if image := os.environ.get("GLITCHFLOW_REVISION"):  # set in our containers
        return image
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
