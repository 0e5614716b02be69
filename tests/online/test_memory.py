"""What `plan` says of `watch`: its memory, and what it keeps on the disk."""

import pytest
from helpers import needs_gwf
from posts import START, put, run

from glitchflow.config import Online, parse
from glitchflow.online.memory import keeping, watching
from glitchflow.site.memory import on_the_disk
from glitchflow.site.plan import content_to_plan
from glitchflow.twin import coherent

needs_gwf()

TIMES = 512.0, 2048


def test_what_is_kept_is_what_frames_take(post, frames):
    for k in range(12):
        put(frames, START + k)
    one = post()
    run(one)
    sizes = [path.stat().st_size for path in one.outbox.directory.glob("S-*.gwf")]
    kept = keeping(Online(keep=len(sizes) / 3600), 512, 8)
    assert kept.files == len(sizes)
    # what a frame has beside its series depends on the library that writes it
    assert kept.bytes / kept.files == pytest.approx(sum(sizes) / len(sizes), abs=8192)


def test_it_is_told_with_the_key_that_makes_it_less():
    told = str(keeping(Online(keep=24), 16384, 8))
    assert told == "watch keeps 24 h: 86,400 frames, 23.82 GB; a smaller online.keep takes less"


def test_memory_grows_with_witnesses_with_a_shadow_and_with_a_page():
    def total(channels: int = 6, twins: int = 1, port: int = 0) -> int:
        return watching(Online(port=port), coherent.KIND, channels, TIMES, 16384, twins).total

    assert total() < total(twins=2) < total(100) and total() < total(port=9333)
    assert {"recorded seconds", "what twins remember", "a crop at work"} <= watching(
        Online(), coherent.KIND, 6, TIMES, 4096, 1
    ).parts.keys()


def test_it_is_planned_where_frames_are_named(frames, tmp_path):
    path = put(frames, START)
    channels = [{"name": name, "files": [str(path)]} for name in ("S", "FAST")]
    tree = {
        "workdir": str(tmp_path),
        "ingest": {"channels": channels, "times": [START + 0.5]},
        "model": {"name": "coherent"},
        "train": {"loss": "l2"},
    }
    without = parse(tree)
    assert on_the_disk(without, content_to_plan(without)) is None
    named = parse(tree | {"online": {"source": str(frames), "keep": 1}})
    found = on_the_disk(named, content_to_plan(named))
    assert found.files == 3600 and found.bytes > 3600 * 2 * 8 * 512
    images = parse(tree | {"online": {"source": str(frames)}, "model": {}, "train": {}})
    assert on_the_disk(images, content_to_plan(images)) is None
