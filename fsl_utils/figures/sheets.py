"""Contact sheets: images as they are, in rows with a title each."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fsl_utils import StudyError
from fsl_utils.data import domains, leaks, partitions, summary
from fsl_utils.figures import style


def sheet(
    rows: list[tuple[str, np.ndarray]], per_row: int = 16, width: float = style.PAGE
) -> Figure:
    """Each (title, images uint8 [N, C, H, W], C 1 or 3) as a block of `per_row` images a line.

    width: of the figure, inches. Every image is shown with the grey values it has.
    Raises StudyError for what is no such array, or no image at all.
    """
    blocks = []
    for title, images in rows:
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise StudyError(
                f"sheet '{title}': images are {images.dtype} {images.shape}, "
                "expected uint8 [N, 1 or 3, H, W]"
            )
        if len(images):
            blocks.append((title, _tiled(images, per_row)))
    if not blocks:
        raise StudyError("the sheet has no image to show")
    across = max(block.shape[1] for _, block in blocks)
    heights = [width * block.shape[0] / across for _, block in blocks]
    figure, axes = plt.subplots(
        len(blocks),
        1,
        figsize=(width, sum(heights) + 0.28 * len(blocks)),
        squeeze=False,
        height_ratios=heights,
    )
    for axis, (title, block) in zip(axes.flat, blocks):
        full = np.full((block.shape[0], across, 3), 255, np.uint8)
        full[:, : block.shape[1]] = block
        axis.imshow(full, interpolation="nearest")
        axis.set_title(style.plain(title), loc="left")
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


def difference(images: np.ndarray, others: np.ndarray, gain: int = 4) -> np.ndarray:
    """Where images, uint8 [N, C, H, W], differ, `gain` times: grey alike, dark less, light more."""
    change = gain * (images.astype(np.int32) - others) / 2
    return np.clip(np.rint(128 + change), 0, 255).astype(np.uint8)


def class_sheet(domain: domains.Domain, size: int, per_class: int = 32, seed: int = 0) -> Figure:
    """Development images of both classes, one of each group before a second of any."""
    groups, rows = domain.table["group"].to_numpy(), []
    for label, name in ((1, f"rare: {domain.rare_class}"), (0, f"common: {domain.common_class}")):
        random = partitions.generator("class sheet", seed)
        chosen = partitions.spread(domain.rows("development", label), groups, random)[:per_class]
        count = f"{len(chosen)} images of {len(set(groups[chosen]))} groups"
        rows.append((f"{name}, {count}{summary.caution(domain)}", domain.images(size)[chosen]))
    return sheet(rows)


def group_sheet(
    domain: domains.Domain, size: int, n_groups: int = 6, per_group: int = 16
) -> Figure:
    """The development groups with the most rare images, one a row, rare images first."""
    table = domain.table.assign(whole=leaks.whole_groups(domain.table))
    development = table[table["partition"] == "development"]
    counts = development.groupby("whole")["label"].agg(["sum", "size"])
    largest = counts.sort_values(["sum", "size"], ascending=False, kind="stable").index[:n_groups]
    rows = []
    for group in largest:
        here = development[development["whole"] == group]
        here = here.sort_values(["label", "image"], ascending=[False, True])
        count = f"{int(here['label'].sum())} rare of {len(here)}"
        images = domain.images(size)[here.index[:per_group]]
        rows.append((f"{group}: {count}{summary.caution(domain)}", images))
    return sheet(rows)


def twin_sheet(domain: domains.Domain, size: int, n: int = 16, seed: int = 0) -> Figure:
    """Rare test images above the development image that looks most like each."""
    test, twin = summary.twins(domain, n, seed)
    groups, images = leaks.whole_groups(domain.table), domain.images(size)
    same = (groups[test] == groups[twin]).sum()
    return sheet(
        [
            (f"split by {domain.protocol}: {len(test)} rare test images", images[test]),
            (f"the development image most like each: {same} are of the same group", images[twin]),
        ]
    )


def pair_sheet(
    domain: domains.Domain, found: leaks.Similar, size: int, n: int = 16
) -> Figure | None:
    """The likest flagged pairs, test above development; None where none is flagged."""
    if found.pairs.empty:
        return None
    row = pd.Series(domain.table.index, index=domain.table["image"])
    pairs = found.pairs.head(n)
    # Filled up with white, so that a few pairs are not blown up to the width of the page.
    white = [(0, n - len(pairs)), (0, 0), (0, 0), (0, 0)]
    test, development = (
        np.pad(domain.images(size)[row[pairs[side]]], white, constant_values=255)
        for side in ("image", "other")
    )
    alike = f"{pairs['similarity'].iloc[0]:.3f} to {pairs['similarity'].iloc[-1]:.3f}"
    title = f"test: similarity {alike}{summary.caution(domain)}"
    return sheet([(title, test), ("development", development)])


def errors(table: pd.DataFrame, domain: domains.Domain, size: int) -> Figure:
    """Images that a classifier is most wrong about, with its scores.

    table: of `tables.largest_errors`. Raises StudyError where an image is not in the data at hand.
    """
    position = pd.Series(range(len(domain.table)), index=domain.table["image"])
    rows = []
    for label, title in ((1, "rare images scored lowest"), (0, "common images scored highest")):
        part = table[table["label"] == label]
        missing = part["image"][~part["image"].isin(position.index)]
        if len(missing):
            raise StudyError(
                f"image {missing.iloc[0]} of cell {part['cell'].iloc[0][:12]} is not in the "
                f"{domain.name} data at hand: another release?"
            )
        scores = ", ".join(f"{score:.2f}" for score in part["score"])
        rows.append((f"{title}: {scores}", domain.images(size)[position[part["image"]]]))
    return sheet(rows, per_row=max(len(images) for _, images in rows))
