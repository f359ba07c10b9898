"""Nothing lost that is not the store's, no file overwritten, one line for what is in the way."""

import multiprocessing
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from fsl_utils import StudyError, files, store

SCRATCH = "cell-0123456789abcdef-01234567"


def make():
    return store.make("cell", {"n": 1}, lambda out: (out / "a.txt").write_text("a") and None)


def old(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (0, 0), follow_symlinks=False)


def content(folder: Path) -> dict:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_sweep_removes_what_dead_writers_left_and_nothing_else(own_store, tmp_path):
    whole = make()
    tmp, kept = own_store / "tmp", tmp_path / "kept"
    for folder in (tmp / SCRATCH, tmp / "pool-0123456789abcdef-76543210", tmp / "mine", kept):
        folder.mkdir(parents=True)
        (folder / "half.txt").write_text("half")
        old(folder / "half.txt", folder)
    (tmp / f"{SCRATCH}.record").touch()
    (tmp / "damaged-0123456789abcdef-01234567").symlink_to(kept)
    (tmp / "notes.txt").touch()
    checkpoint = store.work_folder("adapter", {}) / "checkpoint.safetensors"
    half = checkpoint.with_name(f".01234567.{checkpoint.name}")
    for path in (checkpoint, half):
        path.touch()
    old(checkpoint, half, *tmp.glob("*"))
    (tmp / "pool-0123456789abcdef-76543210" / "half.txt").touch()  # that one is being written
    store.sweep()
    assert sorted(os.listdir(tmp)) == ["mine", "notes.txt", "pool-0123456789abcdef-76543210"]
    assert os.listdir(kept) == ["half.txt"] and store.damage(whole) is None
    assert os.listdir(checkpoint.parent) == [checkpoint.name]


def test_a_clock_that_is_days_ahead_sweeps_nothing(own_store, monkeypatch):
    make()
    (own_store / "tmp" / SCRATCH).mkdir()
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 3 * 86400)
    store.sweep()
    assert (own_store / "tmp" / SCRATCH).is_dir()


def test_the_clock_is_that_of_the_files_and_none_where_nothing_can_be_written(own_store):
    assert store.clock() is None
    store.opened()
    assert abs(store.clock() - time.time()) < 60 and os.listdir(own_store) == [store.MARK]


def homes(folder: Path) -> dict[str, Path]:
    """Folders that are no stores, each with an old folder of somebody's in tmp/."""
    given = {"a home": ".bashrc", "only tmp": None, "a data set": "cell/cat.png", "work": "work/a"}
    for name, more in given.items():
        (folder / name / "tmp" / "thesis").mkdir(parents=True)
        (folder / name / "tmp" / SCRATCH).mkdir()
        (folder / name / "tmp" / "thesis" / "chapter1.tex").write_text("x")
        if more:
            (folder / name / more).parent.mkdir(exist_ok=True)
            (folder / name / more).touch()
        old(*(folder / name / "tmp").rglob("*"))
    return {name: folder / name for name in given}


def test_a_folder_of_other_things_is_never_taken_for_a_store(tmp_path, monkeypatch):
    for home in homes(tmp_path).values():
        before = content(home)
        monkeypatch.setenv("FSL_STORE", str(home))
        for act in (store.sweep, make, lambda: store.work_folder("adapter", {})):
            with pytest.raises(StudyError, match=r"no store but holds other things.*empty folder"):
                act()
        assert content(home) == before


def test_an_empty_folder_and_a_store_of_before_become_stores(own_store):
    own_store.mkdir()
    whole = make()
    (own_store / store.MARK).unlink()
    (own_store / "running").mkdir()
    assert make() == whole  # reading asks for nothing
    assert store.opened() == own_store and (own_store / store.MARK).is_file()
    (own_store / "of mine.txt").touch()  # what somebody puts into a store later is left alone
    assert store.opened() == own_store


def _open(root, barrier):
    os.environ["FSL_STORE"] = root
    barrier.wait(30)
    for n in range(5):
        store.make("cell", {"n": n}, lambda out: (out / "a.txt").write_text("a") and None)


