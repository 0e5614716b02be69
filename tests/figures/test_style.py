"""Pictures are drawn by matplotlib's own settings, whatever else a process has imported."""

import importlib
import inspect
import io
import pkgutil

import matplotlib
from matplotlib.figure import Figure

import glitchflow.figures
from glitchflow.figures import save
from glitchflow.figures.curves import loss_curves

MODULES = [f"glitchflow.figures.{found.name}" for found in pkgutil.iter_modules(glitchflow.figures.__path__)]


def picture() -> bytes:
    buffer = io.BytesIO()
    save(loss_curves([3.0, 2.0, 1.0], [4.0, 3.0, 3.5]), buffer, format="png")
    return buffer.getvalue()


def test_what_gwpy_sets_is_not_seen():
    """It asks for formulas as the labels of ticks, which were drawn with their dollars and backslashes."""
    from gwpy.plot.rc import GWPY_RCPARAMS

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        alone = picture()
        matplotlib.rcParams.update(GWPY_RCPARAMS)
        assert picture() == alone
        assert matplotlib.rcParams["font.size"] == 12, "who set it keeps it"


def test_a_legend_shows_its_lines_as_they_are_where_gwpy_is_there():
    """Its axes make them so thick that no dash is told."""
    import gwpy.plot

    (axis,) = loss_curves([2, 1], [2, 1.5]).axes
    shown, lines = axis.get_legend().get_lines(), axis.get_lines()
    assert [one.get_linewidth() for one in shown] == [one.get_linewidth() for one in lines]
    figure = Figure()
    assert isinstance(figure.subplots(), gwpy.plot.Axes), "who uses it keeps it"


def test_each_function_that_draws_does_so():
    draws = [
        function
        for module in map(importlib.import_module, MODULES)
        for _, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and function.__annotations__.get("return") is Figure
    ]
    assert len(draws) > 20
    assert [function.__name__ for function in draws if not hasattr(function, "__wrapped__")] == []
