"""Making a store: whole or not at all, resumed, extended, repaired, and replaced only when its successor stands."""

import contextlib
import errno
import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers import damage_of, missing_shards, write_store
from stores import Killed, agrees, content, design, write

from glitchflow.data import lease, objects
from glitchflow.data import store as store_module
from glitchflow.data.store import create as creation
from glitchflow.data.store import dataset as store
from glitchflow.data.store import pages
from glitchflow.data.store import writer as module
from glitchflow.data.store.pages import all_shares
from glitchflow.data.store.schema import FOLDED, KEPT, STATISTICS, Folded, Marker
from glitchflow.data.store.writer import Writer, write_shard
from glitchflow.errors import InputError, RunError


def make(
    path: Path, events: int = 18, seed: int = 1, overwrite: bool = False, until: int = 1000
) -> list[int]:
    """What a stage does; returns the shards that were missing. `until`: shards after which it is killed."""
    begun = Writer.begin(path, lambda: design(events, seed), lambda d: agrees(seed, d), overwrite)
    with begun as writer:
        if len(writer.dataset) < events:
            writer.grow(events, {})
        missing = writer.missing()
        for count, k in enumerate(missing):
            if count == until:
                raise Killed
            write(writer, k, seed)
        if not writer.dataset.complete:
            writer.collect()
            writer.complete({"seed": seed})
    return missing


def holds(path: Path, events: int, seed: int = 1) -> None:
    """The store is complete and right in every value."""
    dataset, wanted = store.open_store(path), content(events, seed)
    assert len(dataset) == events
    for name, value in wanted.items():
        np.testing.assert_array_equal(dataset[name][:], value, err_msg=name)
    rows = [i for i in range(events) if i % 3]
    np.testing.assert_array_equal(dataset["transient_event"][:], rows)
    np.testing.assert_array_equal(dataset["transient_gps"][:], wanted["gps"][rows])
    np.testing.assert_array_equal(dataset["transient_witnessed"][:], [i % 2 == 0 for i in rows])
    assert damage_of(path) == {}
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]
    assert sorted(p.name for p in (path / ".done").iterdir()) == ["all.json", "statistics"]
    assert store_module.foreign_objects(dataset) == []


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "d.zarr"


def test_made_at_once(path):
    assert make(path) == [0, 1, 2, 3, 4]
    holds(path, 18)
    assert make(path) == []
    dataset = store.open_store(path)
    assert dataset.attributes["seed"] == 1
    shares = [*all_shares(dataset)]
    assert [share.statistics for share in shares] == [{"n": k} for k in range(5)]
    assert shares[2].skipped == {8: "dull"}
    assert dataset.marker(2) == Marker(sha256=dataset.marker(2).sha256), "which is all that a reader parses"


def shares_of(path: Path) -> dict[str, bytes]:
    """The bytes of what is added up of the shards."""
    return {p.name: p.read_bytes() for p in (path / ".done" / "statistics").iterdir()}


@pytest.fixture
def in_pages(tmp_path, monkeypatch) -> dict[str, bytes]:
    """Pages of two shards, and what they hold of a store of 22 events that was made at once."""
    monkeypatch.setattr(pages, "PAGE", 2)
    make(tmp_path / "once.zarr", 22)
    return shares_of(tmp_path / "once.zarr")


def test_pages_of_a_store_that_grew_are_those_of_one_made_at_once(tmp_path, in_pages, monkeypatch):
    path, put, written = tmp_path / "grew" / "d.zarr", objects.put, []
    make(path, 11)
    with pytest.raises(Killed):
        make(path, 18, until=2)
    monkeypatch.setattr(
        objects, "put", lambda where, name, value: written.append(name) or put(where, name, value)
    )
    make(path, 22)
    assert shares_of(path) == in_pages and len(in_pages) == 3
    assert pages.page_name(0) not in written, "of which no shard is new"
    holds(path, 22)


def flip(file: Path) -> None:
    """Another number, in JSON as right as before."""
    file.write_text(file.read_text().replace('{"n":', '{"n":9', 1))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


LOST = "is missing, or lacks"
HARMS = [(Path.unlink, LOST), (flip, "differs from its checksum"), (truncate, "Invalid JSON")]


