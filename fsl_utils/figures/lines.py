"""Figures of lines: over the ratio, over recall, and what a ratio is worth in real images.

Each is drawn from a tidy table of `analysis`, of several studies concatenated, a panel a study.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fsl_utils.analysis import contrasts
from fsl_utils.figures import style, words


def ratios(table: pd.DataFrame) -> Figure:
    """What each arm adds to a control at the same ratio. table: of `contrasts.gains`.

    Studies with several ratios alone, where there are any.
    """
    swept = table.groupby(words.SETTING, dropna=False)["ratio"].transform("nunique") > 1
    shared, studies = words.studies(table[swept] if swept.any() else table)
    figure, axes = style.small_multiples([title for title, _ in studies], 1.35)
    for axis, (_, part) in zip(axes, studies):
        _ratio_lines(axis, style.in_order(part), "difference")
        axis.axhline(0, color="0.3", linewidth=0.7)
    first = table.iloc[0]
    style.ylabel(axes, f"{words.metric(first)} minus {first['control']}")
    style.legend(figure, *style.handles(axes), f"images added per shot\n({words.FILLED})")
    style.head(figure, shared)
    return figure


def curve(levels: pd.DataFrame, gains: pd.DataFrame) -> Figure:
    """One study: the metric over the ratio, and beside it what arms add to repeating the shots.

    levels: of `curves.levels`; `real` is the line at 0x with its band, a mark is hollow where fewer
    draws have the ratio. gains: of `contrasts.gains`, whose intervals leave out what arms share;
    may be empty.
    """
    levels, gains = style.in_order(levels), style.in_order(gains)
    titles = ["level", *(f"minus {control}" for control in gains.get("control", [])[:1])]
    figure, axes = style.small_multiples(titles, 2.0, 2)
    _ratio_lines(axes[0], levels, "mean")
    style.ylabel(axes, words.metric(levels.iloc[0]))
    if len(gains):
        _ratio_lines(axes[1], gains, "difference")
        axes[1].axhline(0, **style.line(gains["control"].iloc[0]), linewidth=1)
    style.legend(figure, *style.handles(axes), "images added per shot")
    style.head(figure, words.studies(levels)[0])
    return figure


def arms(table: pd.DataFrame) -> Figure:
    """One study, each swept arm (one at least) with its band before `real` and `duplicate`.

    table: of `curves.levels`.
    """
    table = style.in_order(table, style.arms_of(table))
    swept = table.loc[(table["ratio"] > 0) & (table["arm"] != "duplicate"), "arm"].unique()
    figure, axes = style.small_multiples(list(swept), 1.2, 4, sharex=True, sharey=True)
    for axis, arm in zip(axes, swept):
        for control in ("real", "duplicate"):
            part = table[table["arm"] == control]
            if (part["ratio"] > 0).any():
                axis.plot(part["ratio"], part["mean"], **style.line(control), linewidth=0.9)
            else:
                for value in part["mean"]:
                    axis.axhline(value, **style.line(control), linewidth=0.9)
        part = table[table["arm"] == arm]
        colour, marker, _ = style.arm_style(arm)
        axis.plot(part["ratio"], part["mean"], **style.line(arm), marker=marker, markersize=3)
        _hollow(axis, part["ratio"], part, table)
        axis.fill_between(
            part["ratio"], part["low"], part["high"], color=colour, alpha=0.2, linewidth=0
        )
        if len(part) == 1:
            axis.vlines(part["ratio"], part["low"], part["high"], color=colour, linewidth=0.8)
    style.ratio_axis(axes[0], table["ratio"])
    figure.supxlabel("images added per shot (black: real, dashed: duplicate)", fontsize=7.5)
    style.ylabel(axes, words.metric(table.iloc[0]))
    style.head(figure, words.studies(table)[0])
    return figure


def _ratio_lines(axis, table: pd.DataFrame, column: str) -> None:
    """Arms that were swept as lines, the others as horizontal ones; `real` with its band."""
    names = list(table["arm"].unique())
    aside = 1 + style.beside(len(names), 0.035)  # so that intervals do not hide each other
    for factor, arm in zip(aside, names):
        part = table[table["arm"] == arm]
        errors = np.nan_to_num([part[column] - part["low"], part["high"] - part[column]])
        look = {**style.line(arm), "marker": style.arm_style(arm)[1], "linewidth": 1.1}
        if (part["ratio"] > 0).any():
            x = part["ratio"] * factor
            axis.errorbar(x, part[column], errors.clip(min=0), **look, label=arm, elinewidth=0.6)
            _hollow(axis, x, part, table)
            continue
        value = part[column].iloc[0]
        axis.axhline(value, **style.line(arm), linewidth=0.9, zorder=1)
        axis.errorbar([0], [value], errors.clip(min=0), **look, label=arm, elinewidth=0.6)
        if arm == "real" and column == "mean":
            axis.axhspan(part["low"].iloc[0], part["high"].iloc[0], color="0.93", zorder=0)
    style.ratio_axis(axis, table["ratio"])
    axis.locator_params(axis="y", nbins=5)


def _hollow(axis, x: pd.Series, part: pd.DataFrame, table: pd.DataFrame) -> None:
    """White marks over differences that are not shown, and over levels of fewer draws."""
    if "verdict" in part:
        hollow = ~part["verdict"].isin(contrasts.SHOWN)
    else:
        hollow = part["n_draws"] < table["n_draws"].max()
    if hollow.any():
        values = part["difference" if "verdict" in part else "mean"][hollow]
        colour, marker, _ = style.arm_style(part["arm"].iloc[0])
        axis.plot(x[hollow], values, marker, color=colour, markerfacecolor="white", zorder=3)


def precision_over_recall(table: pd.DataFrame) -> Figure:
    """Precision over recall with pointwise bands; dotted: the share of rare images.

    table: of `curves.precision_over_recall`, with a column `prevalence`.
    """
    shared, studies = words.studies(table)
    figure, axes = style.small_multiples(
        [title for title, _ in studies], 1.5, sharex=True, sharey=True
    )
    for axis, (_, study) in zip(axes, studies):
        for arm, part in study.groupby("arm", sort=False):
            colour, marker, _ = style.arm_style(arm)
            recall = part["recall"]
            look = {"marker": marker, "markevery": (4, 12), "markersize": 3.5}
            axis.plot(
                recall, part["precision"], **style.line(arm), **look, label=words.arm(part.iloc[0])
            )
            axis.fill_between(
                recall, part["low"], part["high"], color=colour, alpha=0.12, linewidth=0
            )
        axis.axhline(study["prevalence"].iloc[0], color="0.5", linewidth=0.8, linestyle=":")
        axis.set(xlim=(0, 1.02), ylim=(0, 1.03))
    style.ylabel(axes, "precision")
    style.legend(figure, *style.handles(axes), "recall (dotted: calling every image rare)")
    style.head(figure, shared)
    return figure


def worth(table: pd.DataFrame) -> Figure:
    """How many further real images an arm is worth, by ratio. table: of `ratios.worth_in_images`.

    A triangle: the arm is worth at least the most (up) or at most the fewest (down) tried.
    """
    shared, studies = words.studies(table)
    figure, axes = style.small_multiples([title for title, _ in studies], 1.5)
    for axis, (_, study) in zip(axes, studies):
        most = study["most"].max()
        ordered = style.in_order(study)
        _ratio_lines(axis, ordered.rename(columns={"images": "mean"}), "mean")
        for beyond, mark in ((">=", "^"), ("<=", "v")):
            out = ordered[ordered["beyond"] == beyond]
            for row in out.itertuples():
                colour = style.arm_style(row.arm)[0]
                axis.plot(
                    row.ratio, row.images, mark, color=colour, markersize=6, markerfacecolor="white"
                )
        axis.axhline(0, color="0.3", linewidth=0.7)
        axis.axhline(most, color="0.6", linewidth=0.7, linestyle=":")
        axis.set_ylim(-0.09 * most, 1.12 * most)
    style.ylabel(axes, "further real images")
    style.legend(
        figure, *style.handles(axes), "images added per shot (dotted: most real images tried)"
    )
    style.head(figure, shared)
    return figure
