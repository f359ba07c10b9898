"""How many steps, and how many pixels: ResNet-18's PR-AUC on validation over training steps and image sizes.

    python -m fsl_utils.learning_curve elpv --draws 0 1 2 --steps 50 100 200 400 --sizes 64 128

Every point is a cell of its own (arm `real`, from scratch), since the learning rate's cycle ends with the last step. Cells go through the
store; rows of earlier calls stay in the table.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd

from . import ROOT, StudyError, cells, domains, params, partitions, plots

FIXED = dict(arms=["real"], classifier="resnet18", init="scratch", evaluate_on="validation")


def rows(
    domain: str, draws: list[int], steps: list[int], sizes: list[int], device: str = "cpu"
) -> Iterator[dict]:
    """One cell after another: {domain, rare_class, draw, image_size, steps, prevalence, pr_auc, auroc, train_seconds, cells}."""
    task = domains.load(domain)
    for number, size, n in product(draws, sizes, steps):
        changed = FIXED | dict(
            domain=domain, draw=number, image_size=size, classifier_steps=n, device=device
        )
        p = SimpleNamespace(
            **{
                name: params.value(name, changed.get(name, params.default(name)))
                for name in params.TABLE
            }
        )
        for row in cells.run(task, partitions.draw(task.table, number, p.n_real), p):
            wanted = (
                "domain",
                "rare_class",
                "draw",
                "image_size",
                "prevalence",
                "pr_auc",
                "auroc",
                "train_seconds",
            )
            yield {**{name: row[name] for name in wanted}, "steps": n, "cells": row["cell"][:12]}


def figure(table: pd.DataFrame) -> plt.Figure:
    """PR-AUC over steps, a panel a domain: thin a draw, thick the mean; a colour an image size; dotted the prevalence."""
    names = list(dict.fromkeys(table["domain"]))
    fig, axes = plt.subplots(
        1, len(names), figsize=(plots.PAGE * len(names) / 3, 2.2), squeeze=False
    )
    colours = dict(zip(sorted(table["image_size"].unique()), plots.PALETTE))
    for axis, name in zip(axes[0], names):
        for size, part in table[table["domain"] == name].groupby("image_size"):
            by_draw, colour = (
                part.pivot_table(index="steps", columns="draw", values="pr_auc"),
                colours[size],
            )
            axis.plot(
                by_draw.index,
                by_draw,
                color=colour,
                linewidth=0.5,
                alpha=0.6,
                marker=".",
                markersize=2,
            )
            axis.plot(
                by_draw.index,
                by_draw.mean(axis=1),
                color=colour,
                marker="o",
                label=f"{size} px, mean over draws",
            )
        axis.axhline(
            table.loc[table["domain"] == name, "prevalence"].mean(),
            color=plots.GREY,
            linestyle=":",
            linewidth=0.8,
        )
        axis.set(
            title=name,
            xlabel="training steps of 64 images",
            xscale="log",
            xticks=sorted(table["steps"].unique()),
        )
        axis.xaxis.set_major_formatter("{x:.0f}")
        axis.minorticks_off()
    handles = {
        label: line for axis in axes[0] for line, label in zip(*axis.get_legend_handles_labels())
    }
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    axes[0, 0].set_ylabel("PR-AUC on validation")
    return fig


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing; the table is written after every cell, and the figure of all that it holds."""
    parser = argparse.ArgumentParser(
        prog="python -m fsl_utils.learning_curve", description=__doc__.splitlines()[0]
    )
    parser.add_argument("domain")
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--sizes", type=int, nargs="+", default=[params.default("image_size")])
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "results" / "learning_curve",
        help="folder of table and figure",
    )
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)
    path = given.out / "curve"
    table = (
        pd.read_csv(path.with_suffix(".csv"))
        if path.with_suffix(".csv").is_file()
        else pd.DataFrame()
    )
    for row in rows(
        given.domain, given.draws, given.steps, given.sizes, params.device(given.device)
    ):
        print(
            f"{row['domain']} draw {row['draw']}, {row['image_size']} px, {row['steps']} steps: PR-AUC {row['pr_auc']:.3f}",
            flush=True,
        )
        table = (
            pd.concat([table, pd.DataFrame([row])])
            .drop_duplicates("cells", keep="last")
            .sort_values(["domain", "image_size", "draw", "steps"])
        )
        plots.save_rows(path, table)
    plots.style()
    plots.save(figure(table), path, table)


if __name__ == "__main__":
    try:
        main()
    except StudyError as error:
        sys.exit(f"error: {error}")
