"""Figures of what the cells say, each drawn from a tidy table of `analysis`."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fsl_utils.analysis import contrasts, resampling
from fsl_utils.figures import style


def curve(
    table: pd.DataFrame, arms: list[str] | None = None, gains: pd.DataFrame | None = None
) -> Figure:
    """Metric against ratio with intervals, `real` as the 0x line with its band; hollow where fewer draws have the ratio.

    table: of `curves.levels`. arms: which to draw, all by default. gains: of `contrasts.gains`; drawn beside it, the
    differences to a control in the same draws, whose intervals leave out what all arms share.
    """
    table = _in_order(table, arms)
    two = gains is not None and not gains.empty
    figure, axes = plt.subplots(
        1, 1 + two, figsize=(style.PAGE, 2.5) if two else (style.COLUMN, 3), squeeze=False
    )
    left = axes[0, 0]
    _ratio_lines(left, table, "mean")
    left.set_ylabel(style.METRIC_NAMES[table["metric"].iloc[0]])
    if two:
        control = gains["control"].iloc[0]
        _ratio_lines(axes[0, 1], _in_order(gains, arms), "difference")
        axes[0, 1].axhline(0, **style.line(control), linewidth=1)
        axes[0, 1].set_ylabel(f"{style.METRIC_NAMES[table['metric'].iloc[0]]} minus {control}")
    style.legend(figure, left, beside=two)
    style.head(figure, table)
    return figure


def panels(table: pd.DataFrame) -> Figure:
    """Small multiples: each swept arm (one at least) in a panel of its own, with its band, before `real` and `duplicate`."""
    table = _in_order(table, None)
    swept = [
        arm
        for arm in table["arm"].unique()
        if (table.loc[table["arm"] == arm, "ratio"] > 0).any() and arm != "duplicate"
    ]
    columns = min(4, len(swept))
    rows = -(-len(swept) // columns)
    size = (style.PAGE if columns > 2 else style.COLUMN, 1.55 * rows + 0.5)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False
    )
    for axis, arm in zip(axes.flat, swept):
        for name in ("real", "duplicate", arm):
            part = table[table["arm"] == name]
            if (part["ratio"] == 0).all():
                for value in part["mean"]:
                    axis.axhline(value, **style.line(name), linewidth=0.9)
                continue
            axis.plot(
                part["ratio"],
                part["mean"],
                **style.line(name),
                marker=style.arm_style(name)[1] if name == arm else None,
                markersize=3,
                linewidth=1,
            )
            if name == arm:
                _of_fewer_draws(axis, part["ratio"], part, table)
            if name == arm and len(part) > 1:
                axis.fill_between(
                    part["ratio"],
                    part["low"],
                    part["high"],
                    color=style.arm_style(arm)[0],
                    alpha=0.2,
                    linewidth=0,
                )
            elif name == arm:
                axis.vlines(
                    part["ratio"],
                    part["low"],
                    part["high"],
                    color=style.arm_style(arm)[0],
                    linewidth=0.8,
                )
        axis.set_title(arm, loc="left")
    for axis in axes.flat[len(swept) :]:
        axis.set_axis_off()
    style.ratio_axis(axes.flat[0], table["ratio"])
    for axis in axes.flat[max(0, len(swept) - columns) : len(swept)]:  # the lowest of each column
        axis.set_xlabel("images added per shot")
        axis.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel(style.METRIC_NAMES[table["metric"].iloc[0]])
    style.head(figure, table)
    return figure


def _in_order(table: pd.DataFrame, arms: list[str] | None) -> pd.DataFrame:
    """The rows of these arms, in the order of `arms`, or of style.ARM_STYLE where none are given."""
    arms = arms or [*style.ARM_STYLE, *sorted(set(table["arm"]) - set(style.ARM_STYLE))]
    return table[table["arm"].isin(arms)].sort_values(
        ["arm", "ratio"], key=lambda c: c.map(arms.index) if c.name == "arm" else c
    )


def _ratio_lines(axis, table: pd.DataFrame, column: str) -> None:
    """Arms that were swept as lines, the others as horizontal ones; `real` with its band and, at 0x, its point."""
    arms = list(table["arm"].unique())
    for i, arm in enumerate(arms):
        part = table[table["arm"] == arm]
        errors = np.nan_to_num([part[column] - part["low"], part["high"] - part[column]]).clip(
            min=0
        )
        look = {**style.line(arm), "marker": style.arm_style(arm)[1], "linewidth": 1.1}
        if (part["ratio"] > 0).any():
            x = part["ratio"] * 1.035 ** (
                i - (len(arms) - 1) / 2
            )  # aside, so that intervals do not hide each other
            axis.errorbar(x, part[column], errors, **look, label=arm, elinewidth=0.6)
            if column == "mean":
                _of_fewer_draws(axis, x, part, table)
            continue
        value = part[column].iloc[0]
        axis.axhline(value, **style.line(arm), linewidth=0.9, zorder=1)
        axis.errorbar([0], [value], errors, **look, label=arm, elinewidth=0.6)
        if arm == "real" and column == "mean":
            axis.axhspan(value - errors[0, 0], value + errors[1, 0], color="0.93", zorder=0)
    style.ratio_axis(axis, table["ratio"])
    axis.set_xlabel("images added per shot")


def _of_fewer_draws(axis, x: pd.Series, part: pd.DataFrame, table: pd.DataFrame) -> None:
    """Hollow marks over the levels that fewer draws went into than into others: draws differ, so these are not to be compared."""
    fewer = part["n_draws"] < table["n_draws"].max()
    if not fewer.any():
        return
    colour, marker, _ = style.arm_style(part["arm"].iloc[0])
    axis.plot(
        x[fewer], part["mean"][fewer], marker, color=colour, markerfacecolor="white", zorder=3
    )


def forest(table: pd.DataFrame) -> Figure:
    """Every arm against every control, with intervals; filled where the difference is shown (`contrasts.verdict`). table: of `contrasts.against_controls`."""
    controls = list(table["control"].unique())
    arms = list(
        dict.fromkeys([*[c for c in controls[::-1] if c in set(table["arm"])], *table["arm"]])
    )
    columns = min(4, len(controls))
    rows = -(-len(controls) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(
            style.PAGE if columns > 2 else style.COLUMN * 1.4,
            rows * (0.145 * len(arms) + 0.55) + 0.3,
        ),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis, control in zip(axes.flat, controls):
        part = table[table["control"] == control]
        for row in part.itertuples():
            colour, marker, _ = style.arm_style(row.arm)
            _difference(axis, row, arms.index(row.arm), colour, marker, 4.5)
        ratio = part["control_ratio"].iloc[0]
        axis.set_title(f"minus {control}" + (f" {ratio:g}x" if ratio else ""), loc="left")
        _arms_axis(axis, arms, table)
        axis.tick_params(labelbottom=True, length=2)
    for axis in axes.flat[len(controls) :]:
        axis.set_axis_off()
    figure.supxlabel(
        f"difference in {style.METRIC_NAMES[table['metric'].iloc[0]]} (right: the arm is better; filled: interval without zero and Holm's p < .05)",
        fontsize=7.5,
    )
    style.head(figure, table)
    return figure


def overview(table: pd.DataFrame) -> Figure:
    """Every arm against one control, a panel a task, a colour and row a classifier; filled where the difference is shown (`contrasts.verdict`).

    table: of `contrasts.against`, concatenated over studies. Free arms stand below, synthetic ones above them, more real images on top.
    """
    tasks = list(dict.fromkeys(zip(table["domain"], table["rare_class"])))
    classifiers = sorted(table["classifier"].unique())
    known = [
        *resampling.CONTROLS,
        *(arm for arm in style.ARM_STYLE if arm not in resampling.CONTROLS),
    ]
    arms = sorted(
        table["arm"].unique(),
        key=lambda arm: (arm == "real_more", known.index(arm) if arm in known else len(known)),
    )
    looks = dict(zip(classifiers, ((style.BLUE, "o"), (style.RED, "D"))))
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(
            style.PAGE if columns > 1 else style.COLUMN * 1.4,
            rows * (0.2 * len(arms) + 0.6) + 0.5,
        ),
        sharey=True,
        squeeze=False,
    )
    for axis, (domain, rare_class) in zip(axes.flat, tasks):
        part = table[(table["domain"] == domain) & (table["rare_class"] == rare_class)]
        for row in part.itertuples():
            (colour, marker), shift = (
                looks[row.classifier],
                0.17 * (len(classifiers) - 1 - 2 * classifiers.index(row.classifier)),
            )
            _difference(axis, row, arms.index(row.arm) + shift, colour, marker, 4)
        counts = ", ".join(
            f"{name} {n} draws" for name, n in part.groupby("classifier")["n_draws"].max().items()
        )
        axis.set_title(f"{domain}: {rare_class}\n{counts}", loc="left")
        _arms_axis(axis, arms, table)
    for axis in axes.flat[len(tasks) :]:
        axis.set_axis_off()
    first = table.iloc[0]
    figure.supxlabel(
        f"difference in {style.METRIC_NAMES[first['metric']]} to {_control(first)} (right: the arm is better; filled: interval without zero and Holm's p < .05)",
        fontsize=7.5,
    )
    handles = [
        axes[0, 0].plot([], [], marker, color=colour, label=name)[0]
        for name, (colour, marker) in looks.items()
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    _head_of_several(figure, f"{first['n_real']} shots", table)
    return figure


def shots(table: pd.DataFrame) -> Figure:
    """What each arm adds to one control over the number of real shots, a panel a task; filled where the difference is shown (`contrasts.verdict`).

    table: of `contrasts.against`, concatenated over studies of one classifier that differ in `n_real`.
    """
    tasks, counts = (
        list(dict.fromkeys(zip(table["domain"], table["rare_class"]))),
        sorted(table["n_real"].unique()),
    )
    table = _in_order(table, None)
    arms = list(table["arm"].unique())
    figure, axes = plt.subplots(1, len(tasks), figsize=(style.PAGE, 2.6), squeeze=False)
    for axis, (domain, rare_class) in zip(axes.flat, tasks):
        part = table[(table["domain"] == domain) & (table["rare_class"] == rare_class)]
        for i, arm in enumerate(arms):
            rows = part[part["arm"] == arm].sort_values("n_real")
            colour, marker, _ = style.arm_style(arm)
            at = np.array([counts.index(n) for n in rows["n_real"]]) + 0.11 * (
                i - (len(arms) - 1) / 2
            )  # aside, so that intervals do not hide each other
            axis.plot(at, rows["difference"], **style.line(arm), linewidth=0.9)
            axis.vlines(at, rows["low"], rows["high"], color=colour, linewidth=0.6)
            for x, row in zip(at, rows.itertuples()):
                axis.plot(
                    x,
                    row.difference,
                    marker,
                    color=colour,
                    markerfacecolor=colour if row.verdict in contrasts.SHOWN else "white",
                    markersize=4,
                )
            axis.plot(
                [],
                [],
                **style.line(arm),
                marker=marker,
                markerfacecolor="white",
                label=_with_ratio(arm, table),
            )
        axis.axhline(0, color="0.3", linewidth=0.7)
        draws = part.groupby("n_real")["n_draws"].max()
        axis.set_xticks(
            [counts.index(n) for n in draws.index],
            [f"{n}\n{most} draws" for n, most in draws.items()],
        )
        axis.set_xlabel("real shots")
        axis.set_title(f"{domain}: {rare_class}", loc="left")
    first = table.iloc[0]
    axes[0, 0].set_ylabel(f"{style.METRIC_NAMES[first['metric']]} minus {_control(first)}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    _head_of_several(figure, first["classifier"], table)
    return figure


def _control(row) -> str:
    return f"{row['control']} {row['control_ratio']:g}x" if row["control_ratio"] else row["control"]


def _head_of_several(figure: Figure, shared: str, table: pd.DataFrame) -> None:
    """What several studies in one figure share, and what a reader must beware of in any of them."""
    first = table.iloc[0]
    cautions = sorted(
        {
            words.upper()
            for text in table["caution"]
            for words in text.split("; ")
            if words.startswith(("preliminary", "split"))
        }
    )
    if table["n_draws"].min() < resampling.MIN_DRAWS:
        cautions.insert(0, f"ILLUSTRATION WHERE FEWER THAN {resampling.MIN_DRAWS} DRAWS")
    figure.suptitle(
        " | ".join([f"{shared}, {first['image_size']} px, on {first['evaluated_on']}", *cautions]),
        x=0.01,
        ha="left",
        color="0.25",
    )


def _difference(axis, row, y: float, colour: str, marker: str, size: float) -> None:
    """A contrast's interval and mean at height y; filled where the difference is shown (`contrasts.verdict`)."""
    axis.plot([row.low, row.high], [y, y], color=colour, linewidth=1)
    axis.plot(
        row.difference,
        y,
        marker,
        color=colour,
        markerfacecolor=colour if row.verdict in contrasts.SHOWN else "white",
        markersize=size,
    )


