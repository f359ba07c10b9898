"""One style for all figures, and the figures of the results.

Every figure is drawn from a tidy table of `contrasts` and saved with it: PDF, PNG and CSV beside each
other. Arms keep colour, marker and line style everywhere, so that a figure reads in grey too. What
a reader must beware of (few draws, validation) stands on the figure, taken from the table.
"""

import io
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fsl_utils import StudyError, store
from fsl_utils.analysis import pool_gains, resampling, tables
from fsl_utils.data import domains

COLUMN, PAGE = 3.35, 6.9  # widths of a figure in a two-column paper, inches
# Okabe and Ito, Color Universal Design (2008), without its yellow: told apart by the colour-blind.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F"]
BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK, GREY = PALETTE

# arm: (colour, marker, line style). Controls are dark or grey and dashed, synthetic arms in colour.
ARM_STYLE = {
    "real": (BLACK, "s", "-"),
    "duplicate": (GREY, "o", "--"),
    "balanced": (GREY, "v", ":"),
    "focal": (GREY, "^", ":"),
    "augment": (BLACK, "D", "-."),
    "crt": (GREY, "<", "-."),
    "paste": (ORANGE, "P", ":"),
    "base_synth": (SKY, "X", ":"),
    "real_more": (GREEN, "s", "--"),
    "lora": (BLUE, "o", "-"),
    "lora_filtered": (RED, "D", "-"),
    "lora_augment": (PINK, "^", "-"),
    "lora_crt": (ORANGE, "<", "-"),
    "synth_only": (SKY, "v", "-."),
    "synth_both": (GREEN, "P", "-."),
}
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
QUALITY_NAMES = {
    "kid": "KID to unseen real rare images",
    "auroc_synthetic": "AUROC, synthetic against real",
    "copy_rate": "share called copies",
    "distance_synthetic_synthetic": "mean distance between synthetic images",
    "distance_synthetic_real": "mean distance, synthetic to real",
}
LINES = ["-", "--", "-.", ":"]


