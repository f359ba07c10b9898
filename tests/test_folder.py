"""A user's own folder: any names, sizes and depths of image; groups from a file, a pattern or none;
kept partitions.
"""

import os
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from fsl_utils import StudyError
from fsl_utils.data import domains, partitions


def picture(path, value=0, mode="L", size=(20, 14)):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(value)
    if mode == "I;16":
        Image.fromarray(rng.integers(0, 65536, size[::-1], dtype=np.uint16)).save(path)
    else:
        Image.fromarray(rng.integers(0, 256, size[::-1], dtype=np.uint8)).convert(mode).save(path)


@pytest.fixture
def root(tmp_path, own_store, monkeypatch):
    """60 parts, two shots each, every third cracked; a path with a space and non-ASCII letters."""
    monkeypatch.delenv("FSL_FOLDER", raising=False)
    root = tmp_path / "Meine Prüfung 検査"
    for part in range(60):
        for shot in range(2):
            picture(
                root / ("Riß" if part % 3 == 0 else "gut") / f"part{part:02d}_{shot}.png",
                part * 2 + shot,
            )
    return root


def load(root, rare="Riß", **more):
    return domains.load("folder", rare, folder=str(root), **{"group_pattern": r"part(\d+)_"} | more)


def test_a_folder_becomes_a_domain(root, monkeypatch):
    domain = load(root)
    assert (domain.common_class, len(domain.table), domain.table["label"].sum()) == ("gut", 120, 40)
    assert (
        domain.table["group"].nunique() == 60
        and domain.table.groupby("group")["partition"].nunique().max() == 1
    )
    assert domain.images(64).shape == (120, 1, 64, 64)
    draw = partitions.draw(domain.table, 0, 8)
    assert len(draw.shots) == 8
    monkeypatch.setenv("FSL_FOLDER", str(root))
    assert domains.load("folder", "Riß", group_pattern=r"part(\d+)_").data_hash == domain.data_hash
    assert (
        len(domain.rows("base")) > 0
        and (domain.table["label"].to_numpy()[domain.rows("base")] == 0).all()
    )


def test_colour_sixteen_bits_and_every_suffix(root):
    modes = {"png": "RGBA", "jpg": "RGB", "tif": "I;16", "bmp": "L", "TIFF": "RGB", "JPEG": "L"}
    for i, (suffix, mode) in enumerate(modes.items()):
        picture(root / "gut" / f"part{70 + i}_0.{suffix}", 500 + i, mode, (300, 5))
    domain = load(root)
    assert len(domain.table) == 126 and domain.images(32).shape == (126, 1, 32, 32)
    for part in range(60):
        picture(root / "colour" / f"part{part:02d}_5.jpg", part, "RGB")
    domain = load(root, "colour", common_class="gut")
    assert domain.channels == 1  # grey, whatever the mode says


def test_groups_come_from_a_file(root):
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))
    # Letters decomposed, as macOS writes them: the same names all the same.
    rows = [f'"{unicodedata.normalize("NFD", n)}",lot {i % 30}' for i, n in enumerate(names)]
    (root / "groups.csv").write_text(
        "\n".join(["file,group", *rows, "gut/gone.png,lot 1"]), encoding="utf-8-sig"
    )
    domain = load(root, group_pattern="")
    assert (
        domain.table["group"].nunique() == 30 and domain.table["group"].str.startswith("lot").all()
    )
    assert any("1 rows of groups.csv have no image: gut/gone.png" in n for n in domain.notes)


def test_without_groups_every_image_is_one_and_the_risk_is_told(root):
    domain = load(root, group_pattern="")
    assert domain.table["group"].nunique() == 120
    assert any("the split leaks" in n for n in domain.notes)


def test_partitions_are_made_once_and_added_images_move_nothing(root):
    before = load(root).table.set_index("image")["partition"]
    for part in range(60, 90):
        picture(root / "gut" / f"part{part}_0.png", part)
    picture(root / "Riß" / "part01_9.png", 999)  # a known part
    after = load(root).table.set_index("image")
    assert (after["partition"][before.index] == before).all()
    assert after.loc["Riß/part01_9.png", "partition"] == before["gut/part01_0.png"]
    assert after["partition"][[f"gut/part{p}_0.png" for p in range(60, 90)]].nunique() == 3


def test_the_store_may_be_lost_and_the_partition_is_made_the_same(root, monkeypatch, tmp_path):
    before = load(root).table
    monkeypatch.setenv("FSL_STORE", str(tmp_path / "other store"))
    assert load(root).table.equals(before)
    root.rename(root.with_name("moved"))
    assert (load(root.with_name("moved")).table["partition"] == before["partition"]).all()


def test_a_rare_image_in_a_base_group_is_told(root):
    table = load(root).table
    part = table.loc[table["partition"] == "base", "group"].iloc[0]
    picture(root / "Riß" / f"part{part}_9.png", 999)
    assert any("1 images of other classes were added to base groups" in n for n in load(root).notes)


