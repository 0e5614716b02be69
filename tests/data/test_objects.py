"""Plain files that come together: what is left of those who wrote them before."""

import os
import socket
import subprocess
import sys

from glitchflow.data.objects import together


def test_what_a_killed_process_of_this_host_left_is_removed_and_nobody_elses(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = f".writing.{socket.gethostname()}."
    for name in (f"{mine}{ended.pid}", f"{mine}{os.getppid()}", f"{mine}example.org.{ended.pid}"):
        (tmp_path / name).mkdir()
    with together(tmp_path) as place:
        (place / "table").write_text("rows")
        assert not (tmp_path / "table").exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        "table",
        f"{mine}{os.getppid()}",
        f"{mine}example.org.{ended.pid}",
    }
