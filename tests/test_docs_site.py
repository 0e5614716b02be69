"""The site: a reference that leaves nothing out, and links and blocks as the site has them."""

import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import reference
import typer
from accessible import violations

import glitchflow
from glitchflow import cli
from glitchflow.config import Experiment
from glitchflow.config.base import inner_section

ROOT = Path(__file__).parents[1]


def leaf(section: type, names: list[str]):
    """The field at the end of a dotted name."""
    field = section.model_fields[names[0]]
    return leaf(inner_section(field.annotation), names[1:]) if names[1:] else field


def test_every_key_that_a_stage_s_help_lists_has_its_row():
    page = reference.configuration()
    group = typer.main.get_command(cli.app)
    listed = set()
    for command in group.commands.values():
        listed |= set(re.findall(r"^  ([\w.\[\]]+) = ", command.epilog or "", re.M))
    assert len(listed) > 200
    for name in listed:
        section, _, key = name.rpartition(".")
        part = page.split(f"\n## {section or 'At the top'}\n")[1].split("\n## ")[0]
        (row,) = [line for line in part.splitlines() if line.startswith(f"| `{key}` |")]
        assert leaf(Experiment, name.replace("[]", "").split(".")).description.replace("|", "\\|") in row
    assert page.count("\n| `") == len(listed)


def test_a_key_has_its_values_default_unit_and_stages():
    page = reference.configuration()
    assert (
        "| `duration` | number > 0 | `16.0` | length of the series around each event [s] | [plan](commands.md#plan),"
        in page
    )
    assert '| `asd` | `event`, `dataset`, `file`, `none` | `"event"` | by the ASD of each event' in page
    assert "| `fftlength` | number > 0 or null | `null` |" in page
    assert "| `name` | text | required |" in page


def test_every_command_has_its_options_and_leads_to_its_keys():
    page, keys = reference.commands(), reference.configuration()
    anchors = {re.sub(r"[^\w-]", "", head) for head in re.findall(r"^## (.*)$", keys, re.M)} | {"at-the-top"}
    for name, command in typer.main.get_command(cli.app).commands.items():
        part = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for option in (option for parameter in command.params for option in parameter.opts):
            assert not option.startswith("--") or option == "--help" or option in part, (name, option)
        assert set(re.findall(r"configuration\.md#([\w-]+)", part)) <= anchors


def test_every_name_of_metrics_json_is_there():
    def names(schema):
        yield from schema.get("properties", {})
        yield from schema.get("required", [])
        for part in [*schema.get("$defs", {}).values(), *schema.get("properties", {}).values()]:
            yield from names(part)

    page = reference.metrics()
    assert [name for name in names(json.loads(reference.SCHEMA.read_text())) if f"`{name}`" not in page] == []


def test_every_name_of_the_package_is_there():
    page = reference.python()
    assert [name for name in glitchflow.__all__ if f"heading: glitchflow.{name}\n" not in page] == []
    for path in re.findall(r"^::: (.*)$", page, re.M):
        pkgutil.resolve_name(path)


def test_links_are_those_of_the_site():
    pytest.importorskip(
        "mkdocs", reason="MkDocs is not installed: pip install -c constraints.txt -e '.[docs]'"
    )
    import hooks

    class Page:
        def __init__(self, src_uri):
            self.file = self
            self.src_uri = src_uri

    def made(page, text):
        return hooks.on_page_markdown(text, Page(page))

    assert (
        made("index.md", "[twin](docs/coherent.md#how) ![](docs/event.png)")
        == "[twin](coherent.md#how) ![](event.png)"
    )
    assert made("clusters.md", "[all](../launch/README.md)") == "[all](launch.md)"
    assert made("launch.md", "[page](../docs/online.md), [recipe](apply.sh)") == "[page](online.md), recipe"
    assert made("own.md", "```python physics.py\nx\n```") == '```python title="physics.py"\nx\n```'
    assert (
        made("own.md", "```sh long\nx\n```\n[away](https://a.b/c.md)")
        == "```sh\nx\n```\n[away](https://a.b/c.md)"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built anew; a warning is an error."""
    pytest.importorskip(
        "mkdocs", reason="MkDocs is not installed: pip install -c constraints.txt -e '.[docs]'"
    )
    into = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(into)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return into


@pytest.mark.ci
def test_the_site_is_built_without_a_warning(site):
    assert 'class="doc doc-heading"' in (site / "reference" / "python.html").read_text()
    assert "sh long" not in (site / "training.html").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", "challenge", "troubleshooting", "reference/configuration"])
def test_who_hears_it_or_has_no_mouse_reads_it_too(browser, site, name, scheme):
    context = browser.new_context(offline=True, color_scheme=scheme)
    page = context.new_page()
    page.goto((site / f"{name}.html").as_uri())
    page.wait_for_function(
        "!document.querySelector('table') || document.querySelector('[tabindex=\"0\"] table')"
    )
    assert violations(page) == []
    context.close()
