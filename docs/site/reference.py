"""The pages of the reference, made from the code when the site is built: nothing in them is written by hand.

configuration: every key, from the sections of `glitchflow.config`. commands: every command, from what `--help` prints.
metrics: `evaluation/metrics.json`, from its schema. python: names, whose docstrings mkdocstrings fills in.
"""

import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer

import glitchflow
from glitchflow import cli, testing
from glitchflow.cli import STAGES
from glitchflow.config import Experiment, Section
from glitchflow.config.base import inner_section

SCHEMA = Path(__file__).parents[1] / "metrics.schema.json"


def leaves(section: type[Section], prefix: str = "") -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    """Every key below a section: its dotted name, the section's, its field, and its JSON schema."""
    schema = section.model_json_schema()["properties"]
    inside = {name: inner_section(field.annotation) for name, field in section.model_fields.items()}
    sections = {name: inner for name, inner in inside.items() if is_section(inner)}
    for name, field in section.model_fields.items():
        if name not in sections:
            yield f"{prefix}{name}", prefix.rstrip("."), field, schema[name]
    for name, inner in sections.items():
        yield from leaves(inner, f"{prefix}{name}{many(section.model_fields[name])}.")


def is_section(annotation: Any) -> bool:
    """Whether it is a group of keys."""
    return isinstance(annotation, type) and issubclass(annotation, Section)


def many(field: Any) -> str:
    """What follows the name of a key that holds a list of sections."""
    return "[]" if typing.get_origin(field.annotation) is list else ""


KEYS = list(leaves(Experiment))


def kind(schema: dict[str, Any]) -> str:
    """What a value of a key may be, in words."""
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"])
    if "prefixItems" in schema:
        return f"[{', '.join(kind(one) for one in schema['prefixItems'])}]"
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[name]:g}" for name, sign in signs.items() if name in schema]
    words = {"string": "text", "boolean": "true or false", "object": "mapping"}
    return " ".join(
        [words.get(schema.get("type", "any"), schema.get("type", "any")), ", ".join(limits)]
    ).strip()


def default_of(field: Any) -> str:
    """The default of a key as YAML has it."""
    if field.is_required():
        return "required"
    text = json.dumps(field.get_default(call_default_factory=True), default=str)
    return f"`{text}`" if len(text) <= 60 else f"`{text[:28]} ... {text[-14:]}`"


