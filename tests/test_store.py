import errno
import json
import multiprocessing
import os

import pytest

from fsl_utils import StudyError, store

PARAMS = {"b": [1, 2.5], "a": "x"}


def write(text):
    return lambda folder: (folder / "thing.txt").write_text(text) and None


def test_key_depends_on_content_alone():
    assert store.key("cell", PARAMS) == store.key("cell", dict(reversed(PARAMS.items())))
    assert store.key("cell", PARAMS) != store.key("pool", PARAMS)
    assert store.key("cell", PARAMS) != store.key("cell", PARAMS | {"b": [2.5, 1]})
    with pytest.raises(ValueError):
        store.key("cell", {"a": float("nan")})


def test_a_raised_stage_version_makes_new_keys(monkeypatch):
    before = store.key("cell", PARAMS)
    monkeypatch.setitem(store.STAGES, "cell", store.STAGES["cell"] + 1)
    assert store.key("cell", PARAMS) != before


def test_asked_twice_runs_once(own_store):
    calls = []
    for _ in range(2):
        folder = store.make(
            "cell", PARAMS, lambda out: calls.append(1) or write("one")(out), device="cpu"
        )
    assert len(calls) == 1 and (folder / "thing.txt").read_text() == "one"
    record = store.manifest(folder)
    assert record["params"] == PARAMS and record["device"] == "cpu" and record["key"] == folder.name
    assert {"versions", "commit", "threads", "seconds", "files"} <= set(record)


@pytest.mark.parametrize("harm", ["truncate", "flip", "delete", "manifest", "half manifest"])
def test_damage_is_noticed_and_mended(own_store, harm):
    folder = store.make("cell", PARAMS, write("right"))
    thing = folder / "thing.txt"
    if harm == "truncate":
        thing.write_text("rig")
    elif harm == "flip":
        thing.write_text("rigHt")
    elif harm == "delete":
        thing.unlink()
    elif harm == "manifest":
        (folder / "manifest.json").unlink()
    else:
        (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:40])
    with pytest.warns(UserWarning, match="damaged"):
        again = store.make("cell", PARAMS, write("right"))
    assert (again / "thing.txt").read_text() == "right" and store.damage(again) is None


def test_a_failed_build_leaves_nothing(own_store):
    def fail(folder):
        (folder / "half.txt").write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        store.make("cell", PARAMS, fail)
    assert store.find("cell", PARAMS) is None and not list((own_store / "tmp").iterdir())


def test_full_disk_is_explained_and_keeps_what_was_finished(own_store):
    kept = store.make("cell", {"n": 1}, write("kept"))

    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StudyError, match=r"disk full.*FSL_STORE"):
        store.make("cell", {"n": 2}, full)
    with pytest.raises(StudyError, match="disk full"):
        store.write_whole(own_store / "file", full)
    assert store.damage(kept) is None and not (own_store / "file").exists()


def _writer(root, barrier):
    os.environ["FSL_STORE"] = root
    store.make(
        "cell",
        PARAMS,
        lambda folder: (
            barrier.wait(30) is None or ((folder / "thing.txt").write_text("same") and None)
        ),
    )


def test_two_writers_leave_one_whole_result(own_store):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    writers = [context.Process(target=_writer, args=(str(own_store), barrier)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [w.exitcode for w in writers] == [0, 0]
    assert len(list((own_store / "cell").iterdir())) == 1 and store.find("cell", PARAMS)


def test_write_whole_never_shows_half_a_file(own_store):
    path = own_store / "a.json"
    store.write_text(path, json.dumps({"old": 1}))
    with pytest.raises(RuntimeError):
        store.write_whole(
            path, lambda partial: (partial.write_text("{"), exec("raise RuntimeError"))[0]
        )
    assert json.loads(path.read_text()) == {"old": 1} and len(list(own_store.iterdir())) == 1


def test_record_lists_what_was_used(own_store, tmp_path, monkeypatch):
    monkeypatch.setenv("FSL_RECORD", str(tmp_path / "record.txt"))
    folder = store.make("cell", PARAMS, write("x"))
    store.find("cell", PARAMS)
    assert (tmp_path / "record.txt").read_text().splitlines() == [
        f"made cell/{folder.name}",
        f"found cell/{folder.name}",
    ]


def test_a_quick_look_sees_all_but_a_flipped_bit(own_store):
    folder = store.make("cell", PARAMS, write("right"))
    assert store.damage(folder, quick=True) is None
    (folder / "thing.txt").write_text("rigHt")
    assert (
        store.damage(folder, quick=True) is None and store.damage(folder) == "thing.txt has changed"
    )
    (folder / "thing.txt").write_text("rig")
    assert store.damage(folder, quick=True) == "thing.txt has changed"
    (folder / "thing.txt").unlink()
    assert "missing" in store.damage(folder, quick=True)


def test_removal_spares_what_another_writer_has_mended(own_store):
    folder = store.make("cell", PARAMS, write("right"))
    store.remove(folder)  # as when it was damaged a moment ago
    assert store.damage(folder) is None and not list((own_store / "tmp").iterdir())
    (folder / "thing.txt").write_text("harmed")
    store.remove(folder)
    assert not folder.exists() and not list((own_store / "tmp").iterdir())
    store.remove(folder)  # another remover was first


def test_a_rename_that_nfs_answers_with_an_error_after_all_is_fine(own_store, monkeypatch):
    rename = os.rename

    def twice(a, b):
        rename(a, b)
        raise FileNotFoundError(a)

    monkeypatch.setattr(os, "rename", twice)
    assert (store.make("cell", PARAMS, write("x")) / "thing.txt").read_text() == "x"


def test_a_full_disk_in_the_words_of_a_library(own_store):
    def full(folder):
        raise RuntimeError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    with pytest.raises(StudyError, match="disk full"):
        store.make("cell", PARAMS, full)
