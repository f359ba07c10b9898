"""Folders that people really have: each reads as a person would see it, or says what to do."""

import os
import shutil

import cases
import numpy as np
import papermill
import pytest
from cases import load, note, root  # noqa: F401

from fsl_utils import ROOT, StudyError
from fsl_utils.classifier import input_chain
from fsl_utils.data import partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import regions

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


def colour(root, objects=60):
    cases.colour(root, objects)
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
    domain = colour(root, objects=36)
    table = input_chain.costs(FewShotTask(domain, partitions.draw(domain.table, 0, 6)))
    assert table[["size", "channels"]].to_numpy().tolist() == [[64, 1], [128, 1], [224, 3]]
    assert table["pr_auc"].iloc[-1] > 0.95  # the stain is seen in colour
    assert (table["seconds"] >= 0).all()
