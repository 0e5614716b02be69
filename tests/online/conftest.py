"""A directory of frames, and posts that follow it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from posts import Post, post_at


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """An empty directory in which frames appear."""
    directory = tmp_path / "frames"
    directory.mkdir()
    return directory


@pytest.fixture
def post(frames: Path, tmp_path: Path) -> Callable[..., Post]:
    """post(name): a twin over these frames, that writes to a directory of this name."""

    def named(name: str = "online", **settings: float) -> Post:
        return post_at(frames, tmp_path / name, **settings)

    return named
