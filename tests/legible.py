"""What a reader cannot read in a drawn figure: texts on each other, cut texts, cut marks; and the
style in which tests draw."""

from itertools import combinations

import matplotlib
import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from fsl_utils.figures import style

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def styled():
    with plt.rc_context():
        style.apply()
        yield
    plt.close("all")


def faults(figure: Figure) -> list[str]:
    """Of a figure as Agg draws it: texts that overlap, leave it or lie on a panel; cut marks."""
    figure.draw_without_rendering()
    texts = [(text, _box(text)) for text in _drawn_texts(figure)]
    found = [
        f"{a.get_text()!r} on {b.get_text()!r}"
        for (a, one), (b, other) in combinations(texts, 2)
        if (both := Bbox.intersection(one, other)) and both.width > 1 and both.height > 1
    ]
    found += [
        f"{text.get_text()!r} leaves the figure"
        for text, box in texts
        if min(box.x0, box.y0, figure.bbox.x1 - box.x1, figure.bbox.y1 - box.y1) < -1
    ]
    for axis in figure.axes:
        frame = axis.get_window_extent()
        inside = {id(text) for text in axis.texts}
        found += [
            f"{text.get_text()!r} on a panel"
            for text, box in texts
            if id(text) not in inside
            and (both := Bbox.intersection(frame, box))
            and min(both.width, both.height) > 2
        ]
        found += _cut_marks(axis, frame)
    return found


def _drawn_texts(figure: Figure) -> list[Text]:
    """Texts that are drawn: visible, not empty, and of ticks those within the view."""
    hidden = set()
    for axis in figure.axes:
        for side in (axis.xaxis, axis.yaxis):
            low, high = sorted(side.get_view_interval())
            slack = 1e-9 * max(abs(low), abs(high))
            for tick in [*side.get_major_ticks(), *side.get_minor_ticks()]:
                if not axis.axison or not low - slack <= tick.get_loc() <= high + slack:
                    hidden |= {id(tick.label1), id(tick.label2)}
            if not axis.axison:
                hidden |= {id(side.label), id(side.get_offset_text())}
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden
    ]


def _box(text: Text) -> Bbox:
    """The box of a text without what its font leaves empty at the edge."""
    box = text.get_window_extent()
    return box.padded(-min(1.0, 0.1 * box.height))


def _cut_marks(axis, frame: Bbox) -> list[str]:
    """Marks whose centre is in a panel and whose edge is out of it."""
    found = []
    for line in axis.get_lines():
        if line.get_marker() in ("None", "", None, "|", "_") or not len(line.get_xdata()):
            continue
        radius = line.get_markersize() / 2 * axis.figure.dpi / 72 - 1
        for x, y in line.get_transform().transform(line.get_xydata()):
            room = min(x - frame.x0, frame.x1 - x, y - frame.y0, frame.y1 - y)
            if room < radius and line.get_clip_on():
                found.append(f"a mark of {line.get_label()!r} is cut at {x:.0f}, {y:.0f}")
    return found