def style() -> None:
    """Set matplotlib for a two-column paper: 7-8 pt, fonts embedded as TrueType, thin frames."""
    plt.rcParams.update(
        {
            "pdf.fonttype": 42,
            "font.family": "DejaVu Sans",
            "font.size": 7.5,
            "axes.titlesize": 7.5,
            "axes.labelsize": 7.5,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": 7,
            "legend.frameon": False,
            "legend.handlelength": 2.6,
            "figure.titlesize": 6,
            "figure.dpi": 150,
            "figure.constrained_layout.use": True,
            "savefig.dpi": 300,
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


def arm_style(arm: str) -> tuple[str, str, str]:
    """Colour, marker and line style of an arm; one that is not in ARM_STYLE gets the next of each by its name."""
    n = sum(arm.encode())
    return ARM_STYLE.get(arm) or (PALETTE[n % len(PALETTE)], "pdh8"[n % 4], LINES[n % 4])


def save(figure: Figure, path: Path, table: pd.DataFrame) -> list[Path]:
    """Write path.pdf, path.png and path.csv, each whole or not at all, the same bytes for the same figure.

    Raises StudyError where the table names neither the cells nor the pools behind its rows.
    """
    path = Path(path)
    if not {"cells", "pool"} & set(table.columns):
        raise StudyError(
            f"{path}: the table has neither a column `cells` nor `pool`, so its rows cannot be traced back"
        )
    figure.draw_without_rendering()
    figure.set_layout_engine(
        "none"
    )  # it is laid out now; once more for each format would cost most of the time
    no_date = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    files = []
    for kind, metadata in no_date.items():
        image = io.BytesIO()
        figure.savefig(image, format=kind, metadata=metadata)
        files.append(_with_suffix(path, kind))
        store.write_whole(files[-1], lambda partial: partial.write_bytes(image.getvalue()))
    return [*files, save_rows(path, table)]


def save_rows(path: Path, table: pd.DataFrame) -> Path:
    """Write path.csv alone: a tidy table without a figure."""
    file = _with_suffix(Path(path), "csv")
    store.write_text(file, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return file


def _with_suffix(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}")  # with_suffix would cut a name at its last dot


def headline(table: pd.DataFrame) -> list[str]:
    """Task, size and cautions of a table, for the head of a figure or the foot of a table; few draws and validation in capitals."""
    first = table.iloc[0]
    said = [
        f"{first['domain']}: {first['rare_class']}",
        f"{first['n_real']} shots",
        f"{first['classifier']}, {first['image_size']} px",
        f"on {first['evaluated_on']}",
    ]
    if "n_draws" in table:
        fewest, most = int(table["n_draws"].min()), int(table["n_draws"].max())
        said.append(
            f"{fewest} to {most} draws" if fewest < most else f"{most} draw{'s' * (most != 1)}"
        )
    # The row with the fewest draws has the most to say.
    cautions = max(table["caution"], key=len).split("; ") if "caution" in table else []
    return [
        ", ".join(said),
        *(c.upper() if c.startswith(("illustration", "preliminary")) else c for c in cautions if c),
    ]


def _head(figure: Figure, table: pd.DataFrame) -> None:
    words = " | ".join(headline(table))
    figure.suptitle(
        textwrap.fill(words, int(17 * figure.get_figwidth())), x=0.01, ha="left", color="0.25"
    )


# -- Metric against ratio -----------------------------------------------------------------------------------


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
        1, 1 + two, figsize=(PAGE, 2.5) if two else (COLUMN, 3), squeeze=False
    )
    left = axes[0, 0]
    _ratio_lines(left, table, "mean")
    left.set_ylabel(METRIC_NAMES[table["metric"].iloc[0]])
    if two:
        control = gains["control"].iloc[0]
        _ratio_lines(axes[0, 1], _in_order(gains, arms), "difference")
        axes[0, 1].axhline(0, **_line(control), linewidth=1)
        axes[0, 1].set_ylabel(f"{METRIC_NAMES[table['metric'].iloc[0]]} minus {control}")
    _legend(figure, left, beside=two)
    _head(figure, table)
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
    size = (PAGE if columns > 2 else COLUMN, 1.55 * rows + 0.5)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False
    )
    for axis, arm in zip(axes.flat, swept):
        for name in ("real", "duplicate", arm):
            part = table[table["arm"] == name]
            if (part["ratio"] == 0).all():
                for value in part["mean"]:
                    axis.axhline(value, **_line(name), linewidth=0.9)
                continue
            axis.plot(
                part["ratio"],
                part["mean"],
                **_line(name),
                marker=arm_style(name)[1] if name == arm else None,
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
                    color=arm_style(arm)[0],
                    alpha=0.2,
                    linewidth=0,
                )
            elif name == arm:
                axis.vlines(
                    part["ratio"], part["low"], part["high"], color=arm_style(arm)[0], linewidth=0.8
                )
        axis.set_title(arm, loc="left")
    for axis in axes.flat[len(swept) :]:
        axis.set_axis_off()
    ratio_axis(axes.flat[0], table["ratio"])
    for axis in axes.flat[max(0, len(swept) - columns) : len(swept)]:  # the lowest of each column
        axis.set_xlabel("images added per shot")
        axis.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel(METRIC_NAMES[table["metric"].iloc[0]])
    _head(figure, table)
    return figure


def _in_order(table: pd.DataFrame, arms: list[str] | None) -> pd.DataFrame:
    """The rows of these arms, in the order of `arms`, or of ARM_STYLE where none are given."""
    arms = arms or [*ARM_STYLE, *sorted(set(table["arm"]) - set(ARM_STYLE))]
    return table[table["arm"].isin(arms)].sort_values(
        ["arm", "ratio"], key=lambda c: c.map(arms.index) if c.name == "arm" else c
    )


def _legend(figure: Figure, axis, beside: bool = False) -> None:
    """The axis' legend beside a figure as wide as the page, or below one as wide as a column (two labels a line, if they fit)."""
    handles, labels = axis.get_legend_handles_labels()
    columns = 2 if max(map(len, labels), default=0) < 25 else 1
    figure.legend(
        handles,
        labels,
        **(
            {"loc": "outside right center"}
            if beside
            else {"loc": "outside lower center", "ncols": columns, "columnspacing": 1.2}
        ),
    )


def _line(arm: str) -> dict:
    colour, _, line = arm_style(arm)
    return {"color": colour, "linestyle": line}


def _ratio_lines(axis, table: pd.DataFrame, column: str) -> None:
    """Arms that were swept as lines, the others as horizontal ones; `real` with its band and, at 0x, its point."""
    arms = list(table["arm"].unique())
    for i, arm in enumerate(arms):
        part = table[table["arm"] == arm]
        errors = np.nan_to_num([part[column] - part["low"], part["high"] - part[column]]).clip(
            min=0
        )
        look = {**_line(arm), "marker": arm_style(arm)[1], "linewidth": 1.1}
        if (part["ratio"] > 0).any():
            x = part["ratio"] * 1.035 ** (
                i - (len(arms) - 1) / 2
            )  # aside, so that intervals do not hide each other
            axis.errorbar(x, part[column], errors, **look, label=arm, elinewidth=0.6)
            if column == "mean":
                _of_fewer_draws(axis, x, part, table)
            continue
        value = part[column].iloc[0]
        axis.axhline(value, **_line(arm), linewidth=0.9, zorder=1)
        axis.errorbar([0], [value], errors, **look, label=arm, elinewidth=0.6)
        if arm == "real" and column == "mean":
            axis.axhspan(value - errors[0, 0], value + errors[1, 0], color="0.93", zorder=0)
    ratio_axis(axis, table["ratio"])
    axis.set_xlabel("images added per shot")


def _of_fewer_draws(axis, x: pd.Series, part: pd.DataFrame, table: pd.DataFrame) -> None:
    """Hollow marks over the levels that fewer draws went into than into others: draws differ, so these are not to be compared."""
    fewer = part["n_draws"] < table["n_draws"].max()
    if not fewer.any():
        return
    colour, marker, _ = arm_style(part["arm"].iloc[0])
    axis.plot(
        x[fewer], part["mean"][fewer], marker, color=colour, markerfacecolor="white", zorder=3
    )


def ratio_axis(axis, ratios: pd.Series) -> None:
    """Ratios on a logarithmic axis that begins at 0x, with a tick each."""
    ticks = sorted(set(ratios) | {0})
    axis.set_xscale("symlog", linthresh=min([r for r in ticks if r > 0], default=1), linscale=0.5)
    axis.set_xticks(ticks, [f"{r:g}" for r in ticks])
    axis.minorticks_off()
    axis.set_xlim(-0.06 * min([r for r in ticks if r > 0], default=1), max(max(ticks), 1) * 1.25)


# -- Contrasts ---------------------------------------------------------------------------------------------


def forest(table: pd.DataFrame) -> Figure:
    """Every arm against every control, with intervals; filled where Holm's p is below .05. table: of `contrasts.against_controls`."""
    controls = list(table["control"].unique())
    arms = list(
        dict.fromkeys([*[c for c in controls[::-1] if c in set(table["arm"])], *table["arm"]])
    )
    columns = min(4, len(controls))
    rows = -(-len(controls) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(PAGE if columns > 2 else COLUMN * 1.4, rows * (0.145 * len(arms) + 0.55) + 0.3),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis, control in zip(axes.flat, controls):
        part = table[table["control"] == control]
        for row in part.itertuples():
            colour, marker, _ = arm_style(row.arm)
            _difference(axis, row, arms.index(row.arm), colour, marker, 4.5)
        ratio = part["control_ratio"].iloc[0]
        axis.set_title(f"minus {control}" + (f" {ratio:g}x" if ratio else ""), loc="left")
        _arms_axis(axis, arms, table)
        axis.tick_params(labelbottom=True, length=2)
    for axis in axes.flat[len(controls) :]:
        axis.set_axis_off()
    figure.supxlabel(
        f"difference in {METRIC_NAMES[table['metric'].iloc[0]]} (right: the arm is better; filled: Holm's p < .05)",
        fontsize=7.5,
    )
    _head(figure, table)
    return figure


def overview(table: pd.DataFrame) -> Figure:
    """Every arm against one control, a panel a task, a colour and row a classifier; filled where Holm's p is below .05.

    table: of `contrasts.against`, concatenated over studies. Free arms stand below, synthetic ones above them, more real images on top.
    """
    tasks = list(dict.fromkeys(zip(table["domain"], table["rare_class"])))
    classifiers = sorted(table["classifier"].unique())
    known = [*resampling.CONTROLS, *(arm for arm in ARM_STYLE if arm not in resampling.CONTROLS)]
    arms = sorted(
        table["arm"].unique(),
        key=lambda arm: (arm == "real_more", known.index(arm) if arm in known else len(known)),
    )
    looks = dict(zip(classifiers, ((BLUE, "o"), (RED, "D"))))
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(PAGE if columns > 1 else COLUMN * 1.4, rows * (0.2 * len(arms) + 0.6) + 0.5),
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
        f"difference in {METRIC_NAMES[first['metric']]} to {_control(first)} (right: the arm is better; filled: Holm's p < .05)",
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
    """What each arm adds to one control over the number of real shots, a panel a task; filled where Holm's p is below .05.

    table: of `contrasts.against`, concatenated over studies of one classifier that differ in `n_real`.
    """
    tasks, counts = (
        list(dict.fromkeys(zip(table["domain"], table["rare_class"]))),
        sorted(table["n_real"].unique()),
    )
    table = _in_order(table, None)
    arms = list(table["arm"].unique())
    figure, axes = plt.subplots(1, len(tasks), figsize=(PAGE, 2.6), squeeze=False)
    for axis, (domain, rare_class) in zip(axes.flat, tasks):
        part = table[(table["domain"] == domain) & (table["rare_class"] == rare_class)]
        for i, arm in enumerate(arms):
            rows = part[part["arm"] == arm].sort_values("n_real")
            colour, marker, _ = arm_style(arm)
            at = np.array([counts.index(n) for n in rows["n_real"]]) + 0.11 * (
                i - (len(arms) - 1) / 2
            )  # aside, so that intervals do not hide each other
            axis.plot(at, rows["difference"], **_line(arm), linewidth=0.9)
            axis.vlines(at, rows["low"], rows["high"], color=colour, linewidth=0.6)
            for x, row in zip(at, rows.itertuples()):
                axis.plot(
                    x,
                    row.difference,
                    marker,
                    color=colour,
                    markerfacecolor=colour if row.p_holm < 0.05 else "white",
                    markersize=4,
                )
            axis.plot(
                [],
                [],
                **_line(arm),
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
    axes[0, 0].set_ylabel(f"{METRIC_NAMES[first['metric']]} minus {_control(first)}")
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
    """A contrast's interval and mean at height y; filled where Holm's p is below .05."""
    axis.plot([row.low, row.high], [y, y], color=colour, linewidth=1)
    axis.plot(
        row.difference,
        y,
        marker,
        color=colour,
        markerfacecolor=colour if row.p_holm < 0.05 else "white",
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
                color=RED if falls else BLUE,
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
    axes[0, 0].set_ylabel(METRIC_NAMES[table["metric"].iloc[0]])
    _head(figure, table)
    return figure


def exchange_rate(table: pd.DataFrame) -> Figure:
    """How many more real images an arm is worth, by ratio. table: of `ratios.worth_in_images`, concatenated.

    A triangle stands where the arm is worth at least the most (up) or at most the fewest (down) real images tried.
    """
    figure, axis = plt.subplots(figsize=(COLUMN, 2.7))
    arms = list(table["arm"].unique())
    most = table["most"].max()
    for i, arm in enumerate(arms):
        part = table[table["arm"] == arm].sort_values("ratio")
        x = part["ratio"] * 1.05 ** (i - (len(arms) - 1) / 2)
        colour, marker, line = arm_style(arm)
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
    ratio_axis(axis, table["ratio"])
    axis.set_ylim(-0.04 * most, most * 1.14)
    axis.set(xlabel="images added per shot", ylabel="worth in further real images")
    _legend(figure, axis)
    _head(figure, table)
    return figure


def pr_curves(table: pd.DataFrame, prevalence: float) -> Figure:
    """Precision over recall with pointwise bands. table: of `curves.precision_over_recall`. prevalence: the precision of chance, 0..1."""
    figure, axis = plt.subplots(figsize=(COLUMN, 2.8))
    for (arm, ratio), part in table.groupby(["arm", "ratio"], sort=False):
        axis.plot(
            part["recall"],
            part["precision"],
            **_line(arm),
            marker=arm_style(arm)[1],
            markevery=(4, 12),
            markersize=3.5,
            label=f"{arm} {ratio:g}x" if ratio else arm,
        )
        axis.fill_between(
            part["recall"],
            part["low"],
            part["high"],
            color=arm_style(arm)[0],
            alpha=0.1,
            linewidth=0,
        )
        for edge in ("low", "high"):
            axis.plot(part["recall"], part[edge], **_line(arm), linewidth=0.4)
    axis.axhline(prevalence, color="0.6", linewidth=0.7, linestyle=":", label="chance")
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    _legend(figure, axis)
    _head(figure, table)
    return figure


# -- Pools -------------------------------------------------------------------------------------------------


def histograms(table: pd.DataFrame, xlabel: str, bins: int = 30) -> Figure:
    """Distributions over each other. table: columns kind and value, one row a measured image or pair."""
    figure, axis = plt.subplots(figsize=(COLUMN, 2.5))
    edges = np.histogram_bin_edges(table["value"].dropna(), bins)
    for i, (kind, part) in enumerate(table.groupby("kind", sort=False)):
        axis.hist(
            part["value"].dropna(),
            edges,
            density=True,
            histtype="step",
            linewidth=1.3,
            color=PALETTE[i % len(PALETTE)],
            linestyle=LINES[i % len(LINES)],
        )
        axis.plot(
            [],
            [],
            color=PALETTE[i % len(PALETTE)],
            linestyle=LINES[i % len(LINES)],
            label=f"{kind} ({part['value'].notna().sum()})",
        )
    axis.set(xlabel=xlabel, ylabel="density")
    _legend(figure, axis)
    return figure


def scatter(gains: pd.DataFrame, quality: str) -> Figure:
    """Gain of each pool's classifier over its quality, a point a pool and arm. gains: of `pool_gains.by_pool`."""
    figure, axis = plt.subplots(figsize=(COLUMN, 2.7))
    for arm, part in gains.groupby("arm"):
        colour, marker, _ = arm_style(arm)
        axis.plot(
            part[quality],
            part["gain"],
            marker,
            color=colour,
            markersize=4,
            markerfacecolor="none",
            label=arm,
        )
    axis.axhline(0, color="0.3", linewidth=0.7)
    found = pool_gains.correlation(gains, quality)
    bounds = f" [{found['low']:+.2f}, {found['high']:+.2f}]" if np.isfinite(found["low"]) else ""
    rank = f"Spearman {found['rho']:+.2f}{bounds}, " if np.isfinite(found["rho"]) else ""
    axis.set_title(f"{rank}{found['n_draws']} draws", loc="left")
    axis.xaxis.set_major_locator(MaxNLocator(5))  # values as .0025 would run into each other
    axis.set(xlabel=QUALITY_NAMES.get(quality, quality), ylabel="gain over the control")
    _legend(figure, axis)
    _head(figure, gains)
    return figure


def sheet(rows: list[tuple[str, np.ndarray]], per_row: int = 16) -> Figure:
    """Contact sheet: each (title, images uint8 [N, C, H, W], C 1 or 3) as a block of up to `per_row` images a line.

    Every image is shown with the grey values it has. Raises StudyError for what is no such array, or no image at all.
    """
    blocks = []
    for title, images in rows:
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise StudyError(
                f"sheet '{title}': images are {images.dtype} {images.shape}, expected uint8 [N, 1 or 3, H, W]"
            )
        if len(images):
            blocks.append((title, _tiled(images, per_row)))
    if not blocks:
        raise StudyError("the sheet has no image to show")
    width = max(block.shape[1] for _, block in blocks)
    heights = [PAGE * block.shape[0] / width for _, block in blocks]
    figure, axes = plt.subplots(
        len(blocks),
        1,
        figsize=(PAGE, sum(heights) + 0.28 * len(blocks)),
        squeeze=False,
        height_ratios=heights,
    )
    for axis, (title, block) in zip(axes.flat, blocks):
        full = np.full((block.shape[0], width, 3), 255, np.uint8)
        full[:, : block.shape[1]] = block
        axis.imshow(full, interpolation="nearest")
        axis.set_title(title, loc="left")
        axis.set_axis_off()
    return figure


def _tiled(images: np.ndarray, per_row: int) -> np.ndarray:
    """Images [N, C, H, W] side by side with white gaps: [height, width, 3]."""
    n, _, height, width = images.shape
    gap, across = max(1, width // 32), min(n, per_row)
    out = np.full(
        (-(-n // across) * (height + gap) - gap, across * (width + gap) - gap, 3), 255, np.uint8
    )
    for i, image in enumerate(images):
        y, x = i // across * (height + gap), i % across * (width + gap)
        out[y : y + height, x : x + width] = image.transpose(1, 2, 0)
    return out


def worst(cells: pd.DataFrame, scores: pd.DataFrame, cell: str, count: int = 8) -> Figure:
    """The images a cell is most wrong about, with their scores. Raises StudyError where the domain's data are not at hand."""
    row = cells[cells["cell"] == cell].iloc[0]
    domain = domains.load(row["domain"], row["rare_class"], row["protocol"])
    position = pd.Series(range(len(domain.table)), index=domain.table["image"])
    blocks = []
    for label, title in ((1, "rare images scored lowest"), (0, "common images scored highest")):
        found = tables.largest_errors(scores[scores["label"] == label], cell, count)
        missing = ~found["image"].isin(position.index)
        if missing.any():
            raise StudyError(
                f"image {found['image'][missing].iloc[0]} of cell {cell[:12]} is not in the {row['domain']} data at hand: another release?"
            )
        images = domain.images(int(row["image_size"]))[position[found["image"]]]
        blocks.append(
            (f"{title}: " + ", ".join(f"{score:.2f}" for score in found["score"]), images)
        )
    return sheet(blocks, per_row=count)
