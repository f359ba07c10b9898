"""Folders that people really have: each reads as a person would see it, or says what to do."""

import os
import re
import shutil
import time

import cases
import numpy as np
import papermill
import pytest
from PIL import Image

from fsl_utils import ROOT, StudyError
from fsl_utils.classifier import input_chain
from fsl_utils.data import cache, domains, kept, leaks, partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import regions

PATTERN = r"part(\d+)_"


@pytest.fixture
def root(tmp_path, own_store, monkeypatch):
    monkeypatch.delenv("FSL_FOLDER", raising=False)
    monkeypatch.delenv("FSL_PARTITION", raising=False)
    return tmp_path / "parts"


def load(root, rare="scratch", pattern=PATTERN, **more):
    return domains.load("folder", rare, folder=str(root), group_pattern=pattern, **more)


def note(domain, words) -> str:
    """The one note that holds `words`, a regular expression."""
    (found,) = [n for n in domain.notes if re.search(words, n)]
    return found


def bar(pixels):
    """Mean brightness of the top third less that of the bottom: where the bar is."""
    third = pixels.shape[-2] // 3
    return pixels[..., :third, :].mean((1, 2, 3)) - pixels[..., -third:, :].mean((1, 2, 3))


def side(domain):
    return domain.table.set_index("image")["partition"]


# -- What is read --------------------------------------------------------------------------------


def test_a_swap_under_the_same_names_sizes_and_times_is_seen(root, monkeypatch):
    monkeypatch.setattr(cache, "_TICK", 20_000_000)
    cases.stale(root)
    time.sleep(0.05)
    before, again = load(root), load(root)
    assert before.data_hash == again.data_hash
    cases.swap(root)
    after = load(root)
    assert after.data_hash != before.data_hash
    table = after.table.set_index("image").loc["good/part001_a.bmp"]
    at = after.table["image"].tolist().index("good/part001_a.bmp")
    assert table["label"] == 0 and bar(after.images(48))[at] > 10  # the rare picture lies there now
    assert (side(after) == side(before)).all()


def test_turned_photos_stand_upright(root):
    cases.exif(root)
    domain = load(root)
    rare = domain.table["label"].to_numpy() == 1
    assert (bar(domain.images(48))[rare] > 10).all()
    assert note(domain, "EXIF orientation").startswith("40 images are turned")


def test_hidden_colours_tell_nothing(root):
    cases.alpha(root)
    domain = load(root)
    corner = domain.images(96)[:, 0, :8, :8]
    assert (corner == 255).all()
    assert note(domain, "see-through").startswith("80 images")


def test_several_pages_are_refused(root):
    cases.pages(root)
    with pytest.raises(
        StudyError, match=r"80 of 80 images cannot be read: .*part001_a\.tif: 4 pages"
    ):
        load(root)


def deep(root, scale=1, offset=0, signed=False, inverted=False):
    """16-bit files of the base images, in the units of another camera."""
    info = {339: 2} if signed else {262: 0} if inverted else {}

    def save(image, path, i, rare):
        grey = np.asarray(image).astype(int)
        values = ((255 - grey if inverted else grey) * scale + offset).astype(
            np.int16 if signed else np.uint16
        )
        Image.fromarray(values.view(np.uint16)).save(path, tiffinfo=info)

    return cases.parts(root, ".tif", save)


@pytest.mark.parametrize(
    "unit, levels",
    [
        ({"scale": 1}, "0 is black, 255 white"),
        ({"scale": 4}, "0 is black, 1023 white"),
        ({"scale": 16}, "0 is black, 4095 white"),
        ({"scale": 16, "inverted": True}, "0 is black, 4095 white"),
        ({"scale": 16, "signed": True}, "0 is black, 4095 white"),
        ({"scale": 16, "signed": True, "offset": -1000}, r"-\d+ is black, \d+ white"),
    ],
)
def test_sixteen_bit_files_are_not_black(root, unit, levels):
    deep(root, **unit)
    domain = load(root)
    shown = np.stack(
        [cases.pixels(int(n[-9:-6]), n.startswith("s")) for n in domain.table["image"]]
    )
    contrast = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(domain.images(96)[:, 0], shown)
    ]
    assert min(contrast) > 0.999 and domain.images(96).max() > 128
    assert note(domain, levels).startswith("80 images of 16 bits")


