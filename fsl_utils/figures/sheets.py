"""Contact sheets: images as they are, in rows with a title each."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.neighbors import NearestNeighbors

from fsl_utils import StudyError
from fsl_utils.analysis import tables
from fsl_utils.data import domains, leaks, partitions, summary
from fsl_utils.figures import style


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
    heights = [style.PAGE * block.shape[0] / width for _, block in blocks]
    figure, axes = plt.subplots(
        len(blocks),
        1,
        figsize=(style.PAGE, sum(heights) + 0.28 * len(blocks)),
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


def class_sheet(domain: domains.Domain, size: int, per_class: int = 32, seed: int = 0) -> Figure:
    """Development images of both classes, one of each group before a second of any."""
    groups, rows = domain.table["group"].to_numpy(), []
    for label, name in ((1, f"rare: {domain.rare_class}"), (0, f"common: {domain.common_class}")):
        chosen = partitions.spread(
            domain.rows("development", label), groups, partitions.generator("class sheet", seed)
        )[:per_class]
        rows.append(
            (
                f"{name}, {len(chosen)} images of {len(set(groups[chosen]))} groups{summary.caution(domain)}",
                domain.images(size)[chosen],
            )
        )
    return sheet(rows)


def group_sheet(
    domain: domains.Domain, size: int, n_groups: int = 6, per_group: int = 16
) -> Figure:
    """The development groups with the most rare images, one a row, rare images first."""
    table = domain.table.assign(whole=leaks.whole_groups(domain.table))
    development = table[table["partition"] == "development"]
    largest = (
        development.groupby("whole")["label"]
        .agg(["sum", "size"])
        .sort_values(["sum", "size"], ascending=False, kind="stable")
        .index[:n_groups]
    )
    rows = []
    for group in largest:
        here = development[development["whole"] == group].sort_values(
            ["label", "image"], ascending=[False, True]
        )
        rows.append(
            (
                f"{group}: {int(here['label'].sum())} rare of {len(here)}{summary.caution(domain)}",
                domain.images(size)[here.index[:per_group]],
            )
        )
    return sheet(rows)


def twin_sheet(domain: domains.Domain, size: int, n: int = 16, seed: int = 0) -> Figure:
    """Rare test images above the development image that looks most like each."""
    vectors = leaks.fingerprints(domain.images(leaks.SIZE))
    test = partitions.generator("twins", seed).permutation(domain.rows("test", 1))[:n]
    development = domain.rows("development")
    twin = development[
        NearestNeighbors(n_neighbors=1, algorithm="brute")
        .fit(vectors[development])
        .kneighbors(vectors[test])[1][:, 0]
    ]
    groups, pixels = leaks.whole_groups(domain.table), domain.images(size)
    same = (groups[test] == groups[twin]).sum()
    return sheet(
        [
            (f"split by {domain.protocol}: {len(test)} rare test images", pixels[test]),
            (f"the development image most like each: {same} are of the same group", pixels[twin]),
        ]
    )


def pair_sheet(
    domain: domains.Domain, found: leaks.Similar, size: int, n: int = 16
) -> Figure | None:
    """The most alike flagged pairs, test image above development image; None where none is flagged."""
    if found.pairs.empty:
        return None
    row = pd.Series(domain.table.index, index=domain.table["image"])
    pairs = found.pairs.head(n)
    # Filled up with white, so that a few pairs are not blown up to the width of the page.
    shown = [
        np.pad(
            domain.images(size)[row[pairs[c]]],
            [(0, n - len(pairs)), (0, 0), (0, 0), (0, 0)],
            constant_values=255,
        )
        for c in ("image", "other")
    ]
    return sheet(
        [
            (
                f"test: similarity {pairs['similarity'].iloc[0]:.3f} to {pairs['similarity'].iloc[-1]:.3f}{summary.caution(domain)}",
                shown[0],
            ),
            ("development", shown[1]),
        ]
    )
