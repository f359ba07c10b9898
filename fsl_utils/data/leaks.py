"""Does anything leak from development into test? Identity first, exactly; then similarity.

Identity: no group has images on two sides. Similarity looks for what the groups may have missed:
pairs of images across the boundary that are more alike than images of different groups are.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from fsl_utils import metrics
from fsl_utils.data import partitions
from fsl_utils.data.datasets.groups import joined, suggestion
from fsl_utils.data.datasets.tables import some

SIZE = 64  # of the images that are compared, pixels
FALSE_ALARM = 1e-4  # share of pairs of different groups that the threshold lets through
RESAMPLES = 400  # of the test groups
LISTED = 200  # pairs
_BLOCK = 1000
_BINS = np.linspace(-1, 1, 200_001)


def whole_groups(table: pd.DataFrame) -> np.ndarray:
    """The groups that must not be split, also where protocol 'image' splits them."""
    return table["whole_group" if "whole_group" in table else "group"].to_numpy()


def split_groups(table: pd.DataFrame, draw: partitions.Draw | None = None) -> pd.DataFrame:
    """Groups on two sides: group, sides, images. Empty if the split is clean.

    Sides are the partitions and, where a draw is given, its training and validation images.
    """
    side = table["partition"].to_numpy(dtype=object).copy()
    if draw is not None:
        side[np.concatenate([draw.shots, draw.more, draw.common])] = "training"
        side[draw.validation] = "validation"
    sides = pd.DataFrame({"group": whole_groups(table), "side": side})
    found = sides.groupby("group").agg(
        sides=("side", lambda s: ", ".join(sorted(set(s)))), images=("side", "size")
    )
    return (
        found[found["sides"].str.contains(",")].sort_values("images", ascending=False).reset_index()
    )


def siblings(table: pd.DataFrame) -> float:
    """Share of the rare test images that have an image of their own group, whatever its class, in
    development.
    """
    groups, partition = whole_groups(table), table["partition"].to_numpy()
    test = groups[(partition == "test") & (table["label"].to_numpy() == 1)]
    return float(np.isin(test, groups[partition == "development"]).mean())


def fingerprints(pixels: np.ndarray) -> np.ndarray:
    """uint8 [N, 1, S, S], S = SIZE or another multiple of 16 -> unit vectors, float32 [N, 320],
    whose dot product is the similarity in -1..1.

    Two views, each blind to brightness and contrast: the 8x8 thumbnail, and at half the weight the
    16x16 thumbnail of the locally normalised image. On magnetic tiles this finds more known pairs
    of one tile than either alone or a finer thumbnail, at the same rate of false alarms.
    """
    out = np.empty((len(pixels), 8 * 8 + 16 * 16), np.float32)
    for i in range(0, len(pixels), _BLOCK):
        x = pixels[i : i + _BLOCK, 0].astype(np.float32)
        fine = locally_normalised(x)
        out[i : i + _BLOCK] = np.hstack(
            [_unit(shrunk(x, 8)), 0.5 * _unit(shrunk(fine, 16))]
        ) / np.sqrt(1.25)
    return out


def locally_normalised(x: np.ndarray) -> np.ndarray:
    """Fine structure of float32 images [N, S, S], of about the same strength everywhere."""
    sigma = (0, x.shape[1] / 16, x.shape[1] / 16)
    fine = x - ndimage.gaussian_filter(x, sigma)
    return fine / (np.sqrt(ndimage.gaussian_filter(fine**2, sigma)) + 2)


def shrunk(x: np.ndarray, size: int) -> np.ndarray:
    step = x.shape[1] // size
    return x.reshape(len(x), size, step, size, step).mean(axis=(2, 4)).reshape(len(x), -1)


def _unit(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)


@dataclass(frozen=True)
class Similar:
    """What the similarity audit found.

    identical: pairs across the boundary that are one picture. hit_rate: share of the known pairs of
    one object (one group where objects are not known) above the threshold. false_alarm_rate: the
    same of pairs of different groups on one side of the boundary. Identical pairs count for none
    of the rates. pairs: image, other, similarity, same_group, identical; the identical and the
    flagged pairs, the most alike first. unjudged: why the threshold says nothing, or ''.
    """

    threshold: float
    hit_rate: float
    false_alarm_rate: float
    known_pairs: int
    flagged: int
    identical: int
    crossing: int  # pairs across the boundary, in all
    pairs: pd.DataFrame
    unjudged: str = ""

    def __str__(self):
        same = self.pairs[self.pairs["identical"]]
        names = some([f"{a} = {b}" for a, b in zip(same["image"], same["other"])])
        twice = f"{self.identical} pairs across the boundary are one picture: {names}\n"
        return (twice if self.identical else "") + self._judgement()

    def _judgement(self) -> str:
        if self.unjudged:
            return f"likeness across the boundary cannot be judged: {self.unjudged}"
        chance = self.false_alarm_rate * self.crossing
        known = "no pairs of one object are known"
        if self.known_pairs:
            known = f"the threshold finds {self.hit_rate:.0%} of {self.known_pairs:,} known pairs"
        return (
            f"{self.flagged} of {self.crossing:,} pairs across the boundary are above "
            f"{self.threshold:.3f} (by its false-alarm rate {chance:.0f} would be by chance); "
            f"{known} of one object, {self.false_alarm_rate:.2%} of other pairs"
        )


def similar(table: pd.DataFrame, pixels: np.ndarray, false_alarm: float = FALSE_ALARM) -> Similar:
    """Pairs of a development and a test image that look like one object; LISTED of them stand in
    `pairs`.

    The threshold is the similarity that `false_alarm` of the pairs of different groups within
    development or within test exceed: no pair across the boundary has a say in it, nor groups that
    have a picture in common.
    """
    vectors = fingerprints(pixels)
    groups = pd.factorize(whole_groups(table))[0]
    objects = pd.factorize(table["object"])[0] if "object" in table else groups
    pictures = _pictures(pixels)
    apart = joined(pd.Series(groups), pd.Series(pictures)).to_numpy()
    partition = table["partition"].to_numpy()
    sides = [np.flatnonzero(partition == p) for p in ("development", "test")]

    # Pairs within a side, as histograms: the pairs themselves would not fit into memory.
    same, different = np.zeros(len(_BINS) - 1), np.zeros(len(_BINS) - 1)
    for rows in sides:
        for block, values in _blocks(vectors, rows, rows):
            pair = (rows[None, :] > block[:, None]) & (pictures[block][:, None] != pictures[rows])
            one_object = pair & (objects[block][:, None] == objects[rows])
            other_group = pair & (apart[block][:, None] != apart[rows])
            same += np.histogram(values[one_object], _BINS)[0]
            different += np.histogram(values[other_group], _BINS)[0]
    above = np.append(different[::-1].cumsum()[::-1], 0)
    at = int(np.argmax(above <= false_alarm * different.sum()))
    threshold = float(_BINS[at])

    pairs = _across(vectors, pictures, sides, threshold)
    identical, flagged = int(pairs["identical"].sum()), int((~pairs["identical"]).sum())
    pairs = pairs.head(LISTED)
    pairs.insert(3, "same_group", groups[pairs["image"]] == groups[pairs["other"]])
    names = table["image"].to_numpy()
    pairs["image"], pairs["other"] = names[pairs["image"]], names[pairs["other"]]
    return Similar(
        threshold,
        _share(same, at),
        _share(different, at),
        int(same.sum()),
        flagged,
        identical,
        len(sides[0]) * len(sides[1]),
        pairs,
        _unjudged(groups, different.sum(), names),
    )


def _across(
    vectors: np.ndarray, pictures: np.ndarray, sides: list[np.ndarray], threshold: float
) -> pd.DataFrame:
    """Pairs of a test image and an `other` of development at or above the threshold, or of one
    picture, the likest first."""
    found = []
    for block, values in _blocks(vectors, sides[1], sides[0]):
        one = pictures[block][:, None] == pictures[sides[0]]
        i, j = np.nonzero((values >= threshold) | one)
        columns = {"image": block[i], "other": sides[0][j], "similarity": values[i, j]}
        found.append(pd.DataFrame(columns | {"identical": one[i, j]}))
    return pd.concat(found).sort_values(
        ["identical", "similarity"], ascending=False, kind="stable", ignore_index=True
    )


def _pictures(pixels: np.ndarray) -> np.ndarray:
    """A number for each picture, int [N]: the same where pixels are the same, unless all are
    empty.
    """
    codes = pd.factorize(pd.Series([image.tobytes() for image in pixels]))[0]
    flat = pixels.reshape(len(pixels), -1)
    return np.where(np.ptp(flat, axis=1) == 0, len(codes) + np.arange(len(codes)), codes)


def _unjudged(groups: np.ndarray, pairs: float, names: np.ndarray) -> str:
    if len(set(groups)) == len(groups):
        return (
            "every image is its own group, so what sets the threshold leaks as much as what it "
            f"judges{suggestion(names)}"
        )
    return "" if pairs else "no two groups stand on one side"


def _blocks(vectors: np.ndarray, rows: np.ndarray, others: np.ndarray):
    """Yield (rows of a block, their similarities to `others`)."""
    for i in range(0, len(rows), _BLOCK):
        block = rows[i : i + _BLOCK]
        yield block, np.clip(vectors[block] @ vectors[others].T, -1, 1)


def _share(counts: np.ndarray, at: int) -> float:
    return float(counts[at:].sum() / counts.sum()) if counts.sum() else float("nan")


def nearest_neighbour(table: pd.DataFrame, pixels: np.ndarray) -> dict:
    """A rule that learns nothing: a test image gets the label of the most similar development
    image.

    Returns auroc (of similarity to the nearest rare minus to the nearest common image) with low and
    high, 95 % over whole test groups (the Bayesian bootstrap), and recall and false_alarms of the
    rule. High only if test images have siblings in development, or the task is trivial.
    """
    vectors = fingerprints(pixels)
    partition, labels = table["partition"].to_numpy(), table["label"].to_numpy()
    test = partition == "test"
    distance = {}
    for label in (0, 1):
        known = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(
            vectors[(partition == "development") & (labels == label)]
        )
        distance[label] = known.kneighbors(vectors[test])[0][:, 0]
    margin, truth = distance[0] - distance[1], labels[test]
    group = np.unique(whole_groups(table)[test], return_inverse=True)[1]
    weights = np.random.default_rng(0).exponential(size=(group.max() + 1, RESAMPLES))
    resampled = metrics.weighted("auroc", truth, margin, group, weights)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {
        "auroc": float(roc_auc_score(truth, margin)),
        "low": float(low),
        "high": float(high),
        "recall": float((margin[truth == 1] > 0).mean()),
        "false_alarms": float((margin[truth == 0] > 0).mean()),
    }
