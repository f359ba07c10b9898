"""Figures of differences: arms against controls, over the number of shots, draw by draw.

Each is drawn from a tidy table of `analysis`, of several studies concatenated, a panel a study.
A mark is filled where a difference is shown, by the one rule of `contrasts.verdict`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fsl_utils.analysis import claims, contrasts, resampling
from fsl_utils.figures import style, words

# -- Arms at one ratio --------------------------------------------------------------------------


def overview(table: pd.DataFrame) -> Figure:
    """Every arm against one control, a panel a task, a colour and row a classifier.

    table: of `contrasts.against`. What costs nothing stands below, more real images on top.
    """
    shared, tasks = words.studies(table, together=("classifier", "init"))
    classifiers = sorted(table["classifier"].unique())
    looks = classifier_looks(classifiers)
    arms = sorted(table["arm"].unique(), key=_rank)
    many = len(classifiers)
    shifts = style.beside(many, -min(0.3, 0.8 / many) if many > 1 else 0)  # within an arm's row
    titles = [f"{title}\n{_counts(part)}".strip() for title, part in tasks]
    height = max(0.17, 0.055 * many) * len(arms) + 0.4
    figure, axes = style.small_multiples(titles, height, sharey=True)
    for axis, (_, part) in zip(axes, tasks):
        for row in part.to_dict("records"):
            at = classifiers.index(row["classifier"])
            difference(axis, row, arms.index(row["arm"]) + shifts[at], *looks[row["classifier"]])
        _arms_axis(axis, arms, table)
    first = table.iloc[0]
    label = f"{words.metric(first)} minus {words.control(first)}\n({words.FILLED})"
    classifier_legend(figure, looks, label)
    style.head(figure, shared)
    return figure


def classifier_looks(classifiers: list[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each classifier."""
    return dict(zip(classifiers, zip(style.PALETTE, "oDs^v<>p")))


def classifier_legend(figure: Figure, looks: dict[str, tuple[str, str]], label: str) -> None:
    """A legend of classifiers under what the axes show."""
    handles = [plt.Line2D([], [], color=c, marker=m) for c, m in looks.values()]
    style.legend(figure, handles, list(looks), label)


def forest(table: pd.DataFrame) -> Figure:
    """Every arm of one study, a panel a control. table: of `contrasts.against_controls`."""
    controls = list(table["control"].unique())
    arms = sorted(table["arm"].unique(), key=_rank)
    parts = [table[table["control"] == control] for control in controls]
    titles = [f"minus {words.control(part.iloc[0])}" for part in parts]
    figure, axes = style.small_multiples(
        titles, 0.145 * len(arms) + 0.35, 4, sharex=True, sharey=True
    )
    for axis, part in zip(axes, parts):
        for row in part.to_dict("records"):
            colour, marker, _ = style.arm_style(row["arm"])
            difference(axis, row, arms.index(row["arm"]), colour, marker)
        _arms_axis(axis, arms, table)
    figure.supxlabel(f"difference in {words.metric(table.iloc[0])}\n({words.FILLED})", fontsize=7)
    style.head(figure, words.studies(table)[0])
    return figure


def _rank(arm: str) -> tuple:
    """Order from below: controls, arms as in ARM_STYLE, others by name, more real images."""
    known = [*resampling.CONTROLS, *(a for a in style.ARM_STYLE if a not in resampling.CONTROLS)]
    return arm == "real_more", known.index(arm) if arm in known else len(known), arm


def _counts(part: pd.DataFrame) -> str:
    draws = part.groupby("classifier")["n_draws"].max()
    return "draws: " + ", ".join(f"{name} {n}" for name, n in draws.items())


def difference(axis, row: dict, y: float, colour: str, marker: str) -> None:
    """A contrast's interval and mean at height y."""
    axis.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1)
    look = {"color": colour, "markerfacecolor": _face(row, colour), "markersize": 4.5}
    axis.plot(row["difference"], y, marker, **look)


def _face(row: dict, colour: str) -> str:
    shown = row["verdict"] in (*contrasts.SHOWN, *claims.SHOWN)
    return colour if shown else "white"


