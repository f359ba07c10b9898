"""Groups and partitions of people's folders: no part stands on two sides, however it is spelt."""

import re

import cases
import numpy as np
import pytest
from cases import PATTERN, load, note, root, side  # noqa: F401
from PIL import Image

from fsl_utils import StudyError
from fsl_utils.data import kept, leaks


def test_blanks_do_not_make_groups(root):
    cases.groups(root)
    domain = load(root, pattern="")
    assert domain.table["group"].nunique() == 40
    assert domain.table.groupby("group")["partition"].nunique().max() == 1


@pytest.mark.parametrize("blank", ["\t", "\u00a0", "  ", "\u200b"])
def test_nor_do_other_blanks_and_another_case_is_told(root, blank):
    cases.parts(root)
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))
    rows = [f"{n},{'P' if i % 4 else 'p'}{i // 2}{blank * (i % 2)}" for i, n in enumerate(names)]
    (root / "groups.csv").write_text("file,group\n" + "\n".join(rows), encoding="utf-8")
    domain = load(root, pattern="")
    assert domain.table["group"].nunique() == 40
    assert note(domain, "case alone")


def test_the_same_groups_however_spelt_named_or_stored_are_split_the_same(root, monkeypatch):
    cases.respelt(root)
    before = side(load(root))
    assert (side(load(root, pattern=r"part(\d+)")) == before).all()
    assert (side(load(root, pattern=r"part\d+")) == before).all()
    moved = root.rename(root.with_name("moved"))
    assert (side(load(moved)) == before).all()
    monkeypatch.setenv("FSL_STORE", str(root.parent / "fresh"))
    for pattern in (r"(part\d+)_", ""):
        (moved / "partition.csv").unlink()  # made anew, it is the same
        assert (side(load(moved, pattern=pattern)) == before).all()


def test_a_corrected_label_moves_nothing(root):
    cases.parts(root)
    for pattern in (PATTERN, ""):
        before = side(load(root, pattern=pattern))
        wrong = next(n for n in before.index[before == "test"] if n.startswith("good/"))
        right = wrong.replace("good/", "scratch/")
        (root / wrong).rename(root / right)
        after = side(load(root, pattern=pattern))
        assert (
            after[right] == "test" and (after[before.index.drop(wrong)] == before.drop(wrong)).all()
        )


def test_the_partition_lies_where_the_user_says(root, monkeypatch):
    cases.parts(root)
    monkeypatch.setenv("FSL_PARTITION", str(root.parent / "mine.csv"))
    domain = load(root)
    assert (root.parent / "mine.csv").is_file() and not (root / "partition.csv").exists()
    assert "mine.csv" in note(domain, "partitions are kept in")
    monkeypatch.setenv("FSL_PARTITION", str(root / "good/part001_a.png/partition.csv"))
    with pytest.raises(StudyError, match="set FSL_PARTITION to a file of its own"):
        load(root)


def test_groups_that_join_two_sides_are_refused(root):
    cases.parts(root)
    load(root)
    with pytest.raises(
        StudyError, match=r"groups have images on two sides of the partition in .*partition\.csv"
    ):
        load(root, pattern=r"part(\d)")


def test_a_cut_or_edited_partition_is_refused(root):
    cases.parts(root)
    before = side(load(root))
    path = root / "partition.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines).replace("\n", "\r\n"))  # as git may check it out
    assert (side(load(root)) == before).all()
    swapped = [lines[0], *(x.replace(",test", ",development") for x in lines[1:])]
    for spoilt in (
        [*lines[:-6]],
        lines[1:],
        swapped,
        [*lines, lines[-1].replace("part", "qart")],
        [],
    ):
        path.write_text("".join(spoilt))
        with pytest.raises(StudyError, match=r"partition\.csv.*splits anew"):
            load(root)
    assert kept.read(root / "none.csv").empty
    path.unlink()
    path.symlink_to(root / "unmounted" / "partition.csv")
    with pytest.raises(StudyError, match=r"partition\.csv.*splits anew"):
        load(root)


def test_duplicates_are_named_and_kept_on_one_side(root):
    cases.duplicates(root)
    domain = load(root, pattern="")
    told = note(domain, "more than once")
    assert told.startswith("3 pictures") and "good/copy_part001_a.png = good/part001_a.png" in told
    pair = domain.table[domain.table["image"].str.endswith("part001_a.png")]
    assert len(pair) == 2 and pair["group"].nunique() == 1
    result = leaks.similar(domain.table, domain.images(leaks.SIZE))
    assert -1 < result.threshold <= 1 and result.flagged < 0.1 * result.crossing


def test_the_same_picture_saved_otherwise_is_a_duplicate_and_two_labels_are_told(root):
    cases.parts(root)
    Image.open(root / "good/part001_a.png").save(root / "scratch/other.bmp")
    domain = load(root, pattern="")
    assert "good/part001_a.png = scratch/other.bmp" in note(domain, "two labels")
    assert (domain.table.groupby("content")["group"].nunique() == 1).all()


def test_without_groups_a_pattern_is_suggested_and_a_pattern_of_single_images_is_told(root):
    cases.parts(root, n=40)
    for path in root.rglob("*_a.png"):
        shifted = Image.fromarray(np.roll(np.asarray(Image.open(path)), 1))
        shifted.save(path.with_name(path.name.replace("_a", "_b")))
    told = note(load(root, pattern=""), "every image is its own group")
    assert "would make 40 groups of 80 images" in told
    suggested = re.search(r"group_pattern '(.+?)' would", told)[1]
    (root / "partition.csv").unlink()
    assert load(root, pattern=suggested).table["group"].nunique() == 40
    (root / "partition.csv").unlink()
    assert "every image is its own group" in note(load(root, pattern=r"part(.+)\."), "own group")


def test_a_pattern_that_backtracks_ends(root, monkeypatch):
    cases.parts(root, n=6)
    (root / "good/part001_a.png").rename(root / f"good/{'a' * 60}.png")
    monkeypatch.setattr("fsl_utils.data.datasets.groups.PATTERN_SECONDS", 1)
    with pytest.raises(StudyError, match="searches for more than 1 s: it backtracks"):
        load(root, pattern=r"(a+)+b")


def test_a_rare_majority_is_told(root):
    cases.parts(root)
    assert "53 of 80" in note(load(root, "good"), "is the majority")
