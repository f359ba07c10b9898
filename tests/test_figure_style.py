"""Files of figures are fit for a paper, and every arm has a look of its own."""

import re

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from legible import styled  # noqa: F401

from fsl_utils import StudyError
from fsl_utils.analysis import curves, resampling
from fsl_utils.classifier import arms
from fsl_utils.figures import lines, style, words


@pytest.fixture(scope="module")
def study(few):
    return resampling.resample(*few)


def test_save_writes_png_and_csv_the_same_twice_and_pdf_where_it_is_wanted(study, tmp_path):
    table = curves.levels(study)
    first, second = (
        style.save(lines.arms(table), tmp_path / name / "arms_0.5x", table, pdf)
        for name, pdf in (("a", False), ("b", True))
    )
    assert [file.name for file in first] == ["arms_0.5x.png", "arms_0.5x.csv"]
    assert [file.name for file in second] == ["arms_0.5x.png", "arms_0.5x.pdf", "arms_0.5x.csv"]
    assert first[0].read_bytes() == second[0].read_bytes()
    assert sorted((tmp_path / "a").iterdir()) == sorted(first)  # nothing half-written
    pdf = second[1].read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf  # text is text, its fonts embedded
    assert not plt.get_fignums()  # closed


def test_csv_is_the_table_and_names_the_cells(study, tmp_path):
    table = curves.levels(study)
    back = pd.read_csv(style.save(lines.arms(table), tmp_path / "arms", table)[1])
    assert back["mean"].to_numpy() == pytest.approx(table["mean"].to_numpy(), rel=1e-5)
    assert all(re.fullmatch("[0-9a-f]{12}(;[0-9a-f]{12})*", names) for names in back["cells"])
    with pytest.raises(StudyError, match="cells"):
        style.save(lines.arms(table), tmp_path / "arms", table.drop(columns=["cells"]))


def test_every_study_has_a_folder_of_its_own_inside(study):
    one = study.setting
    changes = [
        {},
        {"rare_class": "../../up"},
        {"rare_class": "..-..-up"},
        {"rare_class": "a/b"},
        {"rare_class": ".."},
        {"rare_class": "裂纹"},
        {"mode": "inpaint"},
        {"init": "scratch"},
        {"base": "ffffffffffff"},
        {"protocol": "image", "image_size": 128},
    ]
    folders = words.folders([one | change for change in changes])
    assert folders[0].startswith("elpv_defective_n20/probe")
    assert len(set(folders)) == len(changes)
    for folder in folders:
        assert folder.count("/") == 1
        assert not any(part.startswith(".") or not part for part in folder.split("/"))


def test_every_arm_has_its_look_and_none_needs_colour():
    assert set(arms.ARMS) <= set(style.ARM_STYLE)
    without_colour = [(marker, line) for _, marker, line in style.ARM_STYLE.values()]
    assert len(set(without_colour)) == len(without_colour)


def test_an_arm_without_a_style_gets_one_and_always_the_same():
    assert style.arm_style("mine") == style.arm_style("mine")
    colour, marker, linestyle = style.arm_style("mine")
    plt.plot([0, 1], color=colour, marker=marker, linestyle=linestyle)


def test_a_name_that_no_font_has_stands_as_its_code_points(recwarn):
    private = "\ue123"  # no font's, by Unicode
    assert style.plain(f"a{private}b\nc") == "aU+E123 b\nc"
    figure, _ = style.small_multiples([f"$\\alpha$ {private} <b>"], 1)
    figure.draw_without_rendering()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    assert figure.axes[0].get_title(loc="left") == "$\\alpha$ U+E123  <b>"  # no formula
