"""Figures of pools: distributions of distances, and what a pool's quality is worth."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fsl_utils.analysis import pool_gains
from fsl_utils.figures import style

QUALITY_NAMES = {
    "kid": "KID to unseen real rare images",
    "auroc_synthetic": "AUROC, synthetic against real",
    "copy_rate": "share called copies",
    "distance_synthetic_synthetic": "mean distance between synthetic images",
    "distance_synthetic_real": "mean distance, synthetic to real",
}


def histograms(table: pd.DataFrame, xlabel: str, bins: int = 30) -> Figure:
    """Distributions over each other. table: columns kind and value, one row a measured image or pair."""
    figure, axis = plt.subplots(figsize=(style.COLUMN, 2.5))
    edges = np.histogram_bin_edges(table["value"].dropna(), bins)
    for i, (kind, part) in enumerate(table.groupby("kind", sort=False)):
        axis.hist(
            part["value"].dropna(),
            edges,
            density=True,
            histtype="step",
            linewidth=1.3,
            color=style.PALETTE[i % len(style.PALETTE)],
            linestyle=style.LINES[i % len(style.LINES)],
        )
        axis.plot(
            [],
            [],
            color=style.PALETTE[i % len(style.PALETTE)],
            linestyle=style.LINES[i % len(style.LINES)],
            label=f"{kind} ({part['value'].notna().sum()})",
        )
    axis.set(xlabel=xlabel, ylabel="density")
    style.legend(figure, axis)
    return figure


def scatter(gains: pd.DataFrame, quality: str) -> Figure:
    """Gain of each pool's classifier over its quality, a point a pool and arm. gains: of `pool_gains.by_pool`."""
    figure, axis = plt.subplots(figsize=(style.COLUMN, 2.7))
    for arm, part in gains.groupby("arm"):
        colour, marker, _ = style.arm_style(arm)
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
    style.legend(figure, axis)
    style.head(figure, gains)
    return figure
