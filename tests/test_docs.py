"""What README and the pages say is run as it is written.

The word after `sh` in a page's source, which no reader sees, says how a block is tried:

    (none)    run here, on one small run that stands where the page's own would be
    again     run as another page has it
    data      run here, where the recorded data are at hand
    long      run by the slow test, on the real configurations; here its stages, keys and files are checked
    cluster   needs what a page says it needs: checked as above; tests/cluster runs the like of it
    install, make   of the environment itself: its targets and files are checked

A word with a point is the file that a block of Python is the whole of.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from helpers import run_here

from glitchflow import cli, config
from glitchflow.cli import STAGES
from glitchflow.config import Experiment
from glitchflow.methods.table import METHODS
from glitchflow.score.table import SCORES

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "launch/README.md", "containers/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
# endings that make words with points a file, not a key
FILES = {"csv", "hdf5", "html", "json", "parquet", "png", "py", "xml", "yaml", "zarr"}
HOWS = {"", "again", "data", "long", "cluster", "install", "make"}


class Block(NamedTuple):
    """A fenced block of a page: the language, how it is tried, and its text with continued lines joined."""

    page: Path
    language: str
    how: str
    text: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.split("#")[0].strip()]


def blocks() -> list[Block]:
    fence = re.compile(r"^```(\w+) ?([\w.]*)\n(.*?)^```", re.S | re.M)
    return [
        Block(page, language, how, text.replace("\\\n", " "))
        for page in PAGES
        for language, how, text in fence.findall(page.read_text())
    ]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


BLOCKS = blocks()
SHELL = [block for block in BLOCKS if block.language == "sh"]
RUN_HERE = [block for block in BLOCKS if block.language in ("sh", "python") and not block.how]
COMMANDS = [
    (block.page, command.strip())
    for block in SHELL
    for line in block.lines
    for command in line.split("&&")
    if command.strip().startswith("glitchflow ")
    and command.split()[1] in {*STAGES, "init", "inspect", "replay", "submit"}
]


@pytest.fixture
def desk(
    series_run: Experiment, trained_run: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The working directory, made like a clone's, in which copies of small runs stand for the pages' runs.

    `configs/mine.yaml` is of events that no network was trained on.
    """
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for name, run in (
        ("quickstart", series_run),
        ("synthetic", trained_run),
    ):  # a coherent twin, one of images
        shutil.copytree(run.workdir, tmp_path / "runs" / name)
        here = run.model_copy(update={"workdir": f"runs/{name}"})
        (tmp_path / "configs" / f"{name}.yaml").write_text(here.model_dump_json())  # which YAML understands
    mine = series_run.model_copy(update={"workdir": "runs/mine", "seed": 4})
    (tmp_path / "configs" / "mine.yaml").write_text(mine.model_dump_json())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_line(line: str) -> None:
    """A `glitchflow` command. The small networks do harm, and are refused: they clean by force."""
    words = shlex.split(line, comments=True)[1:]
    done = run_here(*words, *["--force"] * (words[0] == "clean"))
    assert not done.returncode, f"{line}: {done.stderr}"


@pytest.mark.parametrize("page", [p for p in PAGES if any(b.page == p for b in RUN_HERE)], ids=name_of)
def test_a_page_runs_as_written(page, desk, monkeypatch):
    """Its commands and its Python from top to bottom."""
    for block in (block for block in RUN_HERE if block.page == page):
        if block.language == "python":
            exec(compile(block.text, name_of(page), "exec"), {"__name__": "page"})
        else:
            for line in block.lines:
                run_line(line)


def test_recorded_data_go_as_written(desk, recorded_data, monkeypatch):
    monkeypatch.setenv("GLITCHFLOW_TEST_DATA", str(recorded_data))
    (block,) = [block for block in BLOCKS if block.how == "data"]
    for command in block.lines[1].split("&&"):
        run_line(command)
    assert (desk / "runs" / "gw150914" / "report.html").exists()


@pytest.mark.parametrize("page, line", COMMANDS, ids=lambda value: getattr(value, "name", value))
def test_commands_are_what_the_stages_take(page, line, monkeypatch):
    """Options, keys, values and files of every command, also of those that are not run here."""
    monkeypatch.chdir(ROOT)
    stage, *words = shlex.split(line, comments=True)[1:]
    if stage == "submit":
        stage, words = words[0], words[1:]
    command = typer.main.get_command(cli.app).commands[stage]
    if not words or words[0].isupper() or "CONFIG" in words[0]:
        return  # a placeholder
    given = command.make_context(stage, words).params
    path = given.get("path") or ""
    if path.startswith("configs/"):
        here = Path("configs/quickstart.yaml") if path == "configs/mine.yaml" else Path(path)
        config.load(str(here), given.get("overrides") or [])


def test_blocks_say_how_they_are_tried():
    assert {block.how for block in BLOCKS if "." not in block.how} <= HOWS
    run = [" ".join(shlex.split(line, comments=True)) for block in RUN_HERE for line in block.lines]
    for block in (block for block in BLOCKS if block.how == "again"):
        for line in block.lines:
            assert " ".join(shlex.split(line, comments=True)) in run, f"{name_of(block.page)}: {line}"