def _arms_axis(axis, arms: list[str], table: pd.DataFrame) -> None:
    """A line for no difference, and an arm a row."""
    axis.axvline(0, color="0.3", linewidth=0.7)
    axis.set_yticks(range(len(arms)), [_with_ratio(arm, table) for arm in arms])
    axis.set_ylim(-0.6, len(arms) - 0.4)
    axis.grid(axis="y", color="0.93", linewidth=0.6)
    axis.set_axisbelow(True)


def _with_ratio(arm: str, table: pd.DataFrame) -> str:
    ratios = table.loc[table["arm"] == arm, "ratio"]
    return f"{arm} {ratios.iloc[0]:g}x" if len(ratios) and ratios.iloc[0] else arm


def paired_slopes(table: pd.DataFrame) -> Figure:
    """One line a draw, from its value under a control to that under an arm; dashed where it falls. table: of `curves.slopes`, concatenated."""
    pairs = list(table["pair"].unique())
    figure, axes = plt.subplots(
        1, len(pairs), figsize=(1.75 * len(pairs) + 0.3, 2.4), sharey=True, squeeze=False
    )
    for axis, pair in zip(axes.flat, pairs):
        part = table[table["pair"] == pair]
        ends = [
            part.loc[part["draw"] == draw, "value"].to_numpy() for draw in part["draw"].unique()
        ]
        for end in ends:
            falls = end[1] < end[0]
            axis.plot(
                [0, 1],
                end,
                color=style.RED if falls else style.BLUE,
                linestyle="--" if falls else "-",
                marker="o",
                markersize=2.5,
                linewidth=0.8,
            )
        mean = np.mean(ends, axis=0)
        axis.plot([0, 1], mean, color="black", linewidth=2.2, marker="D", markersize=4)
        rising = sum(end[1] > end[0] for end in ends)
        axis.set_title(f"{mean[1] - mean[0]:+.3f}; {rising} of {len(ends)} draws rise", loc="left")
        axis.set_xticks([0, 1], [name.replace(" ", "\n") for name in pair.split(" to ")])
        axis.set_xlim(-0.3, 1.3)
    axes[0, 0].set_ylabel(style.METRIC_NAMES[table["metric"].iloc[0]])
    style.head(figure, table)
    return figure