def test_one_factor_for_the_whole_folder(root):
    cases.twelve_bits(root)
    domain = load(root)
    assert np.abs(domain.images(96)[0, 0].astype(int) - cases.pixels(1, False)).max() <= 1
    full = load(
        cases.parts(
            root.parent / "full",
            save=lambda image, path, i, rare: Image.fromarray(
                np.asarray(image).astype(np.uint16) * 257
            ).save(path),
        )
    )
    assert "white" not in full.table and not [n for n in full.notes if "16 bits" in n]
    assert np.array_equal(full.images(96)[0, 0], cases.pixels(1, False))


def test_a_hot_pixel_that_leaves_the_rest_dark_is_told(root):
    cases.twelve_bits(root)
    hot = np.asarray(Image.open(root / "good/part001_a.png")).copy()
    hot[0, 0] = 65535
    Image.fromarray(hot).save(root / "good/part001_a.png")
    assert "brightest is good/part001_a.png" in note(load(root), "come out dark")


def test_other_formats_and_nested_folders_are_read(root):
    cases.other_files(root)
    domain = load(root)
    assert len(domain.table) == 80 and domain.table["label"].sum() == 27
    (root / "good/raw.heic").write_bytes(b"x"), (root / "good/cam0/notes.txt").write_text("x")
    assert note(load(root), "left out").startswith(
        "2 files are no images that are read and are left out (1 .heic, 1 .txt)"
    )


def test_an_eps_is_named_and_left_out(root):
    cases.postscript(root)
    domain = load(root)
    assert len(domain.table) == 79
    assert "good/part001_a.png" in note(domain, "another format than their names say")


def test_a_name_that_is_not_utf8_is_shown(root):
    try:
        cases.latin1(root)
    except OSError:
        pytest.skip("this file system takes no such names")
    with pytest.raises(StudyError, match=r"part001_gepr\\xfcft\.png is not UTF-8; rename it"):
        load(root)


def test_colour_is_there_for_who_asks(root):
    cases.parts(
        root,
        ".jpg",
        lambda image, path, i, rare: Image.merge(
            "RGB", [image, image, Image.new("L", image.size, 40)]
        ).save(path),
    )
    domain = load(root)
    assert domain.channels == 3 and "mini paints grey" in note(domain, "in colour")
    assert domain.images(48).shape == (80, 1, 48, 48) and domain.images(48, 3).shape == (
        80,
        3,
        48,
        48,
    )
    assert domain.images(48, 3)[:, 2].mean() < 60 < domain.images(48, 3)[:, 0].mean()


def test_grey_saved_as_colour_is_grey(root):
    cases.parts(root, ".jpg", lambda image, path, i, rare: image.convert("RGB").save(path))
    assert load(root).channels == 1


# -- Masks ---------------------------------------------------------------------------------------


def beside(word, suffix):
    return lambda path: path.with_name(f"{path.stem}{word}{suffix}")


def in_folder(*parts):
    return lambda path: path.parents[1].joinpath(*parts, f"{path.stem}.png")


PLACES = {
    "_mask": beside("_mask", ".png"),
    "_label.bmp": beside("_label", ".bmp"),
    "_GT": beside("_GT", ".png"),
    "other suffix": beside("", ".png"),
    "jpeg": beside("_mask", ".jpeg"),
    "masks/": in_folder("masks"),
    "masks/class/": in_folder("masks", "scratch"),
    "class/masks/": in_folder("scratch", "masks"),
    "ground_truth/": in_folder("ground_truth", "scratch"),
}


@pytest.mark.parametrize("place", PLACES)
def test_masks_are_no_images_and_are_used(root, place):
    cases.parts(root, ".jpg")
    for path in sorted((root / "scratch").glob("*.jpg")):
        mask, where = np.zeros((96, 96), np.uint8), PLACES[place](path)
        mask[10:28, 12:84] = 255
        where.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(where)
    domain = load(root)
    assert len(domain.table) == 80 and domain.table["label"].sum() == 27
    assert note(domain, "masks belong to images").startswith("27 masks")
    draw = partitions.draw(domain.table, 0, 8)
    marks = domain.masks(draw.shots, 96)
    assert (
        domain.has_masks
        and (marks[:, 0, 12:26, 14:82] == 255).all()
        and marks[:, 0, 40:].max() == 0
    )
    pasted = regions.paste(FewShotTask(domain, draw), 48, 0, range(4))
    assert pasted.shape == (4, 1, 48, 48)


