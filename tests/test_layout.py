"""DESIGN: imports go one way, and Ray stays in its rooms. By the syntax trees of all files, nested imports too."""

import ast
from pathlib import Path

import pytest

import glitchflow

ROOT = Path(glitchflow.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
ORDER = [
    "config",
    "signal",
    "data",
    "model",
    "score",
    "twin",
    "methods",
    "figures",
    "train",
    "analysis",
    "online",
    "site",
    "command",
    "cli",
]
COMMON = {"errors", "progress", "cluster"}
RAY = {"cluster.py", "data/build.py", "train/", "site/"}


def imported(text: str, module: str) -> set[str]:
    """Full names of everything a module imports, at any depth of nesting."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def imports_of(path: Path) -> set[str]:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return imported(path.read_text(), ".".join(parts))


def rooms(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("glitchflow.")}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def forbidden(room: str, found: set[str]) -> set[str]:
    if room in COMMON:
        return found - COMMON
    allowed = set(ORDER[: ORDER.index(room) + 1]) | COMMON
    return found - allowed


def test_the_checker_sees_nested_and_relative_imports():
    nested = "def f():\n    if True:\n        from glitchflow.train import fit\n        import ray.data\n"
    assert imported(nested, "glitchflow.signal.x") == {"glitchflow.train.fit", "ray.data"}
    assert imported("from ..data import store", "glitchflow.signal.x") == {"glitchflow.data.store"}
    assert imported("from . import store", "glitchflow.data.x") == {"glitchflow.data.store"}
    assert forbidden("signal", {"signal", "config", "train"}) == {"train"}
    assert forbidden("config", {"cluster", "signal"}) == {"signal"}
    assert forbidden("score", {"model", "data"}) == set()


def test_every_file_has_a_place_in_the_order():
    assert {room_of(path) for path in FILES} - {"__init__"} <= set(ORDER) | COMMON


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    room = room_of(path)
    if room == "__init__":
        assert not rooms(imports_of(path)), (
            "the package itself imports nothing: `import glitchflow` stays cheap"
        )
        return
    assert not forbidden(room, rooms(imports_of(path)))


def test_ray_is_imported_in_its_rooms_only():
    users = {
        str(path.relative_to(ROOT))
        for path in FILES
        if any(name == "ray" or name.startswith("ray.") for name in imports_of(path))
    }
    assert users, "the check looks at nothing"
    assert not [user for user in users if not any(user.startswith(room) for room in RAY)]
