"""Figures of pools: distributions of distances, and what a pool's quality is worth."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from fsl_utils.figures import style, words

QUALITY_NAMES = {
    "kid": "KID to unseen real rare images",
    "auroc_synthetic": "AUROC, synthetic against real",
    "copy_rate": "share called copies",
    "distance_synthetic_synthetic": "mean distance within the pool",
    "distance_synthetic_real": "mean distance to real images",
}


def histograms(
    table: pd.DataFrame, xlabel: str, line: tuple[float, str] | None = None, bins: int = 30
) -> Figure:
    """Distributions over each other. table: columns kind and value, a row an image or pair.

    line: a value to mark, and what the legend says of it.
    """
    table = table.dropna(subset="value")
    counts = table["kind"].value_counts(sort=False)
    figure, axis = plt.subplots(figsize=(style.COLUMN, 2.3))
    handles = []
    for i, (kind, part) in enumerate(table.groupby("kind", sort=False)):
        look = {"color": style.PALETTE[i % 8], "linestyle": style.LINES[i % 4], "linewidth": 1.3}
        edges = np.histogram_bin_edges(table["value"], bins)
        seaborn.histplot(
            part, x="value", bins=edges, stat="density", element="step", fill=False, ax=axis, **look
        )
        handles.append(plt.Line2D([], [], **look, label=f"{kind} ({counts[kind]:,})"))
    if line:
        handles.append(axis.axvline(line[0], color=style.BLACK, linewidth=0.8, label=line[1]))
    axis.set(xlabel=xlabel, ylabel="density")
    style.legend(figure, handles, [handle.get_label() for handle in handles])
    return figure


def gains(table: pd.DataFrame) -> Figure:
    """Gain of each pool's classifier over a quality of the pool, a panel a quality.

    table: of `pool_gains.by_pool`, with the columns QUALITY_NAMES.
    """
    table = table.assign(task=[style.plain(words.task(row)) for row in table.to_dict("records")])
    qualities = [name for name in QUALITY_NAMES if table[name].notna().any()]
    figure, axes = style.small_multiples([""] * len(qualities), 1.5, sharey=True)
    hues = table["task"].nunique()
    palette = style.PALETTE[:hues] if hues <= len(style.PALETTE) else "husl"
    look = {"hue": "task", "style": "classifier", "palette": palette, "s": 14, "alpha": 0.8}
    for axis, quality in zip(axes, qualities):
        seaborn.scatterplot(table, x=quality, y="gain", ax=axis, linewidth=0, **look)
        axis.axhline(0, color="0.3", linewidth=0.7)
        axis.set(xlabel=QUALITY_NAMES[quality], ylabel="")
        axis.tick_params(labelbottom=True)
        axis.locator_params(axis="x", nbins=4)  # values as .0025 would run into each other
    handles, labels = axes[0].get_legend_handles_labels()
    for axis in axes:
        axis.get_legend().remove()
    kept = [i for i, label in enumerate(labels) if label not in ("task", "classifier")]
    style.legend(figure, [handles[i] for i in kept], [labels[i] for i in kept])
    style.ylabel(axes, "gain over the control")
    style.head(figure, [f"on {on}" for on in table["evaluated_on"].unique()])
    return figure
