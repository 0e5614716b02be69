"""The house keeps its shape: imports go one way, Ray stays in its rooms, what holds an experiment stays in its stage's
function, and no room grows too large. By the syntax trees of all files, nested imports and functions too."""

import ast
import functools
import re
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
    "testing",
    "command",
    "cli",
    "__main__",
]
COMMON = {
    "errors",
    "progress",
    "cluster",
    "device",
    "gauges",
    "worker_logs",
    "ray_join",
    "ray_watch",
    "signals",
}
RAY = {"cluster.py", "ray_join.py", "gauges.py", "worker_logs.py", "data/build.py", "train/", "site/"}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(tree: ast.AST, module: str) -> set[str]:
    """Full names of everything a module imports, at any depth of nesting."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


@functools.cache
def imports_of(path: Path) -> set[str]:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return imported(tree_of(path), ".".join(parts))


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
    assert imported(ast.parse(nested), "glitchflow.signal.x") == {"glitchflow.train.fit", "ray.data"}
    assert imported(ast.parse("from ..data import store"), "glitchflow.signal.x") == {"glitchflow.data.store"}
    assert imported(ast.parse("from . import store"), "glitchflow.data.x") == {"glitchflow.data.store"}
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


MOST_WITH_EXPERIMENT = 60  # functions of the whole project that may take the experiment, or what holds one
LONGEST_MODULE, LONGEST_FUNCTION = 350, 45  # lines; of a function without its docstring


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@functools.cache
def words(node: ast.AST | None) -> set[str]:
    return set(re.findall(r"\w+", ast.unparse(node))) if node else set()


def holders(trees: list[ast.AST]) -> set[str]:
    """The experiment's class, and the classes with a field of one of these."""
    found, before = {"Experiment"}, set()
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while found != before:
        before = set(found)
        for node in classes:
            fields = [line.annotation for line in node.body if isinstance(line, ast.AnnAssign)]
            if any(words(field) & found for field in fields):
                found.add(node.name)
    return found


def takes(function: ast.FunctionDef, kinds: set[str]) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return any(a.arg == "experiment" or words(a.annotation) & kinds for a in arguments)


def body_lines(function: ast.FunctionDef) -> int:
    first = function.body[1 if ast.get_docstring(function) and len(function.body) > 1 else 0]
    return function.end_lineno - first.lineno + 1


def test_the_counters_see_what_they_should():
    tree = ast.parse(
        "class A:\n    e: Experiment\nclass B:\n    a: list[A]\n"
        "def f(b: B | None):\n    'Words.'\n    x = 1\n    return x\ndef g(experiment):\n    def h(a: int): ...\n"
    )
    assert holders([tree]) == {"Experiment", "A", "B"}
    assert [takes(f, holders([tree])) for f in functions(tree)] == [True, True, False]
    assert body_lines(functions(tree)[0]) == 2


def test_the_experiment_goes_no_further_than_its_stage():
    kinds = holders([tree_of(path) for path in FILES])
    found = [
        f"{path.relative_to(ROOT)}: {function.name}"
        for path in FILES
        for function in functions(tree_of(path))
        if takes(function, kinds)
    ]
    assert found, "the check looks at nothing"
    assert len(found) <= MOST_WITH_EXPERIMENT, found
    below = ("signal", "model", "score", "twin", "figures")  # rooms that no stage lives in
    assert not [line for line in found if line.startswith(below)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_room_is_too_large(path):
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE
    assert not [f.name for f in functions(tree_of(path)) if body_lines(f) > LONGEST_FUNCTION]