@pytest.mark.parametrize("harm, why", HARMS)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_page_that_is_lost_is_found_and_its_shards_are_made_again(tmp_path, in_pages, number, harm, why):
    """Until then nothing is written over the others, and nobody adds up the rest."""
    path, name = tmp_path / "once.zarr", pages.page_name(number)
    harm(path / name)
    before = shares_of(path)
    with pytest.raises(
        RunError, match=f"^{path}: damaged: {name}.*{why}.*; --verify makes its shards again$"
    ):
        [*all_shares(store.open_store(path))]
    what = "is missing, or lacks its share" if why == LOST else "is damaged"
    damaged = damage_of(path)
    assert damaged == dict.fromkeys((2 * number, 2 * number + 1), f"{name} {what}")
    with Writer.begin(path, lambda: pytest.fail("is there"), lambda _: None) as writer:
        writer.forget([2 * number])
        assert shares_of(path) == before
        write(writer, 2 * number)
        with pytest.raises(
            RunError, match=f"^{path}: damaged: {name}.*{why}.*; --verify makes its shards again$"
        ):
            writer.collect()
        assert shares_of(path) == before
        writer.forget(store_module.find_damage(writer.dataset)[0])
    assert make(path, 22) == [2 * number + 1]
    assert shares_of(path) == in_pages


def test_of_what_is_added_up_a_page_is_held(tmp_path, in_pages, monkeypatch):
    dataset, read, parse = store.open_store(tmp_path / "once.zarr"), [], objects.parse
    monkeypatch.setattr(objects, "parse", lambda *a: read.append(a[1]) or parse(*a))
    for k, _ in enumerate(all_shares(dataset)):
        assert len(read) == k // 2 + 1


# each value of each is among them
QUICK = {(STATISTICS, 11, 0), (FOLDED, 16, 1), (STATISTICS, 16, 3), (FOLDED, 11, 100)}


@pytest.mark.parametrize(
    "kept, before, until",
    [
        pytest.param(*one, marks=() if one in QUICK else pytest.mark.ci)
        for one in itertools.product((STATISTICS, FOLDED), (11, 16), (0, 1, 3, 100))
    ],
)
def test_markers_that_earlier_versions_kept_in_one_object(
    tmp_path, in_pages, monkeypatch, kept, before, until
):
    """It is killed while so many objects are written into pages, and grows all the same."""
    path = tmp_path / "earlier" / "d.zarr"
    make(path, before)
    dataset = store.open_store(path)
    whole = {
        k: Marker(**share.__dict__, sha256=dataset.marker(k).sha256)
        for k, share in enumerate(all_shares(dataset))
    }
    columns = dataset.folded.columns if kept == FOLDED else {}
    objects.put(path, kept, Folded(shards=whole, columns=columns).model_dump_json().encode())
    shutil.rmtree(path / ".done" / "statistics")
    assert damage_of(path) == {}
    assert store_module.foreign_objects(dataset) == []
    put, count = objects.put, 0

    def killed(where, name, value):
        nonlocal count
        count += "/statistics" in name
        if count > until:
            raise Killed
        put(where, name, value)

    with monkeypatch.context() as patch:
        patch.setattr(objects, "put", killed)
        with contextlib.suppress(Killed):
            make(path, 22)
    make(path, 22)
    assert shares_of(path) == in_pages
    holds(path, 22)


def test_of_markers_that_are_not_folded_a_reader_keeps_the_checksums(path):
    with pytest.raises(Killed):
        make(path, until=3)
    dataset = store.open_store(path, complete=False)
    assert list(store_module.find_damage(dataset)[0]) == [3, 4]
    assert dataset.markers[1] == Marker(sha256=dataset.marker(1).sha256)


def test_a_shard_leaves_few_objects(path):
    make(path)
    files = [p for p in path.rglob("*") if p.is_file() and "/c/" in str(p)]
    assert len([p for p in files if p.is_relative_to(path / "qplot")]) == 5
    assert len([p for p in files if not p.is_relative_to(path / "qplot")]) == 2 + len(creation.TRANSIENTS)


@pytest.mark.parametrize("until", [0, 1, 3, 5])
def test_goes_on_where_it_was_stopped(path, until):
    with pytest.raises(Killed):
        make(path, until=until, events=24)
    assert missing_shards(path) == list(range(until, 6))
    assert make(path, events=24) == list(range(until, 6))
    holds(path, 24)