def _arms_axis(axis, arms: list[str], table: pd.DataFrame) -> None:
    """A line for no difference, and an arm a row."""
    names = table.drop_duplicates("arm").set_index("arm", drop=False)
    axis.axvline(0, color="0.3", linewidth=0.7)
    axis.set_yticks(range(len(arms)), [style.plain(words.arm(names.loc[arm])) for arm in arms])
    axis.set_ylim(-0.6, len(arms) - 0.4)
    axis.grid(axis="y", color="0.93", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.locator_params(axis="x", nbins=4)


# -- Over the number of shots, and draw by draw --------------------------------------------------


def shots(table: pd.DataFrame) -> Figure:
    """What each arm adds to one control over the number of real shots, a panel a task.

    table: of `contrasts.against`, of studies that differ in `n_real`.
    """
    shared, tasks = words.studies(table, together=("n_real",))
    table = style.in_order(table, tuple(style.ARM_STYLE))
    counts, names = sorted(table["n_real"].unique()), list(table["arm"].unique())
    figure, axes = style.small_multiples([title for title, _ in tasks], 1.7)
    for axis, (_, part) in zip(axes, tasks):
        for shift, arm in zip(style.beside(len(names), 0.11), names):
            rows = part[part["arm"] == arm].sort_values("n_real")
            colour, marker, _ = style.arm_style(arm)
            at = np.array([counts.index(n) for n in rows["n_real"]]) + shift
            axis.plot(at, rows["difference"], **style.line(arm), linewidth=0.9)
            axis.vlines(at, rows["low"], rows["high"], color=colour, linewidth=0.6)
            for x, row in zip(at, rows.to_dict("records")):
                face = _face(row, colour)
                axis.plot(x, row["difference"], marker, color=colour, markerfacecolor=face)
            label = style.plain(words.arm(table[table["arm"] == arm].iloc[0]))
            axis.plot([], [], **style.line(arm), marker=marker, label=label)
        axis.axhline(0, color="0.3", linewidth=0.7)
        axis.set_xticks([counts.index(n) for n in sorted(part["n_real"].unique())])
        axis.set_xticklabels([f"{n}" for n in sorted(part["n_real"].unique())])
    first = table.iloc[0]
    style.ylabel(axes, f"{words.metric(first)} minus {words.control(first)}")
    style.legend(figure, *style.handles(axes), f"real shots\n({words.FILLED})")
    style.head(figure, shared)
    return figure


def slopes(table: pd.DataFrame) -> Figure:
    """One line a draw, from its value under a control to that under an arm; dashed where it falls.

    table: of `curves.slopes`. A panel a study and pair.
    """
    shared, studies = words.studies(table)
    pairs = [
        (title, part[part["pair"] == pair])
        for title, part in studies
        for pair in part["pair"].unique()
    ]
    titles = []
    for title, part in pairs:
        ends = part.groupby("draw")["value"].agg(["first", "last"])
        change = ends["last"] - ends["first"]
        rise = f"{change.mean():+.3f}, up in {(change > 0).sum()} of {len(ends)}"
        titles.append(f"{title}\n{rise}".strip())
    figure, axes = style.small_multiples(titles, 1.5, 4)
    for axis, (_, part) in zip(axes, pairs):
        _draw_lines(axis, part)
    style.ylabel(axes, words.metric(table.iloc[0]))
    style.head(figure, shared)
    return figure


def _draw_lines(axis, part: pd.DataFrame) -> None:
    """The draws of one pair as thin lines, their mean as a thick one."""
    ends = part.groupby("draw")["value"].agg(["first", "last"]).to_numpy()
    for end in ends:
        look = {"color": style.RED, "linestyle": "--"} if end[1] < end[0] else {"color": style.BLUE}
        axis.plot([0, 1], end, **look, marker="o", markersize=2.5, linewidth=0.8)
    axis.plot([0, 1], ends.mean(axis=0), color="black", linewidth=2.2, marker="D")
    names = part["pair"].iloc[0].split(" to ")
    axis.set_xticks([0, 1], [style.plain(name).replace(" ", "\n") for name in names])
    axis.set_xlim(-0.35, 1.35)