def test_many_who_open_a_store_at_once_all_may(own_store):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    processes = [context.Process(target=_open, args=(str(own_store), barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4


@pytest.mark.parametrize("name", store.OWN)
def test_a_link_in_place_of_a_folder_of_its_own_is_refused(own_store, tmp_path, name):
    whole = make()
    (tmp_path / "theirs").mkdir()
    shutil.rmtree(own_store / name, ignore_errors=True)
    (own_store / name).symlink_to(tmp_path / "theirs")
    with pytest.raises(StudyError, match=f"/{name} is a link: remove it"):
        store.sweep()
    assert make() == whole and not os.listdir(tmp_path / "theirs")


def test_checkpoints_do_not_go_through_a_link(own_store, tmp_path):
    folder = store.work_folder("adapter", {"n": 1})
    folder.rmdir()
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(StudyError, match="is a link: remove it"):
        store.work_folder("adapter", {"n": 1})


def test_a_link_in_place_of_a_file_is_replaced_not_followed(own_store, tmp_path):
    target, link = tmp_path / "theirs.txt", own_store / "running" / "02_lora"
    target.write_text("theirs")
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    store.write_text(link, "alive")
    assert target.read_text() == "theirs" and link.read_text() == "alive" and not link.is_symlink()


@pytest.mark.parametrize("what", ["link", "dangling", "fifo", "folder", "file for the thing"])
def test_other_things_in_place_of_a_finished_one_are_damage(own_store, tmp_path, what):
    folder = make()
    name = folder / "a.txt"
    name.unlink()
    if what == "link":
        (tmp_path / "b.txt").write_text("b")
        name.symlink_to(tmp_path / "b.txt")
    elif what == "dangling":
        shutil.rmtree(folder)
        folder.symlink_to(tmp_path / "nowhere")
    elif what == "fifo":
        os.mkfifo(name)
    elif what == "folder":
        name.mkdir()
    else:
        shutil.rmtree(folder)
        folder.touch()
    with pytest.warns(UserWarning, match="is damaged"):
        folder = make()
    assert store.damage(folder) is None and not folder.is_symlink()
    assert what != "link" or (tmp_path / "b.txt").read_text() == "b"


def test_a_fifo_in_place_of_the_manifest_does_not_hang(own_store):
    folder = make()
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    assert "missing or unreadable" in store.damage(folder, quick=True)


def test_a_file_in_place_of_the_store_or_a_stage_is_one_line(own_store):
    own_store.write_text("a file")
    with pytest.raises(StudyError, match=r"store cannot be written \(.*\): move away"):
        make()
    own_store.unlink()
    store.opened()
    (own_store / "cell").write_text("a file")
    with pytest.raises(StudyError, match=r"cell cannot be written \(.*\): move away"):
        make()


@pytest.mark.parametrize(
    "path, words",
    [
        ("/proc/no/store", "/proc/no cannot be made"),
        ("~nobody-has-this-name/store", "no user of this name"),
        (f"/tmp/{'x' * 300}", "File name too long"),
    ],
)
def test_a_store_that_cannot_be_is_one_line(monkeypatch, path, words):
    monkeypatch.setenv("FSL_STORE", path)
    with pytest.raises((StudyError, OSError), match=words) as told:  # a command prints either
        store.opened()
    assert "\n" not in str(told.value)


def _without_rights(queue):
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        make()
    except StudyError as error:
        queue.put(str(error))


@pytest.mark.parametrize("closed", ["", "store", "store/cell"])
def test_no_permission_is_one_line(monkeypatch, closed):
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("FSL_STORE", f"{folder}/store")
        if closed:
            store.opened()
        if closed == "store/cell":
            (store.root() / "tmp").mkdir()
            (store.root() / "cell").mkdir()
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o777)
        (Path(folder) / closed).chmod(0o555)
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        process = context.Process(target=_without_rights, args=(queue,))
        process.start()
        process.join(30)
        said = queue.get(timeout=1)
        (Path(folder) / closed).chmod(0o777)
    assert "cannot be written (Permission denied): take a folder of your own" in said


def test_what_a_build_says_of_other_paths_passes_as_it_is(own_store, tmp_path):
    def build(folder):
        (tmp_path / "missing" / "image.png").read_bytes()

    with pytest.raises(FileNotFoundError, match=r"image\.png"):
        store.make("cell", {"n": 2}, build)


def test_a_store_with_braces_and_blanks_in_its_path(tmp_path, monkeypatch):
    monkeypatch.setenv("FSL_STORE", str(tmp_path / "a {draw} store"))
    assert store.damage(make()) is None and store.root().name == "a {draw} store"


def test_plain_files_alone_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(OSError):
            files.sha256(path)
