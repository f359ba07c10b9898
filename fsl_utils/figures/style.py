"""One look for all figures: colours, arms, heads, small multiples; the one way a figure is saved.

Arms keep colour, marker and line style everywhere, so that a figure reads in grey too. What a
reader must beware of (few draws, validation) stands on the figure, taken from its table.
"""

import io
import textwrap
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from fsl_utils import StudyError, store

COLUMN, PAGE = 3.35, 6.9  # widths of a figure in a two-column paper, inches
DPI = 150
# Okabe and Ito, Color Universal Design (2008), without its yellow: told apart by the colour-blind.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F"]
BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK, GREY = PALETTE
LINES = ["-", "--", "-.", ":"]

# arm: (colour, marker, line style). Controls are dark or grey and dashed, synthetic arms in colour;
# marks are such that one sees whether they are filled.
ARM_STYLE = {
    "real": (BLACK, "s", "-"),
    "duplicate": (GREY, "o", "--"),
    "balanced": (GREY, "v", ":"),
    "focal": (GREY, "^", ":"),
    "contrastive_real": (GREY, "X", ":"),
    "augment": (BLACK, "D", "-."),
    "crt": (GREY, "<", "-."),
    "calibrated": (GREY, "p", "--"),
    "real_base": (BLACK, "h", "-."),
    "paste": (ORANGE, "p", ":"),
    "base_synth": (SKY, "h", ":"),
    "lora": (BLUE, "o", "-"),
    "lora_filtered": (RED, "D", "-"),
    "lora_covering": (RED, "*", "--"),
    "lora_augment": (PINK, "^", "-"),
    "lora_crt": (ORANGE, "<", "-"),
    "lora_base": (BLUE, "h", "--"),
    "anneal": (ORANGE, "p", "-"),
    "grow": (PINK, "*", "-"),
    "grow_any": (PINK, "*", ":"),
    "adaptive": (RED, "v", "-"),
    "synth_common": (GREEN, ">", "--"),
    "synth_only": (SKY, "v", "-."),
    "synth_both": (GREEN, ">", "-."),
    "contrastive": (PINK, "X", "-."),
    "real_more": (GREEN, "s", "--"),
}
# Drawn beside each other where there are many.
MAIN_ARMS = ("real", "duplicate", "base_synth", "lora", "lora_filtered", "real_more")
METRIC_NAMES = {
    "pr_auc": "PR-AUC",
    "pr_auc_balanced": "PR-AUC, classes balanced",
    "auroc": "AUROC",
    "f1": "F1 at .5",
    "recall": "recall at .5",
    "precision": "precision at .5",
    "f1_at_threshold": "F1",
    "recall_at_threshold": "recall",
    "precision_at_threshold": "precision",
}
# Of these the first that are installed draw what the font before them lacks.
FONTS = [
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "Hiragino Sans GB",
    "Noto Sans",
]


def apply() -> None:
    """Set matplotlib for a two-column paper: 7-8 pt, fonts embedded as TrueType, thin frames."""
    plt.rcParams.update(
        {
            "pdf.fonttype": 42,
            "font.family": [name for name in FONTS if name in font_manager.get_font_names()],
            "font.size": 7.5,
            "axes.titlesize": 7.5,
            "axes.labelsize": 7.5,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": 7,
            "legend.frameon": False,
            "legend.handlelength": 2.6,
            "figure.titlesize": 6.5,
            "figure.dpi": DPI,
            "figure.constrained_layout.use": True,
            "savefig.dpi": DPI,
            "text.parse_math": False,  # a class name may hold dollar signs
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "lines.linewidth": 1.3,
            "lines.markersize": 4,
            "errorbar.capsize": 1.5,
            "axes.prop_cycle": plt.cycler(color=PALETTE),
        }
    )


@cache
def _drawable() -> frozenset[int]:
    """Code points that an installed font of FONTS has."""
    known = set(font_manager.get_font_names())
    files = [font_manager.findfont(name) for name in FONTS if name in known]
    return frozenset().union(*(FT2Font(file).get_charmap() for file in files))


def plain(text: str) -> str:
    """A text as a figure can show it: what no installed font has stands as its code point."""
    known = _drawable() | {ord("\n")}
    return "".join(c if ord(c) in known else f"U+{ord(c):04X} " for c in str(text)).strip()


def arm_style(arm: str) -> tuple[str, str, str]:
    """Colour, marker and line style of an arm; one that is not in ARM_STYLE has its by its name."""
    n = sum(arm.encode())
    return ARM_STYLE.get(arm) or (PALETTE[n % len(PALETTE)], "8*d^"[n % 4], LINES[n % 4])


def arms_of(table: pd.DataFrame) -> tuple[str, ...]:
    """All arms of a table in the order in which they are drawn, those without a style last."""
    there = set(table["arm"])
    return tuple(dict.fromkeys(arm for arm in [*ARM_STYLE, *table["arm"]] if arm in there))


def in_order(table: pd.DataFrame, arms: tuple[str, ...] = MAIN_ARMS) -> pd.DataFrame:
    """The rows of these arms in their order, by ratio; where none of them is there, all."""
    if table.empty:
        return table
    there = [arm for arm in arms if arm in set(table["arm"])] or sorted(table["arm"].unique())
    order = table["arm"].map({arm: i for i, arm in enumerate(there)})
    return table.assign(order=order).dropna(subset="order").sort_values(["order", "ratio"])


