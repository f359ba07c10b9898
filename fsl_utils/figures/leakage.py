"""What a split by image gives away: table and figure. rows: of `analysis.leakage.given_away`."""

import pandas as pd
from matplotlib.figure import Figure

from fsl_utils.figures import style, table, words

FOOT = (
    "By image the same real images are split without their groups. Interval: both splits' draws "
    "and test groups are resampled. Each split has test images of its own, so nothing is tested."
)


def page(rows: pd.DataFrame) -> table.Table:
    """A row a setting."""
    cells = pd.DataFrame(
        {
            "task": words.task(row),
            "classifier": words.classifier(row),
            "shots": f"{row['n_real']}",
            "draws": f"{row['n_draws']}",
            **{f"by {name}": table.number(row[name], "") for name in ("image", "group")},
            "given away": table.interval(row | {"difference": row["gives_away"]}),
        }
        for row in rows.to_dict("records")
    )
    return table.unmarked(cells, FOOT)


def figure(rows: pd.DataFrame) -> Figure:
    """A panel a task, a line a classifier from its score by group to that by image."""
    parts = [part for _, part in rows.groupby(["domain", "rare_class"], sort=False)]
    tasks, order = [words.task(part.iloc[0]) for part in parts], list(rows["classifier"].unique())
    order.reverse()
    shown, axes = style.small_multiples(tasks, 0.2 + 0.17 * len(order), columns=4, sharey=True)
    for axis, part in zip(axes, parts):
        places = [order.index(name) for name in part["classifier"]]
        axis.hlines(places, part["group"], part["image"], color="0.7", linewidth=2)
        axis.plot(part["group"], places, "o", color=style.BLUE, label="split by group")
        axis.plot(
            part["image"], places, "D", color=style.RED, markerfacecolor="none", label="by image"
        )
        axis.set_xlabel(words.metric(part.iloc[0]))
        axis.margins(x=0.12, y=0.1)
    axes[0].set_yticks(range(len(order)), order)
    style.legend(shown, *style.handles(axes))
    return shown