def readers(name: str) -> list[str]:
    """The stages that read a key, as the table of stages says."""
    plain = name.replace("[]", "")
    return [
        stage
        for stage, row in STAGES.items()
        if any(f"{plain}.".startswith(f"{listed}.") for listed in row.reads.split())
    ]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [
        head,
        ["---"] * len(head),
        *([re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def configuration() -> str:
    """Every key of the experiment: type, default, meaning, and the stages that read it."""
    text = [
        "# Configuration keys",
        "Every key of an experiment, from the sections that check it. How the file is written, and what the command "
        "line changes, is in [Configuration](../configuration.md).",
    ]
    groups: dict[str, list[Any]] = {}
    for name, section, field, schema in KEYS:
        groups.setdefault(section, []).append((name, field, schema))
    for section, keys in groups.items():
        text.append(f"## {section}" if section else "## At the top")
        if section:
            text.append(said_of(section))
        stages = {name: readers(name) for name, *_ in keys}
        same = len({tuple(value) for value in stages.values()}) == 1
        if same:
            text.append(f"Read by {linked(stages[keys[0][0]])}.")
        rows = []
        for name, field, schema in keys:
            unit = field.json_schema_extra["unit"]
            told = field.description + (f" [{unit}]" if unit else "")
            row = [f"`{name.rpartition('.')[2]}`", kind(schema), default_of(field), told]
            rows.append(row if same else [*row, linked(stages[name])])
        text.append(table(["key", "value", "default", "is", *([] if same else ["read by"])], rows))
    return "\n\n".join(text)


def said_of(section: str) -> str:
    """What the class of a section says of it."""
    here: Any = Experiment
    for name in section.replace("[]", "").split("."):
        here = inner_section(here.model_fields[name].annotation)
    return re.sub(r"\s*\n\s*", " ", (here.__doc__ or "").strip())


def linked(stages: list[str]) -> str:
    """Names of stages that lead to their commands."""
    return ", ".join(f"[{stage}](commands.md#{stage})" for stage in stages)


def commands() -> str:
    """Every command: what it does, how it is called, its options, and the keys that it reads."""
    text = [
        "# Commands",
        "What `glitchflow COMMAND --help` prints, but for the list of keys: [Configuration keys](configuration.md).",
    ]
    group = typer.main.get_command(cli.app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        context = click.Context(command, info_name=f"glitchflow {name}")
        usage = re.sub(r"\s+", " ", command.get_usage(context)).removeprefix("Usage: ")
        text += [f"## {name}", re.sub(r"\s*\n\s*", " ", command.help.strip()), f"```text\n{usage}\n```"]
        records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
        rows = [
            [f"`{left}`", right.replace("[required]", "").strip()]
            for left, right in filter(None, records)
            if left != "--help"
        ]
        text.append(table(["argument or option", "is"], rows))
        if name in STAGES:
            links = [f"[`{key}`](configuration.md#{anchor(key)})" for key in STAGES[name].reads.split()]
            text.append(f"Reads {', '.join(links)}.")
    return "\n\n".join(text)


def anchor(key: str) -> str:
    """Where a section or a key stands in the page of keys: at the heading of its section."""
    section = next(section for name, section, *_ in KEYS if f"{name}.".startswith((f"{key}.", f"{key}[].")))
    return re.sub(r"[^\w-]", "", section) or "at-the-top"


def metrics() -> str:
    """`evaluation/metrics.json` by its schema: every name, what it holds, and whether it is always there."""
    schema = json.loads(SCHEMA.read_text())
    text = [
        "# metrics.json",
        f"{schema['description']} [The schema](../metrics.schema.json) says the same to a program; "
        "[Scores](../scores.md) has the definitions.",
    ]
    for name, part in {"At the top": schema, **schema["$defs"]}.items():
        text += [f"## {name}", part.get("description", "") if part is not schema else ""]
        required = part.get("required", [])
        rows = [
            [f"`{key}`", holds(value), value.get("description", ""), "always" if key in required else ""]
            for key, value in part.get("properties", {}).items()
        ]
        if rows:
            text.append(table(["name", "holds", "is", "there"], rows))
        rest = [f"`{key}`" for key in required if key not in part.get("properties", {})]
        if rest:
            text.append(
                f"Always there: {', '.join(rest)}; each holds {holds(part.get('additionalProperties', {}))}."
            )
        elif part.get("additionalProperties"):
            text.append(f"By name, each holds {holds(part['additionalProperties'])}.")
    return "\n\n".join(one for one in text if one)


def holds(schema: Any) -> str:
    """What a value in metrics.json is, with a link to what it is made of."""
    if schema is True or not schema:
        return "any"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    inner = schema.get("additionalProperties") or schema.get("items")
    types = schema.get("type", [])
    words = " or ".join(types if isinstance(types, list) else [types]) or kind(schema)
    inside = [f"`{name}`" for name in schema.get("required", [])]
    made = f" of {holds(inner)}" if isinstance(inner, dict) else ""
    return words + (f": {', '.join(inside)}" if inside else "") + made


# what a recipe, a model, a loss or a method of one's own is made of
OWN = [
    "signal.types.Recipe",
    "signal.types.Event",
    "signal.streams.generator",
    "methods.method.Train",
    "methods.method.Block",
    "methods.method.Removed",
]


def python() -> str:
    """Names of `import glitchflow`, of `glitchflow.testing`, and what parts of one's own are made of."""
    text = [
        "# Python",
        "From the docstrings. [From Python](../python.md) shows how they are used, [Parts of your own](../own.md) what "
        "the last are for.",
    ]
    text += [entry(real_home(name), f"glitchflow.{name}") for name in glitchflow.__all__]
    text += [
        "## What `open_twin` and `open_store` give",
        entry("glitchflow.analysis.clean.series.Twin", "Twin", 3),
        entry("glitchflow.analysis.twin.Drawing", "Drawing", 3),
    ]
    text += [entry("glitchflow.data.store.dataset.Dataset", "Dataset", 3)]
    text.append("## glitchflow.testing")
    checks = [name for name in vars(testing) if name.startswith("check_")]
    text += [entry(f"glitchflow.testing.{name}", f"glitchflow.testing.{name}", 3) for name in checks]
    text.append("## What parts of your own are made of")
    text += [entry(f"glitchflow.{name}", f"glitchflow.{name}", 3) for name in OWN]
    return "\n\n".join(text)


def real_home(name: str) -> str:
    """The module in which a name of `import glitchflow` is defined, which may lie below the one it is taken from."""
    found = getattr(glitchflow, name)
    return f"{found.__module__}.{found.__qualname__}"


def entry(path: str, heading: str, level: int = 2) -> str:
    """A name whose docstring mkdocstrings fills in."""
    options = {"heading": heading, "toc_label": heading, "heading_level": level}
    return "\n".join(
        [f"::: {path}", "    options:", *(f"      {key}: {value}" for key, value in options.items())]
    )


PAGES = {"configuration": configuration, "commands": commands, "metrics": metrics, "python": python}