def test_targets_and_files_of_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text()
    for block in SHELL:
        for target in re.findall(r"^make ([\w-]+)", block.text, re.M):
            assert f"\n{target}: " in makefile, target
    for page in PAGES:
        text = page.read_text()
        for path in re.findall(r"\b(?:configs|launch|containers|tests|glitchflow|docs)/[\w/.-]*\w\b", text):
            there = (ROOT / path).exists() or path == "configs/mine.yaml"
            assert there, f"{page.relative_to(ROOT)}: {path}"
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"


def test_keys_of_the_pages_exist():
    """A `section.key` in a page is a key of the experiment."""
    sections = Experiment.model_fields
    for page in PAGES:
        for words in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:=[^`]*)?`", page.read_text()):
            first, *rest = words.split(".")
            if first not in sections or rest[-1] in FILES:
                continue
            section = sections[first].annotation
            for key in rest:
                assert key in section.model_fields, f"{page.relative_to(ROOT)}: {words}"
                section = section.model_fields[key].annotation


def test_what_is_compared_and_how_it_is_scored_is_all_in_its_page():
    for page, known in (("evaluation.md", METHODS), ("scores.md", SCORES)):
        text = (ROOT / "docs" / page).read_text()
        rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("| `")]
        assert {*known} <= {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_the_messages_in_the_page_on_trouble_are_those_of_the_program():
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    source = " ".join(path.read_text() for path in (ROOT / "glitchflow").rglob("*.py"))
    rows = re.findall(r"^\| (`[^|]*) \|", page, re.M)
    assert len(rows) >= 30
    for row in rows:
        for message in re.findall(r"`([^`]+)`", row):
            for part in re.split(r"\.\.\.|\bN\b", message):
                assert part.strip() in source, message


def test_every_stage_has_its_row():
    page = (ROOT / "docs" / "stages.md").read_text()
    for stage in STAGES:
        assert f"\n| `{stage}` |" in page, stage


def test_the_pages_of_docs_are_all_in_its_index():
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").iterdir():
        if page.suffix in (".md", ".ipynb") and page.name != "README.md":
            assert f"]({page.name})" in index, page.name


def test_the_readme_s_tree_is_the_tree():
    """Every folder that holds modules has its line, and every line its folder or file."""
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 90
    (tree,) = re.findall(r"```\n(glitchflow/\n.*?)```", readme, re.S)
    shown, parent = set(), ["", "", ""]
    for line in tree.splitlines():
        indent = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        parent[indent + 1 :] = [f"{parent[indent]}{name}", "", ""][: 2 - indent]
        shown.add(f"{parent[indent]}{name}")
    assert not [path for path in shown if not (ROOT / path).exists()]
    folders = {f"{p.parent.relative_to(ROOT)}/" for p in (ROOT / "glitchflow").rglob("*.py")}
    assert folders == {path for path in shown if path.startswith("glitchflow/") and path.endswith("/")}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_and_what_takes_long_run_as_written(tmp_path):
    """README's picture and the long blocks, after the demo's stages on the real quickstart, as a shell runs them."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "docs" / "gallery").mkdir(parents=True)
    for block in (block for block in BLOCKS if "." in block.how):
        (tmp_path / block.how).write_text(block.text)
    stages = re.findall(r"^STAGES = (.*)$", (ROOT / "Makefile").read_text(), re.M)[0].split()
    lines = [f"glitchflow {stage} configs/quickstart.yaml" for stage in stages]
    lines += ["glitchflow scan configs/quickstart.yaml"]
    lines += [line for block in SHELL if block.how == "long" for line in block.lines]
    lines += [f"python {ROOT}/docs/gallery/{name}.py" for name in ("scattered", "veto")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    for line in lines:
        done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr[-2000:]}"
    assert (tmp_path / "docs" / "event.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["tutorial", "gw150914"])
def test_a_notebook_runs(name, tmp_path, request):
    pytest.importorskip(
        "nbmake", reason="nbmake is not installed: pip install -c constraints.txt -e '.[docs]'"
    )
    if name == "gw150914":
        request.getfixturevalue("recorded_data")  # or skips
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / f"{name}.ipynb", tmp_path / "docs")
    line = [sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=900", f"--rootdir={tmp_path}"]
    done = subprocess.run([*line, f"{name}.ipynb"], cwd=tmp_path / "docs", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize("name, sections", [("tutorial", "123456789"), ("gw150914", "1234")])
def test_a_notebook_is_small_and_says_nothing_of_the_machine_it_ran_on(name, sections):
    text = (ROOT / "docs" / f"{name}.ipynb").read_text()
    cells = json.loads(text)["cells"]
    assert len(text) < 700_000
    headings = [line for cell in cells if cell["cell_type"] == "markdown" for line in cell["source"]]
    assert [line[3] for line in headings if line.startswith("## ")] == list(sections)
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs), (
        "its pictures are there to be seen"
    )
    assert not [
        output for output in outputs if output.get("name") == "stderr" or output["output_type"] == "error"
    ]
    assert not [place for place in ("/tmp/", "/home/", "/root/", "site-packages") if place in text]
