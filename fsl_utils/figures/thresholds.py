"""What a threshold makes of the same scores: F1, recall and precision at .5 and at a chosen one."""

import pandas as pd
from matplotlib.figure import Figure

from fsl_utils.figures import style, words

# A panel, and the metrics in it: at .5, then at the threshold chosen on validation.
PANELS = {
    name: (name.lower(), f"{name.lower()}_at_threshold") for name in ("F1", "recall", "precision")
}
METRICS = [metric for pair in PANELS.values() for metric in pair]


def thresholds(table: pd.DataFrame) -> Figure:
    """One study at one ratio, an arm a row: a tick at .5, a mark at the chosen threshold, each with
    its interval. All are hollow: a level is no difference that is shown.

    table: of `curves.levels`, concatenated over METRICS. Dotted: a classifier without skill; of F1
    one that calls every image rare.
    """
    arms = style.arms_of(table)
    figure, axes = style.small_multiples(list(PANELS), 0.19 * len(arms) + 0.25, sharey=True)
    for axis, pair in zip(axes, PANELS.values()):
        for metric, shift in zip(pair, (-0.14, 0.14)):
            for row in table[table["metric"] == metric].to_dict("records"):
                _mark(axis, row, arms.index(row["arm"]) + shift)
        skill = table.loc[table["metric"] == pair[0], "no_skill"].iloc[0]
        axis.axvline(skill, color="0.3", linewidth=0.8, linestyle=":")
        names = table.drop_duplicates("arm").set_index("arm", drop=False)
        axis.set_yticks(range(len(arms)), [style.plain(words.arm(names.loc[arm])) for arm in arms])
        axis.set(xlim=(-0.03, 1.03), ylim=(len(arms) - 0.4, -0.6), xticks=[0, 0.5, 1])
        axis.grid(axis="y", color="0.93", linewidth=0.6)
        axis.set_axisbelow(True)
    figure.supxlabel(
        "tick: at .5; mark: at the threshold chosen on validation\n"
        "(dotted: without skill; of F1, every image called rare)",
        fontsize=7,
    )
    style.head(figure, words.studies(table)[0])
    return figure


def _mark(axis, row: dict, y: float) -> None:
    colour, marker, _ = style.arm_style(row["arm"])
    chosen = row["metric"].endswith("_at_threshold")
    axis.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=0.8)
    look = {"color": colour, "markerfacecolor": "white", "markersize": 4 if chosen else 6}
    axis.plot(row["mean"], y, marker if chosen else "|", **look, clip_on=False)