def exchange_rate(table: pd.DataFrame) -> Figure:
    """How many more real images an arm is worth, by ratio. table: of `ratios.worth_in_images`, concatenated.

    A triangle stands where the arm is worth at least the most (up) or at most the fewest (down) real images tried.
    """
    figure, axis = plt.subplots(figsize=(style.COLUMN, 2.7))
    arms = list(table["arm"].unique())
    most = table["most"].max()
    for i, arm in enumerate(arms):
        part = table[table["arm"] == arm].sort_values("ratio")
        x = part["ratio"] * 1.05 ** (i - (len(arms) - 1) / 2)
        colour, marker, line = style.arm_style(arm)
        errors = np.nan_to_num([part["images"] - part["low"], part["high"] - part["images"]]).clip(
            min=0
        )
        axis.errorbar(
            x,
            part["images"],
            errors,
            color=colour,
            linestyle=line,
            linewidth=1.1,
            elinewidth=0.6,
            marker=marker,
            label=arm,
        )
        for beyond, mark in ((">=", "^"), ("<=", "v")):
            out = (part["beyond"] == beyond).to_numpy()
            axis.plot(
                x[out],
                part["images"][out],
                mark,
                color=colour,
                markersize=7,
                markerfacecolor="white",
            )
    axis.axhline(0, color="0.3", linewidth=0.7)
    axis.axhline(most, color="0.6", linewidth=0.7, linestyle=":")
    axis.annotate(
        "most real images tried",
        (0.01, most),
        (0, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        fontsize=6,
        color="0.4",
    )
    style.ratio_axis(axis, table["ratio"])
    axis.set_ylim(-0.04 * most, most * 1.14)
    axis.set(xlabel="images added per shot", ylabel="worth in further real images")
    style.legend(figure, axis)
    style.head(figure, table)
    return figure


def pr_curves(table: pd.DataFrame, prevalence: float) -> Figure:
    """Precision over recall with pointwise bands. table: of `curves.precision_over_recall`. prevalence: the precision of chance, 0..1."""
    figure, axis = plt.subplots(figsize=(style.COLUMN, 2.8))
    for (arm, ratio), part in table.groupby(["arm", "ratio"], sort=False):
        axis.plot(
            part["recall"],
            part["precision"],
            **style.line(arm),
            marker=style.arm_style(arm)[1],
            markevery=(4, 12),
            markersize=3.5,
            label=f"{arm} {ratio:g}x" if ratio else arm,
        )
        axis.fill_between(
            part["recall"],
            part["low"],
            part["high"],
            color=style.arm_style(arm)[0],
            alpha=0.1,
            linewidth=0,
        )
        for edge in ("low", "high"):
            axis.plot(part["recall"], part[edge], **style.line(arm), linewidth=0.4)
    axis.axhline(prevalence, color="0.6", linewidth=0.7, linestyle=":", label="chance")
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    style.legend(figure, axis)
    style.head(figure, table)
    return figure