def test_the_shared_case_of_masks(root):
    cases.masks(root)
    assert load(root).table["label"].sum() == 27


def test_other_masks_are_another_data_set(root):
    cases.masks(root)
    before = load(root)
    Image.new("L", (96, 96), 255).save(root / "scratch/part000_a_mask.png")
    after = load(root)
    assert after.data_hash != before.data_hash
    assert "part000_a_mask.png" in note(after, "more than half")


@pytest.mark.parametrize("values", [(0, 1), (0, 3), (0, 255), (0, 65535)])
def test_any_value_above_black_marks(root, values):
    cases.parts(root, ".jpg")
    for path in sorted((root / "scratch").glob("*.jpg")):
        mask = np.zeros((96, 96), np.uint16 if values[1] > 255 else np.uint8)
        mask[40, 3:90] = values[1]
        Image.fromarray(mask).save(path.with_name(f"{path.stem}_mask.png"))
    domain = load(root)
    rows = np.flatnonzero(domain.table["label"])
    assert (
        domain.masks(rows, 16).reshape(27, 16, 16).max(axis=(1, 2)) == 255
    ).all()  # thin, not lost


def test_photos_named_like_masks_and_drawings_stay_images(root):
    cases.parts(root, "_label.png")
    domain = load(root)
    assert len(domain.table) == 80 and note(domain, "named like masks").endswith("77 more")
    drawings = cases.parts(
        root.parent / "drawings",
        save=lambda image, path, i, rare: image.point(lambda v: 255 * (v > 130)).save(path),
    )
    assert len(load(drawings).table) == 80


def test_stray_masks_are_left_out_and_named(root):
    cases.parts(root)
    Image.fromarray(np.eye(96, dtype=np.uint8) * 255).save(root / "scratch/part900_x.png")
    domain = load(root)
    assert len(domain.table) == 80 and "scratch/part900_x.png" in note(domain, "masks of no image")


def test_boxes_are_weak_masks(root):
    cases.parts(root)
    names = [f"scratch/{p.name}" for p in sorted((root / "scratch").glob("*.png"))]
    (root / "boxes.csv").write_text("file,x,y,w,h\n" + "".join(f"{n},12,10,72,18\n" for n in names))
    domain = load(root)
    marks = domain.masks(np.flatnonzero(domain.table["label"]), 96)
    assert domain.has_masks and (marks.sum(axis=(1, 2, 3)) == 255 * 72 * 18).all()
    assert "27 images" in note(domain, "boxes mark defects")
    with open(root / "boxes.csv", "a") as file:
        file.write(f"{names[0]},90,10,72,18\n")
    with pytest.raises(
        StudyError, match=r"1 boxes do not lie inside .*row 29, scratch/part000_a\.png"
    ):
        load(root)


# -- Groups and partitions -----------------------------------------------------------------------


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


# -- Clear words ---------------------------------------------------------------------------------


def table(text):
    return lambda root: (root / "groups.csv").write_text(text)


def too_high(root):
    shutil.move(root, root.parent / "inner")
    root.mkdir()
    shutil.move(root.parent / "inner", root / "inner")


def too_low(root):
    for path in list((root / "good").iterdir()):
        path.rename(root / path.name)


