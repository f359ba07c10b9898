"""Figures of notebook 01: what the images, groups and partitions look like."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fsl_utils.data import domains, partitions, summary
from fsl_utils.figures import style

COMMON, RARE = style.SKY, style.RED


def class_figure(found: pd.DataFrame, heading: str) -> Figure:
    """Images and groups of every class (a table of `domains.classes`), on a log scale."""
    found = found.iloc[::-1]
    figure, axis = plt.subplots(figsize=(style.PAGE, 0.6 + 0.2 * len(found)))
    y = np.arange(len(found))
    axis.barh(y, found["images"], height=0.75, color=style.SKY, label="images")
    axis.barh(y, found["groups"], height=0.35, color=style.BLUE, label="groups")
    for at, (n, g) in enumerate(zip(found["images"], found["groups"])):
        axis.annotate(
            f"{n:,} / {g:,}",
            (n, at),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=6.5,
        )
    axis.set(
        xscale="log",
        yticks=y,
        yticklabels=found["class_name"],
        xlabel="images / groups",
        xlim=(1, found["images"].max() * 2.5),
    )
    axis.set_title(heading, loc="left")
    axis.legend(loc="lower right")
    return figure


def size_figure(found: pd.DataFrame, domain: domains.Domain) -> Figure:
    """Width against height; a dot grows with the number of images of that size. All are squeezed to one square."""
    figure, axis = plt.subplots(figsize=(style.COLUMN, 2.6))
    for label, colour, name in ((0, COMMON, domain.common_class), (1, RARE, domain.rare_class)):
        sizes = found[found["label"] == label].value_counts(["width", "height"]).reset_index()
        axis.scatter(
            sizes["width"],
            sizes["height"],
            s=4 + 60 * sizes["count"] / len(found),
            alpha=0.5,
            color=colour,
            label=name,
            linewidth=0,
        )
    top = 1.1 * found[["width", "height"]].to_numpy().max()
    axis.plot([0, top], [0, top], color="0.7", linewidth=0.6, zorder=0)
    axis.set(
        xlim=(0, top),
        ylim=(0, top),
        xlabel="width, pixels",
        ylabel="height, pixels",
        aspect="equal",
    )
    axis.set_title("image sizes", loc="left")
    axis.legend(loc="best")
    return figure


def group_figure(domain: domains.Domain, draw: partitions.Draw | None = None) -> Figure:
    """Every group as a bar of its common and rare images, side by side; the shots of a draw are marked."""
    table = domain.table.assign(side=summary.sides(domain, draw), shot=False)
    if draw is not None:
        table.iloc[draw.shots, table.columns.get_loc("shot")] = True
        table = table[table["side"].isin(["training", "validation"])]
    names = [s for s in summary.counts(domain, draw).index if (table["side"] == s).any()]
    groups = table.groupby(["side", "group"]).agg(
        n=("label", "size"), rare=("label", "sum"), shots=("shot", "sum")
    )
    widths = [len(groups.loc[s]) for s in names]
    figure, axes = plt.subplots(
        1,
        len(names),
        figsize=(style.PAGE, 2),
        sharey=True,
        width_ratios=np.maximum(widths, 0.12 * sum(widths)),
        squeeze=False,
    )
    for axis, side in zip(axes.flat, names):
        here = groups.loc[side].sort_values(["rare", "n"], ascending=False)
        edges = np.arange(len(here) + 1) - 0.5
        parts = [
            (here["shots"], style.BLACK, "shots"),
            (here["rare"] - here["shots"], RARE, domain.rare_class),
            (here["n"] - here["rare"], COMMON, domain.common_class),
        ]
        bottom = np.zeros(len(here))
        for height, colour, label in parts:
            top = bottom + height.to_numpy()
            if draw is not None or label != "shots":
                axis.stairs(
                    top, edges, baseline=bottom, fill=True, color=colour, label=label, linewidth=0
                )
            bottom = top
        axis.set(xticks=[], xlim=(-0.5, len(here) - 0.5), xlabel=f"{len(here):,} groups")
        axis.set_title(
            f"{side}\n{int(here['rare'].sum()):,} rare of {int(here['n'].sum()):,} images",
            loc="left",
        )
    axes.flat[0].set_ylabel("images of the group")
    figure.suptitle(summary.title(domain), x=0.01, ha="left")
    figure.legend(*axes.flat[-1].get_legend_handles_labels(), loc="outside right upper")
    return figure


def view_figure(found: pd.DataFrame) -> Figure:
    """Share of AP images by finding; the AUROC of the view alone stands beside each bar."""
    found = found.iloc[::-1]
    figure, axis = plt.subplots(figsize=(style.COLUMN * 1.4, 0.5 + 0.22 * len(found)))
    colours = [COMMON if f == "No Finding" else RARE for f in found["finding"]]
    axis.barh(found["finding"], found["share_ap"], color=colours)
    for y, (share, auroc) in enumerate(zip(found["share_ap"], found["auroc"])):
        if auroc == auroc:
            axis.annotate(
                f"AUROC of the view alone {auroc:.2f}",
                (share, y),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
            )
    axis.set(xlabel="share of AP images (patient lying)", xlim=(0, 1))
    return figure