@pytest.mark.parametrize("before, after", [(18, 19), (18, 20), (18, 21), (16, 30), (3, 40)])
def test_extended(path, before, after):
    make(path, before)
    assert make(path, after) == list(range(before // 4, -(-after // 4)))
    holds(path, after)


def test_other_settings_are_refused_or_replaced(path):
    make(path)
    with pytest.raises(InputError, match="was made with another seed"):
        make(path, seed=2)
    holds(path, 18)
    make(path, seed=2, overwrite=True)
    holds(path, 18, seed=2)


@pytest.mark.parametrize("until", [0, 2, 4])
def test_what_is_overwritten_stays_until_its_successor_stands(path, until):
    make(path)
    with pytest.raises(Killed):
        make(path, events=24, seed=2, overwrite=True, until=until)
    assert store.open_store(path).attributes["seed"] == 1
    assert damage_of(path) == {}
    assert make(path, events=24, seed=2, overwrite=True) == list(range(until, 6)), "what is beside is resumed"
    holds(path, 24, seed=2)


def test_what_is_beside_and_of_other_settings_is_begun_anew(path):
    make(path)
    with pytest.raises(Killed):
        make(path, seed=2, overwrite=True, until=3)
    assert make(path, seed=3, overwrite=True) == [0, 1, 2, 3, 4]
    holds(path, 18, seed=3)


def test_a_design_that_fails_replaces_nothing(path):
    make(path)
    with (
        pytest.raises(InputError, match="not so"),
        Writer.begin(path, lambda: (_ for _ in ()).throw(InputError("not so")), lambda _: None, True),
    ):
        pytest.fail("begun")
    holds(path, 18)


@pytest.mark.parametrize("step", ["before", "between"])
def test_killed_while_it_takes_the_old_ones_place(path, monkeypatch, capsys, step):
    make(path)

    def killed(*_):
        raise Killed

    if step == "before":
        monkeypatch.setattr(objects, "replace", killed)
    else:
        rename = Path.rename
        monkeypatch.setattr(
            Path, "rename", lambda self, to: killed() if self.suffix == ".new" else rename(self, to)
        )
    with pytest.raises(Killed):
        make(path, seed=2, overwrite=True)
    monkeypatch.undo()
    there = path if step == "before" else path.with_suffix(".zarr.new")
    said = (
        ""
        if step == "before"
        else f"{path}: a run was killed while it was replaced; {there}, its successor, is read\n"
    )
    capsys.readouterr()
    dataset = store.open_store(path)
    assert (dataset.path, dataset.attributes["seed"]) == (str(there), 1 if step == "before" else 2)
    assert capsys.readouterr().err == said
    assert store.exists(path)
    assert damage_of(path) == {}
    assert make(path, seed=2, overwrite=step == "before") == []
    holds(path, 18, seed=2)


def test_what_cannot_take_the_old_ones_place_leaves_it_there(path, monkeypatch):
    make(path)
    before, rename = (path / "zarr.json").read_text(), Path.rename

    def refused(self, to):
        if self.suffix == ".new":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        with pytest.raises(RunError, match=r"d.zarr: cannot be finished: Input/output error$"):
            make(path, seed=2, overwrite=True)
    assert (path / "zarr.json").read_text() == before
    assert damage_of(path) == {}
    assert make(path, seed=2, overwrite=True) == []
    holds(path, 18, seed=2)


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_written_over_what_is_in_the_way(path, tmp_path, overwrite):
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")
    zarr.create_group(tmp_path / "foreign.zarr")
    (tmp_path / "file").write_text("years of work")
    for name in ("d.zarr", "foreign.zarr", "file"):
        with pytest.raises(InputError, match=f"{name}: is in the way, and is not a store of GlitchFlow's"):
            make(tmp_path / name, overwrite=overwrite)
    assert [p.name for p in path.iterdir()] == ["thesis.txt"]
    assert (tmp_path / "file").read_text() == "years of work"
    assert (tmp_path / "foreign.zarr" / "zarr.json").exists()


@pytest.mark.parametrize("step", ["_create_array", "_new_array", "put_root"])
def test_a_store_is_there_whole_or_not_at_all(path, monkeypatch, step):
    def killed(*_, **__):
        raise Killed

    monkeypatch.setattr(creation, step, killed)
    with pytest.raises(Killed):
        make(path)
    assert not store.exists(path)
    monkeypatch.undo()
    make(path)
    holds(path, 18)


def test_a_shard_of_the_wrong_shape_is_not_written(path):
    with Writer.begin(path, lambda: design(18), lambda _: None) as writer:
        values = {name: value[:3] for name, value in content(4).items()}
        with pytest.raises(ValueError, match="qplot of shard 0 has shape"):
            write_shard(writer.dataset, 0, values)
        assert 0 in writer.missing()
        with pytest.raises(RunError, match="5 shards are missing, the first is 0"):
            writer.collect()


def test_a_file_system_that_refuses_is_one_line(path, monkeypatch):
    with pytest.raises(Killed):
        make(path, until=1)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zarr.storage._local._put", full)
    with pytest.raises(RunError, match=r"d.zarr: shard 1 cannot be written: No space left on device$"):
        make(path)
    monkeypatch.undo()
    assert make(path) == [1, 2, 3, 4]
    holds(path, 18)


def test_a_marker_that_cannot_be_written_is_a_shard_that_is_missing(path, monkeypatch):
    put = objects.put

    def full(where, name, value):
        if name.endswith("00002.json"):
            raise OSError(28, "No space left on device")
        put(where, name, value)

    monkeypatch.setattr(objects, "put", full)
    with pytest.raises(RunError, match=r"d.zarr: shard 2 cannot be written: No space left on device$"):
        make(path)
    monkeypatch.undo()
    assert make(path) == [2, 3, 4]
    holds(path, 18)


def test_damaged_shards_are_made_again(path):
    make(path)
    (path / "qplot/c/4/0/0/0").write_bytes(b"short")
    (path / "qplot/c/2/0/0/0").unlink()
    damage = damage_of(path)
    assert list(damage) == [2, 4]
    with Writer.begin(path, lambda: pytest.fail("is there"), lambda _: None) as writer:
        writer.forget(damage)
    with pytest.raises(InputError, match="incomplete, 2 of 5 shards missing"):
        store.open_store(path)
    assert make(path) == [2, 4]
    holds(path, 18)


def test_a_killed_finish_is_finished(path, monkeypatch):
    """Between the folded markers and the attribute that says complete."""
    make(path, 10)
    with monkeypatch.context() as patch:
        patch.setattr(module.zarr, "consolidate_metadata", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            make(path, 18)
    assert not store.open_store(path, complete=False).complete
    assert make(path, 18) == []
    holds(path, 18)


def test_a_lease_lost_ends_the_writing(path, monkeypatch):
    lost = False

    def check():
        if lost:
            raise RunError("taken over")

    with Writer.begin(path, lambda: design(18), lambda _: None) as writer:
        for k in range(5):
            write(writer, k)
        writer.check, lost = check, True
        for act in (writer.collect, writer.complete, lambda: writer.forget([1]), lambda: writer.grow(30, {})):
            with pytest.raises(RunError, match="taken over"):
                act()
    assert not store.open_store(path, complete=False).complete


def test_partial_files_of_killed_writers_go(path):
    with pytest.raises(Killed):
        make(path, until=1)
    (path / "qplot/c/1/0/0").mkdir(parents=True)
    (path / "qplot/c/1/0/0/0.abc.partial").touch()
    (path / ".done/00001.json#7").touch()
    make(path)
    holds(path, 18)
    assert not [p for p in path.rglob("*") if p.suffix == ".partial" or "#" in p.name]


def test_compressed(path):
    with Writer.begin(path, lambda: design(18, compression="zstd"), lambda _: None) as writer:
        for k in range(5):
            write(writer, k)
        writer.collect()
        writer.complete()
    assert "zstd" in (path / "qplot" / "zarr.json").read_text()
    holds(path, 18)


def test_notes_are_kept(path):
    with Writer.begin(
        path, lambda: design(4, notes={"triggers": [[1.5, "a", None]]}), lambda _: None
    ) as writer:
        write(writer, 0)
        writer.collect()
        writer.note("skipped", [[3, "dull"]])
        writer.complete()
    dataset = store.open_store(path)
    assert dataset.note("triggers") == [[1.5, "a", None]]
    assert dataset.note("nothing") is None
    assert dataset.skipped == {3: "dull"}


def test_a_flipped_byte_of_a_note_is_found_and_notes_of_earlier_versions_are_read(path):
    triggers = [[1126259462.4, "a", None]]
    with Writer.begin(path, lambda: design(4, notes={"triggers": triggers}), lambda _: None) as writer:
        write(writer, 0)
        writer.collect()
        writer.note("skipped", [[3, "dull"]])
        writer.complete()
    dataset = store.open_store(path)
    assert store_module.find_damage(dataset) == ({}, [])
    for name in ("triggers", "skipped"):
        file = path / ".notes" / f"{name}.json"
        whole = file.read_bytes()
        flips = range(len(whole)) if name == "triggers" else [whole.index(b"dull")]
        for place in flips:
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(RunError, match=rf"^{path}: damaged: \.notes/{name}\.json") as found:
                dataset.note(name)
            assert "\n" not in str(found.value)
        assert str(found.value).endswith("differs from its checksum") or name == "triggers"
        assert store_module.find_damage(dataset) == ({}, [str(found.value)])
        file.write_bytes(whole)
    (path / ".notes" / "triggers.json").write_text(json.dumps(triggers))
    assert dataset.note("triggers") == triggers
    assert store_module.find_damage(dataset) == ({}, [])


def test_what_was_skipped_is_read_from_the_attributes_of_earlier_stores(path):
    with Writer.begin(path, lambda: design(4), lambda _: None) as writer:
        write(writer, 0)
        writer.collect()
        writer.complete({"skipped": [[2, "dull"]]})
    assert store.open_store(path).skipped == {2: "dull"}


def test_that_nothing_is_skipped_any_more_counts_over_an_earlier_attribute(path):
    with Writer.begin(path, lambda: design(4), lambda _: None) as writer:
        write(writer, 0)
        writer.collect()
        writer.note("skipped", [])
        writer.complete({"skipped": [[2, "dull"]]})
    assert store.open_store(path).skipped == {}


def test_the_same_on_an_object_store(bucket, monkeypatch):
    """Made, stopped, resumed, extended, replaced, killed while it is replaced; a lease lies beside all the time."""
    url = f"{bucket}/stores/d.zarr"
    with pytest.raises(Killed):
        make(url, until=2)
    with pytest.raises(InputError, match="incomplete, 3 of 5 shards missing"):
        store.open_store(url)
    assert make(url) == [2, 3, 4]
    assert make(url, 21) == [4, 5]
    with pytest.raises(Killed):
        make(url, seed=2, overwrite=True, until=3)
    assert store.open_store(url).attributes["seed"] == 1
    copy, copied = objects.obstore.copy, []
    with monkeypatch.context() as patch:
        patch.setattr(
            objects.obstore, "copy", lambda *a: copied.append(copy(*a)) if len(copied) < 4 else killed()
        )
        with pytest.raises(Killed):
            make(url, seed=2, overwrite=True)
    assert not store.is_there(url)
    assert store.open_store(url).attributes["seed"] == 2, "the successor, which lies beside it"
    assert make(url, seed=2) == [], "what is beside takes the place"
    wanted, dataset = content(18, 2), store.open_store(url)
    for name, value in wanted.items():
        np.testing.assert_array_equal(dataset[name][:], value)
    assert damage_of(url) == {}
    with lease.hold(url), pytest.raises(lease.Held):
        make(url)
    assert {name.split("/")[0] for name in objects.names(f"{bucket}/stores")} == {"d.zarr"}
    objects.put(f"{bucket}/other", "thesis.txt", b"years of work")
    with pytest.raises(InputError, match="other: is in the way, and is not a store of GlitchFlow's"):
        make(f"{bucket}/other", overwrite=True)
    with pytest.raises(InputError, match=r"s3://glitches/none: no store there"):
        store.open_store(f"{bucket}/none")
    with pytest.raises(RunError, match=r"s3://nobody/d.zarr: cannot be written: "):
        make("s3://nobody/d.zarr")


def killed(*_, **__):
    raise Killed


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only directory")
def test_a_read_only_directory_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match=r"d.zarr: cannot be written: Permission denied$"):
        write_store(tmp_path / "d.zarr", content(4), channels=["S", "W"])


@pytest.mark.parametrize("written", range(5))
@pytest.mark.parametrize("before", [0, 10])
def test_a_table_that_was_half_written_is_written_anew(tmp_path, monkeypatch, before, written):
    """Killed after some of the columns of the table of transients, of a new store and of one that grows."""
    path, resize, count = tmp_path / "s.zarr", zarr.Array.resize, 0
    if before:
        make(path, before)

    def killed(array, shape):
        nonlocal count
        count += array.basename.startswith("transient_")
        if count > written:
            raise Killed
        resize(array, shape)

    with monkeypatch.context() as patch:
        patch.setattr(zarr.Array, "resize", killed)
        with pytest.raises(Killed):
            make(path)
    make(path)
    holds(path, 18)
    assert not (path / KEPT).exists()
