"""Widgets: one button, knobs with an effect, real images beside; a sentence where nobody clicks."""

import numpy as np
import pandas as pd
import pytest

from fsl_utils import StudyError
from fsl_utils.figures import sheets, widgets
from fsl_utils.generator import sampling
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.generator.sampling import PoolRequest


@pytest.fixture
def displayed(monkeypatch):
    """What a notebook would show, with somebody at it."""
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)
    monkeypatch.setattr(widgets, "attended", lambda: True)
    return shown


def test_the_button_samples_with_the_knobs_and_shows_real_images_beside(
    monkeypatch, task, capsys, displayed
):
    pools, opened, titles = [], [], []
    monkeypatch.setattr(sampling, "open_backbone", lambda *_: opened.append(1))

    def sample(backbone, pool, numbers):
        if pool.guidance == 4:
            raise StudyError("too much")
        assert busy.value  # said while it works
        pools.append(pool)
        return np.zeros((len(numbers), 1, 64, 64), np.uint8)

    def sheet(rows, *_):
        titles.append([title for title, _ in rows])
        return "sheet"

    monkeypatch.setattr(sampling, "sample", sample)
    monkeypatch.setattr(sheets, "sheet", sheet)
    adapter = AdapterRequest.new(task, 1)
    widgets.sampler(adapter)
    first, sliders, last, _ = displayed.pop().children
    (mode, seed), (guidance, strength, steps) = first.children, sliders.children
    button, busy = last.children
    assert strength.disabled
    for knob, value in ((mode, "inpaint"), (guidance, 2.0), (strength, 0.3), (steps, 5), (seed, 3)):
        knob.value = value
    assert not strength.disabled and not pools  # nothing before the button
    button.click()
    settings = {"mode": "inpaint", "guidance": 2.0, "strength": 0.3, "steps": 5, "seed": 3}
    assert pools == [PoolRequest.of(adapter, **settings)] and busy.value == ""
    assert titles == [["shots", "made from", "synthetic", "difference (grey: none)"]]
    mode.value = "from_shot"
    button.click()
    assert titles[1] == ["made from", "synthetic"] and len(opened) == 1
    displayed.clear()
    guidance.value = 4.0
    button.click()
    assert "error: too much" in capsys.readouterr().out and not displayed and busy.value == ""


def test_where_nobody_can_click_a_sentence_or_a_picture_stands(monkeypatch, task, capsys):
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)
    widgets.sampler(AdapterRequest.new(task, 1))
    widgets.browser(task.domain, 16)
    assert not shown and capsys.readouterr().out.count("JupyterLab") == 2
    images = task.images(16)[:4]
    nearest = pd.DataFrame(
        {"number": [0, 1], "row": [2, 3], "image": "x", "distance": [0.2, 0.1], "copied": False}
    )
    widgets.neighbours(images, nearest, images)
    (figure,) = shown
    drawn = figure.axes[0].get_images()[0].get_array()
    assert (drawn[:, :16] == images[1].transpose(1, 2, 0)).all()  # the nearest first
    assert (drawn[:, 17:33] == images[3].transpose(1, 2, 0)).all()


def test_the_browser_shows_the_page_that_is_chosen(monkeypatch, elpv, displayed):
    rows = []
    monkeypatch.setattr(sheets, "sheet", lambda blocks: rows.extend(blocks))
    widgets.browser(elpv, 16, per_page=4)
    kind, _, page = displayed[-1].children[:3]
    kind.value, page.value = elpv.rare_class, 1
    expected = elpv.rows("development", 1)[4:8]
    assert (rows[-1][1] == elpv.images(16)[expected]).all()
