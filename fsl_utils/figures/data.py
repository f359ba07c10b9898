"""Figures of notebook 01: what the images, groups and partitions look like."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from fsl_utils.data import domains, partitions, summary
from fsl_utils.figures import style

COMMON, RARE = style.SKY, style.RED


def class_figure(table: pd.DataFrame, heading: str) -> Figure:
    """Images and groups of every class (a table of `domains.classes`), on a log scale."""
    table = table.iloc[::-1]
    figure, axis = plt.subplots(figsize=(style.PAGE, 0.8 + 0.2 * len(table)))
    y = np.arange(len(table))
    bars = [
        axis.barh(y, table["images"], height=0.75, color=style.SKY),
        axis.barh(y, table["groups"], height=0.35, color=style.BLUE),
    ]
    for at, (n, groups) in enumerate(zip(table["images"], table["groups"])):
        _beside_bar(axis, n, at, f"{n:,} / {groups:,}")
    names = [style.plain(name) for name in table["class_name"]]
    axis.set(xscale="log", yticks=y, yticklabels=names, xlim=(1, table["images"].max() * 4))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.set_title(style.plain(heading), loc="left")
    style.legend(figure, bars, ["images", "groups"])
    return figure


def _beside_bar(axis, x: float, y: float, words: str) -> None:
    """A word to the right of a bar's end."""
    where = {"xytext": (3, 0), "textcoords": "offset points", "va": "center"}
    axis.annotate(words, (x, y), **where, fontsize=6.5)


def size_figure(table: pd.DataFrame, domain: domains.Domain) -> Figure:
    """Width against height of the image files; a dot grows with the number of images of that size.

    table: of `summary.image_sizes`.
    """
    figure, axis = plt.subplots(figsize=(style.COLUMN, 2.9))
    for label, colour in ((0, COMMON), (1, RARE)):
        sizes = table[table["label"] == label].value_counts(["width", "height"]).reset_index()
        area = 4 + 60 * sizes["count"] / len(table)
        look = {"color": colour, "alpha": 0.5, "linewidth": 0}
        axis.scatter(sizes["width"], sizes["height"], s=area, **look)
    top = 1.1 * table[["width", "height"]].to_numpy().max()
    axis.plot([0, top], [0, top], color="0.7", linewidth=0.6, zorder=0)
    axis.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    axis.set(xlabel="width, pixels", ylabel="height, pixels")
    axis.set_title("image sizes", loc="left")
    dots = [plt.Line2D([], [], color=c, marker="o", linestyle="") for c in (COMMON, RARE)]
    style.legend(figure, dots, [domain.common_class, domain.rare_class])
    return figure


def group_figure(domain: domains.Domain, draw: partitions.Draw | None = None) -> Figure:
    """Every group as a bar of its common and rare images; the shots of a draw are marked."""
    groups = summary.groups(domain, draw)
    sides = [side for side in summary.SIDES if side in groups.index.get_level_values("side")]
    widths = [len(groups.loc[side]) for side in sides]
    figure, axes = plt.subplots(
        1,
        len(sides),
        figsize=(style.PAGE, 2.2),
        sharey=True,
        width_ratios=np.maximum(widths, 0.2 * sum(widths)),
        squeeze=False,
    )
    parts = {"shots": style.BLACK} if draw is not None else {}
    parts |= {"rare": RARE, "common": COMMON}
    for axis, side in zip(axes.flat, sides):
        here = groups.loc[side]
        here = here.assign(all_rare=here["rare"] + here["shots"])
        here = here.sort_values(["all_rare", "n"], ascending=False)
        edges, bottom = np.arange(len(here) + 1) - 0.5, np.zeros(len(here))
        for part, colour in parts.items():
            top = bottom + here[part].to_numpy()
            axis.stairs(top, edges, baseline=bottom, fill=True, color=colour, linewidth=0)
            bottom = top
        axis.set(xticks=[], xlim=(-0.5, len(here) - 0.5), xlabel=f"{len(here):,} groups")
        rare = int(here["all_rare"].sum())
        axis.set_title(f"{side}\n{rare:,} rare of\n{int(here['n'].sum()):,} images", loc="left")
    axes.flat[0].set_ylabel("images of the group")
    style.head(figure, [summary.title(domain)])
    names = {"shots": "shots", "rare": domain.rare_class, "common": domain.common_class}
    patches = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in parts.values()]
    style.legend(figure, patches, [names[part] for part in parts])
    return figure


def view_figure(table: pd.DataFrame) -> Figure:
    """Share of AP images by finding; the AUROC of the view alone stands beside each bar."""
    table = table.iloc[::-1]
    figure, axis = plt.subplots(figsize=(style.COLUMN * 1.4, 0.5 + 0.22 * len(table)))
    colours = [COMMON if finding == "No Finding" else RARE for finding in table["finding"]]
    axis.barh(table["finding"], table["share_ap"], color=colours)
    for y, (share, auroc) in enumerate(zip(table["share_ap"], table["auroc"])):
        if auroc == auroc:
            _beside_bar(axis, share, y, f"AUROC of the view alone {auroc:.2f}")
    axis.set(xlabel="share of AP images (patient lying)", xlim=(0, 1.5), xticks=[0, 0.5, 1])
    return figure