def line(arm: str) -> dict:
    """Colour and line style of an arm, as matplotlib takes them."""
    colour, _, linestyle = arm_style(arm)
    return {"color": colour, "linestyle": linestyle}


# -- Saving -------------------------------------------------------------------------------------


def save(figure: Figure, path: Path, table: pd.DataFrame, pdf: bool = False) -> list[Path]:
    """Write path.png and path.csv, with `pdf` path.pdf too, and close the figure.

    Each file whole or not at all, the same bytes for the same figure. Raises StudyError where the
    table names neither the cells nor the pools behind its rows.
    """
    path = Path(path)
    if not {"cells", "pool"} & set(table.columns):
        raise StudyError(
            f"{path}: the table has neither a column `cells` nor `pool`, "
            "so its rows cannot be traced back"
        )
    figure.draw_without_rendering()
    # It is laid out now; once more for each format would cost most of the time.
    figure.set_layout_engine("none")
    no_date = {"png": {"Software": None}} | ({"pdf": {"CreationDate": None}} if pdf else {})
    files = []
    for kind, metadata in no_date.items():
        files.append(with_ending(path, kind))
        store.write_whole(files[-1], _picture(figure, kind, metadata))
    plt.close(figure)
    return [*files, save_table(path, table)]


def _picture(figure: Figure, kind: str, metadata: dict):
    image = io.BytesIO()
    figure.savefig(image, format=kind, metadata=metadata)
    return lambda partial: partial.write_bytes(image.getvalue())


def save_table(path: Path, table: pd.DataFrame) -> Path:
    """Write path.csv alone: a tidy table without a figure."""
    file = with_ending(path, "csv")
    store.write_text(file, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return file


def with_ending(path: Path, kind: str) -> Path:
    """path.kind (with_suffix would cut a name at its last dot)."""
    return Path(path).with_name(f"{Path(path).name}.{kind}")


# -- Layout -------------------------------------------------------------------------------------


def small_multiples(
    titles: list[str], height: float, columns: int = 3, **shared
) -> tuple[Figure, list]:
    """A figure with one panel a title, at most `columns` beside each other, and its axes in order.

    height: of a panel without its title, inches. shared: sharex, sharey of `plt.subplots`.
    """
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    width = COLUMN if columns == 1 else PAGE
    wrapped = [_wrapped(plain(title), 14 * (width / columns - 0.3)) for title in titles]
    lines = max(title.count("\n") + bool(title) for title in wrapped)
    size = (width, rows * (height + 0.3 + 0.12 * lines))
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, **shared)
    axes = list(grid.flat)
    for axis, title in zip(axes, wrapped):
        axis.set_title(title, loc="left")
    for axis in axes[len(titles) :]:
        axis.set_axis_off()
    for axis in axes[max(0, len(titles) - columns) : len(titles)]:  # the lowest of each column
        axis.tick_params(labelbottom=True)
    return figure, axes[: len(titles)]


def _wrapped(text: str, width: float) -> str:
    """The lines of a text, each broken where it is longer than `width` characters."""
    return "\n".join(textwrap.fill(line, int(width)) for line in text.split("\n"))


def _grow(figure: Figure, height: float) -> None:
    """Room for what stands above or below the panels, inches."""
    figure.set_figheight(figure.get_figheight() + height)


def ylabel(axes: list, text: str) -> None:
    """A label on the panels at the left edge."""
    for axis in axes:
        if axis.get_subplotspec().is_first_col():
            axis.set_ylabel(text)


def legend(figure: Figure, handles: list, labels: list[str], title: str = "") -> None:
    """A legend below the figure, as many labels a line as fit; `title`, what x is, stands above it.

    (A label of the figure's own in this place would lie on the legend.)
    """
    labels = [plain(label) for label in labels]
    widest = max(map(len, labels), default=0)
    columns = min(len(labels), max(1, int(figure.get_figwidth() / (0.45 + 0.052 * widest))))
    rows = -(-len(labels) // columns)
    _grow(figure, 0.1 + 0.16 * rows + 0.13 * (title.count("\n") + bool(title)))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        columnspacing=1.2,
        title=title,
        title_fontsize=7,
    )


def handles(axes: list) -> tuple[list, list[str]]:
    """Handles and labels of all panels, each label once; of error bars the line with its mark."""
    named = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            named.setdefault(label, handle[0] if isinstance(handle, ErrorbarContainer) else handle)
    return list(named.values()), list(named)


def head(figure: Figure, words: list[str]) -> None:
    """What a reader must know of the whole figure, small above it."""
    text = _wrapped(plain(" | ".join(words)), 16 * figure.get_figwidth())
    _grow(figure, 0.06 + 0.11 * (text.count("\n") + 1))
    figure.suptitle(text, x=0.01, ha="left", color="0.25")


def ratio_axis(axis, ratios: pd.Series) -> None:
    """Ratios on a logarithmic axis with a tick each; 0x, where it is there, left of all."""
    ticks = sorted(set(ratios))
    least = min((ratio for ratio in ticks if ratio > 0), default=1)
    axis.set_xscale("symlog", linthresh=least, linscale=0.5)
    axis.set_xticks(ticks, [f"{ratio:g}" for ratio in ticks])
    axis.minorticks_off()
    axis.set_xlim(-0.25 * least if ticks[0] == 0 else 0.75 * least, 1.3 * max(*ticks, 1))


def beside(count: int, step: float) -> np.ndarray:
    """Offsets [count] around 0, so that marks at one place do not hide each other."""
    return step * (np.arange(count) - (count - 1) / 2)
