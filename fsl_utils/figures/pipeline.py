"""The study as a picture: what each notebook takes and gives."""

from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from fsl_utils.figures import style

GAP = 0.34  # between boxes that stand in neighbouring columns or rows, which are 1 wide and high


class Box(NamedTuple):
    """left, top: columns and rows from the left upper corner; across, down: how many of them."""

    left: int
    top: int
    words: str
    colour: str
    across: int = 1
    down: int = 1

    @property
    def x(self) -> tuple[float, float]:
        """Its left and right edge."""
        return self.left, self.left + self.across - 0.6 * GAP

    @property
    def y(self) -> tuple[float, float]:
        """Its upper and lower edge."""
        return self.top, self.top + self.down - GAP


REAL, MADE, MEASURED = style.GREEN, style.BLUE, style.BLACK
BOXES = {
    "images": Box(
        0, 1, "01 images\nin groups\n\none draw:\nwho trains,\nwho is scored", REAL, down=3
    ),
    "backbone": Box(1, 0, "diffusion model\nof common images", style.GREY),
    "adapter": Box(1, 1, "02 adapter\nlearns the shots", MADE),
    "report": Box(2, 0, "05 varied? copied?\nlike real ones?", MADE),
    "pool": Box(2, 1, "03 pool\nsynthetic, filtered", MADE),
    "controls": Box(1, 2, "shots alone, repeated, augmented: the controls", REAL, across=2),
    "scored": Box(1, 3, "images of other groups: they score every classifier", REAL, across=2),
    "classifiers": Box(3, 1, "04 classifiers\n\none an arm\nand ratio", MEASURED, down=3),
    "answer": Box(4, 1, "06 what an arm\nadds to a control,\nwith its interval", MEASURED, down=3),
}
ARROWS = (
    ("images", "adapter"),
    ("backbone", "adapter"),
    ("adapter", "pool"),
    ("pool", "report"),
    ("pool", "classifiers"),
    ("images", "controls"),
    ("controls", "classifiers"),
    ("images", "scored"),
    ("scored", "classifiers"),
    ("classifiers", "answer"),
)


def pipeline() -> Figure:
    """From images to the answer: a box a step, with the number of its notebook."""
    figure, axis = plt.subplots(figsize=(style.PAGE, 2.4))
    for box in BOXES.values():
        (left, right), (top, bottom) = box.x, box.y
        corner, width, height = (left + 0.05, top + 0.05), right - left - 0.1, bottom - top - 0.1
        look = {"edgecolor": box.colour, "facecolor": "white", "linewidth": 1.2}
        axis.add_patch(FancyBboxPatch(corner, width, height, "round,pad=0.05", **look))
        centre = (left + right) / 2, (top + bottom) / 2
        axis.text(*centre, box.words, ha="center", va="center", fontsize=6.5)
    for start, end in ARROWS:
        _arrow(axis, BOXES[start], BOXES[end])
    axis.set(xlim=(-0.03, 4.83), ylim=(3.7, -0.04))
    axis.set_axis_off()
    kinds = {"real images": REAL, "made by the model": MADE, "measured on real images": MEASURED}
    handles = [plt.Line2D([], [], color=colour, linewidth=2) for colour in kinds.values()]
    style.legend(figure, handles, list(kinds))
    return figure


def _arrow(axis, start: Box, end: Box) -> None:
    """From edge to edge: level where the boxes stand beside each other, else upright."""
    level = max(start.y[0], end.y[0]), min(start.y[1], end.y[1])
    if level[0] < level[1]:
        points = [(start.x[1], sum(level) / 2), (end.x[0], sum(level) / 2)]
    else:
        at, down = sum(start.x) / 2, start.top < end.top
        points = [(at, start.y[down]), (at, end.y[not down])]
    look = {"arrowstyle": "->", "color": "0.4", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", points[1], points[0], arrowprops=look)