def test_three_classes_need_the_common_one_named(root):
    for part in range(100, 130):
        picture(root / "scratch" / f"part{part}_0.png", part)
    with pytest.raises(
        StudyError, match="common_class is '': it must name one of the folders gut, scratch"
    ):
        load(root)
    assert load(root, common_class="gut").table["class_name"].nunique() == 2
    assert load(root, "any_defect", common_class="gut").table["label"].sum() == 70


def test_classes_counts_the_folder(root):
    counts = domains.classes("folder", folder=str(root), group_pattern=r"part(\d+)_").set_index(
        "class_name"
    )
    assert tuple(counts.loc["gut"]) == (80, 40) and tuple(counts.loc["Riß"]) == (40, 20)


def test_other_files_are_counted_and_left_out(root):
    (root / "gut" / "notes.txt").write_text("x")
    (root / "gut" / ".hidden.png").write_bytes(b"")
    picture(root / "loose.png")
    picture(root / "gut" / "deeper" / "part01_a.png")
    domain = load(root)
    assert len(domain.table) == 121
    assert any(
        n.startswith("2 files are no images that are read and are left out (1 .png, 1 .txt): ")
        for n in domain.notes
    )


def outside(root):
    picture(root.parent / "secret.png")
    os.symlink(root.parent / "secret.png", root / "gut" / "part99_0.png")


def outside_class(root):
    picture(root.parent / "elsewhere" / "part99_0.png")
    os.symlink(root.parent / "elsewhere", root / "more")


def half_groups(root):
    (root / "groups.csv").write_text("file,group\ngut/part01_0.png,a\n")


def twice(root):
    (root / "groups.csv").write_text("file,group\ngut/part01_0.png,a\ngut/part01_0.png,b\n")


def no_columns(root):
    (root / "groups.csv").write_text("name;part\n")


def emptied(root):
    for path in (root / "Riß").iterdir():
        path.unlink()


def few(root):
    for path in (root / "Riß").iterdir():
        if "part00" not in path.name:
            path.unlink()


@pytest.mark.parametrize(
    "spoil, options, words",
    [
        (lambda r: None, {"folder": "/no/such"}, "/no/such: no such folder"),
        (lambda r: None, {"folder": ""}, "needs the parameter folder"),
        (lambda r: None, {"rare": ""}, "needs rare_class: one of Riß, gut"),
        (
            lambda r: None,
            {"rare": "crack"},
            "unknown class 'crack' in rare_class: known are Riß, gut, any_defect",
        ),
        (lambda r: None, {"common_class": "good"}, "unknown class 'good' in common_class"),
        (lambda r: None, {"common_class": "Riß"}, "unknown rare_class 'Riß'"),
        (lambda r: None, {"group_pattern": "part("}, "no regular expression"),
        (
            lambda r: None,
            {"group_pattern": r"piece(\d+)"},
            "finds no group in 120 of 120 images: Riß/part00_0.png",
        ),
        (outside, {}, "part99_0.png: a link that leads out of"),
        (outside_class, {}, "more: a link that leads out of"),
        (
            half_groups,
            {"group_pattern": r"part(\d+)_"},
            "stands beside .*groups.csv: which of them counts",
        ),
        (half_groups, {}, "groups.csv gives no group to 119 of 120 images: Riß/part00_0.png"),
        (twice, {}, r"1 files stand there more than once \(first: gut/part01_0.png\)"),
        (no_columns, {}, r"columns \['file', 'group'\] are missing"),
        (emptied, {}, "80 images in 1 class folders"),
        (lambda r: [shutil.rmtree(path) for path in r.iterdir()], {}, "0 images in 0 class"),
        (
            few,
            {},
            "no rare image in the .* partition: Riß has 1 groups with 2 images, gut 80 images; "
            "more groups are needed",
        ),
    ],
)
def test_bad_folders_are_told(root, spoil, options, words):
    spoil(root)
    options = {"folder": str(root), "rare": "Riß"} | options
    if not (root / "groups.csv").exists():
        options = {"group_pattern": r"part(\d+)_"} | options
    with pytest.raises(StudyError, match=words) as caught:
        domains.load("folder", options.pop("rare"), **options)
    assert "\n" not in str(caught.value)


def test_unreadable_images_are_named_when_they_are_read(root):
    (root / "gut" / "part01_0.png").write_bytes(b"")
    (root / "gut" / "part02_1.png").write_text("hello")
    with pytest.raises(
        StudyError, match="2 of 120 images cannot be read: .*part01_0.png.*part02_1.png"
    ):
        load(root).images(16)


def test_the_image_root_may_be_a_link_itself(root, tmp_path):
    os.symlink(root, tmp_path / "link")
    assert load(tmp_path / "link").data_hash == load(root).data_hash