@pytest.mark.parametrize(
    "spoil, options, words",
    [
        (lambda r: (r / "groups.csv").mkdir(), {"pattern": ""}, "groups.csv: not a file"),
        (lambda r: (r / "boxes.csv").mkdir(), {}, "boxes.csv: not a file"),
        (
            table("file,group\nx/part000_a.png,1\n"),
            {"pattern": ""},
            "fits no image: it says x/part000_a.png, where an image is good/part001_a.png",
        ),
        (too_high, {}, r"below lie inner/good, inner/scratch: is .*inner the right one"),
        (too_low, {}, "53 images lie in it directly"),
        (
            lambda r: None,
            {"rare": "scrach"},
            "unknown class 'scrach' in rare_class: known are good, scratch, any_defect",
        ),
        (
            lambda r: None,
            {"common_class": "gut"},
            "unknown class 'gut' in common_class: known are good, scratch",
        ),
    ],
)
def test_words(root, spoil, options, words):
    cases.parts(root)
    spoil(root)
    with pytest.raises(StudyError, match=words) as caught:
        load(root, **options)
    assert "\n" not in str(caught.value)


def test_folders_without_permission_are_told(root, monkeypatch):
    cases.parts(root)
    scan = os.scandir

    def closed(path):
        if str(path).endswith("good"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)  # an administrator, as in CI, may read all
    with pytest.raises(StudyError, match="good: Permission denied; its images cannot be read"):
        load(root)


def test_one_shot_is_refused_and_no_circle_is_led(root):
    cases.parts(root)
    domain = load(root)
    with pytest.raises(StudyError, match="n_real is 1: at least 2 shots"):
        partitions.draw(domain.table, 0, 1)


def test_notes_are_printed(root, capsys):
    cases.exif(root)
    load(root).print_notes()
    assert "note: 40 images are turned" in capsys.readouterr().out


# -- From the folder to a figure -----------------------------------------------------------------


def kolektor(root):
    cases.kolektor(root)
    return load(root, "cracked", r"(kos\d+)_")


def colour(root):
    cases.colour(root)
    return load(root, "stain", r"(object\d+)_")


def test_mixed_groups_with_thin_cracks(root):
    domain = kolektor(root)
    assert len(domain.table) == 240 and domain.table["group"].nunique() == 40
    assert len(domain.rows("base")) == 0  # every group shows a crack
    assert note(domain, "masks belong to images").startswith("240 masks")
    task = FewShotTask(domain, partitions.draw(domain.table, 0, 12))
    rows, marks = regions.masks(task, 64)
    assert len(rows) == 12 and marks.any(axis=(1, 2)).all()  # no crack is too thin
    pasted = regions.paste(task, 64, 0, range(6))
    assert pasted.shape == (6, 1, 64, 64)


def test_a_stain_that_only_colour_shows(root):
    domain = colour(root)
    assert domain.channels == 3 and domain.has_masks
    rows = np.flatnonzero(domain.table["label"])
    grey, seen = domain.images(64)[rows], domain.images(64, 3)[rows].astype(int)
    on = domain.masks(rows, 64)[:, 0] > 0
    redness = seen[:, 0] - seen[:, 1]
    assert redness[on].mean() - redness[~on].mean() > 100
    assert abs(grey[:, 0][on].mean() - grey[:, 0][~on].mean()) < 6


@pytest.mark.slow
@pytest.mark.parametrize("make", [kolektor, colour])
@pytest.mark.parametrize("stem", ["01_data_exploration", "04_classifier_sweep"])
def test_the_notebooks_run_on_it(root, make, stem):
    rare = make(root).rare_class
    given = {"domain": "folder", "folder": str(root), "rare_class": rare, "n_real": 8}
    given["group_pattern"] = r"([a-z]+\d+)_"
    if stem.startswith("04"):
        given |= {"arms": ["real", "paste"], "ratios": [1.0]}
    out = root.parent / "out.ipynb"
    papermill.execute_notebook(
        ROOT / "notebooks" / f"{stem}.ipynb",
        out,
        given,
        kernel_name="python3",
        progress_bar=False,
        cwd=ROOT / "notebooks",
    )
    said = out.read_text()
    assert "masks belong to images" in said and "image/png" in said


def test_what_the_input_chain_costs_is_told(root):
    domain = colour(root)
    table = input_chain.costs(FewShotTask(domain, partitions.draw(domain.table, 0, 6)))
    assert table[["size", "channels"]].to_numpy().tolist() == [[64, 1], [128, 1], [224, 3]]
    assert table["pr_auc"].iloc[-1] > 0.95  # the stain is seen in colour
    assert (table["seconds"] >= 0).all()
