"""The figures of a decision's report: learning curve, forest of the ways, shots, worst errors."""

import base64
import io
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from fsl_utils.data import partitions
from fsl_utils.decision import synthesis
from fsl_utils.decision.evidence import Evidence
from fsl_utils.decision.recommendation import Recommendation
from fsl_utils.decision.run import Decision
from fsl_utils.figures import sheets, style

SHOWN = 16  # images of a row
NARROWEST = 0.05  # of an axis of differences: rounding is not to look like a finding
COLOURS = {"real": style.BLACK, "free": style.BLUE, "synthetic": style.RED}


def all_of(decision: Decision) -> Iterator[tuple[str, Figure]]:
    """Every figure with its title, in the report's order."""
    style.apply()
    yield "What you have", shots(decision)
    if decision.found is None:
        return
    yield "More real images", learning_curve(decision.answer, decision.intake.counts["rare_class"])
    yield "The ways, with what they differ by from the simplest", forest(decision.answer)
    yield "Where the recommended way errs most", errors(decision)
    if "synthetic" in decision.evidence.outer:
        yield "Painted images, each above the nearest real one", painted(decision)


def shots(decision: Decision) -> Figure:
    """Images of both classes as the classifier sees them, one of each group before a second."""
    rows, seen, counts = [], decision.seen, decision.intake.counts
    for label, word, name in ((1, "rare", "rare_class"), (0, "common", "common_class")):
        of_label = np.flatnonzero(seen.labels == label)
        rng = partitions.generator("shown", label)
        chosen = partitions.spread(of_label, seen.groups, rng)[: 2 * SHOWN]
        title = f"{word}: {counts[name]}, {len(chosen)} of {len(of_label)} images"
        rows.append((title, seen.pixels[chosen]))
    return sheets.sheet(rows, SHOWN)


def learning_curve(answer: Recommendation, rare: str) -> Figure:
    """PR-AUC over the number of real rare images, and what guessing has."""
    figure, axis = plt.subplots(figsize=(style.COLUMN, 2.1))
    points = sorted(answer.curve, key=lambda point: point["images"])
    images, value = ([point[name] for point in points] for name in ("images", "value"))
    spread = [[point["value"] - point["low"], point["high"] - point["value"]] for point in points]
    errors = np.nan_to_num(np.array(spread).T).clip(min=0)
    axis.errorbar(images, value, errors, marker="s", color=style.BLACK, elinewidth=0.8)
    axis.axhline(answer.no_skill, color=style.GREY, linestyle=":", label="guessing")
    axis.set(
        xlabel=style.plain(f"real images of {rare}"),
        ylabel="PR-AUC",
        ylim=(0, 1.03),
        xlim=(0, None),
    )
    axis.legend(loc="lower right")
    return figure


def forest(answer: Recommendation) -> Figure:
    """Level of every way, and its difference from the simplest, each with its interval."""
    rows = answer.table[::-1]
    size = (style.PAGE, 0.5 + 0.28 * len(rows))
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True)
    for y, row in enumerate(rows):
        for axis, prefix, value in (
            (axes[0], "", row["value"]),
            (axes[1], "difference_", row["difference"]),
        ):
            low, high = (np.nan_to_num(row[f"{prefix}{end}"], nan=value) for end in ("low", "high"))
            axis.plot([low, high], [y, y], color=COLOURS[row["kind"]], linewidth=1)
            face = COLOURS[row["kind"]] if row["chosen"] else "white"
            axis.plot(value, y, "o", color=COLOURS[row["kind"]], markerfacecolor=face)
    axes[0].set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes[0].axvline(answer.no_skill, color=style.GREY, linestyle=":")
    axes[0].set_xlabel("PR-AUC (dotted: guessing; filled: recommended)")
    axes[1].axvline(0, color=style.GREY, linewidth=0.7)
    axes[1].set_xlabel("difference from the simplest")
    low, high = axes[1].get_xlim()
    axes[1].set_xlim(min(low, -NARROWEST), max(high, NARROWEST))
    return figure


def worst(found: Evidence, name: str, label: int) -> np.ndarray:
    """Images of a label, the worst scored first: rare by low, common by high scores."""
    scores = np.nanmean(found.outer[name], axis=0)
    rows = np.flatnonzero(found.labels == label)
    return rows[np.argsort(scores[rows] if label else -scores[rows], kind="stable")]


def errors(decision: Decision) -> Figure:
    """The rare images that score lowest and the common ones that score highest, held out."""
    rows, found, counts = [], decision.evidence, decision.intake.counts
    for label, name, end in ((1, "rare_class", "lowest"), (0, "common_class", "highest")):
        chosen = worst(found, decision.answer.chosen, label)[:SHOWN]
        rows.append((f"{counts[name]}, {end} scores first", decision.seen.pixels[chosen]))
    return sheets.sheet(rows, SHOWN)


def painted(decision: Decision) -> Figure:
    """Painted rare images of the first training part, and the nearest real one of each."""
    rows = np.flatnonzero(decision.evidence.fold[0] != 0)
    made, nearest = synthesis.examples(decision.seen, rows, SHOWN)
    name = decision.intake.counts["rare_class"]
    return sheets.sheet([(f"{name}, painted", made), ("nearest real", nearest)], SHOWN)


def embedded(figure: Figure) -> str:
    """A figure as the address of a PNG that stands in the page itself."""
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    plt.close(figure)
    return f"data:image/png;base64,{base64.b64encode(image.getvalue()).decode()}"
