"""Find a callable of the user's own by its import path."""

import importlib
from collections.abc import Callable
from typing import Any


def resolve(path: str) -> Callable[..., Any]:
    """The callable that "package.module:name" or "package.module.name" names.

    Raises ValueError in one line when the module cannot be imported, has no such name, or it is not callable.
    """
    module_name, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    if not module_name or not name:
        raise ValueError(f"{path!r}: an import path looks like package.module:callable")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{path!r}: cannot import {module_name}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise ValueError(f"{path!r}: {module_name} has no callable {name!r}")
    return found
