"""What is kept of workers that die: one line with a file, and in that file what Ray's own logs had."""

import re
import socket
import sys
from pathlib import Path

import pytest

from glitchflow.worker_logs import NAME, died, kept_in

pytestmark = pytest.mark.usefixtures("ray_session")


def killed(words: str) -> Exception:
    """How Ray says that a task's process ended, after it said so much."""
    import ray

    @ray.remote(max_retries=0)
    def task() -> None:
        import faulthandler

        print(words, file=sys.stderr, flush=True)
        faulthandler._sigsegv()

    with pytest.raises(ray.exceptions.RayError) as found:
        ray.get(task.remote())
    return found.value


def test_what_a_worker_said_outlives_rays_logs(tmp_path):
    with kept_in(tmp_path / "run"):
        error = died("Q-plots, part 7", killed("pixels everywhere"), 0)
    file = tmp_path / "run" / NAME
    said = "Q-plots, part 7: The worker died unexpectedly while executing this task"
    assert str(error) == f"{said}; what they said is in {file}"
    text = file.read_text()
    assert re.match(r"=== \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ Q-plots, part 7\n", text)
    assert re.search(rf"^--- {re.escape(socket.gethostname())}: worker-\w+-\w+-\d+\.err$", text, flags=re.M)
    assert "pixels everywhere" in text and "Segmentation fault" in text
    assert "in killed" not in text and re.search(r"line \d+ in task", text), "where it died"
    assert ":job_id:" not in text


def test_what_died_before_stays_and_a_directory_given_goes_first(tmp_path):
    with kept_in(tmp_path / "elsewhere"):
        for k in (1, 2):
            died(f"trial {k}", ValueError(f"first\nreason {k}. And advice"), -1, tmp_path)
    heads = [line for line in (tmp_path / NAME).read_text().splitlines() if line.startswith("===")]
    assert [head.split("Z ")[1] for head in heads] == ["trial 1", "trial 2"]
    assert "reason 1. And advice" in (tmp_path / NAME).read_text()
    assert not (tmp_path / "elsewhere").exists()


def test_where_nothing_is_named_a_new_directory_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (line, file) = str(died("a task", ValueError("so"), 0)).split("; what they said is in ")
    assert line == "a task: so"
    assert Path(file).parent.parent == tmp_path and "so" in Path(file).read_text()


def test_a_directory_that_takes_nothing_costs_the_logs_alone(tmp_path):
    (tmp_path / "file").touch()
    error = died("a task", ValueError("so"), 0, tmp_path / "file")
    assert str(error) == f"a task: so (what they said cannot be kept in {tmp_path}/file: File exists)"
